"""What operators say of incidents: the fold of their words, what each does in a partition, what is told beforehand."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from lives import Diary, Life
from telemetry import Fleet
from tocsin.detector import view
from tocsin.detector.alerts import Alert, Kind, Resolution, Severity, Status
from tocsin.detector.changelog import Snapshot
from tocsin.detector.changes import (
    BudgetChange,
    Feedback,
    Given,
    Resolve,
    Revert,
    Verdict,
    Versioned,
    fold,
    word_on,
)
from tocsin.detector.feedback import Expectation, expectation
from tocsin.detector.happenings import trial_alert
from tocsin.detector.judging import Preview, feedback_of, given_by, preview
from tocsin.detector.wire import microseconds, rfc3339
from tocsin.errors import DataError, SettingsError
from tocsin.thresholds.constants import LEVEL_STEP, Mark, Phase
from tocsin.thresholds.level import set_level
from versions import STAMP, TRAINED, Feed, Stand, after

ROOM = BudgetChange(budget="12/day per entity", max_incidents=50, **STAMP)
MINUTE = 60_000_000


# -- the fold --------------------------------------------------------------------------------------


def said(name: str, verdict: Verdict = "true", until: str | None = None, **more: Any) -> Feedback:
    place = {"entity": "web-1", "topic": "t", "partition": 0, **more}
    return Feedback(
        alert_id=name,
        starts_at="2026-01-31T12:00:00.000000Z",
        verdict=verdict,
        until=until,
        epoch=1,
        reach=1.0,
        counted=True,
        **place,
        **STAMP,
    )


def after_all(*changes: Any) -> Given:
    given = fold([Versioned(version, change) for version, change in enumerate(changes)]).given
    assert given is not None
    return given


def version_on(given: Given, name: str) -> int | None:
    word = word_on(given, name)
    return None if word is None else word.version


def test_the_last_word_wins_and_a_revert_says_again_what_was_said_before() -> None:
    changes: list[Any] = [said("a", "false"), said("b"), said("a", "true"), Revert(version=2, **STAMP)]
    given = after_all(*changes)
    assert (version_on(given, "a"), version_on(given, "b")) == (0, 1)
    assert given.before is not None
    assert (given.version, given.before.version) == (3, 2)
    assert given.about == changes[2]  # which knows best what the incident was
    given = after_all(*changes, Revert(version=0, **STAMP))
    assert (version_on(given, "a"), version_on(given, "b")) == (None, 1)
    again = after_all(*changes, Revert(version=0, **STAMP), Revert(version=0, **STAMP))
    assert (again.now, again.before) == (None, None)
    back = after_all(*changes, Revert(version=0, **STAMP), Revert(version=4, **STAMP))
    assert version_on(back, "a") == 0


def test_words_and_what_is_in_force_are_reverted_each_for_itself() -> None:
    changes = [ROOM, said("a"), BudgetChange(budget="1/day", **STAMP), Revert(version=0, **STAMP)]
    effective = fold([Versioned(version, change) for version, change in enumerate(changes)])
    assert (effective.in_force.budget, effective.refused) == (None, "")
    assert version_on(after_all(*changes), "a") == 1
    lost = fold([Versioned(0, said("a")), Versioned(1, Revert(version=7, **STAMP))])
    assert lost.refused == "no change with the version 7 has set anything"
    assert lost.given is not None
    assert lost.given.version == 0


def test_incidents_of_an_entity_are_expected_up_to_the_latest_time_that_is_said_now() -> None:
    noon, evening = "2026-02-01T12:00:00.000000Z", "2026-02-01T18:00:00.000000Z"
    changes: list[Any] = [
        said("a", "expected", evening),
        said("b", "expected", noon),
        said("c", "expected", "2026-02-03T00:00:00.000000Z", entity="web-2"),
        said("d", "expected", "2026-02-03T00:00:00.000000Z", partition=1),
        said("e", "false"),
    ]
    assert expectation(after_all(*changes)) == Expectation(microseconds(evening), 0)
    # the same incident up to another time: that is what is said of it now
    assert expectation(after_all(*changes, said("a", "expected", noon))) == (microseconds(noon), 5)
    assert expectation(after_all(*changes, said("a", "false"))) == Expectation(microseconds(noon), 1)
    assert expectation(after_all(*changes, said("a"), Revert(version=1, **STAMP))) == Expectation()
    assert expectation(after_all(*changes, said("a"), Revert(version=5, **STAMP))).by == 0


# -- what it does ----------------------------------------------------------------------------------


class Town:
    """Twelve entities in one partition whose life a test interrupts to say something."""

    def __init__(self, stand: Stand, fleet: Fleet, ahead: list[Alert] | None = None) -> None:
        self.ahead = ahead or []
        """What is told where nobody says anything."""
        mine = np.isin(fleet.entity, np.arange(12))
        mine &= (fleet.time_us >= after(fleet, TRAINED)) & (fleet.time_us < after(fleet, 1400))
        feed = Feed(fleet, np.flatnonzero(mine), 1)
        self.changes: list[Any] = [ROOM]
        self.rulings = stand.rulings([ROOM])
        rng = np.random.default_rng(0)
        self.life = Life(stand, self.rulings, feed, {0: [(1, 1)]}, Diary(feed), rng)
        self.life.begin(0)
        self.life.take({0: 1})
        self.life.take({0: 1})  # under that budget
        self.state = self.life.chain.state

    def alerts(self) -> list[Alert]:
        messages = [message for _, message in self.life.diary.pages[0].said if b'"alert_id"' in message]
        return [msgspec.json.decode(message, type=Alert) for message in messages]

    def of(self, name: str) -> list[Alert]:
        return [alert for alert in self.alerts() if alert.alert_id == name]

    def until_told(self, status: Status, severity: Severity | None = None, least: float = 0.0) -> Alert:
        """Live on to the next message of that kind, up to the record behind it."""
        at = self.life.position[0]
        for alert in (one for one in self.ahead if one.annotations.last_offset >= at):
            strong = alert.labels.severity is Severity.CRITICAL or alert.annotations.escalation is not None
            fits = severity is None or strong == (severity is Severity.CRITICAL)
            if alert.status is status and fits and (alert.annotations.reach or 0.0) >= least:
                self.life.take({0: alert.annotations.last_offset + 1 - at})
                assert alert in self.alerts()
                return alert
        raise AssertionError("no such incident in all of the feed")

    def act(self, change: Any) -> Given:
        """Let a change act before the next record."""
        version = len(self.changes) + 1
        self.changes.append(change)
        assert self.life.add_change(version, change) == ""
        self.life.written[0].append((self.life.position[0], version))
        self.life.take({0: 0})
        given = self.rulings.given(version)
        assert given is not None
        return given

    def say(self, alert: Alert, verdict: Verdict, until: str | None = None) -> Given:
        return self.act(feedback_of(self.of(alert.alert_id), "fleet", verdict, until, "ada", "why"))

    def slot(self, alert: Alert) -> int:
        return self.state.table.lookup(0)[alert.labels.entity]

    def openings(self, alert: Alert) -> list[float]:
        counted: list[float] = self.state.decision.openings[self.slot(alert)].tolist()
        return counted

    def core(self, alert: Alert) -> Any:
        return self.state.decision.core[self.slot(alert)]

    def snapshot(self) -> Snapshot:
        return self.state.snapshot(0, self.life.position[0])

    def by_rule(self, alert: Alert) -> float:
        """The level that the rule gives now."""
        core = self.core(alert).copy()
        box = np.array([core])
        set_level(box[0], self.state.decision.openings[self.slot(alert)])
        return float(box["level"][0])

    def everything(self) -> dict[str, bytes]:
        snapshot = self.snapshot()
        return {name: array.tobytes() for name, array in {**snapshot.slots, **snapshot.part}.items()}


@pytest.fixture(scope="module")
def ahead(shared_stand: Stand, shared_fleet: Fleet) -> list[Alert]:
    scout = Town(shared_stand, shared_fleet)
    while scout.life.left(0):
        scout.life.take({0: 4000})
    return scout.alerts()


@pytest.fixture
def town(shared_stand: Stand, shared_fleet: Fleet, ahead: list[Alert]) -> Town:
    return Town(shared_stand, shared_fleet, ahead)


def shifted(openings: list[float], by: float, reach: float | None) -> list[float]:
    at = round((reach or 0.0) / LEVEL_STEP)
    return [max(count + by, 0.0) for count in openings[:at]] + openings[at:]


def test_a_real_incident_is_taken_back_where_it_opened_and_nowhere_else(town: Town) -> None:
    alert = town.until_told(Status.RESOLVED, Severity.WARNING, least=0.75)
    before, all_before = town.openings(alert), town.everything()
    town.say(alert, "true")
    assert town.openings(alert) == shifted(before, -1.0, alert.annotations.reach) != before
    assert town.core(alert)["level"] == town.by_rule(alert)
    altered = {name for name, array in town.everything().items() if array != all_before[name]}
    assert altered <= {f"decision.{name}" for name in ("openings", "core.level", "core.caution")}
    town.say(alert, "true")  # said twice, done once
    assert town.openings(alert) == shifted(before, -1.0, alert.annotations.reach)


def test_a_strong_incident_that_was_a_false_alarm_counts_after_all(town: Town) -> None:
    alert = town.until_told(Status.RESOLVED, Severity.CRITICAL)
    before = town.openings(alert)
    town.say(alert, "true")
    assert town.openings(alert) == before
    town.say(alert, "false")
    assert town.openings(alert) == shifted(before, 1.0, alert.annotations.reach) != before
    assert town.core(alert)["level"] == town.by_rule(alert)
    town.act(Revert(version=3, **STAMP))
    assert town.openings(alert) == before


def test_of_contradicting_words_the_last_acts_and_the_one_before_is_taken_back_first(town: Town) -> None:
    alert = town.until_told(Status.RESOLVED, Severity.WARNING, least=0.75)
    before, reach = town.openings(alert), alert.annotations.reach
    for verdict, by in (("false", 0.0), ("true", -1.0), ("expected", -1.0), ("false", 0.0)):
        town.say(alert, verdict, "1s" if verdict == "expected" else None)
        assert town.openings(alert) == shifted(before, by, reach), verdict
    town.act(Revert(version=3, **STAMP))  # before the second word the first was said
    assert town.openings(alert) == before


def test_a_later_incident_of_the_entity_is_not_touched(town: Town) -> None:
    """The word comes days late: the entity has had others since, and what the incident was is told by its alert."""
    first = town.until_told(Status.RESOLVED, Severity.WARNING, least=0.5)
    while (later := town.until_told(Status.RESOLVED, Severity.WARNING)).labels.entity != first.labels.entity:
        pass
    assert later.annotations.reach != first.annotations.reach
    before = town.openings(first)
    town.say(first, "true")
    assert town.openings(first) == shifted(before, -1.0, first.annotations.reach)


@pytest.mark.parametrize(
    "altered",
    [
        {"epoch": 7},
        {"entity": "stranger"},
        {"partition": 1},
        {"topic": "other"},
        {"alert_id": "0" * 32},
        {"starts_at": "2024-01-01T00:00:00.000000Z"},
    ],
    ids=lambda altered: next(iter(altered)),
)
def test_what_is_said_of_another_epoch_or_place_or_stream_changes_nothing_here(
    town: Town, altered: dict[str, Any]
) -> None:
    alert = town.until_told(Status.RESOLVED, Severity.WARNING, least=0.75)
    before = town.everything()
    change = feedback_of(town.of(alert.alert_id), "fleet", "true", None, "ada", "why")
    town.act(msgspec.structs.replace(change, **altered))
    assert town.everything() == before


@pytest.mark.parametrize("verdict", ["true", "false"])
def test_a_word_on_an_open_incident_acts_at_once_and_to_its_end(town: Town, verdict: Verdict) -> None:
    alert = town.until_told(Status.FIRING, Severity.WARNING, least=0.75)
    before = town.openings(alert)
    town.say(alert, verdict)
    assert town.core(alert)["phase"] == Phase.FIRING
    assert town.core(alert)["strong"] == (Mark.CONFIRMED if verdict == "true" else Mark.DENIED)
    assert town.openings(alert) == shifted(
        before, -1.0 if verdict == "true" else 0.0, alert.annotations.reach
    )
    while town.core(alert)["phase"] == Phase.FIRING:
        assert town.core(alert)["strong"]
        town.life.take({0: 1})
    reach = town.of(alert.alert_id)[-1].annotations.reach
    assert reach is not None
    assert alert.annotations.reach is not None
    grown = [0.0] * round(alert.annotations.reach / LEVEL_STEP) + [1.0] * len(before)
    expected = [count + new for count, new in zip(before, grown, strict=False)]
    if verdict == "false":
        assert reach > alert.annotations.reach
        at = round(reach / LEVEL_STEP)
        assert town.openings(alert)[:at] == expected[:at]
    else:
        assert town.openings(alert) == shifted(before, -1.0, alert.annotations.reach)


def test_what_is_expected_is_told_so_and_beyond_its_time_told_anew(town: Town) -> None:
    alert = town.until_told(Status.FIRING, Severity.WARNING, least=0.75)
    told, before = len(town.alerts()), town.openings(alert)
    until_us = int(town.core(alert)["last_us"]) + 90_000_000
    given = town.say(alert, "expected", rfc3339(until_us))
    shown = view.find(town.state, {("fleet", 0): 0}, town.life.chain.lags, alert.labels.entity)
    assert shown is not None
    assert shown["expected_until"] == rfc3339(until_us)
    (ended,) = town.alerts()[told:]
    assert (ended.alert_id, ended.annotations.reason) == (alert.alert_id, Resolution.OPERATOR)
    assert ended.annotations.expected is None  # whoever was woken hears that it is over
    assert town.openings(alert) == shifted(before, -1.0, alert.annotations.reach)
    accounts = town.openings(alert)
    while int(town.core(alert)["last_us"]) <= until_us:
        town.life.take({0: 1})
    mine = [one for one in town.alerts()[told + 1 :] if one.labels.entity == alert.labels.entity]
    opened, over = mine[:2]
    assert (opened.status, over.status) == (Status.FIRING, Status.RESOLVED)
    for one in (opened, over):
        assert one.annotations.expected is not None
        assert one.annotations.expected.change == given.version
        assert one.annotations.expected.until == rfc3339(until_us)
        assert f"(expected until {rfc3339(until_us)})" in one.annotations.summary
    assert over.annotations.reason is Resolution.OPERATOR
    assert microseconds(over.event_time) > until_us
    assert town.openings(alert)[8:] == accounts[8:]
    again = opened
    while again.ends_at is not None or again is opened:
        town.life.take({0: 1})
        again = [one for one in town.alerts() if one.labels.entity == alert.labels.entity][-1]
    assert again.annotations.expected is None
    assert again.alert_id not in (alert.alert_id, opened.alert_id)
    assert town.openings(alert) != accounts


def test_taking_back_that_it_is_expected_ends_what_opened_under_it(town: Town) -> None:
    alert = town.until_told(Status.FIRING, Severity.WARNING, least=0.75)
    given = town.say(alert, "expected", "1d")
    while town.core(alert)["phase"] != Phase.FIRING:
        town.life.take({0: 1})
    assert town.core(alert)["strong"] == Mark.EXPECTED
    told = len(town.alerts())
    # longer, then shorter than it lasts already: by the same incident, so the last time said is what holds
    town.say(alert, "expected", "2d")
    assert len(town.alerts()) == told
    town.act(Revert(version=given.version + 1, **STAMP))
    assert len(town.alerts()) == told
    town.act(Revert(version=given.version, **STAMP))
    (ended,) = town.alerts()[told:]
    assert ended.annotations.expected is not None
    assert ended.annotations.reason is Resolution.OPERATOR
    assert town.core(alert)["expected_us"] < 0
    assert town.core(alert)["phase"] == Phase.NORMAL


def test_a_time_that_is_over_says_it_of_the_incident_alone(town: Town) -> None:
    alert = town.until_told(Status.RESOLVED, Severity.WARNING, least=0.75)
    before, told = town.openings(alert), len(town.alerts())
    town.say(alert, "expected", "1s")
    assert town.openings(alert) == shifted(before, -1.0, alert.annotations.reach)
    nxt = town.until_told(Status.FIRING)
    assert nxt.annotations.expected is None
    assert len(town.alerts()) > told


# -- what the command makes of an alert, and what it tells beforehand -------------------------------


@pytest.mark.parametrize("status", [Status.FIRING, Status.RESOLVED])
@pytest.mark.parametrize("severity", [Severity.WARNING, Severity.CRITICAL])
def test_the_preview_tells_what_happens(town: Town, status: Status, severity: Severity) -> None:
    if (status, severity) == (
        Status.FIRING,
        Severity.CRITICAL,
    ):  # it opens as a warning and becomes strong later
        name = next(one.alert_id for one in town.ahead if one.annotations.escalation)
        while (alert := town.until_told(Status.FIRING)).alert_id != name:
            pass
        while not town.core(alert)["strong"]:
            town.life.take({0: 1})
    else:
        alert = town.until_told(status, severity, least=0.75)
    known = [Versioned(0, ROOM)]
    words: list[tuple[Verdict, str | None]] = [
        ("false", None),
        ("true", None),
        ("false", None),
        ("expected", "1d"),
    ]
    for verdict, until in words:
        change = feedback_of(town.of(alert.alert_id), "fleet", verdict, until, "ada", "why")
        shown = preview(town.snapshot(), given_by(known, change))
        before, told = town.core(alert)["level"], len(town.alerts())
        town.act(change)
        known.append(Versioned(len(town.changes), change))
        assert (shown.known, shown.level_before) == (True, before)
        assert shown.level_after == town.core(alert)["level"]
        assert shown.ends == (len(town.alerts()) > told)
        assert shown.counted_after == (verdict == "false")
        assert (shown.remark == "") == (shown.counted_before != shown.counted_after)


def test_the_preview_says_why_nothing_changes(town: Town) -> None:
    alert = town.until_told(Status.RESOLVED, Severity.WARNING, least=0.75)
    change = feedback_of(town.of(alert.alert_id), "fleet", "true", None, "ada", "why")

    def shown(snapshot: Snapshot | None, **altered: Any) -> Preview:
        return preview(snapshot, given_by([], msgspec.structs.replace(change, **altered)))

    snapshot = town.snapshot()
    assert shown(snapshot).remark == ""
    assert shown(snapshot, verdict="false").remark == "it counts already"
    assert shown(snapshot, counted=False).remark == "it did not count"
    old = shown(snapshot, epoch=0)
    assert old.remark == "it was counted in epoch 0 of the entity's calibration, which is in epoch 1 now"
    assert (old.level_after, old.counted_after) == (old.level_before, old.counted_before)
    for unknown in (shown(None), shown(snapshot, entity="stranger")):
        assert not unknown.known
        assert unknown.remark.startswith("no snapshot of fleet/0 holds ")
    with pytest.raises(DataError, match="change 0 is no feedback"):
        given_by([Versioned(0, ROOM)], Revert(version=0, **STAMP))


def test_of_what_nothing_can_be_said_says_why(town: Town) -> None:
    alert = town.until_told(Status.FIRING, least=0.5)
    digest = msgspec.structs.replace(alert, kind=Kind.DIGEST)
    with pytest.raises(DataError, match="is a digest: it holds 0 incidents of host-"):
        feedback_of([digest], "fleet", "true", None, None, "")
    trial = trial_alert("fleet", Severity.WARNING, 0)
    with pytest.raises(DataError, match="of the kind test, which counts in no budget"):
        feedback_of([trial], "fleet", "true", None, None, "")
    with pytest.raises(DataError, match="is of the stream 'fleet', which shares the topic with 'web'"):
        feedback_of([alert], "web", "true", None, None, "")
    for until, why in (
        ("soon", "write a duration from the incident's onset"),
        ("2024-01-01T00:00:00Z", "not after"),
    ):
        with pytest.raises(SettingsError, match=why):
            feedback_of([alert], "fleet", "expected", until, None, "")
    onset_us = microseconds(alert.starts_at)
    for until in ("30m", rfc3339(onset_us + 30 * MINUTE)):
        assert feedback_of([alert], "fleet", "expected", until, None, "").until == rfc3339(
            onset_us + 30 * MINUTE
        )


def test_an_alert_of_an_earlier_version_moves_no_count(town: Town) -> None:
    """It does not say how high it was: its entity has had another incident since, so nobody knows any more."""
    first = town.until_told(Status.RESOLVED, Severity.WARNING, least=0.5)
    while town.until_told(Status.RESOLVED).labels.entity != first.labels.entity:
        pass
    old = msgspec.structs.replace(first, annotations=msgspec.structs.replace(first.annotations, reach=None))
    change = feedback_of([old], "fleet", "true", None, "ada", "")
    before = town.openings(first)
    assert "does not say at which levels" in preview(town.snapshot(), given_by([], change)).remark
    town.act(change)
    assert town.openings(first) == before
    # as high as there is a level, however high it is said to have been
    town.act(msgspec.structs.replace(change, reach=1e308, counted=False, verdict="false"))
    assert town.openings(first) == [count + 1.0 for count in before]


def test_resolve_and_feedback_do_not_stand_in_each_others_way(town: Town) -> None:
    alert = town.until_told(Status.FIRING, Severity.WARNING, least=0.75)
    town.say(alert, "true")
    accounts = town.openings(alert)
    version = len(town.changes) + 1
    closing = Resolve(
        alert_id=alert.alert_id, entity=alert.labels.entity, topic="fleet", partition=0, **STAMP
    )
    town.changes.append(closing)
    assert town.life.add_change(version, closing) == ""
    town.life.written[0].append((town.life.position[0], version))
    town.life.take({0: 0})
    assert town.core(alert)["phase"] == Phase.NORMAL
    assert town.core(alert)["strong"] == 0
    assert town.openings(alert) == accounts
