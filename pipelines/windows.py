"""Each entity's last W records in a ring, and the verdict on every record that arrives.

The rule, per entity, against its own newest accepted event time and never against a clock:

    time equals one that is held           DUPLICATE     dropped
    held oldest < time < newest            OUT_OF_ORDER  put at its place in the ring, where later windows see
                                                         it; not scored
    time < held oldest                     LATE          dropped
    time > newest + far_ahead              FAR_AHEAD     refused, unless it is the third such record in a row,
                                                         each after the one before and within far_ahead of it
                                                         (a real gap)
    no feature present                     ALL_MISSING   takes its place in time and in the ring; not scored
    fewer than L held, this one included   WARMING       takes its place; not scored
    else                                   SCORED

Counters become rates per second in float64 before anything else sees them: a fall is a reset and gives a
missing value, as do the first value and every counter of a record out of order. "Present" is judged on rates.

`trend` is the EWMA (half-life 10 records) of each channel's present values, starting at the first; `jump` is
the value less the trend of the past. One sequential pass per batch, so where a batch is cut changes no bit.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..thresholds.ahead import AHEAD, ask_for
from ..thresholds.beside import in_one_piece, side_by_side
from ..thresholds.jit import kernel
from .records import LARGEST, NO_TIME, Records

LENGTH = 16
"""W: the records that are held of an entity."""
FAR_AHEAD_US = 7 * 86_400_000_000
TREND_HALF_LIFE = 10
_GAIN = 1.0 - 2.0 ** (-1.0 / TREND_HALF_LIFE)
_THIRD = 3
MOST_BEHIND = 65_535
"""Further records behind the newest are not counted until one is scored."""


class Verdict(IntEnum):
    """What became of a record."""

    SCORED = 0
    WARMING = 1
    ALL_MISSING = 2
    DUPLICATE = 3
    OUT_OF_ORDER = 4
    LATE = 5
    FAR_AHEAD = 6
    NOT_ADMITTED = 7
    """Its entity is new and was not let in, see `admission`: no window has seen it."""


_SCORED, _WARMING, _ALL_MISSING, _DUPLICATE, _OUT_OF_ORDER, _LATE, _FAR_AHEAD, _ = map(int, Verdict)


class WindowState(NamedTuple):
    """Per slot. The ring's newest entry stands at `head - 1`, the one before at `head - 2`, modulo W."""

    values: NDArray[np.float32]
    """[N, W, F] raw, counters as rates; NaN is missing."""
    times: NDArray[np.int64]
    """[N, W] microseconds."""
    head: NDArray[np.int16]
    held: NDArray[np.int16]
    ahead: NDArray[np.int8]
    """[N] records refused as far ahead in a row."""
    refused: NDArray[np.int64]
    """[N] event time of the last of them."""
    trend: NDArray[np.float64]
    """[N, F] NaN until the first present value."""
    counter_last: NDArray[np.float64]
    """[N, C] the last present value of each counter."""
    counter_time: NDArray[np.int64]
    """[N, C] its event time."""
    behind: NDArray[np.uint16]
    """[N] records late or out of order since the last that was scored."""


class Accepted(NamedTuple):
    """What a batch leaves for the scorer: n rows, those with verdict SCORED."""

    verdict: NDArray[np.uint8]
    """[B] a `Verdict` per record."""
    row: NDArray[np.int64]
    """[n] the record of each row."""
    window: NDArray[np.float32]
    """[n, L, F] oldest first, raw; NaN is missing."""
    jump: NDArray[np.float32]
    """[n, F] value less the trend of the past, 0 for a channel's first value; NaN is missing."""
    missing: NDArray[np.float32]
    """[n] share of features missing in the newest record."""
    lacking: NDArray[np.bool_]
    """[n, F] missing in the newest record, and sent before."""
    late: NDArray[np.float32]
    """[n] records of the entity that came late or out of order since its row before."""


