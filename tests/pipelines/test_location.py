"""Learning an entity's own location: the numbers of the trainer, and segments that make cuts harmless."""

from __future__ import annotations

import numpy as np
import telemetry
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tocsin.models.scaling import fit_location, jump_residuals
from tocsin.pipelines import location
from tocsin.pipelines.location import LEARNING, NO_PERIOD, OWN, LocationState
from tocsin.pipelines.records import NO_TIME
from tocsin.thresholds.state import pace

GAIN = float(pace(16 * 100.0))


def gains(rows: int) -> np.ndarray:
    return np.full(rows, GAIN)


def no_turns(rows: int) -> np.ndarray:
    return np.full(rows, -1, np.int64)


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
    done = location.learn(state, np.zeros(600, np.int32), np.ones(600, bool), values, jumps, gains(600))
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
    done = location.learn(state, np.zeros(700, np.int32), clean, values, values * 0, gains(700))
    assert done.tolist() == [649]
    assert abs(state.location[0, 0, 0]) < 0.2
    assert state.location[0, :, 1].tolist() == [np.float32(v) for v in (5.0, 2.0, 0.1, 1.0)]


def known(location_of: np.ndarray) -> LocationState:
    state = location.init(1, location_of.shape[1])
    location.install(state, np.zeros(1, np.int32), location_of[None].astype(np.float32), np.zeros(1, bool))
    return state


def test_entities_of_the_version_complete_nothing() -> None:
    state = known(np.ones((4, 1)))
    slots, values = np.zeros(900, np.int32), np.zeros((900, 1), np.float32)
    assert len(location.learn(state, slots, np.ones(900, bool), values, values, gains(900))) == 0
    assert location.next_cut(state, slots, no_turns(900), 0) == 900


def test_a_location_follows_clean_records_and_acts_from_the_next_period() -> None:
    state = known(np.array([[10.0], [1.0], [0.0], [1.0]]))
    rng = np.random.default_rng(0)
    n = 3 * 16 * 100
    values = rng.normal(50.0, 5.0, (n, 1)).astype(np.float32)
    jumps = rng.normal(0.0, 3.0, (n, 1)).astype(np.float32)
    clean = np.arange(n) % 4 != 0
    values[~clean] += 1e6
    slots, times = np.zeros(n, np.int32), np.arange(n, dtype=np.int64)
    location.learn(state, slots, clean, values, jumps, gains(n))
    one = np.zeros(1, np.int32)
    location.follow(state, one, times[:1] + 1000, times[:1] + 1023, 1024)
    assert state.location[0, 0, 0] == 10.0, "the same period"
    location.follow(state, one, times[:1] + 1024, np.array([NO_TIME]), 1024)
    assert state.location[0, 0, 0] == 10.0, "the first record of all"
    location.follow(state, one, times[:1] + 1024, times[:1] + 1023, 1024)
    # three quarters of three half-lives: what is left of the old is 2 ** -2.25
    left = 2.0**-2.25
    middle = 50.0 - left * 40.0
    spread = np.sqrt(left * (1.0 + (middle - 10.0) ** 2) + (1.0 - left) * (25.0 + (50.0 - middle) ** 2))
    mean, sd, jump_mean, jump_sd = state.location[0, :, 0]
    assert mean == np.float32(state.mean[0, 0])
    assert abs(mean - middle) < 0.5
    assert abs(sd - spread) < 0.5
    assert abs(jump_mean) < 0.2
    assert abs(jump_sd - np.sqrt(left + (1.0 - left) * 9.0)) < 0.2


def test_a_channel_that_rests_keeps_half_of_its_spread() -> None:
    state = known(np.array([[0.0], [8.0], [0.0], [2.0]]))
    rest = np.zeros((200_000, 1), np.float32)
    location.learn(
        state, np.zeros(len(rest), np.int32), np.ones(len(rest), bool), rest, rest, gains(len(rest))
    )
    location.follow(state, np.zeros(1, np.int32), np.array([1024]), np.array([1]), 1024)
    assert state.location[0, :, 0].tolist() == [0.0, 4.0, 0.0, 1.0]


def test_a_period_holds_some_256_records() -> None:
    assert location.period_of(1000.0, 1000 * 60_000_000) == 2**34  # 256 minutes are 1.536e10
    assert location.period_of(0.0, 1) == location.period_of(5.0, 0) == NO_PERIOD


def test_turns_are_those_of_each_slot_of_its_own() -> None:
    slots = np.array([0, 1, 0, 1, 0, 2], np.int32)
    times = np.array([1, 9, 11, 12, 13, 25], np.int64)
    assert location.turns(slots, times, 10).tolist() == [-1, -1, 0, 1, -1, -1]
    assert location.turns(slots, times, NO_PERIOD).tolist() == [-1] * 6
    state = known(np.ones((4, 1)))
    assert location.next_cut(state, slots[:5] * 0, np.array([-1, -1, 0, 1, -1]), 0) == 2
    assert location.next_cut(state, slots[:5] * 0, np.array([-1, -1, 0, 1, -1]), 2) == 5


