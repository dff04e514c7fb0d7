"""Timelines of what goes by how records come: absence, lateness, partial records."""

import numpy as np
import pytest
from tocsin.thresholds.constants import DAY_US, NO_TIME, Kind, Reason
from tocsin.thresholds.events import resolve
from tocsin.thresholds.state import Rules

MINUTE = 60_000_000
HOUR = 60 * MINUTE
OPENED, RESOLVED = int(Kind.OPENED), int(Kind.RESOLVED)
ABSENT, PRESENT = int(Kind.ABSENT), int(Kind.PRESENT)
BEHIND, CAUGHT_UP = int(Kind.BEHIND), int(Kind.CAUGHT_UP)
PARTIAL, COMPLETE = int(Kind.PARTIAL), int(Kind.COMPLETE)


@pytest.fixture
def fleet(bench, calibrated):
    def fleet(entities=2, **rules):
        return bench(
            calibrated(np.zeros(1000), level=1.0), Rules(k=3, m=5, exit_k=3, **rules), owner=[0] * entities
        )

    return fleet


def pushed(one, slot, minutes):
    """Ordinary records of an entity at those minutes; the events of each."""
    return [one.push(0, minute * MINUTE, slot)["events"] for minute in minutes]


# -- absence ---------------------------------------------------------------------------------------


def test_absent_at_the_record_that_moves_the_watermark_so_far_and_present_at_its_next(fleet):
    one = fleet(absent_after_us=5 * MINUTE)
    pushed(one, 0, range(3))
    assert pushed(one, 1, range(9)) == [[]] * 7 + [[ABSENT], []]  # its last was at minute 2
    absent = one.events[0]
    assert (absent["slot"], absent["alert"], absent["time_us"]) == (0, 2 * MINUTE, 7 * MINUTE)
    assert np.isnan([absent[name] for name in ("score", "p", "threshold", "peak")]).all()
    assert pushed(one, 0, [9, 10]) == [[PRESENT], []]
    present = one.events[1]
    assert (present["slot"], present["alert"], present["reason"]) == (0, 2 * MINUTE, Reason.RECOVERED)
    assert pushed(one, 1, range(10, 17)) == [[]] * 5 + [[ABSENT], []]  # anew, under another name
    assert one.events[2]["alert"] == 10 * MINUTE


def test_no_absence_unless_it_is_asked_for(fleet):
    one = fleet()
    pushed(one, 0, range(3))
    assert pushed(one, 1, range(0, 20 * 60, 10)) == [[]] * 120


def test_a_partition_silent_as_a_whole_makes_nobody_absent_but_who_stays_away_then_is(fleet):
    one = fleet(3, absent_after_us=5 * MINUTE)
    for slot in range(3):
        pushed(one, slot, range(3))
    assert pushed(one, 1, [120]) == [[]]
    assert pushed(one, 2, [121]) == [[]]
    assert pushed(one, 1, range(121, 126)) == [[]] * 4 + [[ABSENT]]
    assert (one.events[0]["slot"], one.events[0]["alert"]) == (0, 2 * MINUTE)


def test_one_clock_ahead_makes_nobody_absent_nor_late(fleet):
    one = fleet(absent_after_us=5 * MINUTE, behind_after_us=10 * MINUTE)
    for minute in range(3):
        pushed(one, 0, [minute])
        pushed(one, 1, [minute])
    assert pushed(one, 1, [3 * 60]) == [[]]
    assert pushed(one, 0, range(3, 60)) == [[]] * 57


def test_an_absent_entity_that_is_gone_is_not_awaited_any_more(fleet):
    one = fleet(absent_after_us=5 * MINUTE, gone_after_us=HOUR)
    pushed(one, 0, range(3))
    said = [(minute, kinds) for minute, kinds in enumerate(pushed(one, 1, range(200))) if kinds]
    assert said == [(7, [ABSENT]), (62, [PRESENT])]
    assert one.events[1]["reason"] == Reason.GONE
    assert pushed(one, 0, [200]) == [[]]  # it was told as over already
    assert pushed(one, 1, range(200, 207)) == [[]] * 5 + [[ABSENT], []]


