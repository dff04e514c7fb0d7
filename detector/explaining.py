"""What `tocsin alerts explain` says: why an alert was raised and how it ended, as facts and in plain words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from .alerts import Alert, Basis, Expected, Feature, Kind, Resolution, Severity, Status
from .changes import SAID, Feedback, Resolve, Versioned, Word, fold, word_on
from .settings import Duration, Incidents, with_changes

BASES = {
    Basis.EMPIRICAL: "counted among records of the entity itself, or of its training",
    Basis.EXTRAPOLATED: "by the tail fitted to them, for the score lies beyond all records that were counted",
    Basis.PRIOR: "mostly by the pooled records of its group, for it has too few of its own in this epoch",
}
CONSERVATIVE = {
    "short_history": "the threshold is set carefully, for the entity's history is short; with more of it, it will fall",
}
ENDS = {
    Resolution.RECOVERED: "{exit_k} records in a row lay below the threshold less {exit_margin:g}",
    Resolution.GONE: "the entity was not seen for {gone_after}, by the newest event time of its partition",
    Resolution.LEVEL_CHANGE: (
        "it had lasted {level_change_after}, so what it shows is the new ordinary; the slow average was set anew"
    ),
    Resolution.OPERATOR: "somebody closed it by hand",
}
DAMPED = (
    "the score lay below the threshold less {exit_margin:g} for longer than the usual {exit_k} records in a row, as "
    "the entity flaps"
)
ABOUT_RECORDS = {
    Kind.ABSENCE: "No record of {entity} with a value for {absent_after} ([incidents] absent_after), by the newest "
    "event time of its partition; its last one is of {starts_at}.",
    Kind.LATENESS: "The records of {entity} lie {behind_after} or more ([incidents] behind_after) behind the newest "
    "event time of its partition.",
    Kind.PARTIAL: "For {partial_after} ([incidents] partial_after) every record of {entity} has lacked a feature that "
    "it had sent before.",
}
"""Why those alerts were raised that go by how records come, not by what they hold."""
RETURNED = {
    Kind.ABSENCE: "a record of it has come",
    Kind.LATENESS: "its records lie less than half of that behind",
    Kind.PARTIAL: "a record had all features that it has ever sent",
}


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why an incident is one. Numbers are of the record that opened it, or null where there is none."""

    alert_id: str
    kind: Kind
    status: Status
    entity: str
    stream: str
    severity: Severity
    starts_at: str
    ends_at: str | None
    lasted_s: float
    """Event time from the onset to the end, or to the newest message of an incident that is open."""
    score: float | None
    threshold: float | None
    above: float | None
    """How far the score lies above the threshold."""
    p_value: float | None
    basis: Basis
    peak: float | None
    features: tuple[Feature, ...]
    opened_by: str
    """`k_of_m`, `fast`, `cap` (a digest) or `test`."""
    conservative: str | None
    late: bool
    model_version: str
    calibration_version: str
    escalation: Severity | None
    held: int
    held_onsets: list[str]
    reason: Resolution | None
    closed_by: Resolve | None
    """The change that closed it, where an operator did."""
    expected: Expected | None
    feedback: Feedback | None
    """The change that says what it was, where an operator did."""
    text: list[str]
    """The same in words, a paragraph each."""


class _Told(NamedTuple):
    """What the messages of an incident say together."""

    first: Alert
    last: Alert
    onsets: list[str]
    lasted: Duration


