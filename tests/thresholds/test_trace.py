import numpy as np
import pytest
from tocsin.thresholds import trace


def test_the_last_scores_of_each_entity_are_kept_oldest_first():
    state = trace.init(3)
    assert trace.of(state, 0) == ([], [])
    slot = np.array([0, 2, 0, 2, 0], np.int32)
    trace.follow(state, slot, np.arange(5.0), np.arange(5.0) + 0.5)
    assert trace.of(state, 0) == ([0.0, 2.0, 4.0], [0.5, 2.5, 4.5])
    assert trace.of(state, 1) == ([], [])
    assert trace.of(state, 2) == ([1.0, 3.0], [1.5, 3.5])


@pytest.mark.parametrize("cuts", [(), (7,), tuple(range(1, 100))])
def test_older_ones_make_room_however_the_records_come(cuts):
    state = trace.init(1)
    scores = np.linspace(0, 1, 100)
    for part in np.split(scores, list(cuts)):
        trace.follow(state, np.zeros(len(part), np.int32), part, np.full(len(part), np.nan))
    kept, thresholds = trace.of(state, 0)
    assert kept == scores[-trace.KEPT :].astype(np.float16).astype(float).tolist()
    assert np.isnan(thresholds).all()
