"""Where each entity's channels stand and how far they spread: from the version, or learnt from its records.

An entity that the model version knows starts with the location trained for it. A new one starts with its group's
and learns its own from running float64 moments (Welford) over its first `LIMIT` clean scored records, those
outside pending and firing incidents. At the last of them its own takes over, from the next record on.

From then on a location *follows* its entity slowly: two float64 EWMAs a channel, of the values and of their
squared distance from the mean, and two of the jumps, over clean records only. They take the place of the location
in force at the first record of each period of event time, never with less than half of the spread that it began
with, lest a channel that rests for weeks makes an anomaly of its next move.

Where an operator says that what an entity shows is its new ordinary (`rebase`), it learns its location anew in the same
way. Until then the one it had stays in force, and at least half of its spread after.

So that this does not depend on how records were cut into batches, a batch is scored in segments: `next_cut`
says where the next one must end: before a record whose location may have changed since another record of its
entity in the segment.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..models.scaling import JUMP_MEAN, JUMP_SD, MEAN, SD, floored_sd
from ..thresholds.ahead import AHEAD, ask_for
from ..thresholds.beside import in_one_piece, side_by_side
from ..thresholds.jit import kernel
from .records import NO_TIME

LIMIT = 500
"""Clean records from which an entity's own location comes."""
FEWEST = 50
"""A channel with fewer present values among them keeps its group's location."""
PERIOD_RECORDS = 256
"""A period of event time holds about so many records of an entity."""
LEAST_SPREAD = 0.5
"""Of the spread that following began with."""
NO_PERIOD = 0
FROM_VERSION, LEARNING, OWN, REBASING = range(4)


class LocationState(NamedTuple):
    """Per slot: the location in force, and the moments that its own is learnt from or that it follows."""

    location: NDArray[np.float32]
    """[N, 4, F] mean, floored sd, mean of jumps, floored sd of jumps."""
    phase: NDArray[np.uint8]
    """[N] FROM_VERSION, LEARNING (a new entity), OWN or REBASING (one that has a location learns another)."""
    learnt: NDArray[np.int16]
    """[N] clean records so far, while learning."""
    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    """[N, F] sum of squared deviations from the running mean while learning, then their EWMA."""
    jump_mean: NDArray[np.float64]
    jump_square: NDArray[np.float64]
    bound: NDArray[np.float32]
    """[N, 2, F] while learning max |x| and how many values were present, then the least sd of values and of jumps."""


def init(slots: int, features: int) -> LocationState:
    """Slots at mean 0 and sd 1 that learn nothing, until `install` gives them a location."""
    location = np.zeros((slots, 4, features), np.float32)
    location[:, [SD, JUMP_SD]] = 1.0
    moment = (np.float64, (features,))
    return LocationState(
        location,
        **side_by_side(
            slots,
            mean=moment,
            square=moment,
            jump_mean=moment,
            jump_square=moment,
            bound=(np.float32, (2, features)),
            learnt=(np.int16, ()),
            phase=(np.uint8, ()),
        ),
    )


def install(
    state: LocationState,
    slots: NDArray[np.int32],
    location: NDArray[np.float32],
    learning: NDArray[np.bool_],
) -> None:
    """Put `location` [n, 4, F] in force for `slots`; those marked `learning` start to learn their own."""
    state.location[slots] = location
    state.phase[slots] = np.where(learning, LEARNING, FROM_VERSION)
    for column in state[2:]:
        column[slots] = 0
    _begin_to_follow(state, slots[~learning])


def rebase(state: LocationState, slot: int) -> None:
    """Let a slot learn its location anew from its next clean records; the one in force stays until then."""
    if state.phase[slot] != LEARNING:
        state.phase[slot] = REBASING
    for column in state[2:]:
        column[slot] = 0


def period_of(records: float, span_us: int) -> int:
    """The period, in microseconds, of entities with so many records in so much event time: a power of two.

    NO_PERIOD where that tells nothing.
    """
    if not (records > 0 and span_us > 0):
        return NO_PERIOD
    return int(2 ** round(np.log2(PERIOD_RECORDS * span_us / records)))


