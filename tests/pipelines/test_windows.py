"""The rule of windows against a slow reference, cuts that change nothing, and each verdict by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import telemetry
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.models.scaling import JUMP_GAIN, jump_residuals
from tocsin.pipelines import slots, windows
from tocsin.pipelines.records import Records, take_rows
from tocsin.pipelines.windows import Verdict

SECOND = 1_000_000
NONE = np.zeros(0, np.int32)


def records(times: list[int], values: object = None, entities: object = None) -> Records:
    rows = len(times)
    column = np.zeros((rows, 2)) if values is None else np.asarray(values, np.float64)
    if values is None:
        column[:] = np.arange(rows)[:, None]
    if column.ndim == 1:
        column = column[:, None]
    slot = np.zeros(rows, np.int32) if entities is None else np.asarray(entities, np.int32)
    return Records(slot, np.zeros(rows, np.int32), np.arange(rows), np.asarray(times, np.int64), column)


def verdicts(times: list[int], lags: int = 2, length: int = 4, **keywords: int) -> list[Verdict]:
    state = windows.init(1, length, 2, 0)
    return [Verdict(v) for v in windows.accept(state, records(times), NONE, lags, **keywords).verdict]


def test_a_record_seen_twice_is_a_duplicate_whether_newest_or_older() -> None:
    assert verdicts([10, 20, 20, 10]) == [
        Verdict.WARMING,
        Verdict.SCORED,
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
    ]


def test_older_than_everything_held_is_late() -> None:
    assert verdicts([10, 20, 30, 40, 50, 15, 5])[-2:] == [Verdict.LATE, Verdict.LATE]


def test_a_record_out_of_order_takes_its_place_for_later_windows() -> None:
    state = windows.init(1, 4, 1, 0)
    got = windows.accept(state, records([10, 30, 20, 40], [1.0, 3.0, 2.0, 4.0]), NONE, 3)
    assert list(got.verdict) == [Verdict.WARMING, Verdict.WARMING, Verdict.OUT_OF_ORDER, Verdict.SCORED]
    assert got.window[0, :, 0].tolist() == [2.0, 3.0, 4.0]


def test_a_full_ring_loses_its_oldest_to_one_out_of_order() -> None:
    state = windows.init(1, 3, 1, 0)
    values = [1.0, 2.0, 4.0, 3.0, 5.0]
    got = windows.accept(state, records([10, 20, 40, 30, 50], values), NONE, 3)
    assert got.window[:, :, 0].tolist() == [[1.0, 2.0, 4.0], [3.0, 4.0, 5.0]]


def test_far_ahead_is_refused_until_the_third_that_hangs_together() -> None:
    far = 1000
    times = [10, 20, 5000, 30, 5000, 5000, 5010, 5020, 5030]
    W, S, F, D = Verdict.WARMING, Verdict.SCORED, Verdict.FAR_AHEAD, Verdict.DUPLICATE
    assert verdicts(times, far_ahead_us=far) == [W, S, F, S, F, F, F, S, S]
    assert verdicts([10, 20, 5000, 4000, 3000, 2990], far_ahead_us=far)[2:] == [F, F, F, F], "going backwards"
    assert verdicts([10, 20, 5000, 7000, 9000], far_ahead_us=far)[2:] == [F, F, F], "far from each other"
    assert verdicts([10, 20, 1020, 1020], far_ahead_us=far)[2:] == [S, D], "exactly at the bound"


def test_a_record_without_values_takes_its_place_and_is_not_scored() -> None:
    state = windows.init(1, 4, 1, 0)
    got = windows.accept(state, records([10, 20, 30, 30], [1.0, np.nan, 3.0, 9.0]), NONE, 3)
    assert list(got.verdict) == [Verdict.WARMING, Verdict.ALL_MISSING, Verdict.SCORED, Verdict.DUPLICATE]
    np.testing.assert_array_equal(got.window[0, :, 0], np.float32([1.0, np.nan, 3.0]))
    assert got.jump[0, 0] == pytest.approx(2.0), "the trend stood still"


def test_counters_become_rates_and_a_fall_is_a_reset() -> None:
    state = windows.init(1, 8, 2, 1)
    big = 2.0**50
    column = [big, big + 3, np.nan, big + 9, 4.0, 5.0]
    values = np.stack([np.ones(6), column], axis=1)
    times = [0, 2 * SECOND, 4 * SECOND, 5 * SECOND, 6 * SECOND, 8 * SECOND]
    got = windows.accept(state, records(times, values), np.array([1], np.int32), 1)
    expected = np.float32([np.nan, 1.5, np.nan, 2.0, np.nan, 0.5])
    np.testing.assert_array_equal(got.window[:, 0, 1], expected)
    np.testing.assert_array_equal(got.missing, np.float32([0.5, 0, 0.5, 0, 0.5, 0]))


def test_a_counter_out_of_order_is_missing_and_disturbs_no_rate() -> None:
    state = windows.init(1, 8, 2, 1)
    values = [[1.0, 10.0], [1.0, 30.0], [1.0, 20.0], [1.0, 40.0]]
    got = windows.accept(
        state, records([0, 2 * SECOND, SECOND, 3 * SECOND], values), np.array([1], np.int32), 1
    )
    np.testing.assert_array_equal(got.window[:, 0, 1], np.float32([np.nan, 10.0, 10.0]))


def test_what_float32_cannot_work_with_is_missing() -> None:
    state = windows.init(1, 4, 2, 0)
    got = windows.accept(state, records([1, 2], [[1.0, np.inf], [1.0, -1e38]]), NONE, 1)
    assert np.isnan(got.window[:, 0, 1]).all()


def test_the_jump_is_the_one_that_training_uses() -> None:
    assert windows._GAIN == JUMP_GAIN
    fleet = telemetry.generate(3, entities=1, records=200, features=4, missing=0.1)
    state = windows.init(1, 16, 4, 0)
    got = windows.accept(state, records(fleet.time_us.tolist(), fleet.values), NONE, 1)
    np.testing.assert_array_equal(got.jump, jump_residuals(fleet.values)[got.row].astype(np.float32))


def test_lags_must_fit_the_ring() -> None:
    with pytest.raises(ValueError, match="ring's length 4"):
        verdicts([1], lags=5)


class Entry(NamedTuple):
    time: int
    x: list[float]


class Reference:
    """The rule for one entity, in plain Python: sorted lists instead of rings."""

    def __init__(self, length: int, lags: int, far: int, counters: list[int]) -> None:
        self.length, self.lags, self.far, self.counters = length, lags, far, counters
        self.held: list[Entry] = []
        self.last: dict[int, tuple[int, float]] = {}
        self.trend: dict[int, float] = {}
        self.refused: list[int] = []

    def judge(
        self, time: int, raw: list[float]
    ) -> tuple[Verdict, list[list[float]] | None, list[float] | None]:
        if self.held and time > self.held[-1].time + self.far:
            if not (self.refused and time == self.refused[-1]):
                follows = bool(self.refused) and self.refused[-1] < time <= self.refused[-1] + self.far
                self.refused = [*self.refused, time] if follows else [time]
                if len(self.refused) < 3:
                    return Verdict.FAR_AHEAD, None, None
            else:
                return Verdict.FAR_AHEAD, None, None
        self.refused = []
        x = list(raw)
        if self.held and time <= self.held[-1].time:
            if any(entry.time == time for entry in self.held):
                return Verdict.DUPLICATE, None, None
            if time < self.held[0].time:
                return Verdict.LATE, None, None
            for c in self.counters:
                x[c] = float("nan")
            self.held = sorted([*self.held, Entry(time, x)])[-self.length :]
            return Verdict.OUT_OF_ORDER, None, None
        for c in self.counters:
            if x[c] == x[c]:
                before = self.last.get(c)
                self.last[c] = (time, x[c])
                if before is None or x[c] < before[1]:
                    x[c] = float("nan")
                else:
                    x[c] = (x[c] - before[1]) / ((time - before[0]) * 1e-6)
        self.held = [*self.held, Entry(time, x)][-self.length :]
        jump = [float("nan")] * len(x)
        for j, value in enumerate(x):
            if value == value:
                trend = self.trend.setdefault(j, value)
                jump[j] = value - trend
                self.trend[j] = trend + JUMP_GAIN * (value - trend)
        if all(value != value for value in x):
            return Verdict.ALL_MISSING, None, None
        if len(self.held) < self.lags:
            return Verdict.WARMING, None, None
        return Verdict.SCORED, [entry.x for entry in self.held[-self.lags :]], jump


LENGTH, LAGS, FAR, ENTITIES = 5, 3, 25 * SECOND, 3
VALUE = st.sampled_from([0.0, 1.0, 1.5, 4.0, 1e9, 1e9 + 1, float("nan")])
ROW = st.tuples(
    st.integers(0, ENTITIES - 1),
    st.one_of(st.integers(0, 12), st.integers(0, 12).map(lambda n: n + 60), st.just(40)),
    st.tuples(VALUE, VALUE, VALUE),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ROW, max_size=60), st.sets(st.integers(0, 60)))
def test_any_cut_gives_the_bits_of_the_reference(rows: list, cuts: set[int]) -> None:
    values = np.array([x for _, _, x in rows], np.float64).reshape(len(rows), 3)
    batch = records([time * SECOND for _, time, _ in rows], values, [entity for entity, _, _ in rows])
    counters = np.array([2], np.int32)
    fresh = windows.init(1, LENGTH, 3, 1)
    state = windows.init(1, LENGTH, 3, 1)
    verdict, window, jump, late = [], [], [], []
    edges = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    for begin, end in pairwise(edges):
        state = slots.grow(state, fresh, int(batch.slot[:end].max(initial=0)) + 1)
        got = windows.accept(state, take_rows(batch, slice(begin, end)), counters, LAGS, FAR)
        verdict += got.verdict.tolist()
        window += list(got.window)
        jump += list(got.jump)
        assert got.row.tolist() == np.flatnonzero(got.verdict == Verdict.SCORED).tolist()
        late += got.late.tolist()
    behind, counted = dict.fromkeys(range(ENTITIES), 0), []
    for judged, (entity, _, _) in zip(verdict, rows, strict=True):
        behind[entity] += judged in (Verdict.LATE, Verdict.OUT_OF_ORDER)
        if judged == Verdict.SCORED:
            counted.append(behind[entity])
            behind[entity] = 0
    assert late == counted
    reference = {entity: Reference(LENGTH, LAGS, FAR, [2]) for entity in range(ENTITIES)}
    expected = [reference[e].judge(t * SECOND, list(x)) for e, t, x in rows]
    assert verdict == [v for v, _, _ in expected]
    for mine, theirs in zip(window, [w for _, w, _ in expected if w is not None], strict=True):
        assert mine.tobytes() == np.array(theirs, np.float32).tobytes()
    for mine, theirs in zip(jump, [j for _, _, j in expected if j is not None], strict=True):
        assert mine.tobytes() == np.array(theirs, np.float32).tobytes()


def test_what_came_late_is_counted_once_with_the_next_that_is_scored() -> None:
    state = windows.init(1, 3, 1, 0)
    got = windows.accept(state, records([10, 20, 40, 30, 5, 40, 50, 60], [1.0] * 8), NONE, 1)
    assert got.late.tolist() == [0, 0, 0, 2, 0]  # out of order, late; a duplicate is neither


def test_a_fleet_with_faulty_delivery_is_judged_as_it_was_made() -> None:
    fleet = telemetry.generate(
        5, entities=10, records=300, features=3, late=0.02, disordered=0.03, duplicates=0.02
    )
    state = windows.init(10, 16, 3, 0)
    batch = records(fleet.time_us.tolist(), fleet.values, fleet.entity)
    got = windows.accept(state, batch, NONE, 5)
    ordinary = fleet.kind == telemetry.ORDINARY
    assert set(got.verdict[ordinary]) <= {Verdict.SCORED, Verdict.WARMING}
    late = got.verdict[fleet.kind == telemetry.LATE]
    # a late record after which nothing newer of its entity arrives is simply the newest
    assert (late == Verdict.LATE).mean() > 0.8
    disordered = got.verdict[fleet.kind == telemetry.DISORDERED]
    assert (disordered == Verdict.OUT_OF_ORDER).mean() > 0.9
    assert set(got.verdict[fleet.kind == telemetry.DUPLICATE]) <= {Verdict.DUPLICATE, Verdict.LATE}