def explain(messages: Sequence[Alert], rules: Incidents, changes: Sequence[Versioned] = ()) -> Explanation:
    """The explanation of one incident.

    `messages` are all that the topic holds of it, in order; `rules` those in force; `changes` those of the control
    topic, which tell who closed it and what operators say that it was.
    """
    first, last = messages[0], messages[-1]
    lasted = Duration(round((_moment(last.event_time) - _moment(first.starts_at)) * 1e6))
    onsets = sorted({onset for one in messages for onset in one.annotations.held_onsets})
    told = _Told(first, last, onsets, lasted)
    closed_by = None
    if last.annotations.reason is Resolution.OPERATOR:
        closings = [one.change for one in changes if isinstance(one.change, Resolve)]
        closed_by = next((one for one in closings if one.alert_id == last.alert_id), None)
    word = word_on(fold(list(changes)).given, last.alert_id)
    opening, ending = first.annotations, last.annotations
    if (
        first.status is Status.RESOLVED
    ):  # the message that opened it is gone, and this one tells of another record
        opening = msgspec.structs.replace(opening, score=None, threshold=None, p_value=None, features=[])
    above = None
    if opening.score is not None and opening.threshold is not None:
        above = opening.score - opening.threshold
    return Explanation(
        alert_id=first.alert_id,
        kind=first.kind,
        status=last.status,
        entity=first.labels.entity,
        stream=first.labels.stream,
        severity=first.labels.severity,
        starts_at=first.starts_at,
        ends_at=last.ends_at,
        lasted_s=lasted.seconds,
        score=opening.score,
        threshold=opening.threshold,
        above=above,
        p_value=opening.p_value,
        basis=opening.basis,
        peak=ending.peak,
        features=opening.features,
        opened_by=_opened_by(first),
        conservative=opening.conservative,
        late=any(one.annotations.late for one in messages),
        model_version=opening.model_version,
        calibration_version=opening.calibration_version,
        escalation=ending.escalation,
        held=ending.held,
        held_onsets=onsets,
        reason=ending.reason,
        closed_by=closed_by,
        expected=ending.expected,
        feedback=word and word.said,
        text=[*_why(told, rules, above), *_course(told, rules, closed_by, word), *_said(last, word)],
    )


def rules_in_force(configured: Incidents, changes: Sequence[Versioned]) -> Incidents:
    """The incident rules of the control topic, and those of the configuration where no change has said them."""
    return with_changes(configured, fold(list(changes)).in_force.settings)


def _opened_by(first: Alert) -> str:
    if first.kind is not Kind.ANOMALY:
        return "cap" if first.kind is Kind.DIGEST else first.kind.value
    return "fast" if first.labels.severity is Severity.CRITICAL else "k_of_m"


def _why(told: _Told, rules: Incidents, above: float | None) -> list[str]:
    first, notes = told.first, told.first.annotations
    if first.kind is Kind.TEST:
        return ["A test by `tocsin alerts test`: no record is behind it and nothing is wrong."]
    if first.status is Status.RESOLVED:
        return ["The topic no longer holds the message that opened it; what follows is of its end."]
    if first.kind in ABOUT_RECORDS:
        return [_about_records(first, rules)]
    found = []
    if first.kind is Kind.DIGEST:
        found.append(
            f"A digest: {first.labels.entity} had reached its daily cap of incidents, and {told.last.annotations.held} "
            "more of that day are held in this one alert. They began at " + ", ".join(told.onsets) + "."
        )
    if notes.score is not None and notes.threshold is not None and above is not None:
        found.append(
            f"The record of {first.event_time} ({notes.topic}[{notes.partition}], offset {notes.last_offset}) scored "
            f"{notes.score:.2f}, {above:.2f} above the entity's rolling threshold of {notes.threshold:.2f}. 0 is "
            "ordinary; a unit more is a factor of 2.7 further from it."
        )
    if notes.p_value is not None:
        found.append(
            f"An ordinary record of the entity scores this high with a chance of {notes.p_value:.2g}: "
            f"{BASES[notes.basis]}."
        )
    if notes.features:
        found.append(f"Responsible: {'; '.join(map(_feature, notes.features))}.")
    if first.kind is Kind.ANOMALY:
        fast = first.labels.severity is Severity.CRITICAL
        found.append(
            f"Opened at once, as critical: the score lay more than {rules.fast_margin:g} above the threshold "
            "([incidents] fast_margin)."
            if fast
            else f"Opened once {rules.k} of the last {rules.m} records were anomalous ([incidents] k and m)."
        )
    if notes.in_a_row > 1:
        flaps = 0 < rules.flap_after <= notes.in_a_row
        found.append(
            f"Incident {notes.in_a_row} in a row, each opened within {rules.flap_within} of the recovery before it"
            + (": the entity flaps, so this one takes a longer quiet to end." if flaps else ".")
        )
    if notes.conservative is not None:
        found.append(f"Conservative: {CONSERVATIVE.get(notes.conservative, notes.conservative)}.")
    return found


