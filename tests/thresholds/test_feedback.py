"""What operators say of incidents, in one entity's accounts: what counts, where, and the level that follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.thresholds.calibration import Calibration
from tocsin.thresholds.constants import DAY_US, LEVEL_STEP, LEVELS, Kind, Mark, Phase, Reason
from tocsin.thresholds.feedback import mark, weigh
from tocsin.thresholds.level import lowest_level
from tocsin.thresholds.state import Rules

MINUTE = 60_000_000
START = 100 * DAY_US
Calibrated = Callable[..., Calibration]


def run(one: Any, scores: list[float], first: int = 0) -> int:
    """A record a minute; returns the minute of the next."""
    for minute, score in enumerate(scores, first):
        one.push(score, START + minute * MINUTE)
    return first + len(scores)


def openings(one: Any) -> list[float]:
    counted: list[float] = one.state.openings[0].tolist()
    return counted


def kinds(one: Any) -> list[int]:
    return [int(event["kind"]) for event in one.events]


def budgeted(calibrated: Calibrated, days: float) -> Calibration:
    """Of a level of 1.0, below which there is no room in any budget."""
    return calibrated(level=1.0, days=days, openings=np.array([99.0] * 7 + [0.0] * (LEVELS - 7), np.float32))


WEAK = [1.4, 1.6, 1.8, 2.1, 2.1, 2.1] + [0.0] * 6
"""Opens at the level 1, and at no fixed level above 2; k = 3."""
STRONG = [3.6] * 5 + [0.0] * 6


def test_an_incident_is_as_high_as_the_highest_fixed_level_at_which_it_opened(
    bench: Any, calibrated: Calibrated
) -> None:
    one = bench(calibrated(level=1.0))
    minute = run(one, WEAK)
    assert one.core("height") * LEVEL_STEP == 2.0
    assert openings(one) == [1.0] * 16 + [0.0] * (LEVELS - 16)
    assert [float(event["reach"]) for event in one.events] == [1.375, 2.0]  # at the opening, at the end
    # a peak alone is no opening: one record beyond all others
    minute = run(one, [1.2, 1.2, 1.2, 2.9, 1.2] + [0.0] * 6, minute)
    assert one.core("height") * LEVEL_STEP == 1.125
    # strong: its openings are taken back, and it is as high as it would have opened
    before = openings(one)
    run(one, STRONG, minute)
    assert openings(one) == before
    assert one.core("height") * LEVEL_STEP == 3.5


def test_a_strong_incident_that_is_a_false_alarm_counts_and_the_level_follows_at_once(
    bench: Any, calibrated: Calibrated
) -> None:
    one = bench(budgeted(calibrated, 1.0), share=1.0)
    run(one, STRONG)
    assert one.core("level") == 1.0
    weigh(one.state, 0, int(one.core("height")), 1)
    assert openings(one)[7:] == [1.0] * 21 + [0.0] * (LEVELS - 28)
    assert one.core("level") == 1.0  # the budget has room for one
    weigh(one.state, 0, int(one.core("height")), 1)
    assert one.core("level") == 3.625  # not for two
    weigh(one.state, 0, int(one.core("height")), -1)
    assert one.core("level") == 1.0


def test_a_real_incident_is_taken_back_and_the_level_is_what_the_rule_gives(
    bench: Any, calibrated: Calibrated
) -> None:
    one = bench(budgeted(calibrated, 1.0), share=1.0)
    run(one, WEAK + WEAK + WEAK)
    weigh(one.state, 0, 0, 0)
    assert one.core("level") == 2.125  # three do not fit
    for left, level in ((2, 2.125), (1, 1.0), (0, 1.0), (0, 1.0)):
        weigh(one.state, 0, int(one.core("height")), -1)
        assert openings(one)[7:] == [left] * 9 + [0.0] * (LEVELS - 16)
        assert one.core("level") == level
        allowed = one.core("share") * one.core("span_us") / DAY_US
        assert one.core("level") >= min(1.0, LEVEL_STEP * (lowest_level(one.state.openings[0], allowed) + 1))


@pytest.mark.parametrize("scores", [WEAK, STRONG, [1.4] * 4 + [3.9] * 4 + [0.0] * 6])
@pytest.mark.parametrize("said", [Mark.CONFIRMED, Mark.DENIED])
def test_a_word_on_an_open_incident_is_worth_the_same_as_one_after_its_end(
    bench: Any, calibrated: Calibrated, scores: list[float], said: Mark
) -> None:
    counted = []
    for at in range(4, len(scores) - 5):
        one = bench(calibrated(level=1.0, days=9.0, openings=np.full(LEVELS, 3.0, np.float32)))
        minute = run(one, scores[:at])
        assert one.core("phase") == Phase.FIRING
        mark(one.state, 0, int(said))
        run(one, scores[at:], minute)
        assert one.core("phase") == Phase.NORMAL
        assert one.core("strong") == 0
        counted.append(openings(one))
    whole = bench(calibrated(level=1.0, days=9.0, openings=np.full(LEVELS, 3.0, np.float32)))
    run(whole, scores)
    counts_now = max(openings(whole)) > 3.0
    by = int(said is Mark.DENIED) - int(counts_now)
    weigh(whole.state, 0, int(whole.core("height")), by)
    assert counted == [openings(whole)] * len(counted)


def test_the_last_word_on_an_open_incident_wins(bench: Any, calibrated: Calibrated) -> None:
    for scores in (WEAK[:5], STRONG[:4]):
        one = bench(calibrated(level=1.0, days=9.0))
        run(one, scores)
        before, strong = openings(one), int(one.core("strong"))
        mark(one.state, 0, int(Mark.DENIED))
        false = openings(one)
        mark(one.state, 0, int(Mark.CONFIRMED))
        assert max(openings(one)) == 0.0
        mark(one.state, 0, int(Mark.DENIED))
        assert openings(one) == false
        mark(one.state, 0, 0)
        assert (openings(one), one.core("strong")) == (before, strong)


def test_an_operators_word_is_no_escalation(bench: Any, calibrated: Calibrated) -> None:
    one = bench(calibrated(level=1.0))
    minute = run(one, WEAK[:5])
    mark(one.state, 0, int(Mark.CONFIRMED))
    minute = run(one, [0.0] * 6, minute)
    assert not one.events[-1]["strong"]
    minute = run(one, WEAK[:5], minute)
    mark(one.state, 0, int(Mark.CONFIRMED))
    minute = run(one, [3.9] + [0.0] * 6, minute)
    assert one.events[-1]["strong"]
    assert max(openings(one)) == 0.0


# -- what is expected ------------------------------------------------------------------------------


def expecting(one: Any, minutes: int, by: int = 7) -> None:
    one.state.core["expected_us"][0] = START + minutes * MINUTE
    one.state.core["expected_by"][0] = by


def test_an_expected_incident_says_so_counts_nowhere_and_counts_in_the_cap(
    bench: Any, calibrated: Calibrated
) -> None:
    one = bench(calibrated(level=1.0), Rules(k=3, m=5, exit_k=3, cap=2))
    span = int(one.core("span_us"))
    expecting(one, 60)
    run(one, WEAK + WEAK + WEAK)
    assert kinds(one) == [Kind.OPENED, Kind.RESOLVED] * 2 + [Kind.DIGEST_OPENED]
    assert {int(event["until"]) for event in one.events} == {START + 60 * MINUTE}
    assert {int(event["by"]) for event in one.events} == {7}
    assert one.core("day_count") == 2
    assert max(openings(one)) == 0.0
    assert one.core("span_us") == span  # the time in which nothing counts is no time
    # the end of the digest is told to all: some may have heard of it before
    one.push(0.1, START + DAY_US)
    assert kinds(one)[-1] == Kind.DIGEST_RESOLVED
    assert one.events[-1]["until"] < 0
    assert one.core("span_us") == span + DAY_US - 60 * MINUTE


def test_beyond_the_time_said_an_incident_ends_and_opens_anew_as_any_other(
    bench: Any, calibrated: Calibrated
) -> None:
    one = bench(calibrated(level=1.0))
    expecting(one, 6)
    minute = run(one, [2.1] * 7)
    assert one.core("phase") == Phase.FIRING
    assert one.core("strong") == Mark.EXPECTED
    run(one, [2.1] * 5 + [0.0] * 6, minute)
    assert kinds(one) == [Kind.OPENED, Kind.RESOLVED] * 2
    ended, again = one.events[1], one.events[2]
    assert (int(ended["reason"]), int(ended["time_us"])) == (Reason.OPERATOR, START + 7 * MINUTE)
    assert ended["until"] == START + 6 * MINUTE
    assert again["until"] < 0
    assert again["onset"] == START + 7 * MINUTE
    assert openings(one) == [1.0] * 16 + [0.0] * (LEVELS - 16)


def test_nothing_of_an_expected_incident_is_taken_as_the_new_ordinary(
    bench: Any, calibrated: Calibrated
) -> None:
    rules = Rules(k=3, m=5, exit_k=3, level_change_us=20 * MINUTE)
    for minutes, changed in ((0, True), (100, False)):
        one = bench(calibrated(level=1.0, half_life=1e9), rules)
        if minutes:
            expecting(one, minutes)
        run(one, [1.8] * 60)
        assert (Kind.LEVEL_CHANGE in kinds(one)) == changed
        assert (abs(float(one.core("S"))) > 0.5) == changed


def test_an_expected_incident_that_was_a_false_alarm_after_all_counts(
    bench: Any, calibrated: Calibrated
) -> None:
    one = bench(calibrated(level=1.0))
    expecting(one, 60)
    run(one, WEAK)
    assert max(openings(one)) == 0.0
    weigh(one.state, 0, int(one.core("height")), 1)
    assert openings(one) == [1.0] * 16 + [0.0] * (LEVELS - 16)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 44), min_size=1, max_size=120),
    st.lists(st.tuples(st.integers(0, 120), st.sampled_from([0, 2, 4])), max_size=4),
)
def test_no_word_ever_makes_a_count_negative_or_leaves_a_mark_behind(
    bench: Any, calibrated: Calibrated, tenths: list[int], said: list[tuple[int, int]]
) -> None:
    one = bench(calibrated(level=1.0))
    for minute, value in enumerate(tenths):
        one.push(value / 10, START + minute * MINUTE)
        for at, word in said:
            if at == minute and one.core("phase") == Phase.FIRING:
                mark(one.state, 0, word)
        assert min(openings(one)) >= 0.0
        assert one.core("strong") == 0 or one.core("phase") == Phase.FIRING
        assert one.core("height") <= LEVELS
