"""Timelines of the incident machine: values pushed at times, events expected at times."""

import numpy as np
import pytest
from tocsin.thresholds.constants import DAY_US, NEVER, NO_TIME, Kind, Phase, Reason, Severity
from tocsin.thresholds.events import resolve
from tocsin.thresholds.state import Rules, checked

MINUTE = 60_000_000
OPENED, RESOLVED = int(Kind.OPENED), int(Kind.RESOLVED)


@pytest.fixture
def one(bench, calibrated):
    return bench(calibrated(np.zeros(1000), level=1.0))


def run(one, values, start=0, step=MINUTE):
    return [one.push(value, start + i * step)["events"] for i, value in enumerate(values)]


def test_opens_at_the_third_of_five_and_closes_at_the_third_below(one):
    happened = run(one, [0, 1.5, 0, 1.5, 0, 1.2, 1.5, 0.95, 0.85, 0.8, 0.85, 0])
    assert happened == [[], [], [], [], [], [OPENED], [], [], [], [], [RESOLVED], []]
    opened, resolved = one.events
    assert opened["alert"] == opened["onset"] == 1 * MINUTE  # the first record that left the normal state
    assert opened["onset_offset"] == 1
    assert opened["offset"] == 5
    assert opened["time_us"] == 5 * MINUTE
    assert opened["severity"] == Severity.WARNING
    assert opened["threshold"] == 1.0
    assert resolved["alert"] == opened["alert"]
    assert resolved["reason"] == Reason.RECOVERED
    assert resolved["peak"] == pytest.approx(1.5)


def test_a_record_between_exit_and_threshold_starts_the_count_below_anew(one):
    assert run(one, [2, 2, 2, 0, 0, 0.95, 0, 0, 0]) == [[], [], [OPENED], [], [], [], [], [], [RESOLVED]]


def test_pending_ends_when_the_last_five_hold_no_exceedance(one):
    phases = []
    for i, value in enumerate([0, 1.5, 1.5, 0, 0, 0, 0, 0, 1.5]):
        one.push(value, i * MINUTE)
        phases.append(int(one.core("phase")))
    normal, pending = int(Phase.NORMAL), int(Phase.PENDING)
    assert phases == [normal, *[pending] * 6, normal, pending]
    assert one.core("onset") == 8 * MINUTE
    assert not one.events


def test_beyond_the_fast_margin_it_opens_at_once_and_critical(one):
    assert run(one, [0, 2.9, 3.1]) == [[], [], [OPENED]]
    assert one.events[0]["severity"] == Severity.CRITICAL
    assert one.events[0]["onset"] == MINUTE


def test_a_warning_that_becomes_strong_keeps_its_severity_and_says_so_at_its_end(one):
    assert run(one, [2, 2, 2, 3.5, 0, 0, 0])[-1] == [RESOLVED]
    opened, resolved = one.events
    assert opened["severity"] == resolved["severity"] == Severity.WARNING
    assert (bool(opened["strong"]), bool(resolved["strong"])) == (False, True)


def test_rows_name_the_incident_they_belong_to_from_opening_to_close(one):
    rows = [one.push(v, i * MINUTE) for i, v in enumerate([2, 2, 2, 0, 0, 0, 0])]
    assert [int(row["onset"]) for row in rows] == [NO_TIME, NO_TIME, 0, 0, 0, 0, NO_TIME]
    assert [bool(row["anomalous"]) for row in rows] == [True] * 3 + [False] * 4
    assert [bool(row["clean"]) for row in rows] == [False] * 6 + [True]


def test_silence_resolves_nothing(one):
    run(one, [2, 2, 2])
    assert one.push(2, 3 * MINUTE + 23 * 60 * MINUTE)["events"] == []
    assert one.core("phase") == Phase.FIRING


def test_the_slow_average_stands_still_from_opening_to_close(bench, calibrated):
    one = bench(calibrated(level=1.0, half_life=1.0))
    one.state.core["S"] = 0.0
    # x = score - .6 S, S halfway to the score: 2 -> S = 1, x = 1.4; 3 -> S = 2, x = 1.8; 3 -> 2.5, x = 1.5
    assert run(one, [2, 3, 3]) == [[], [], [OPENED]]
    assert one.core("S") == pytest.approx(2.5)
    run(one, [9, 9, 9], start=3 * MINUTE)
    assert one.core("S") == pytest.approx(2.5)
    run(one, [2.3, 2.3, 2.3, 2.3], start=6 * MINUTE)  # below 1 + .6 * 2.5 - .1
    assert one.events[-1]["kind"] == RESOLVED
    assert one.core("S") == pytest.approx(2.4)  # one record after the close