def init(slots: int, length: int, features: int, counters: int) -> WindowState:
    """An empty state for `slots` slots, rings of `length`."""
    state = WindowState(
        **side_by_side(
            slots,
            times=(np.int64, (length,)),
            refused=(np.int64, ()),
            trend=(np.float64, (features,)),
            head=(np.int16, ()),
            held=(np.int16, ()),
            behind=(np.uint16, ()),
            ahead=(np.int8, ()),
            values=(np.float32, (length, features)),
        ),
        counter_last=np.full((slots, counters), np.nan, np.float64),
        counter_time=np.full((slots, counters), NO_TIME, np.int64),
    )
    state.values[:] = np.nan
    state.times[:] = NO_TIME
    state.refused[:] = NO_TIME
    state.trend[:] = np.nan
    return state


def newest_of(state: WindowState, slot: int) -> int:
    """The newest accepted event time of a slot, NO_TIME before the first."""
    return int(state.times[slot, int(state.head[slot]) - 1])


def accept(
    state: WindowState,
    records: Records,
    counters: NDArray[np.int32],
    lags: int,
    far_ahead_us: int = FAR_AHEAD_US,
) -> Accepted:
    """Judge every record, update `state` in place and gather the windows of those to be scored.

    `counters` are the indices of the counters among the features, `lags` is L, at most the ring's length.
    """
    length = state.values.shape[1]
    if not 1 <= lags <= length:
        raise ValueError(f"lags must be between 1 and the ring's length {length}, not {lags}")
    rows = len(records.slot)
    features = records.values.shape[1]
    verdict = np.empty(rows, np.uint8)
    row = np.empty(rows, np.int64)
    window = np.empty((rows, lags, features), np.float32)
    jump = np.empty((rows, features), np.float32)
    missing = np.empty(rows, np.float32)
    lacking = np.empty((rows, features), np.bool_)
    late = np.empty(rows, np.float32)
    room = np.empty(features, np.float64)
    scored = _accept(
        state,
        records.slot,
        records.time_us,
        records.values,
        counters,
        far_ahead_us,
        verdict,
        row,
        window,
        jump,
        missing,
        lacking,
        late,
        room,
    )
    return Accepted(
        verdict,
        row[:scored],
        window[:scored],
        jump[:scored],
        missing[:scored],
        lacking[:scored],
        late[:scored],
    )


@kernel
def _accept(
    state: WindowState,
    slots: NDArray[np.int32],
    times: NDArray[np.int64],
    values: NDArray[np.float64],
    counters: NDArray[np.int32],
    far_ahead: int,
    verdict: NDArray[np.uint8],
    row: NDArray[np.int64],
    window: NDArray[np.float32],
    jump: NDArray[np.float32],
    missing: NDArray[np.float32],
    lacking: NDArray[np.bool_],
    late: NDArray[np.float32],
    x: NDArray[np.float64],
) -> int:
    """Returns how many are to be scored; `x` [F] is room to work in."""
    length, features = state.values.shape[1], state.values.shape[2]
    lags = window.shape[1]
    scored = 0
    for index in range(len(slots)):
        _ask(state, slots, index, lags)
        slot, time = slots[index], times[index]
        newest = state.times[slot, (state.head[slot] - 1) % length]
        if newest != NO_TIME and time > newest + far_ahead and not _real_gap(state, slot, time, far_ahead):
            verdict[index] = _FAR_AHEAD
            continue
        state.ahead[slot] = 0
        if time <= newest:
            place = _place(state, slot, time)
            if place >= 0:
                for j in range(features):
                    x[j] = values[index, j]
                for c in range(len(counters)):
                    x[counters[c]] = np.nan
                _bound(x)
                _insert(state, slot, place, time, x)
                verdict[index] = _OUT_OF_ORDER
            else:
                verdict[index] = _DUPLICATE if place == -1 else _LATE
            if verdict[index] != _DUPLICATE:
                state.behind[slot] = min(state.behind[slot] + 1, MOST_BEHIND)
            continue
        for j in range(features):
            x[j] = values[index, j]
        _rates(state, slot, time, counters, x)
        _bound(x)
        head = state.head[slot]
        ring, trends = in_one_piece(state.values[slot]), in_one_piece(state.trend[slot])
        for j in range(features):
            ring[head, j] = x[j]
        state.times[slot, head] = time
        head = (head + 1) % length
        state.head[slot] = head
        state.held[slot] = min(state.held[slot] + 1, length)
        present = 0
        for j in range(features):
            value = x[j]
            lacking[scored, j] = np.isnan(value) and not np.isnan(trends[j])
            if np.isnan(value):
                jump[scored, j] = np.nan
                continue
            present += 1
            trend = value if np.isnan(trends[j]) else trends[j]
            jump[scored, j] = value - trend
            trends[j] = trend + _GAIN * (value - trend)
        if present == 0:
            verdict[index] = _ALL_MISSING
        elif state.held[slot] < lags:
            verdict[index] = _WARMING
        else:
            verdict[index] = _SCORED
            row[scored] = index
            missing[scored] = (features - present) / features
            late[scored] = state.behind[slot]
            state.behind[slot] = 0
            for lag in range(lags):
                held = (head - lags + lag) % length
                for j in range(features):
                    window[scored, lag, j] = ring[held, j]
            scored += 1
    return scored


