"""Alerts about how records come, apart from what they hold: absence, lateness, partial records.

    absence     an entity was not seen for absent_after, by its partition's watermark
    lateness    its records stand behind_after or more behind that watermark; over at half of it
    partial     for partial_after every record has lacked a feature that used to come

Each is open at most once per entity, is named by the event time with which it began (of absence that of the entity's
last record), and goes by event time alone. All are off where their time is 0. An entity that is gone (`leave`) ends
them all and is not awaited any more.

A partition whose newest event time leaps by more than the shorter of the first two times has been silent as a whole, or
has met a clock that runs ahead. What was seen before the leap counts as seen at it, and records from before it are not
late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .constants import NEVER, NO_TIME, Gap, Kind, Reason, Severity
from .jit import kernel
from .state import PartState, Rows, Rules

ABSENT, PRESENT = int(Kind.ABSENT), int(Kind.PRESENT)
BEHIND, CAUGHT_UP = int(Kind.BEHIND), int(Kind.CAUGHT_UP)
PARTIAL, COMPLETE = int(Kind.PARTIAL), int(Kind.COMPLETE)
NONE, RECOVERED, LEVEL_CHANGE = int(Reason.NONE), int(Reason.RECOVERED), int(Reason.LEVEL_CHANGE)
NOT_TOLD, TOLD, SETTLED = int(Gap.NOT_TOLD), int(Gap.TOLD), int(Gap.SETTLED)
WARNING = int(Severity.WARNING)


@kernel
def note(
    events: NDArray[np.void],
    at: int,
    epoch: int,
    row: int,
    slot: int,
    part: int,
    kind: int,
    reason: int,
    began_us: int,
    time_us: int,
    offset: int,
) -> int:
    """Write one event of these kinds; returns the next free place."""
    event = events[at]
    event.row = row
    event.slot = slot
    event.part = part
    event.kind = kind
    event.reason = reason
    event.severity = WARNING
    event.epoch = epoch
    event.alert = began_us
    event.onset = began_us
    event.onset_offset = offset
    event.time_us = time_us
    event.offset = offset
    event.score = np.nan
    event.p = np.nan
    event.threshold = np.nan
    event.peak = np.nan
    event.rebased = np.nan
    return at + 1


@kernel
def patience(rules: Rules) -> int:
    """The shorter of the times for absence and lateness, of those that are set; 0 where none is."""
    shortest = 0
    for time in (rules.absent_after_us, rules.behind_after_us):
        if time > 0 and (shortest == 0 or time < shortest):
            shortest = time
    return shortest


@kernel
def look(
    core: Any,
    parts: PartState,
    rows: Rows,
    row: int,
    lacks: bool,
    mark: int,
    rules: Rules,
    events: NDArray[np.void],
    at: int,
) -> int:
    """What one record says of its entity, the watermark being at `mark` with it; returns the next free place.

    `lacks`: a feature is missing in it that the entity has sent before.
    """
    slot, part = rows.slot[row], rows.part[row]
    now, offset, epoch = rows.time_us[row], rows.offset[row], core.epoch
    if core.absent_us != NO_TIME:
        if core.absent_us != NEVER:
            at = note(events, at, epoch, row, slot, part, PRESENT, RECOVERED, core.absent_us, now, offset)
        core.absent_us = NO_TIME
    if rules.absent_after_us > 0:
        parts.next_gone[part] = min(parts.next_gone[part], mark + rules.absent_after_us)

    behind = mark - now
    if core.behind_us != NO_TIME:
        if rules.behind_after_us == 0 or behind < rules.behind_after_us // 2:
            if core.behind_us != NEVER:
                at = note(
                    events, at, epoch, row, slot, part, CAUGHT_UP, RECOVERED, core.behind_us, now, offset
                )
            core.behind_us = NO_TIME
    elif 0 < rules.behind_after_us <= behind and now >= parts.awake[part]:
        core.behind_us = now
        at = note(events, at, epoch, row, slot, part, BEHIND, NONE, now, now, offset)
        parts.next_gone[part] = min(parts.next_gone[part], mark + rules.gone_after_us)

    if rules.partial_after_us == 0 or not lacks:
        if core.partial == TOLD:
            at = note(events, at, epoch, row, slot, part, COMPLETE, RECOVERED, core.partial_us, now, offset)
        core.partial = NOT_TOLD
        core.partial_us = NO_TIME
    elif core.partial_us == NO_TIME:
        core.partial_us = now
    elif core.partial == NOT_TOLD and now - core.partial_us >= rules.partial_after_us:
        core.partial = TOLD
        at = note(events, at, epoch, row, slot, part, PARTIAL, NONE, core.partial_us, now, offset)
        parts.next_gone[part] = min(parts.next_gone[part], mark + rules.gone_after_us)
    elif core.partial == TOLD and now - core.partial_us >= rules.partial_after_us + rules.level_change_us:
        core.partial = SETTLED
        at = note(events, at, epoch, row, slot, part, COMPLETE, LEVEL_CHANGE, core.partial_us, now, offset)
    return at


@kernel
def is_awaited(core: Any) -> bool:
    """Whether a record may end something here, be it that its time is not set any more."""
    return bool(core.absent_us != NO_TIME or core.behind_us != NO_TIME or core.partial_us != NO_TIME)


@kernel
def is_told(core: Any) -> bool:
    """Whether one of these alerts is open."""
    absent = core.absent_us != NO_TIME and core.absent_us != NEVER
    behind = core.behind_us != NO_TIME and core.behind_us != NEVER
    return bool(absent or behind or core.partial == TOLD)


@kernel
def end(
    core: Any,
    events: NDArray[np.void],
    at: int,
    row: int,
    slot: int,
    part: int,
    kind: int,
    reason: int,
    time_us: int,
    offset: int,
) -> int:
    """Resolve the open alert of a kind (ABSENT, BEHIND, PARTIAL), if it is; returns the next free place.

    It is not told again before the entity is seen, has caught up, or has sent a complete record.
    """
    epoch = core.epoch
    if kind == ABSENT and core.absent_us != NO_TIME and core.absent_us != NEVER:
        at = note(events, at, epoch, row, slot, part, PRESENT, reason, core.absent_us, time_us, offset)
        core.absent_us = NEVER
    if kind == BEHIND and core.behind_us != NO_TIME and core.behind_us != NEVER:
        at = note(events, at, epoch, row, slot, part, CAUGHT_UP, reason, core.behind_us, time_us, offset)
        core.behind_us = NEVER
    if kind == PARTIAL and core.partial == TOLD:
        at = note(events, at, epoch, row, slot, part, COMPLETE, reason, core.partial_us, time_us, offset)
        core.partial = SETTLED
    return at