def test_an_incident_of_an_absent_entity_stays_open_until_it_is_gone(fleet):
    one = fleet(absent_after_us=5 * MINUTE, gone_after_us=HOUR)
    for minute in range(3):
        one.push(2, minute * MINUTE)
    assert [e for kinds in pushed(one, 1, range(70)) for e in kinds] == [ABSENT, RESOLVED, PRESENT]


def test_who_moves_the_watermark_over_its_own_time_was_there(fleet):
    one = fleet(absent_after_us=5 * MINUTE)
    pushed(one, 0, [0])
    pushed(one, 1, [4])
    assert pushed(one, 0, [8]) == [[]]
    assert pushed(one, 1, range(9, 15)) == [[]] * 4 + [[ABSENT], []]


# -- lateness --------------------------------------------------------------------------------------


def test_late_while_it_lies_so_far_behind_and_in_time_again_at_half_of_it(fleet):
    one = fleet(behind_after_us=10 * MINUTE)
    pushed(one, 0, range(0, 60, 5))
    assert pushed(one, 1, [46, 45 + 1.5]) == [[], []]
    pushed(one, 0, [60, 65])
    assert pushed(one, 1, [54.9, 55, 60, 60.1]) == [[BEHIND], [], [], [CAUGHT_UP]]
    assert {(int(event["alert"]), int(event["slot"])) for event in one.events} == {(int(54.9 * MINUTE), 1)}


# -- partial records -------------------------------------------------------------------------------


def lacks(one, minutes, lacking=True):
    return [one.push(0, minute * MINUTE, lacking=lacking)["events"] for minute in minutes]


def test_partial_once_every_record_for_so_long_has_lacked_something_until_one_lacks_nothing(fleet):
    one = fleet(partial_after_us=10 * MINUTE)
    assert lacks(one, range(9)) == [[]] * 9
    assert lacks(one, [9], lacking=False) == [[]]
    assert lacks(one, range(10, 22)) == [[]] * 10 + [[PARTIAL], []]
    assert lacks(one, [22, 23], lacking=False) == [[COMPLETE], []]
    assert [int(event["alert"]) for event in one.events] == [10 * MINUTE] * 2
    assert one.core("partial_us") == NO_TIME


def test_a_lack_that_lasts_becomes_ordinary_and_is_not_told_again(fleet):
    one = fleet(partial_after_us=10 * MINUTE, level_change_us=HOUR, gone_after_us=7 * DAY_US)
    said = [(minute, kinds) for minute, kinds in enumerate(lacks(one, range(300))) if kinds]
    assert said == [(10, [PARTIAL]), (70, [COMPLETE])]
    assert one.events[1]["reason"] == Reason.LEVEL_CHANGE
    lacks(one, [300], lacking=False)
    assert lacks(one, range(301, 313))[-2:] == [[PARTIAL], []]


# -- by hand ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.ABSENT, Kind.BEHIND, Kind.PARTIAL])
def test_closed_by_hand_it_is_not_told_again_before_it_was_over(fleet, kind):
    one = fleet(absent_after_us=5 * MINUTE, behind_after_us=5 * MINUTE, partial_after_us=5 * MINUTE)
    for minute in range(7):
        one.push(0, minute * MINUTE, lacking=kind == Kind.PARTIAL)
    pushed(one, 1, range(20))
    if kind == Kind.BEHIND:
        pushed(one, 0, [8])  # present, and twelve minutes behind
    before = {int(event["kind"]) for event in one.events}
    assert int(kind) in before
    (event,) = resolve(one.state, 0, 0, 20 * MINUTE, 99, kind=kind)
    assert (event["kind"], event["reason"], event["row"]) == (kind + 1, Reason.OPERATOR, -1)
    assert len(resolve(one.state, 0, 0, 20 * MINUTE, 99, kind=kind)) == 0
    said = [event for kinds in pushed(one, 1, range(20, 24)) for event in kinds]
    assert int(kind) not in said