def test_a_segment_ends_before_the_first_record_that_could_see_a_new_location() -> None:
    state = learning(3, 1)
    state.learnt[:] = [location.LIMIT - 1, location.LIMIT - 2, 0]
    before = state.learnt.copy()
    slots = np.array([2, 0, 1, 2, 1, 2, 1, 0], np.int32)
    assert location.next_cut(state, slots, no_turns(8), 0) == 6, (
        "slot 1 may complete at row 4, row 6 would see it"
    )
    assert location.next_cut(state, slots[:5], no_turns(5), 0) == 5
    assert location.next_cut(state, slots, no_turns(8), 6) == 8
    np.testing.assert_array_equal(state.learnt, before)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(1, 9)), max_size=80),
    st.sets(st.integers(1, 79)),
    st.integers(1, 6),
    st.integers(0, 15),
    st.integers(0, 15),
)
@example([(0, True, 1)] * 4, set(), 2, 1, 0)
@example([(0, True, 1)] * 4, set(), 2, 0, 1)
def test_the_location_each_record_is_scored_with_depends_on_no_cut(
    rows: list[tuple[int, bool, int]], cuts: set[int], limit: int, who_learns: int, who_rebases: int
) -> None:
    slots = np.array([slot for slot, _, _ in rows], np.int32)
    clean = np.array([c for _, c, _ in rows], bool)
    times = np.cumsum([step for *_, step in rows]).astype(np.int64)
    values = np.random.default_rng(1).normal(size=(len(rows), 2)).astype(np.float32)
    newcomers = np.array([who_learns >> slot & 1 for slot in range(4)], bool)

    def run(edges: set[int], singly: bool) -> tuple[np.ndarray, LocationState]:
        state, used, start, begun = learning(4, 2), [], 0, 0
        old = np.flatnonzero(~newcomers).astype(np.int32)
        location.install(state, old, state.location[old].copy(), np.zeros(len(old), bool))
        for slot in range(4):
            if who_rebases >> slot & 1:
                location.rebase(state, slot)
        last = np.full(4, NO_TIME)
        bound = 0
        while start < len(rows):
            if start >= bound:
                begun, bound = start, min((edge for edge in edges if edge > start), default=len(rows))
                bound = min(bound, len(rows))
            batch = slice(begun, bound)
            turn = location.turns(slots[batch], times[batch], 16)
            end = begun + location.next_cut(state, slots[batch], turn, start - begun, limit)
            end = start + 1 if singly else end
            assert end > start
            part = slice(start, end)
            location.follow(state, slots[part], times[part], last[slots[part]], 16)
            used.append(state.location[slots[part]])
            location.learn(
                state, slots[part], clean[part], values[part], values[part], gains(end - start), limit
            )
            for row in range(start, end):
                last[slots[row]] = times[row]
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
    assert set(first.phase[newcomers]) <= {LEARNING, OWN}


def test_a_rebased_location_stays_until_another_is_learnt_and_keeps_half_of_its_spread() -> None:
    state = known(np.array([[10.0, 10.0], [2.0, 2.0], [0.0, 0.0], [3.0, 3.0]]))
    old = state.location.copy()
    location.rebase(state, 0)
    rng = np.random.default_rng(0)
    values = rng.normal([50.0, 70.0], [0.1, 5.0], (900, 2)).astype(np.float32)
    jumps = rng.normal(0.0, [0.1, 1.0], (900, 2)).astype(np.float32)
    slots = np.zeros(900, np.int32)
    cut = location.next_cut(state, slots, no_turns(900), 0)
    assert cut == location.LIMIT
    for first, last in ((0, cut - 1), (cut - 1, cut)):
        np.testing.assert_array_equal(state.location, old)
        count, piece = last - first, slice(first, last)
        clean = np.ones(count, bool)
        done = location.learn(state, slots[:count], clean, values[piece], jumps[piece], gains(count))
        assert len(done) == 0, "no new entity completes"
    assert state.phase[0] == OWN
    np.testing.assert_allclose(state.location[0, 0], [50.0, 70.0], atol=0.5)
    np.testing.assert_allclose(state.location[0, 1], [1.0, 5.0], rtol=0.1)
    assert state.location[0, 3].tolist() == [1.5, 1.5]


def test_a_new_entity_that_is_rebased_begins_to_learn_anew_and_is_new_still() -> None:
    state = learning(1, 1)
    values = np.full((499, 1), 3.0, np.float32)
    slots, clean = np.zeros(499, np.int32), np.ones(499, bool)
    location.learn(state, slots, clean, values, values * 0, gains(499))
    location.rebase(state, 0)
    assert (state.phase[0], state.learnt[0]) == (LEARNING, 0)
    location.learn(state, slots, clean, values + 4, values * 0, gains(499))
    done = location.learn(state, slots[:1], clean[:1], values[:1] + 4, values[:1] * 0, gains(1))
    assert done.tolist() == [0]
    assert state.location[0, 0, 0] == 7.0