def _about_records(first: Alert, rules: Incidents) -> str:
    said = {name: getattr(rules, name) for name in ("absent_after", "behind_after", "partial_after")}
    text = ABOUT_RECORDS[first.kind].format(entity=first.labels.entity, starts_at=first.starts_at, **said)
    missing = ", ".join(feature.name for feature in first.annotations.features)
    return f"{text} Missing: {missing}." if missing else text


def _feature(feature: Feature) -> str:
    seen = "missing" if feature.observed is None else f"{feature.observed:.4g}"
    known = "" if feature.expected is None else f" where {feature.expected:.4g} was expected"
    return f"{feature.name} {seen}{known} ({feature.share:.0%})"


def _said(last: Alert, word: Word | None) -> list[str]:
    found, expected = [], last.annotations.expected
    if expected is not None:
        found.append(
            f"Expected: by change {expected.change} incidents of {last.labels.entity} are, up to {expected.until}. So "
            "it counts in no budget, and it is not forwarded."
        )
    if word is not None:
        why = f", {word.said.reason!r}" if word.said.reason else ""
        found.append(
            f"{word.said.author} says by change {word.version} that it was {SAID[word.said.verdict]}{why}."
        )
    return found


def _course(told: _Told, rules: Incidents, closed_by: Resolve | None, word: Word | None) -> list[str]:
    first, last, notes = told.first, told.last, told.last.annotations
    found = []
    span = f"{told.lasted} of event time"
    if last.status is Status.FIRING:
        found.append(f"Open since {first.starts_at}; its newest message comes {span} after that.")
    elif notes.reason is not None:
        words = ENDS[notes.reason]
        if notes.reason is Resolution.RECOVERED:
            words = RETURNED.get(first.kind, DAMPED if 0 < rules.flap_after <= notes.in_a_row else words)
        elif notes.reason is Resolution.LEVEL_CHANGE and first.kind is Kind.PARTIAL:
            words = (
                "it had lasted {level_change_after} more, so what is missing is taken to be missing for good"
            )
        words = words.format(**{name: getattr(rules, name) for name in rules.__struct_fields__})
        if closed_by is not None:
            words += f": {closed_by.author}{f', {closed_by.reason!r}' if closed_by.reason else ''}"
            if closed_by.rebase:
                words += "; what the entity showed then is its new ordinary"
        elif notes.reason is Resolution.OPERATOR and notes.expected is not None:
            words = "incidents of the entity are expected no more"
        elif notes.reason is Resolution.OPERATOR and word is not None and word.said.until is not None:
            words = "somebody said that it is expected"
        elif first.kind is Kind.TEST:
            words = "`tocsin alerts test` ended it, or `tocsin alerts resolve`"
        elif first.kind is Kind.DIGEST and notes.reason is Resolution.RECOVERED:
            words = "a later day began and no held incident was open any more"
        found.append(
            f"It lasted {span}, from {first.starts_at} to {last.ends_at}. Ended ({notes.reason}): {words}."
        )
    if notes.peak is not None:
        found.append(f"Peak score: {notes.peak:.2f}.")
    if notes.escalation is not None:
        found.append(f"It opened as {first.labels.severity} and has been {notes.escalation} since.")
    if any(one.annotations.late for one in (first, last)):
        found.append("Late: the data was older than [stream] late_after when it was judged.")
    if first.kind is not Kind.TEST:
        calibration = first.annotations.calibration_version
        found.append(
            f"Judged by model {first.annotations.model_version}, calibration {calibration} (epoch "
            f"{calibration.rpartition('.')[2]} of this entity"
            + (f", recalibrated by change {_change(calibration)}" if _change(calibration) else "")
            + ")."
        )
        if notes.calibration_version != calibration:
            found.append(f"At its end: model {notes.model_version}, calibration {notes.calibration_version}.")
    if first.annotations.runbook:
        found.append(f"What to do: {first.annotations.runbook}")
    return found


def _change(calibration: str) -> str:
    """The change in `MODEL[+CHANGE].EPOCH`."""
    return calibration.rpartition(".")[0].partition("+")[2]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def plain(explanation: Explanation) -> Any:
    """The explanation as JSON can say it."""
    return msgspec.to_builtins(explanation)
