"""An explanation says what the messages of an incident say, and nothing that they do not."""

from typing import Any

import msgspec
import numpy as np
import pytest
from tocsin.detector.alerts import Alert, Basis, Kind, Resolution, Severity, Status
from tocsin.detector.changes import Resolve, SettingsChange, Versioned
from tocsin.detector.explaining import CONSERVATIVE, explain, rules_in_force
from tocsin.detector.happenings import Context, Happening, alert_of, top_features, trial_alert, trial_over
from tocsin.detector.settings import Duration, Incidents
from tocsin.thresholds.constants import Caution

ONSET = 1_700_000_000_000_000
SECOND = 1_000_000
CONTEXT = Context("servers", "web", "metrics", 3, "v0001-abc", "v0001-abc+7.2")


def message(status: Status = Status.FIRING, seconds: int = 20, late: bool = False, **changes: Any) -> Alert:
    what = Happening(
        Kind.ANOMALY,
        status,
        Severity.WARNING,
        "host-1",
        ONSET,
        ONSET + seconds * SECOND,
        41,
        44,
        3.25,
        0.001,
        2.5,
        3.5,
    )._replace(**changes)
    names, observed, expected, shares = ["cpu", "mem"], [0.93, float("nan")], [0.25, 3.0], [0.7, 0.3]
    return alert_of(what, CONTEXT, top_features(names, observed, expected, shares), late)


def words(*messages: Alert, rules: Incidents | None = None, changes: list[Versioned] | None = None) -> str:
    return "\n".join(explain(messages, rules or Incidents(), changes or []).text)


def test_why_is_score_against_threshold_chance_and_features() -> None:
    found = explain([message()], Incidents(k=2, m=4))
    assert (found.score, found.threshold, found.above, found.p_value) == (3.25, 2.5, 0.75, 0.001)
    assert (found.opened_by, found.status, found.ends_at, found.lasted_s) == ("k_of_m", "firing", None, 20.0)
    assert [feature.name for feature in found.features] == ["cpu", "mem"]
    text = words(message(), rules=Incidents(k=2, m=4))
    assert "(metrics[3], offset 44) scored 3.25, 0.75 above the entity's rolling threshold of 2.50" in text
    assert "with a chance of 0.001: counted among records of the entity itself" in text
    assert "cpu 0.93 where 0.25 was expected (70%); mem missing where 3 was expected (30%)" in text
    assert "Opened once 2 of the last 4 records were anomalous" in text
    assert "Open since 2023-11-14T22:13:20.000000Z; its newest message comes 20s of event time after" in text
    assert (
        "model v0001-abc, calibration v0001-abc+7.2 (epoch 2 of this entity, recalibrated by change 7)"
        in text
    )


def test_the_fast_way_and_what_it_became() -> None:
    fast = message(severity=Severity.CRITICAL)
    assert explain([fast], Incidents()).opened_by == "fast"
    assert "Opened at once, as critical: the score lay more than 1.5 above" in words(
        fast, rules=Incidents(fast_margin=1.5)
    )
    end = message(Status.RESOLVED, 100, reason=Resolution.RECOVERED, escalated=True, peak=9.0)
    text = words(message(), end)
    assert "It opened as warning and has been critical since" in text
    assert "Peak score: 9.00" in text


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (Resolution.RECOVERED, "5 records in a row lay below the threshold less 0.1"),
        (Resolution.GONE, "the entity was not seen for 1d"),
        (Resolution.LEVEL_CHANGE, "it had lasted 1d, so what it shows is the new ordinary"),
        (Resolution.OPERATOR, "somebody closed it by hand"),
    ],
)
def test_every_end_is_explained(reason: Resolution, said: str) -> None:
    text = words(message(), message(Status.RESOLVED, 3720, reason=reason))
    assert (
        "It lasted 1h2m of event time, from 2023-11-14T22:13:20.000000Z to 2023-11-14T23:15:20.000000Z. "
        in text
    )
    assert f"Ended ({reason}): {said}" in text


def test_who_closed_it_is_told_by_the_change() -> None:
    end = message(Status.RESOLVED, reason=Resolution.OPERATOR)
    stamp = {"id": "x", "created_at": "y", "topic": "metrics", "partition": 3, "entity": "host-1"}
    other = Resolve(author="bob", reason="", alert_id="0" * 32, **stamp)
    mine = Resolve(author="ada", reason="maintenance", alert_id=end.alert_id, **stamp)
    found = explain([message(), end], Incidents(), [Versioned(3, other), Versioned(4, mine)])
    assert found.closed_by == mine
    assert any("somebody closed it by hand: ada, 'maintenance'." in text for text in found.text)
    rebased = Resolve(author="ada", reason="", alert_id=end.alert_id, rebase=True, **stamp)
    found = explain([message(), end], Incidents(), [Versioned(4, rebased)])
    assert any(
        "by hand: ada; what the entity showed then is its new ordinary." in text for text in found.text
    )


