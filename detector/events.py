"""From what happened in the chain (a row of thresholds' EVENT, a drift flag) to what is said of it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..thresholds.constants import NO_TIME, Reason
from ..thresholds.constants import Kind as Code
from ..thresholds.constants import Severity as Grade
from ..thresholds.drift import Flag
from ..thresholds.policy import Action, Finding, What
from .alerts import Basis, Kind, Resolution, Severity, Status
from .changelog import Decision
from .happenings import Happening
from .wire import number

_KINDS = {
    Code.OPENED: (Kind.ANOMALY, Status.FIRING),
    Code.RESOLVED: (Kind.ANOMALY, Status.RESOLVED),
    Code.DIGEST_OPENED: (Kind.DIGEST, Status.FIRING),
    Code.DIGEST_UPDATED: (Kind.DIGEST, Status.FIRING),
    Code.DIGEST_RESOLVED: (Kind.DIGEST, Status.RESOLVED),
}
PRESENCE = {
    Code.ABSENT: (Kind.ABSENCE, Status.FIRING),
    Code.PRESENT: (Kind.ABSENCE, Status.RESOLVED),
    Code.BEHIND: (Kind.LATENESS, Status.FIRING),
    Code.CAUGHT_UP: (Kind.LATENESS, Status.RESOLVED),
    Code.PARTIAL: (Kind.PARTIAL, Status.FIRING),
    Code.COMPLETE: (Kind.PARTIAL, Status.RESOLVED),
}
"""About how records come, not what they hold."""
_DECISIONS: dict[Code, tuple[Literal["level_change", "shift", "outage"], Finding, dict[str, str]]] = {
    Code.LEVEL_CHANGE: (
        "level_change",
        Finding(What.LEVEL_CHANGE, Action.REBASE),
        {"slow_average": "rebased", "peak": "peak"},
    ),
    Code.SHIFT: ("shift", Finding(What.SHIFT, Action.REFRESH), {"before": "before", "after": "after"}),
    Code.FREEZE: ("outage", Finding(What.OUTAGE, Action.FREEZE), {}),
    Code.THAW: ("outage", Finding(What.OUTAGE, Action.THAW), {}),
}
"""Its kind, what it means, and its values by the event's fields."""
_REASONS = {
    Reason.RECOVERED: Resolution.RECOVERED,
    Reason.GONE: Resolution.GONE,
    Reason.LEVEL_CHANGE: Resolution.LEVEL_CHANGE,
    Reason.OPERATOR: Resolution.OPERATOR,
}
_GRADES = {Grade.WARNING: Severity.WARNING, Grade.CRITICAL: Severity.CRITICAL}


def happening_of(
    event: np.void, entity: str, basis: Basis = Basis.EMPIRICAL, conservative: str | None = None
) -> Happening | None:
    """The alert-worthy side of an event; None for what is a decision (`decision_of`)."""
    code = Code(int(event["kind"]))
    if code in _DECISIONS:
        return None
    kind, status = {**_KINDS, **PRESENCE}[code]
    digest, firing = kind is Kind.DIGEST, status is Status.FIRING
    until_us = int(event["until"])
    return Happening(
        kind=kind,
        status=status,
        # Labels are fixed at opening, and a digest's next incident may be of another severity than its first.
        severity=Severity.WARNING if digest else _GRADES[Grade(int(event["severity"]))],
        entity=entity,
        onset_us=int(event["alert"]),
        time_us=int(event["time_us"]),
        first_offset=int(event["onset_offset"]),
        offset=int(event["offset"]),
        score=float(event["score"]),
        p_value=float(event["p"]),
        threshold=float(event["threshold"]),
        peak=float(event["peak"]),
        reason=None if firing else _REASONS[Reason(int(event["reason"]))],
        basis=basis,
        conservative=conservative,
        held=int(event["held"]) if digest else 0,
        held_onsets_us=(int(event["onset"]),) if digest and firing else (),
        in_a_row=int(event["flaps"]),
        escalated=bool(event["strong"]) and not digest and int(event["severity"]) == Grade.WARNING,
        reach=np.nan if digest else float(event["reach"]),
        expected=None if until_us == NO_TIME else (until_us, int(event["by"])),
    )


def decision_of(event: np.void, entity: str, partition: int, group: str) -> Decision | None:
    """The decision to write for an event; None for one that is an alert's. `partition` is the input's."""
    found = _DECISIONS.get(Code(int(event["kind"])))
    if found is None:
        return None
    kind, (what, action), values = found
    return Decision(
        partition=partition,
        offset=int(event["offset"]),
        kind=kind,
        of="" if kind == "outage" else entity,
        time_us=int(event["time_us"]),
        group=group,
        what=what,
        action=action,
        values={name: number(float(event[field])) for name, field in values.items()},
    )


def drift_decision(flag: Flag, partition: int, offset: int, time_us: int, group: str) -> Decision:
    """The decision to write for a signal that has drifted. `partition` is the input's."""
    return Decision(
        partition=partition,
        offset=offset,
        kind="drift",
        of=flag.signal,
        time_us=time_us,
        group=group,
        what=flag.found.what,
        action=flag.found.action,
        values={"before": number(flag.before), "after": number(flag.after), "blocks": float(flag.blocks)},
    )