def test_level_change_rebases_on_the_second_half_of_its_time(bench, calibrated):
    hour = 60 * MINUTE
    one = bench(calibrated(level=1.0), Rules(k=3, m=5, exit_k=3, level_change_us=10 * hour))
    happened = run(
        one, [3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 0], step=hour
    )  # opens at hour 2: 5 hours later is 7
    assert happened[:13] == [[], [], [OPENED]] + [[]] * 9 + [[int(Kind.LEVEL_CHANGE), RESOLVED]]
    change, resolved = one.events[1:]
    assert change["rebased"] == pytest.approx(4.0)
    assert resolved["reason"] == Reason.LEVEL_CHANGE
    assert one.core("S") == pytest.approx(4.0)
    assert one.core("phase") == Phase.NORMAL


def test_after_a_level_change_what_is_higher_still_is_ordinary_and_what_was_ordinary_is_again(
    bench, calibrated
):
    """A share of a high plateau would lie below it: with the level at 1, whatever stands above 2.5."""
    hour = 60 * MINUTE
    one = bench(calibrated(level=1.0, half_life=10.0), Rules(level_change_us=10 * hour))
    run(one, [8.0] * 40, step=hour)
    assert [int(event["kind"]) for event in one.events] == [OPENED, int(Kind.LEVEL_CHANGE), RESOLVED]
    assert one.core("S") == pytest.approx(8.0)
    assert one.push(9.5, 40 * hour)["anomalous"]
    run(one, [0.0] * 200, start=41 * hour, step=hour)
    assert one.core("lift") == pytest.approx(0.0, abs=1e-4)
    assert one.push(1.5, 300 * hour)["anomalous"]  # it has not been eaten


def test_level_change_waits_for_records_of_the_second_half(bench, calibrated):
    hour = 60 * MINUTE
    one = bench(calibrated(level=1.0), Rules(k=3, m=5, exit_k=3, level_change_us=10 * hour))
    run(one, [3, 3, 3])
    late = [one.push(4, 20 * hour + i * MINUTE)["events"] for i in range(5)]  # silent in between
    assert late == [[], [], [], [], [int(Kind.LEVEL_CHANGE), RESOLVED]]


def test_gone_at_exactly_the_record_that_moves_the_watermark_a_day_on(bench, calibrated):
    pair = bench(calibrated(level=1.0), owner=[0, 0, 1])
    for i in range(3):
        pair.push(2, i * MINUTE)
    last = 2 * MINUTE
    assert pair.push(0, last + DAY_US, slot=2)["events"] == []  # another partition's
    assert pair.push(0, last + DAY_US - 1, slot=1)["events"] == []
    assert pair.parts.next_gone[0] == last + DAY_US
    assert pair.push(0, last + DAY_US, slot=1)["events"] == [RESOLVED]
    event = pair.events[-1]
    assert event["slot"] == 0
    assert event["reason"] == Reason.GONE
    assert event["time_us"] == last + DAY_US
    assert np.isnan(event["score"])
    assert pair.parts.next_gone[0] == NEVER
    assert pair.core("phase") == Phase.NORMAL


def test_an_entity_can_find_itself_gone(one):
    run(one, [2, 2, 2])
    assert one.push(2, 2 * MINUTE + DAY_US)["events"] == [RESOLVED]
    assert one.events[-1]["reason"] == Reason.GONE
    assert one.core("phase") == Phase.PENDING


def test_an_entity_whose_clock_lags_is_not_gone(bench, calibrated):
    pair = bench(calibrated(level=1.0), entities=2)
    pair.push(0, 3 * DAY_US, slot=1)
    assert run(pair, [2, 2, 2, 2]) == [[], [], [OPENED], []]
    assert pair.push(0, 3 * DAY_US + MINUTE, slot=1)["events"] == []


def fire(one, start):
    return [kind for kinds in run(one, [2, 2, 2, 0, 0, 0], start=start) for kind in kinds]


def test_beyond_the_cap_a_digest_holds_and_counts(bench, calibrated):
    one = bench(calibrated(level=1.0), Rules(k=3, m=5, exit_k=3, cap=2, flap_after=0))
    happened = [fire(one, i * 10 * MINUTE) for i in range(5)]
    digest = [int(Kind.DIGEST_OPENED)], [int(Kind.DIGEST_UPDATED)], [int(Kind.DIGEST_UPDATED)]
    assert happened == [[OPENED, RESOLVED], [OPENED, RESOLVED], *digest]
    held = one.events[4:]
    assert [int(event["alert"]) for event in held] == [20 * MINUTE] * 3
    assert [int(event["onset"]) for event in held] == [20 * MINUTE, 30 * MINUTE, 40 * MINUTE]
    assert [int(event["held"]) for event in held] == [1, 2, 3]
    assert one.push(0, DAY_US - 1)["events"] == []
    assert one.push(0, DAY_US)["events"] == [int(Kind.DIGEST_RESOLVED)]
    assert one.events[-1]["held"] == 3
    assert one.events[-1]["alert"] == 20 * MINUTE
    assert fire(one, DAY_US + MINUTE) == [OPENED, RESOLVED]  # a new day, a new count