def turns(slots: NDArray[np.int32], time_us: NDArray[np.int64], period_us: int) -> NDArray[np.int64]:
    """[n] where a row begins a period, the row before it of the same slot; else, or where there is none, -1.

    `slots` [n] and their event times [n], in the order of the rows.
    """
    found = np.full(len(slots), -1, np.int64)
    if period_us == NO_PERIOD or len(slots) == 0:
        return found
    period = time_us // period_us
    if period.min() == period.max():
        return found
    order = np.argsort(slots, kind="stable")
    before, after = order[:-1], order[1:]
    turned = (slots[before] == slots[after]) & (period[before] != period[after])
    found[after[turned]] = before[turned]
    return found


def next_cut(
    state: LocationState, slots: NDArray[np.int32], turn: NDArray[np.int64], start: int, limit: int = LIMIT
) -> int:
    """End of the longest segment of rows from `start` in which no row's location can still change.

    `slots` [n] are the slots of the rows to be scored, in order, and `turn` [n] their `turns`; the segment is
    `start` to the returned row, without it, and holds at least one row.
    """
    return int(_next_cut(state.phase, state.learnt, slots, turn, start, limit))


def follow(
    state: LocationState,
    slots: NDArray[np.int32],
    time_us: NDArray[np.int64],
    last_us: NDArray[np.int64],
    period_us: int,
) -> None:
    """Before a segment is scored, let the location of each slot that begins a period there become what it follows.

    `slots` and `time_us` [n] of the segment's rows, `last_us` [n] when each slot was last decided, or NO_TIME.
    """
    if period_us == NO_PERIOD:
        return
    turned = (time_us // period_us != last_us // period_us) & (last_us != NO_TIME)
    if not turned.any():
        return
    mine = np.unique(slots[turned])
    mine = mine[~is_learning(state.phase[mine])]
    state.location[mine, MEAN] = state.mean[mine]
    state.location[mine, SD] = np.maximum(np.sqrt(state.square[mine]), state.bound[mine, 0])
    state.location[mine, JUMP_MEAN] = state.jump_mean[mine]
    state.location[mine, JUMP_SD] = np.maximum(np.sqrt(state.jump_square[mine]), state.bound[mine, 1])


def learn(
    state: LocationState,
    slots: NDArray[np.int32],
    clean: NDArray[np.bool_],
    values: NDArray[np.float32],
    jumps: NDArray[np.float32],
    gain: NDArray[np.float64],
    limit: int = LIMIT,
) -> NDArray[np.int64]:
    """Take in a scored segment: `values` [n, F] of its newest records and their `jumps`, NaN is missing.

    `gain` [n] is the weight of each row where a location follows. An entity that completes has its own location in
    force from now on. Returns the rows at which new ones did.
    """
    completed = np.empty(len(slots), np.int64)
    found = _learn(state, slots, clean, values, jumps, gain, limit, completed)
    rows = completed[:found]
    if not found:
        return rows
    new: NDArray[np.int64] = rows[state.phase[slots[rows]] == LEARNING]
    _take_over(state, slots[rows])
    return new


def is_learning(phase: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which phases are those of an entity that learns a location."""
    found: NDArray[np.bool_] = (phase == LEARNING) | (phase == REBASING)
    return found


def _take_over(state: LocationState, slots: NDArray[np.int32]) -> None:
    largest, seen = state.bound[slots].astype(np.float64).swapaxes(0, 1)
    spread = state.location[slots][:, [SD, JUMP_SD]]
    least = np.where((state.phase[slots] == REBASING)[:, None, None], LEAST_SPREAD * spread, 0.0)
    divisor = np.maximum(seen, 1.0)
    own = np.empty((len(slots), 4, seen.shape[1]), np.float64)
    own[:, MEAN] = state.mean[slots]
    own[:, SD] = floored_sd(np.sqrt(state.square[slots] / divisor), largest)
    own[:, JUMP_MEAN] = state.jump_mean[slots]
    own[:, JUMP_SD] = floored_sd(np.sqrt(state.jump_square[slots] / divisor), largest)
    own[:, [SD, JUMP_SD]] = np.maximum(own[:, [SD, JUMP_SD]], least)
    enough = (seen >= FEWEST)[:, None, :]
    state.location[slots] = np.where(enough, own.astype(np.float32), state.location[slots])
    state.phase[slots] = OWN
    _begin_to_follow(state, slots)


def _begin_to_follow(state: LocationState, slots: NDArray[np.int32]) -> None:
    location = state.location[slots].astype(np.float64)
    state.mean[slots] = location[:, MEAN]
    state.square[slots] = location[:, SD] ** 2
    state.jump_mean[slots] = location[:, JUMP_MEAN]
    state.jump_square[slots] = location[:, JUMP_SD] ** 2
    state.bound[slots] = LEAST_SPREAD * state.location[slots][:, [SD, JUMP_SD]]


@kernel
def _learns(phase: int) -> bool:
    return phase in (LEARNING, REBASING)


@kernel
def _next_cut(
    phase: NDArray[np.uint8],
    learnt: NDArray[np.int16],
    slots: NDArray[np.int32],
    turn: NDArray[np.int64],
    start: int,
    limit: int,
) -> int:
    end = start
    while end < len(slots):
        slot = slots[end]
        if turn[end] >= start:
            break
        if _learns(phase[slot]):
            if learnt[slot] >= limit:
                break
            learnt[slot] += 1  # as if it were clean; taken back below
        end += 1
    for row in range(start, end):
        if _learns(phase[slots[row]]):
            learnt[slots[row]] -= 1
    return end


@kernel
def _learn(
    state: LocationState,
    slots: NDArray[np.int32],
    clean: NDArray[np.bool_],
    values: NDArray[np.float32],
    jumps: NDArray[np.float32],
    gain: NDArray[np.float64],
    limit: int,
    completed: NDArray[np.int64],
) -> int:
    found = 0
    for row in range(len(slots)):
        if row + AHEAD < len(slots):
            ask_for(state.mean, slots[row + AHEAD])
            ask_for(state.square, slots[row + AHEAD])
            ask_for(state.jump_mean, slots[row + AHEAD])
            ask_for(state.jump_square, slots[row + AHEAD])
            ask_for(state.bound, slots[row + AHEAD])
        slot = slots[row]
        learning = _learns(state.phase[slot])
        if not clean[row] or (learning and state.learnt[slot] >= limit):
            continue
        weight = gain[row]
        mean, square = in_one_piece(state.mean[slot]), in_one_piece(state.square[slot])
        jump_mean, jump_square = in_one_piece(state.jump_mean[slot]), in_one_piece(state.jump_square[slot])
        bound = in_one_piece(state.bound[slot])
        for j in range(values.shape[1]):
            x, r = np.float64(values[row, j]), np.float64(jumps[row, j])
            if np.isnan(x) or np.isnan(r):
                continue
            far, jumped = x - mean[j], r - jump_mean[j]
            if not learning:
                mean[j] += weight * far
                square[j] = (1.0 - weight) * (square[j] + weight * far * far)
                jump_mean[j] += weight * jumped
                jump_square[j] = (1.0 - weight) * (jump_square[j] + weight * jumped * jumped)
                continue
            bound[1, j] += 1
            n = np.float64(bound[1, j])
            mean[j] += far / n
            square[j] += far * (x - mean[j])
            bound[0, j] = max(bound[0, j], abs(values[row, j]))
            jump_mean[j] += jumped / n
            jump_square[j] += jumped * (r - jump_mean[j])
        if learning:
            state.learnt[slot] += 1
            if state.learnt[slot] == limit:
                completed[found] = row
                found += 1
    return found
