"""From what happened in the chain (a row of thresholds' EVENT, a drift flag) to what is said of it."""

from __future__ import annotations

import numpy as np

from ..thresholds.constants import NO_TIME, Reason
from ..thresholds.constants import Kind as Code
from ..thresholds.constants import Severity as Grade
from ..thresholds.drift import Flag
from .alerts import Basis, Happening, Kind, Resolution, Severity, Status
from .changelog import Decision
from .wire import number

_KINDS = {
    Code.OPENED: (Kind.ANOMALY, Status.FIRING),
    Code.RESOLVED: (Kind.ANOMALY, Status.RESOLVED),
    Code.DIGEST_OPENED: (Kind.DIGEST, Status.FIRING),
    Code.DIGEST_UPDATED: (Kind.DIGEST, Status.FIRING),
    Code.DIGEST_RESOLVED: (Kind.DIGEST, Status.RESOLVED),
}
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
    """The alert-worthy side of an event; None for LEVEL_CHANGE, which is a decision (`decision_of`)."""
    code = Code(int(event["kind"]))
    if code is Code.LEVEL_CHANGE:
        return None
    kind, status = _KINDS[code]
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
        escalated=bool(event["strong"]) and not digest and int(event["severity"]) == Grade.WARNING,
        reach=np.nan if digest else float(event["reach"]),
        expected=None if until_us == NO_TIME else (until_us, int(event["by"])),
    )


def decision_of(event: np.void, entity: str, partition: int, group: str) -> Decision | None:
    """The decision to write for a LEVEL_CHANGE event; None for any other. `partition` is the input's."""
    if Code(int(event["kind"])) is not Code.LEVEL_CHANGE:
        return None
    return Decision(
        partition=partition,
        offset=int(event["offset"]),
        kind="level_change",
        of=entity,
        time_us=int(event["time_us"]),
        group=group,
        values={"slow_average": number(float(event["rebased"])), "peak": number(float(event["peak"]))},
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
        values={"before": number(flag.before), "after": number(flag.after), "blocks": float(flag.blocks)},
    )
