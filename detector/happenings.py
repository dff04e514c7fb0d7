"""From what the incident machine did to the alert that says so: labels, what is known now, a summary in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from .alerts import (
    ALERT_NAMES,
    SCHEMA_VERSION,
    TEST_ENTITY,
    TOP_FEATURES,
    Alert,
    Annotations,
    Basis,
    Expected,
    Feature,
    Kind,
    Labels,
    Resolution,
    Severity,
    Status,
    alert_id,
)
from .wire import number, rfc3339

_OVER = {
    Kind.ABSENCE: "sends records again",
    Kind.LATENESS: "its records come in time again",
    Kind.PARTIAL: "its records are complete again",
}


class Context(NamedTuple):
    """What the alerts of one stream and input partition share."""

    stream: str
    group: str
    topic: str
    partition: int
    model_version: str
    calibration_version: str
    runbook: str = ""


class Happening(NamedTuple):
    """One event of the incident machine, in the program's own units (microseconds, plain numbers)."""

    kind: Kind
    status: Status
    severity: Severity
    entity: str
    onset_us: int
    time_us: int
    first_offset: int
    offset: int
    score: float
    p_value: float
    threshold: float
    peak: float
    reason: Resolution | None = None
    basis: Basis = Basis.EMPIRICAL
    conservative: str | None = None
    held: int = 0
    held_onsets_us: Sequence[int] = ()
    escalated: bool = False
    """It opened as a warning and has been critical since."""
    in_a_row: int = 0
    reach: float = math.nan
    expected: tuple[int, int] | None = None
    """Up to which event time, and by which change, where it opened as expected."""


def top_features(
    names: Sequence[str],
    observed: Iterable[float],
    expected: Iterable[float],
    shares: Iterable[float],
    count: int = TOP_FEATURES,
) -> list[Feature]:
    """The features with the largest shares, largest first (ties: schema order), without those of share 0."""
    rows = zip(names, observed, expected, shares, strict=True)
    found = [Feature(n, number(o), number(e), min(float(s), 1.0)) for n, o, e, s in rows if s > 0]
    return sorted(found, key=lambda feature: -feature.share)[:count]


def alert_of(
    happening: Happening, context: Context, features: Sequence[Feature] = (), late: bool = False
) -> Alert:
    """The alert of one event of the incident machine. Pure: `late` is for the caller, who has a clock."""
    resolved = happening.status is Status.RESOLVED
    moment = rfc3339(happening.time_us)
    expected = None
    if happening.expected is not None:
        until_us, change = happening.expected
        expected = Expected(rfc3339(until_us), change)
    annotations = Annotations(
        summary=_summary(happening, features),
        score=number(happening.score),
        p_value=number(happening.p_value),
        threshold=number(happening.threshold),
        peak=number(happening.peak),
        reach=number(happening.reach),
        features=tuple(features),
        reason=happening.reason if resolved else None,
        basis=happening.basis,
        conservative=happening.conservative,
        model_version=context.model_version,
        calibration_version=context.calibration_version,
        topic=context.topic,
        partition=context.partition,
        first_offset=happening.first_offset,
        last_offset=happening.offset,
        escalation=Severity.CRITICAL if happening.escalated else None,
        held=happening.held,
        held_onsets=tuple(rfc3339(onset) for onset in happening.held_onsets_us),
        in_a_row=happening.in_a_row,
        expected=expected,
        late=late,
        runbook=context.runbook,
    )
    name = ALERT_NAMES[happening.kind]
    return Alert(
        schema_version=SCHEMA_VERSION,
        alert_id=alert_id(context.stream, happening.entity, happening.kind, happening.onset_us),
        kind=happening.kind,
        status=happening.status,
        labels=Labels(name, context.stream, happening.entity, context.group, happening.severity),
        annotations=annotations,
        starts_at=rfc3339(happening.onset_us),
        ends_at=moment if resolved else None,
        event_time=moment,
    )


def trial_alert(stream: str, severity: Severity, time_us: int, runbook: str = "") -> Alert:
    """A firing alert of kind `test`: of no record, so without score, offsets and versions."""
    happening = Happening(
        kind=Kind.TEST,
        status=Status.FIRING,
        severity=severity,
        entity=TEST_ENTITY,
        onset_us=time_us,
        time_us=time_us,
        first_offset=-1,
        offset=-1,
        score=math.nan,
        p_value=math.nan,
        threshold=math.nan,
        peak=math.nan,
    )
    return alert_of(happening, Context(stream, stream, "", -1, "", "", runbook))


def trial_over(alert: Alert, time_us: int) -> Alert:
    """The resolution of an alert of kind `test`."""
    notes, now = alert.annotations, rfc3339(time_us)
    over = msgspec.structs.replace(notes, summary=f"{notes.summary} It is over.", reason=Resolution.OPERATOR)
    return msgspec.structs.replace(
        alert, status=Status.RESOLVED, annotations=over, ends_at=now, event_time=now
    )


def _summary(happening: Happening, features: Sequence[Feature]) -> str:
    said = _said(happening, features)
    return said if happening.expected is None else f"{said} (expected until {rfc3339(happening.expected[0])})"


def _said(happening: Happening, features: Sequence[Feature]) -> str:
    entity = happening.entity
    if happening.kind is Kind.TEST:
        return f"{entity}: a test of the way that alerts take, nothing is wrong."
    if happening.kind in _OVER:
        return f"{entity}: {_about_records(happening, features)}"
    if happening.kind is Kind.DIGEST:
        incidents = "incident" if happening.held == 1 else "incidents"
        return f"{entity}: {happening.held} more {incidents} than its daily cap, held in this digest"
    row = f" (incident {happening.in_a_row} in a row)" if happening.in_a_row > 1 else ""
    if happening.status is Status.RESOLVED:
        why = "" if happening.reason is None else f" ({happening.reason.value})"
        return f"{entity}: ended{why}, peak score {happening.peak:.2f}{row}"
    causes = ", ".join(_cause(feature) for feature in features[:3])
    begin = f"{entity}: score {happening.score:.2f}, threshold {happening.threshold:.2f}{row}"
    return f"{begin}; {causes}" if causes else begin


def _about_records(happening: Happening, features: Sequence[Feature]) -> str:
    if happening.status is Status.RESOLVED:
        return (
            _OVER[happening.kind]
            if happening.reason is Resolution.RECOVERED
            else f"ended ({happening.reason})"
        )
    since = f"since {rfc3339(happening.onset_us)}"
    if happening.kind is Kind.ABSENCE:
        return f"no record {since}"
    if happening.kind is Kind.LATENESS:
        return f"records behind the newest of its partition {since}"
    return f"no {', '.join(feature.name for feature in features)} {since}"


def _cause(feature: Feature) -> str:
    observed = "missing" if feature.observed is None else f"{feature.observed:.4g}"
    expected = "" if feature.expected is None else f" (expected {feature.expected:.4g})"
    return f"{feature.name} {observed}{expected}"
