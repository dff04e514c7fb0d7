"""Which deviations count: per feature a dead-band and a direction, and what becomes of records that are excused."""

import numpy as np
import pytest
from tocsin.thresholds.advance import advance
from tocsin.thresholds.bands import Bands, excused
from tocsin.thresholds.constants import Kind
from tocsin.thresholds.state import Rows

MINUTE = 60_000_000
ANY, NONE = -np.inf, np.inf
# the first feature counts above its expectation by more than .5, the second below by more than 2, the third always
BANDS = Bands(np.array([0.5, NONE, ANY]), np.array([NONE, 2.0, ANY]))


@pytest.mark.parametrize(
    ("off", "shares", "expected"),
    [
        ((0.4, 0, 0), (0.9, 0.05, 0.05), True),  # inside the dead-band
        ((0.6, 0, 0), (0.9, 0.05, 0.05), False),  # beyond it
        ((-9, 0, 0), (0.9, 0.05, 0.05), True),  # the harmless way
        ((0, 9, 0), (0.05, 0.9, 0.05), True),
        ((0, -9, 0), (0.05, 0.9, 0.05), False),
        ((0, 0, 0.01), (0.05, 0.05, 0.9), False),  # of a feature without a band everything counts
        ((-9, 0, 0.01), (0.6, 0.1, 0.3), False),  # ... where it is responsible too
        ((-9, 0, 0.01), (0.6, 0.15, 0.25), True),
        ((-9, 9, 0), (0.5, 0.5, 0), True),
        ((-9, -9, 0), (0.6, 0.4, 0), False),
        ((0, 0, 0), (0, 0, 0), False),  # nothing tells the features apart
        ((np.nan, np.nan, np.nan), (1, 0, 0), True),
    ],
)
def test_a_record_is_excused_where_nothing_responsible_counts(off, shares, expected):
    observed = np.array([off], np.float32) + np.float32(10)
    found = excused(BANDS, observed, np.full((1, 3), 10, np.float32), np.array([shares], np.float32))
    assert found.tolist() == [expected]


def rows_of(members):
    n = len(members)
    nothing = np.zeros(n)
    times = np.arange(n) * MINUTE
    return Rows(nothing, nothing, np.arange(n), times, np.array(members)[:, None], nothing, nothing, nothing)


CALM, STRANGE = 0.5, 50.0


def run(bench, calibrated, members, spared):
    one = bench(calibrated(np.zeros(500), level=1.0, half_life=100.0))
    decided, events, _ = advance(
        one.state, one.parts, one.owner, one.given, one.settings, rows_of(members), excused=np.array(spared)
    )
    return one, decided, [int(kind) for kind in events["kind"]]


def test_an_entity_at_rest_passes_over_what_is_excused_as_if_it_had_no_value(bench, calibrated):
    members = [CALM] * 10 + [STRANGE] * 20 + [CALM] * 10
    spared = [False] * 10 + [True] * 20 + [False] * 10
    one, decided, events = run(bench, calibrated, members, spared)
    other, calm, _ = run(bench, calibrated, [CALM] * 20, [False] * 20)
    assert events == []
    assert decided.excused.tolist() == spared
    assert not decided.anomalous.any()
    assert not decided.clean[10:30].any()
    assert (decided.score[10:30] == decided.score[9]).all()
    kept = np.r_[0:10, 30:40]
    for name in ("score", "threshold", "p", "clean"):
        assert (getattr(decided, name)[kept] == getattr(calm, name)).all(), name
    assert one.core("accepted") == other.core("accepted")
    assert one.core("span_us") == other.core("span_us") + 20 * MINUTE
    assert run(bench, calibrated, members, [False] * 40)[2] == [Kind.OPENED]


def test_what_would_not_be_anomalous_needs_no_excuse(bench, calibrated):
    _, decided, _ = run(bench, calibrated, [CALM] * 10, [True] * 10)
    assert not decided.excused.any()
    assert decided.clean.all()


def test_once_something_that_counts_was_seen_all_of_it_counts(bench, calibrated):
    """A forecast follows what has just been, so the records behind a step lie within any dead-band."""
    members, spared = [CALM] * 10 + [5.0] * 6, [False] * 11 + [True] * 5
    _, decided, events = run(bench, calibrated, members, spared)
    assert events == [Kind.OPENED]
    assert not decided.excused.any()