def test_rules_are_those_of_the_control_topic() -> None:
    change = SettingsChange(
        id="x", author="a", reason="", created_at="y", settings={"incidents.k": 2, "incidents.m": 3}
    )
    assert rules_in_force(Incidents(), [Versioned(0, change)]) == Incidents(k=2, m=3)
    assert rules_in_force(Incidents(k=4), []) == Incidents(k=4)


def test_care_lateness_and_the_basis_are_explained() -> None:
    assert {one.name.lower() for one in Caution if one} == CONSERVATIVE.keys()
    careful = message(conservative="short_history", basis=Basis.PRIOR, late=True)
    text = words(careful)
    assert "Conservative: the threshold is set carefully" in text
    assert "mostly by the pooled records of its group" in text
    assert "Late: the data was older" in text
    assert explain([careful, message(Status.RESOLVED, reason=Resolution.GONE)], Incidents()).late


def test_a_digest_tells_how_many_it_holds_and_when_they_began() -> None:
    held = [message(kind=Kind.DIGEST, held=n, held_onsets_us=(ONSET + n * SECOND,)) for n in (1, 2)]
    found = explain(held, Incidents())
    assert (found.opened_by, found.held, len(found.held_onsets)) == ("cap", 2, 2)
    assert (
        "and 2 more of that day are held in this one alert. They began at 2023-11-14T22:13:21"
        in found.text[0]
    )
    end = message(Status.RESOLVED, kind=Kind.DIGEST, held=2, reason=Resolution.RECOVERED)
    assert "a later day began and no held incident was open" in words(*held, end)


def test_how_records_come_is_explained_by_the_times_that_are_set() -> None:
    rules = Incidents(absent_after=Duration.parse("10m"), behind_after=Duration.parse("1h"))
    rules = msgspec.structs.replace(rules, partial_after=Duration.parse("2h"))
    nothing: dict[str, Any] = {"score": np.nan, "p_value": np.nan, "threshold": np.nan, "peak": np.nan}
    for kind, why, end in (
        (Kind.ABSENCE, "No record of host-1 with a value for 10m", "a record of it has come"),
        (Kind.LATENESS, "The records of host-1 lie 1h or more", "less than half of that behind"),
        (
            Kind.PARTIAL,
            "For 2h ([incidents] partial_after) every record of host-1",
            "a record had all features",
        ),
    ):
        first = message(kind=kind, **nothing)
        last = message(Status.RESOLVED, 100, kind=kind, reason=Resolution.RECOVERED, **nothing)
        found = explain([first, last], rules)
        assert (found.opened_by, found.score, found.peak) == (kind.value, None, None)
        assert found.text[0].startswith(why)
        assert end in found.text[1]
    last = message(Status.RESOLVED, kind=Kind.PARTIAL, reason=Resolution.LEVEL_CHANGE, **nothing)
    assert "what is missing is taken to be missing for good" in words(first, last, rules=rules)


def test_an_entity_that_flaps_is_said_to() -> None:
    end = message(Status.RESOLVED, reason=Resolution.RECOVERED, in_a_row=3)
    text = words(message(in_a_row=3), end)
    assert "Incident 3 in a row, each opened within 1h of the recovery before it: the entity flaps" in text
    assert "for longer than the usual 5 records in a row" in text
    assert "flaps" not in words(
        message(in_a_row=2), message(Status.RESOLVED, reason=Resolution.RECOVERED, in_a_row=2)
    )


def test_of_an_incident_whose_opening_is_no_longer_held_nothing_is_claimed() -> None:
    end = message(Status.RESOLVED, reason=Resolution.RECOVERED)
    found = explain([end], Incidents())
    assert (found.score, found.p_value, found.features) == (None, None, [])
    assert "no longer holds the message that opened it" in found.text[0]


def test_a_trial_is_called_one() -> None:
    alert = trial_alert("servers", Severity.WARNING, ONSET)
    found = explain([alert, trial_over(alert, ONSET + 60 * SECOND)], Incidents())
    assert found.opened_by == "test"
    first, last = found.text
    assert first == "A test by `tocsin alerts test`: no record is behind it and nothing is wrong."
    assert last.endswith("Ended (operator): `tocsin alerts test` ended it, or `tocsin alerts resolve`.")