def test_a_held_incident_keeps_its_digest_open_into_the_next_day(bench, calibrated):
    one = bench(calibrated(level=1.0), Rules(k=3, m=5, exit_k=3, cap=0))
    assert run(one, [2, 2, 2], start=DAY_US - 3 * MINUTE) == [[], [], [int(Kind.DIGEST_OPENED)]]
    row = one.push(2, DAY_US)
    assert row["events"] == []
    assert row["held"]
    assert row["onset"] == DAY_US - 3 * MINUTE
    assert run(one, [0, 0, 0], start=DAY_US + MINUTE) == [[], [], [int(Kind.DIGEST_RESOLVED)]]


def test_a_digest_of_an_entity_that_is_gone_resolves(bench, calibrated):
    pair = bench(calibrated(level=1.0), Rules(k=3, m=5, exit_k=3, cap=0), entities=2)
    fire(pair, 0)
    assert pair.push(0, 5 * MINUTE + DAY_US, slot=1)["events"] == [int(Kind.DIGEST_RESOLVED)]
    assert pair.events[-1]["reason"] == Reason.GONE


def ended_after(one, start, quiet=60):
    """Open an incident at `start` and count the quiet records that end it."""
    assert run(one, [2, 2, 2], start=start)[-1] == [OPENED]
    for count in range(1, quiet + 1):
        if one.push(0, start + (2 + count) * MINUTE)["events"] == [RESOLVED]:
            return count
    return None


def test_an_entity_that_flaps_takes_a_longer_quiet_each_time_up_to_a_bound(bench, calibrated):
    one = bench(
        calibrated(level=1.0), Rules(k=3, m=5, exit_k=3, cap=99, flap_after=3, flap_within_us=60 * MINUTE)
    )
    assert [ended_after(one, i * 60 * MINUTE) for i in range(8)] == [3, 3, 6, 12, 24, 48, 48, 48]
    assert [int(event["flaps"]) for event in one.events] == [row for n in range(1, 9) for row in (n, n)]
    last = one.events[-1]["time_us"]
    assert ended_after(one, last + 61 * MINUTE) == 3  # a quiet that was long enough: a row of its own
    assert one.events[-1]["flaps"] == 1


def test_an_incident_within_the_time_of_the_recovery_is_in_a_row_and_one_beyond_is_not(bench, calibrated):
    for gap, row in ((60, 2), (61, 1)):
        one = bench(calibrated(level=1.0), Rules(k=3, m=5, exit_k=3, flap_within_us=60 * MINUTE))
        assert ended_after(one, 0) == 3
        run(one, [3.5], start=5 * MINUTE + gap * MINUTE)  # at once: the record that opens is the first
        assert (one.events[-1]["kind"], one.events[-1]["flaps"]) == (OPENED, row)


def test_a_record_beyond_the_exit_level_starts_a_long_quiet_anew(bench, calibrated):
    one = bench(calibrated(level=1.0), Rules(k=3, m=5, exit_k=3, flap_after=1))
    assert run(one, [2, 2, 2, 0, 0, 0, 0, 0, 0.95, 0, 0, 0, 0, 0, 0])[3:] == [[]] * 11 + [[RESOLVED]]


def test_damping_may_be_off(bench, calibrated):
    one = bench(calibrated(level=1.0), Rules(k=3, m=5, exit_k=3, flap_after=0, cap=99))
    assert [ended_after(one, i * 10 * MINUTE) for i in range(6)] == [3] * 6


def test_an_operator_resolves(one):
    run(one, [2, 2, 2])
    events = resolve(one.state, 0, 0, 7 * MINUTE, 9)
    assert [(int(e["kind"]), int(e["reason"]), int(e["row"])) for e in events] == [
        (RESOLVED, Reason.OPERATOR, -1)
    ]
    assert events[0]["alert"] == 0
    assert len(resolve(one.state, 0, 0, 8 * MINUTE, 10)) == 0
    assert run(one, [2, 2, 2], start=8 * MINUTE) == [[], [], [OPENED]]


def test_an_operator_resolves_a_digest(bench, calibrated):
    one = bench(calibrated(level=1.0), Rules(k=3, m=5, exit_k=3, cap=0))
    run(one, [2, 2, 2])
    events = resolve(one.state, 0, 0, 7 * MINUTE, 9)
    assert [int(event["kind"]) for event in events] == [Kind.DIGEST_RESOLVED]
    assert one.core("phase") == Phase.NORMAL


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Rules(m=8), "last 1 to 7"),
        (Rules(k=6, m=5), "between 1 and m = 5"),
        (Rules(exit_k=0), "exit_k = 0"),
        (Rules(exit_margin=float("nan")), "exit_margin"),
        (Rules(gone_after_us=-1), "gone_after_us = -1"),
        (Rules(flap_after=-1), "flap_after = -1"),
    ],
)
def test_impossible_settings_are_named(wrong, says):
    with pytest.raises(ValueError, match=says):
        checked(wrong)
