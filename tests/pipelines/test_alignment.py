"""Measurements become records: the rule by hand, against a slow reference, and under any cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.errors import SettingsError
from tocsin.pipelines import alignment
from tocsin.pipelines.alignment import Aligned, Alignment
from tocsin.pipelines.records import Points

RULE = Alignment(period_us=10, wait_us=5, carry_us=25, far_ahead_us=1000)
NONE = np.zeros(0, np.int32)
NAN = float("nan")


def points(rows: list[tuple[int, int, float]], slots: list[int] | None = None) -> Points:
    times, features, values = zip(*rows, strict=True) if rows else ((), (), ())
    count = len(rows)
    return Points(
        np.asarray(slots or [0] * count, np.int32),
        np.zeros(count, np.int32),
        np.arange(count),
        np.asarray(times, np.int64),
        np.asarray(features, np.int32),
        np.asarray(values, np.float64),
    )


def run(rows: list[tuple[int, int, float]], rule: Alignment = RULE, counters: np.ndarray = NONE) -> Aligned:
    return alignment.align(alignment.init(1, rule, 2), points(rows), rule, counters)


def table(got: Aligned) -> list[tuple]:
    return [
        (int(time), int(offset), *(None if v != v else v for v in values))
        for time, offset, values in zip(
            got.records.time_us, got.records.offset, got.records.values.tolist(), strict=True
        )
    ]


def test_a_period_closes_with_the_first_measurement_after_its_wait() -> None:
    got = run([(101, 0, 1.0), (104, 1, 2.0), (114, 0, 3.0), (109, 1, 4.0), (115, 1, 9.0), (125, 0, 5.0)])
    assert table(got) == [(100, 4, 1.0, 4.0), (110, 5, 3.0, 9.0)]
    assert got.late == 0


def test_a_measurement_for_a_closed_period_is_late() -> None:
    got = run([(101, 0, 1.0), (115, 0, 2.0), (109, 1, 7.0), (111, 1, 8.0)])
    assert got.late == 1
    assert table(got) == [(100, 1, 1.0, None)]


def test_the_newest_measurement_of_a_period_counts() -> None:
    got = run([(105, 0, 1.0), (103, 0, 2.0), (105, 0, 3.0), (106, 0, NAN), (115, 1, 0.0)])
    assert table(got) == [(100, 4, 3.0, None)]


def test_a_metric_is_carried_forward_as_long_as_declared_and_counters_are_not() -> None:
    rows = [(101, 1, 7.0), *((t, 0, float(t)) for t in range(101, 160, 10))]
    assert [row[3] for row in table(run(rows))] == [7.0, 7.0, None, None]
    assert [row[3] for row in table(run(rows, counters=np.array([1], np.int32)))] == [7.0, None, None, None]
    assert [row[3] for row in table(run(rows, RULE._replace(carry_us=0)))] == [7.0, None, None, None]


def test_periods_in_which_nothing_came_give_no_record() -> None:
    got = run([(101, 0, 1.0), (501, 0, 2.0), (601, 0, 3.0)])
    assert [row[0] for row in table(got)] == [100, 500]


def test_one_wild_clock_closes_nothing_but_a_real_gap_goes_on() -> None:
    got = run([(101, 0, 1.0), (9001, 0, 1.0), (9002, 1, 1.0), (9003, 0, 1.0), (102, 1, 2.0), (115, 0, 3.0)])
    assert table(got) == [(100, 5, 1.0, 2.0)]
    assert got.far_ahead.tolist() == [1, 2, 3]
    gap = run([(101, 0, 1.0), (9001, 0, 1.0), (9011, 0, 2.0), (9021, 0, 3.0), (9036, 0, 4.0)])
    assert table(gap) == [(100, 3, 1.0, None), (9020, 4, 3.0, None)]


@pytest.mark.parametrize("rule", [Alignment(0, 0), Alignment(1, -1), Alignment(1, 2000), Alignment(1, 0, -1)])
def test_a_rule_that_cannot_be_followed_is_refused(rule: Alignment) -> None:
    with pytest.raises(SettingsError):
        alignment.check(rule)
    assert alignment.check(RULE) is RULE


def reference(rows: list[tuple[int, int, float]], rule: Alignment) -> tuple[list[tuple], int]:
    """One entity, without the rule for wild clocks: dictionaries of periods."""
    measured: dict[int, dict[int, tuple[int, int, float]]] = {}
    last: dict[int, tuple[int, float]] = {}
    closed = newest = -(10**18)
    out, late = [], 0
    for index, (time, feature, value) in enumerate(rows):
        newest = max(newest, time)
        for period in sorted(measured):
            end = (period + 1) * rule.period_us
            if newest >= end + rule.wait_us:
                record: list[float | None] = []
                for j in range(2):
                    found = measured[period].get(j)
                    if found:
                        last[j] = (found[0], found[2])
                    fresh = j in last and end - last[j][0] <= rule.carry_us
                    record.append(found[2] if found else last[j][1] if fresh else None)
                out.append((end - rule.period_us, index, *record))
                del measured[period]
        closed = max(closed, (newest - rule.wait_us) // rule.period_us - 1)
        if time // rule.period_us <= closed:
            late += 1
            continue
        here = measured.setdefault(time // rule.period_us, {})
        if value == value and (feature not in here or time >= here[feature][0]):
            here[feature] = (time, index, value)
    return out, late


POINT = st.tuples(st.integers(1000, 1120), st.integers(0, 1), st.sampled_from([1.0, 2.5, NAN]))
RULES = st.tuples(st.integers(1, 20), st.integers(0, 30), st.integers(0, 40)).map(
    lambda rule: Alignment(*rule)
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), POINT), max_size=60), st.sets(st.integers(0, 60)), RULES)
def test_any_cut_gives_what_the_reference_gives(
    rows: list[tuple[int, tuple[int, int, float]]], cuts: set[int], rule: Alignment
) -> None:
    state = alignment.init(3, rule, 2)
    whole = points([row for _, row in rows], [slot for slot, _ in rows])
    edges = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    found: dict[int, list[tuple]] = {0: [], 1: [], 2: []}
    late = 0
    for begin, end in pairwise(edges):
        part = Points._make(column[begin:end] for column in whole)
        got = alignment.align(state, part, rule, NONE)
        late += got.late
        for slot, row in zip(got.records.slot.tolist(), table(got), strict=True):
            found[slot].append(row)
    late_expected = 0
    for slot in found:
        mine = [index for index, (at, _) in enumerate(rows) if at == slot]
        expected, more = reference([rows[index][1] for index in mine], rule)
        late_expected += more
        assert found[slot] == [(time, mine[index], *values) for time, index, *values in expected]
    assert late == late_expected