@kernel
def _ask(state: WindowState, slots: NDArray[np.int32], index: int, lags: int) -> None:
    """Ask for what later records need: first where their rings stand, then what they hold of the window."""
    first = index + 2 * AHEAD
    if first < len(slots):
        ask_for(state.times, slots[first])
        ask_for(state.trend, slots[first])
        ask_for(state.ahead, slots[first])
    then = index + AHEAD
    if then < len(slots):
        slot = slots[then]
        for lag in range(lags):
            ask_for(state.values[slot], (state.head[slot] - lag) % state.values.shape[1])


@kernel
def _bound(x: NDArray[np.float64]) -> None:
    """What is too large counts as missing."""
    for j in range(len(x)):
        if abs(x[j]) > LARGEST:
            x[j] = np.nan


@kernel
def _real_gap(state: WindowState, slot: int, time: int, far_ahead: int) -> bool:
    """Count a record that is far ahead; whether it is the third of a row that hangs together."""
    refused = state.refused[slot]
    if state.ahead[slot] > 0 and time == refused:
        return False  # the same record again says nothing new
    follows = state.ahead[slot] > 0 and refused < time <= refused + far_ahead
    state.ahead[slot] = state.ahead[slot] + 1 if follows else 1
    state.refused[slot] = time
    return bool(state.ahead[slot] >= _THIRD)


@kernel
def _place(state: WindowState, slot: int, time: int) -> int:
    """How many held records are newer than `time`; -1 if one is as old, -2 if all are newer."""
    length = state.times.shape[1]
    for newer in range(state.held[slot]):
        held = state.times[slot, (state.head[slot] - 1 - newer) % length]
        if held == time:
            return -1
        if held < time:
            return newer
    return -2


@kernel
def _insert(state: WindowState, slot: int, newer: int, time: int, x: NDArray[np.float64]) -> None:
    """Put a record before the `newer` newest ones; a full ring loses its oldest."""
    length = state.times.shape[1]
    held, head = state.held[slot], state.head[slot]
    for back in range(newer):  # one place on for those that are newer, the newest first
        for j in range(len(x)):
            state.values[slot, (head - back) % length, j] = state.values[slot, (head - back - 1) % length, j]
        state.times[slot, (head - back) % length] = state.times[slot, (head - back - 1) % length]
    for j in range(len(x)):
        state.values[slot, (head - newer) % length, j] = x[j]
    state.times[slot, (head - newer) % length] = time
    state.head[slot] = (head + 1) % length
    state.held[slot] = min(held + 1, length)


@kernel
def _rates(
    state: WindowState, slot: int, time: int, counters: NDArray[np.int32], x: NDArray[np.float64]
) -> None:
    """Replace the counters in `x` by their rates per second since their last present value."""
    for c in range(len(counters)):
        j = counters[c]
        value = x[j]
        if np.isnan(value):
            continue
        last, since = state.counter_last[slot, c], state.counter_time[slot, c]
        x[j] = np.nan if since == NO_TIME or value < last else (value - last) / ((time - since) * 1e-6)
        state.counter_last[slot, c] = value
        state.counter_time[slot, c] = time
