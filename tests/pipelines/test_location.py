"""Learning an entity's own location: the numbers of the trainer, and segments that make cuts harmless."""

from __future__ import annotations

import numpy as np
import telemetry
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.models.scaling import fit_location, jump_residuals
from tocsin.pipelines import location
from tocsin.pipelines.location import LEARNING, OWN, LocationState


def learning(slots: int, features: int) -> LocationState:
    state = location.init(slots, features)
    group = np.tile(np.float32([[5.0], [2.0], [0.1], [1.0]]), (slots, 1, features))
    location.install(state, np.arange(slots, dtype=np.int32), group, np.ones(slots, bool))
    return state


def test_the_learnt_location_is_the_one_that_training_would_fit() -> None:
    fleet = telemetry.generate(2, entities=1, records=600, features=6, missing=0.05)
    values = fleet.values.astype(np.float32)
    values[:, 4] = 7.0  # dead
    values[:, 5] = 0.0  # dead at nothing
    jumps = jump_residuals(values).astype(np.float32)
    state = learning(1, 6)
    done = location.learn(state, np.zeros(600, np.int32), np.ones(600, bool), values, jumps)
    assert done.tolist() == [499]
    assert state.phase[0] == OWN
    np.testing.assert_allclose(state.location[0], fit_location([values[:500]]), rtol=1e-5, atol=1e-6)
    assert state.location[0, 1, 4:].tolist() == [np.float32(0.21), np.float32(0.03)]


def test_records_in_incidents_teach_nothing_and_rare_channels_keep_the_group() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(700, 2)).astype(np.float32)
    values[location.FEWEST - 1 :, 1] = np.nan
    clean = np.ones(700, bool)
    clean[100:250] = False
    values[100:250] += 1000
    state = learning(1, 2)
    done = location.learn(state, np.zeros(700, np.int32), clean, values, values * 0)
    assert done.tolist() == [649]
    assert abs(state.location[0, 0, 0]) < 0.2
    assert state.location[0, :, 1].tolist() == [np.float32(v) for v in (5.0, 2.0, 0.1, 1.0)]


def test_entities_of_the_version_learn_nothing() -> None:
    state = location.init(1, 1)
    location.install(state, np.zeros(1, np.int32), np.ones((1, 4, 1), np.float32), np.zeros(1, bool))
    slots, values = np.zeros(900, np.int32), np.zeros((900, 1), np.float32)
    assert len(location.learn(state, slots, np.ones(900, bool), values, values)) == 0
    assert location.next_cut(state, slots, 0) == 900


def test_a_segment_ends_before_the_first_record_that_could_see_a_new_location() -> None:
    state = learning(3, 1)
    state.learnt[:] = [location.LIMIT - 1, location.LIMIT - 2, 0]
    before = state.learnt.copy()
    slots = np.array([2, 0, 1, 2, 1, 2, 1, 0], np.int32)
    assert location.next_cut(state, slots, 0) == 6, "slot 1 may complete at row 4, row 6 would see it"
    assert location.next_cut(state, slots[:5], 0) == 5
    assert location.next_cut(state, slots, 6) == 8
    np.testing.assert_array_equal(state.learnt, before)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=80),
    st.sets(st.integers(1, 79)),
    st.integers(1, 6),
)
def test_the_location_each_record_is_scored_with_depends_on_no_cut(
    rows: list[tuple[int, bool]], cuts: set[int], limit: int
) -> None:
    slots = np.array([slot for slot, _ in rows], np.int32)
    clean = np.array([c for _, c in rows], bool)
    values = np.random.default_rng(1).normal(size=(len(rows), 2)).astype(np.float32)

    def run(edges: set[int], singly: bool) -> tuple[np.ndarray, LocationState]:
        state, used, start = learning(4, 2), [], 0
        while start < len(rows):
            bound = min((edge for edge in edges if edge > start), default=len(rows))
            bound = min(bound, len(rows))
            end = start + 1 if singly else location.next_cut(state, slots[:bound], start, limit)
            assert end > start
            used.append(state.location[slots[start:end]])
            part = slice(start, end)
            location.learn(state, slots[part], clean[part], values[part], values[part], limit)
            start = end
        return np.concatenate(used) if used else np.zeros(0), state

    patience = location.FEWEST
    try:
        location.FEWEST = 1
        one, first = run(set(), singly=True)
        two, second = run(cuts, singly=False)
    finally:
        location.FEWEST = patience
    assert one.tobytes() == two.tobytes()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))
    assert set(first.phase) <= {LEARNING, OWN}
