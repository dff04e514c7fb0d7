"""Where each entity's channels stand and how far they spread: from the version, or learnt from its records.

An entity that the model version knows keeps the location trained for it. A new one starts with its group's
and learns its own from running float64 moments (Welford) over its first `LIMIT` clean scored records, those
outside pending and firing incidents. At the last of them its own takes over, from the next record on.

So that this does not depend on how records were cut into batches, a batch is scored in segments: `next_cut`
says where the next one must end: before a record whose entity may have completed earlier in the segment.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..models.scaling import JUMP_MEAN, JUMP_SD, MEAN, SD, floored_sd
from ..thresholds.jit import kernel

LIMIT = 500
"""Clean records from which an entity's own location comes."""
FEWEST = 50
"""A channel with fewer present values among them keeps its group's location."""
FROM_VERSION, LEARNING, OWN = range(3)


class LocationState(NamedTuple):
    """Per slot: the location in force, and the moments while an entity learns its own."""

    location: NDArray[np.float32]
    """[N, 4, F] mean, floored sd, mean of jumps, floored sd of jumps."""
    phase: NDArray[np.uint8]
    """[N] FROM_VERSION, LEARNING or OWN."""
    learnt: NDArray[np.int32]
    """[N] clean records so far, while learning."""
    seen: NDArray[np.int32]
    """[N, F] present values among them."""
    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    """[N, F] sum of squared deviations from the running mean."""
    largest: NDArray[np.float64]
    """[N, F] max |x|."""
    jump_mean: NDArray[np.float64]
    jump_square: NDArray[np.float64]


def init(slots: int, features: int) -> LocationState:
    """Slots at mean 0 and sd 1 that learn nothing, until `install` gives them a location."""
    location = np.zeros((slots, 4, features), np.float32)
    location[:, [SD, JUMP_SD]] = 1.0
    moments = [np.zeros((slots, features), np.float64) for _ in range(5)]
    seen = np.zeros((slots, features), np.int32)
    return LocationState(location, np.zeros(slots, np.uint8), np.zeros(slots, np.int32), seen, *moments)


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


def next_cut(state: LocationState, slots: NDArray[np.int32], start: int, limit: int = LIMIT) -> int:
    """End of the longest segment of rows from `start` in which no row's location can still change.

    `slots` [n] are the slots of the rows to be scored, in order; the segment is `start` to the returned row,
    without it, and holds at least one row.
    """
    return int(_next_cut(state.phase, state.learnt, slots, start, limit))


def learn(
    state: LocationState,
    slots: NDArray[np.int32],
    clean: NDArray[np.bool_],
    values: NDArray[np.float32],
    jumps: NDArray[np.float32],
    limit: int = LIMIT,
) -> NDArray[np.int64]:
    """Take in a scored segment: `values` [n, F] of its newest records and their `jumps`, NaN is missing.

    Returns the rows at which an entity completed; its own location is in force from now on.
    """
    completed = np.empty(len(slots), np.int64)
    found = _learn(state, slots, clean, values, jumps, limit, completed)
    rows = completed[:found]
    if found:
        _take_over(state, slots[rows])
    return rows


def _take_over(state: LocationState, slots: NDArray[np.int32]) -> None:
    seen = state.seen[slots]
    divisor = np.maximum(seen, 1)
    largest = state.largest[slots]
    own = np.empty((len(slots), 4, seen.shape[1]), np.float64)
    own[:, MEAN] = state.mean[slots]
    own[:, SD] = floored_sd(np.sqrt(state.square[slots] / divisor), largest)
    own[:, JUMP_MEAN] = state.jump_mean[slots]
    own[:, JUMP_SD] = floored_sd(np.sqrt(state.jump_square[slots] / divisor), largest)
    enough = (seen >= FEWEST)[:, None, :]
    state.location[slots] = np.where(enough, own.astype(np.float32), state.location[slots])
    state.phase[slots] = OWN


@kernel
def _next_cut(
    phase: NDArray[np.uint8], learnt: NDArray[np.int32], slots: NDArray[np.int32], start: int, limit: int
) -> int:
    end = start
    while end < len(slots):
        slot = slots[end]
        if phase[slot] == LEARNING:
            if learnt[slot] >= limit:
                break
            learnt[slot] += 1  # as if it were clean; taken back below
        end += 1
    for row in range(start, end):
        if phase[slots[row]] == LEARNING:
            learnt[slots[row]] -= 1
    return end


@kernel
def _learn(
    state: LocationState,
    slots: NDArray[np.int32],
    clean: NDArray[np.bool_],
    values: NDArray[np.float32],
    jumps: NDArray[np.float32],
    limit: int,
    completed: NDArray[np.int64],
) -> int:
    found = 0
    for row in range(len(slots)):
        slot = slots[row]
        if state.phase[slot] != LEARNING or not clean[row] or state.learnt[slot] >= limit:
            continue
        for j in range(values.shape[1]):
            x, r = np.float64(values[row, j]), np.float64(jumps[row, j])
            if np.isnan(x) or np.isnan(r):
                continue
            state.seen[slot, j] += 1
            n = state.seen[slot, j]
            before = x - state.mean[slot, j]
            state.mean[slot, j] += before / n
            state.square[slot, j] += before * (x - state.mean[slot, j])
            state.largest[slot, j] = max(state.largest[slot, j], abs(x))
            before = r - state.jump_mean[slot, j]
            state.jump_mean[slot, j] += before / n
            state.jump_square[slot, j] += before * (r - state.jump_mean[slot, j])
        state.learnt[slot] += 1
        if state.learnt[slot] == limit:
            completed[found] = row
            found += 1
    return found
