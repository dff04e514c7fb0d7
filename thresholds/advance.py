"""The decision kernel: every scored record, row by row, through everything that is sequential per entity."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .ahead import AHEAD, ask_for
from .bands import would_count
from .calibration import Calibration, open_epoch, plain
from .constants import LEARN_RECORDS, NO_TIME, PRIOR_WEIGHT, REFRESH, WAIT, Kind, Learning, Reason
from .cusum import enter, forget, restart
from .events import (
    DIGEST_OPENED,
    DIGEST_UPDATED,
    LEVEL_CHANGE,
    RESOLVED,
    ROOM,
    STRONG,
    end_digest,
    finish,
    leave,
    tell_shift,
    write,
)
from .histogram import basis_of, bin_of, fold, freeze, p_value
from .jit import kernel
from .level import counts, reached, set_level, shadow_row, take_back
from .machine import DID_CHANGE_LEVEL, DID_OPEN, EXPECTED, FIRING, NORMAL, day_of, follow, rolling, step
from .medians import observe, take_over
from .outage import FROZEN, census, watch
from .passing import pass_by, pass_over
from .presence import is_awaited, look, patience
from .smoothing import score_row
from .state import BLOCK_MEANS, EVENT, Decided, DecisionState, PartState, Rows, Rules, checked, room_for

ENTITIES_EACH: Final = 4
"""Most entities for each record of a drift block: they are counted when it closes, which takes a look at each."""

OPENED, FREEZE, THAW = int(Kind.OPENED), int(Kind.FREEZE), int(Kind.THAW)
NO_REASON, RECOVERED = int(Reason.NONE), int(Reason.RECOVERED)
LEVEL_CHANGED, OPERATOR = int(Reason.LEVEL_CHANGE), int(Reason.OPERATOR)
MEDIANS, OWN = int(Learning.MEDIANS), int(Learning.OWN)


@kernel
def _learn(state: DecisionState, slot: int, x: float, before: int, learns: bool, rules: Rules) -> None:
    """Let the record wait; accept what has waited long enough, refreshing at every REFRESH-th.

    A record is learned once m newer ones lie behind it and the entity is normal; an opening forgets all that
    wait, from before its onset on. So nothing of an incident, and nothing that may become one, is learned. Nor is
    anything while the partition is frozen.
    """
    core = state.core[slot]
    if before == FIRING or core.phase == FIRING or not learns:
        core.waiting = 0
        return
    wait = state.wait[slot]
    if core.waiting < WAIT:
        wait[(core.first + core.waiting) % WAIT] = bin_of(x)
        core.waiting += 1
    if core.phase != NORMAL:
        return
    while core.waiting > rules.m:
        state.recent[slot, core.fill] = wait[core.first]
        core.first = (core.first + 1) % WAIT
        core.waiting -= 1
        core.fill += 1
        core.accepted += 1
        if core.fill == REFRESH:
            fold(core, state.counts[slot], state.recent[slot], state.openings[slot])
            freeze(core, state.counts[slot], state.above[slot])
            set_level(core, state.openings[slot])


@kernel
def _ask(state: DecisionState, slot: int) -> None:
    """Ask for what nearly every row of the slot needs; which few lines of the histogram is not known yet."""
    ask_for(state.core, slot)
    ask_for(state.fast, slot)
    ask_for(state.slow, slot)
    ask_for(state.median, slot)
    ask_for(state.floor, slot)
    ask_for(state.above, slot)
    ask_for(state.openings, slot)
    ask_for(state.shadow, slot)
    ask_for(state.wait, slot)


@kernel
def _advance(
    state: DecisionState,
    parts: PartState,
    owner: NDArray[np.int32],
    prior: Calibration,
    rules: Rules,
    rows: Rows,
    judged: NDArray[np.bool_],
    excused: NDArray[np.bool_],
    lacking: NDArray[np.bool_],
    out: Decided,
    events: NDArray[np.void],
    blocks: NDArray[np.void],
    start: int,
) -> tuple[int, int, int]:
    """Rows from `start` on; returns (next row, events, blocks written), early where a table is full."""
    at = 0
    closed = 0
    mask = (1 << rules.m) - 1
    patient = patience(rules)
    watchful = patient > 0 or rules.partial_after_us > 0
    for row in range(start, len(rows.slot)):
        if at + ROOM > len(events) or closed == len(blocks):
            return row, at, closed
        if row + AHEAD < len(rows.slot):
            _ask(state, rows.slot[row + AHEAD])
        slot, part = rows.slot[row], rows.part[row]
        offset, now = rows.offset[row], rows.time_us[row]
        core = state.core[slot]
        if not judged[row]:
            pass_by(state, rows, row, out)
            continue

        mark = max(parts.watermark[part], now)
        if patient > 0 and parts.watermark[part] != NO_TIME and mark - parts.watermark[part] > patient:
            parts.awake[part] = mark
        if mark >= parts.next_gone[part]:
            at = leave(state, parts, owner, part, mark, rules, slot, row, offset, events, at)
            if mark >= parts.next_gone[part] or at + ROOM > len(events):
                return row, at, closed
        parts.watermark[part] = mark
        core.seen_us = mark
        if watchful or is_awaited(core):  # a call costs as much as a tenth of a row
            at = look(core, parts, rows, row, lacking[row], mark, rules, events, at)

        if (
            excused[row]
            and core.phase == NORMAL
            and would_count(
                core,
                rows.members[row],
                state.fast[slot],
                state.slow[slot],
                state.median[slot],
                state.floor[slot],
            )
        ):
            pass_over(state, rows, row, rules.gone_after_us, out)
            continue

        score = score_row(
            rows.members[row], state.fast[slot], state.slow[slot], state.median[slot], state.floor[slot]
        )
        before = int(core.phase)
        learns = parts.freeze[part] != FROZEN
        if before != FIRING and learns:
            follow(core, score)
            if core.last_us != NO_TIME:
                # what is expected counts neither openings nor time
                since = max(core.last_us, core.expected_us)
                core.span_us += min(max(now - since, 0), rules.gone_after_us)
        core.last_us = now
        x = score - rolling(core)
        p = p_value(core, state.counts[slot], state.above[slot], x)
        out.score[row] = score
        out.p[row] = p
        out.threshold[row] = core.level + rolling(core)
        out.anomalous[row] = x > core.level
        out.epoch[row] = core.epoch
        out.caution[row] = core.caution
        out.basis[row] = basis_of(core, x)

        today = day_of(now)
        if core.held_count > 0 and today > core.digest_day and not core.held:
            at = end_digest(events, at, core, row, slot, part, RECOVERED, now, offset)
        if today > core.day:
            core.day = today
            core.day_count = 0

        if core.phase == FIRING and core.strong & EXPECTED and now > core.expected_us:
            # What goes on beyond the time said opens anew, as an incident like any other.
            if not core.held:
                at = write(events, at, core, row, slot, part, RESOLVED, OPERATOR, now, offset, score, p)
            finish(state, slot)
        if learns:
            core.active = shadow_row(
                x,
                core.active,
                state.shadow[slot],
                state.openings[slot],
                rules.k,
                mask,
                rules.exit_k,
                rules.exit_margin,
                rules.fast_margin,
                counts(core.strong) if core.phase == FIRING else now > core.expected_us,
            )
        happened = step(core, x, score, now, offset, rules)
        firing = core.phase == FIRING
        held = core.held
        alert = core.onset
        if happened == DID_OPEN:
            core.height = 0
            if now <= core.expected_us:
                core.strong = EXPECTED
        if firing:
            core.height = max(core.height, reached(core.active, state.shadow[slot]))
        if firing and not core.strong & STRONG and x > core.level + rules.fast_margin:
            if core.strong == 0:
                take_back(core.active, state.shadow[slot], state.openings[slot])
            core.strong |= STRONG
        if happened == DID_OPEN:
            parts.opened[part] = True
            parts.next_gone[part] = min(parts.next_gone[part], mark + rules.gone_after_us)
            kind = OPENED
            if held:
                kind = DIGEST_UPDATED
                if core.held_count == 0:
                    kind = DIGEST_OPENED
                    core.digest_onset = core.onset
                    core.digest_day = today
                core.held_count += 1
            at = write(events, at, core, row, slot, part, kind, NO_REASON, now, offset, score, p)
        if held:
            alert = core.digest_onset
        if happened > DID_OPEN:
            reason = RECOVERED
            if happened == DID_CHANGE_LEVEL:
                reason = LEVEL_CHANGED
                at = write(events, at, core, row, slot, part, LEVEL_CHANGE, reason, now, offset, score, p)
                restart(core)
            if not held:
                at = write(events, at, core, row, slot, part, RESOLVED, reason, now, offset, score, p)
            finish(state, slot)
            if core.held_count > 0 and today > core.digest_day:
                at = end_digest(events, at, core, row, slot, part, RECOVERED, now, offset)
        out.onset[row] = alert if firing else NO_TIME
        out.held[row] = firing and held
        clean = learns and before == NORMAL and core.phase == NORMAL
        out.clean[row] = clean

        _learn(state, slot, x, before, learns, rules)
        if core.phase == FIRING or not learns:
            forget(core)
        elif before != FIRING:
            moved, usual, mean = enter(core, score, core.phase == NORMAL)
            if moved != 0:
                at = tell_shift(events, at, core, row, slot, part, now, offset, score, p, usual, mean)
        if clean and core.learning == MEDIANS:
            observe(
                state.learn[slot], state.fast[slot], state.slow[slot], state.median[slot], state.floor[slot]
            )
            core.learned += 1
            if core.learned == LEARN_RECORDS:
                take_over(core, state.learn[slot], state.median[slot], state.floor[slot])
                core.learning = OWN
                core.learned = 0
                open_epoch(state, slot, prior, 0, core.epoch + 1, PRIOR_WEIGHT)

        parts.counted[part] += 1
        parts.absent[part] += np.float64(rows.missing[row])
        # asked here and not there: handing over all these arrays costs as much as half of all else
        if parts.counted[part] >= parts.count_at[part] and watch(state, parts, owner, part, mark, rules):
            kind = FREEZE if parts.freeze[part] == FROZEN else THAW
            at = write(events, at, core, row, slot, part, kind, NO_REASON, now, offset, score, p)
        parts.rows[part] += 1
        parts.score[part] += score
        parts.level[part] += np.float64(rows.level[row])
        parts.missing[part] += np.float64(rows.missing[row])
        parts.late[part] += np.float64(rows.late[row])
        if parts.rows[part] >= max(parts.block_records[part], parts.entities[part] // ENTITIES_EACH):
            block = blocks[closed]
            block.part = part
            block.row = row
            block.score = parts.score[part] / parts.rows[part]
            block.level = parts.level[part] / parts.rows[part]
            block.missing = parts.missing[part] / parts.rows[part]
            block.late = parts.late[part] / (parts.rows[part] + parts.late[part])
            block.entities, block.firing, block.shifted = census(
                state, owner, part, mark, rules.gone_after_us
            )
            block.frozen = parts.freeze[part] == FROZEN
            parts.entities[part] = block.entities
            closed += 1
            parts.rows[part] = 0
            parts.score[part] = 0.0
            parts.level[part] = 0.0
            parts.missing[part] = 0.0
            parts.late[part] = 0.0
    return len(rows.slot), at, closed


def _plain_rows(rows: Rows) -> Rows:
    """Contiguous, writable, of the declared types: every call meets the one compiled kernel."""
    kinds: tuple[Any, ...] = (
        np.int32,
        np.int32,
        np.int64,
        np.int64,
        np.float32,
        np.float32,
        np.float32,
        np.float32,
    )
    return Rows(*(np.require(array, kind, ["C", "W"]) for array, kind in zip(rows, kinds, strict=True)))


def advance(
    state: DecisionState,
    parts: PartState,
    owner: NDArray[np.int32],
    prior: Calibration,
    rules: Rules,
    rows: Rows,
    *,
    judged: NDArray[np.bool_] | None = None,
    excused: NDArray[np.bool_] | None = None,
    lacking: NDArray[np.bool_] | None = None,
    room: int = 256,
) -> tuple[Decided, NDArray[np.void], NDArray[np.void]]:
    """Decide n scored records, in row order, changing `state` and `parts` in place.

    The outcome for a record depends on its partition's earlier records alone: not on how records are cut
    into calls, nor on how partitions are interleaved. Several entities that one record finds gone come in the
    order of their slots, which does depend on history: sort them by name before they are published.

    Args:
        state: per slot; every slot in `rows` has been given a calibration by `install`.
        parts: per partition.
        owner: [N] the partition of each slot, -1 for free slots.
        prior: the pooled row that a cold entity's next epoch starts from.
        rules: of the incident machine.
        rows: the records.
        judged: [n] False for records that only warm the entity's smoothing and slow average (those of its training
            range): no p-value, no incident, nothing learned, no watermark. All are judged by default.
        excused: [n] True for records that may not take an entity out of its rest (`bands`): where one would, it
            takes its place in time and its entity's score stays. None are by default.
        lacking: [n] True for records in which a feature is missing that their entity has sent before (`presence`).
        room: events to make room for at first; more is found when needed.

    Returns:
        What was decided per row, the events (EVENT) and the closed drift blocks (BLOCK_MEANS), in row order.
    """
    rules = checked(rules)
    prior, rows = plain(prior), _plain_rows(rows)
    owner = np.require(owner, np.int32, ["C", "W"])
    n = len(rows.slot)
    judged = np.ones(n, np.bool_) if judged is None else np.require(judged, np.bool_, ["C", "W"])
    excused, lacking = (
        np.zeros(n, np.bool_) if given is None else np.require(given, np.bool_, ["C", "W"])
        for given in (excused, lacking)
    )
    out = room_for(n)
    found, means = [], []
    done, room = 0, max(room, 2 * ROOM)
    while True:
        events, blocks = np.zeros(room, EVENT), np.zeros(room // 4, BLOCK_MEANS)
        done, written, closed = _advance(
            state, parts, owner, prior, rules, rows, judged, excused, lacking, out, events, blocks, done
        )
        found.append(events[:written])
        means.append(blocks[:closed])
        if done == n:
            return out, np.concatenate(found), np.concatenate(means)
        room *= 4
