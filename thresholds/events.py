"""What the incident machine says: opened, resolved, held in a digest, level changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .constants import LEVEL_STEP, NEVER, NO_TIME, Kind, Mark, Reason
from .cusum import restart
from .jit import kernel, making_kernel
from .level import counts
from .machine import EXPECTED, FIRING, WARNING, change_level, close, rolling
from .presence import ABSENT, BEHIND, NONE, PARTIAL, end, is_told, note
from .smoothing import score_row
from .state import EVENT, DecisionState, PartState, Rules

RESOLVED, LEVEL_CHANGE, SHIFT = int(Kind.RESOLVED), int(Kind.LEVEL_CHANGE), int(Kind.SHIFT)
DIGEST_OPENED, DIGEST_UPDATED = int(Kind.DIGEST_OPENED), int(Kind.DIGEST_UPDATED)
DIGEST_RESOLVED = int(Kind.DIGEST_RESOLVED)
NO_REASON, GONE = int(Reason.NONE), int(Reason.GONE)
STRONG = int(Mark.STRONG)
ROOM = 16
"""Free places that one row may need in the table of events."""


@kernel
def write(
    events: NDArray[np.void],
    at: int,
    core: Any,
    row: int,
    slot: int,
    part: int,
    kind: int,
    reason: int,
    time_us: int,
    offset: int,
    score: float,
    p: float,
) -> int:
    """Write one event of the slot whose core this is; returns the next free place."""
    event = events[at]
    event.row = row
    event.slot = slot
    event.part = part
    event.kind = kind
    event.reason = reason
    digest = kind in (DIGEST_OPENED, DIGEST_UPDATED, DIGEST_RESOLVED)
    # severity is a label: a digest's is the same however strong what it holds
    event.severity = WARNING if digest else core.severity
    event.strong = core.strong & STRONG
    event.flaps = 0 if digest else core.flaps
    event.held = core.held_count
    event.epoch = core.epoch
    event.alert = core.digest_onset if digest else core.onset
    event.onset = core.onset
    event.onset_offset = core.onset_offset
    event.time_us = time_us
    event.offset = offset
    event.score = score
    event.p = p
    event.threshold = core.level + rolling(core)
    event.peak = core.peak
    event.reach = LEVEL_STEP * core.height
    # whoever heard of a digest before it took in something expected must hear of its end
    event.until = core.expected_us if core.strong & EXPECTED and kind != DIGEST_RESOLVED else NO_TIME
    event.by = core.expected_by
    event.rebased = core.S if kind == LEVEL_CHANGE else np.nan
    event.before = np.nan
    event.after = np.nan
    return at + 1


@kernel
def tell_shift(
    events: NDArray[np.void],
    at: int,
    core: Any,
    row: int,
    slot: int,
    part: int,
    time_us: int,
    offset: int,
    score: float,
    p: float,
    before: float,
    after: float,
) -> int:
    """Write that the slot's score has moved for good, from a mean to another; returns the next free place."""
    write(events, at, core, row, slot, part, SHIFT, NO_REASON, time_us, offset, score, p)
    events[at].before = before
    events[at].after = after
    return at + 1


@kernel
def end_digest(
    events: NDArray[np.void],
    at: int,
    core: Any,
    row: int,
    slot: int,
    part: int,
    reason: int,
    time_us: int,
    offset: int,
) -> int:
    """Resolve the open digest; returns the next free place."""
    at = write(events, at, core, row, slot, part, DIGEST_RESOLVED, reason, time_us, offset, np.nan, np.nan)
    core.held_count = 0
    return at


@kernel
def finish(state: DecisionState, slot: int) -> None:
    """Close the slot's incident; shadows that counted none during it begin anew."""
    core = state.core[slot]
    if not counts(core.strong):
        state.shadow[slot, :] = 0
        core.active = 0
    close(core)


@kernel
def end_all(
    state: DecisionState,
    events: NDArray[np.void],
    at: int,
    row: int,
    slot: int,
    part: int,
    reason: int,
    time_us: int,
    offset: int,
) -> int:
    """Resolve the slot's incident and its digest, whichever are open; returns the next free place."""
    core = state.core[slot]
    if core.phase == FIRING:
        if not core.held:
            at = write(events, at, core, row, slot, part, RESOLVED, reason, time_us, offset, np.nan, np.nan)
        core.opened = NO_TIME
        finish(state, slot)
    if core.held_count > 0:
        at = end_digest(events, at, core, row, slot, part, reason, time_us, offset)
    return at


@kernel
def has_open(core: Any) -> bool:
    """Whether an alert of the entity is open: an incident, a digest, or one about how its records come."""
    return bool(core.phase == FIRING or core.held_count > 0 or is_told(core))


@making_kernel
def open_alerts(state: DecisionState, slots: NDArray[np.int32]) -> NDArray[np.bool_]:
    """[n] which of `slots` have an alert open."""
    found = np.empty(len(slots), np.bool_)
    for i in range(len(slots)):
        found[i] = has_open(state.core[slots[i]])
    return found


@kernel
def leave(
    state: DecisionState,
    parts: PartState,
    owner: NDArray[np.int32],
    part: int,
    mark: int,
    rules: Rules,
    mine: int,
    row: int,
    offset: int,
    events: NDArray[np.void],
    at: int,
) -> int:
    """Resolve what the partition's entities unseen for gone_after left open, and tell of those unseen for absent_after.

    Returns the next free place. The slot `mine` is being seen, so it is not absent. `next_gone` moves beyond `mark`
    when all are done; where `events` is full it stays, to be called again.
    """
    soonest = NEVER
    for slot in range(len(owner)):
        core = state.core[slot]
        if owner[slot] != part or core.seen_us == NO_TIME:
            continue
        is_open = has_open(core)
        due = core.seen_us + rules.gone_after_us
        if at + ROOM > len(events):
            return at
        if mark >= due:
            if is_open:
                at = end_all(state, events, at, row, slot, part, GONE, mark, offset)
                for kind in (ABSENT, BEHIND, PARTIAL):
                    at = end(core, events, at, row, slot, part, kind, GONE, mark, offset)
            continue
        if rules.absent_after_us > 0 and core.absent_us == NO_TIME:
            missed = max(core.seen_us, parts.awake[part]) + rules.absent_after_us
            if mark < missed:
                soonest = min(soonest, missed)
            elif slot != mine:
                core.absent_us = core.last_us
                at = note(events, at, core.epoch, row, slot, part, ABSENT, NONE, core.last_us, mark, offset)
                is_open = True
        if is_open:
            soonest = min(soonest, due)
    parts.next_gone[part] = soonest
    return at


def rebase(state: DecisionState, slot: int) -> None:
    """Take the slot's score as it stands for its new ordinary, in place: as at a level change, but at once."""
    nothing = np.full(state.median.shape[1], np.nan, np.float32)
    score = score_row(nothing, state.fast[slot], state.slow[slot], state.median[slot], state.floor[slot])
    _rebase(state.core[slot], score)


@kernel
def _rebase(core: Any, score: float) -> None:
    change_level(core, score)
    restart(core)


def resolve(
    state: DecisionState,
    slot: int,
    part: int,
    time_us: int,
    offset: int,
    reason: int = Reason.OPERATOR,
    kind: int = Kind.OPENED,
) -> NDArray[np.void]:
    """End the slot's open incident and digest by a written change, in place; returns the events, with row -1.

    The entity stays anomalous if it is: the next incident opens by the same rules. Nothing open, no event. With
    `kind` ABSENT, BEHIND or PARTIAL it ends the alert of that kind and nothing else.
    """
    events = np.zeros(2, EVENT)
    if kind != Kind.OPENED:
        core = state.core[slot]
        return events[: end(core, events, 0, -1, slot, part, int(kind), int(reason), time_us, offset)]
    return events[: end_all(state, events, 0, -1, slot, part, int(reason), time_us, offset)]
