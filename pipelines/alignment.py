"""Single measurements (long format) put together into records, one per entity and period.

A period is [k x period, (k + 1) x period) of event time and gives a record dated at its beginning. It closes
when the entity's own newest event time reaches its end plus `wait`; the record bears the offset of the
message that closed it. Within a period the newest measurement of a metric counts, of equally new ones the
last to arrive. A measurement for a period already closed is late: counted, and dropped. A period in which
the entity sent nothing gives no record. With `carry_us` a metric that is missing keeps its last measurement
until that is so old, at the period's end; counters are never carried, for that would turn a pause into a
rate of 0 and a burst.

A measurement more than `far_ahead_us` ahead of the entity's newest is refused, as `windows` does with
records, unless it belongs to the third period in a row of such ones, each after the one before and within
`far_ahead_us`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from ..thresholds.jit import kernel
from .records import NO_TIME, Points, Records
from .windows import FAR_AHEAD_US

_THIRD = 3
_CELLS = 1 << 20  # values of closed periods that are gathered at once


class Alignment(NamedTuple):
    """The rule of a stream: durations in microseconds of event time."""

    period_us: int
    wait_us: int
    carry_us: int = 0
    far_ahead_us: int = FAR_AHEAD_US

    @property
    def open_periods(self) -> int:
        """K: the periods of one entity that can be open at once."""
        return -(-self.wait_us // self.period_us) + 2


class AlignState(NamedTuple):
    """Per slot. Period k stands at place k modulo K."""

    values: NDArray[np.float64]
    """[N, K, F] NaN where nothing was measured."""
    measured: NDArray[np.int64]
    """[N, K, F] event time of the measurement, NO_TIME for none."""
    period: NDArray[np.int64]
    """[N, K] which period stands there, NO_TIME for none."""
    closed: NDArray[np.int64]
    """[N] the newest period that is closed, NO_TIME before the first measurement."""
    newest: NDArray[np.int64]
    ahead: NDArray[np.int8]
    refused: NDArray[np.int64]
    last: NDArray[np.float64]
    """[N, F] last measurement in a closed period, with its event time."""
    last_time: NDArray[np.int64]


class Aligned(NamedTuple):
    """The records of the periods that closed, and what was not used."""

    records: Records
    late: int
    far_ahead: NDArray[np.int64]
    """[m] the points that were refused as far ahead."""


def check(alignment: Alignment) -> Alignment:
    """The same rule. Raises SettingsError for one that cannot be followed."""
    if alignment.period_us <= 0 or min(alignment.wait_us, alignment.carry_us) < 0:
        raise SettingsError("aligning needs a period above 0, and a wait and a carry of at least 0")
    if alignment.wait_us > 1000 * alignment.period_us:
        raise SettingsError("the wait is over 1000 periods long, which would keep as many open; shorten it")
    return alignment


def init(slots: int, alignment: Alignment, features: int) -> AlignState:
    """A state in which nothing has been measured."""
    places = alignment.open_periods
    return AlignState(
        np.full((slots, places, features), np.nan),
        np.full((slots, places, features), NO_TIME, np.int64),
        np.full((slots, places), NO_TIME, np.int64),
        np.full(slots, NO_TIME, np.int64),
        np.full(slots, NO_TIME, np.int64),
        np.zeros(slots, np.int8),
        np.full(slots, NO_TIME, np.int64),
        np.full((slots, features), np.nan),
        np.full((slots, features), NO_TIME, np.int64),
    )


def align(state: AlignState, points: Points, alignment: Alignment, counters: NDArray[np.int32]) -> Aligned:
    """Take in a batch of measurements, in place, and return the records of the periods that they close.

    `counters` are the indices of the counters among the features.
    """
    places, features = state.values.shape[1:]
    period_us, wait_us, carry_us, far_ahead_us = alignment
    carried = np.full(features, carry_us, np.int64)
    carried[counters] = -1
    step = max(1, _CELLS // (places * features))
    late = 0
    records: list[Records] = []
    far = np.zeros(len(points.slot), np.bool_)
    for start in range(0, max(len(points.slot), 1), step):
        part = slice(start, start + step)
        batch = Points._make(column[part] for column in points)
        room = len(batch.slot) * places
        source = np.empty(room, np.int64)
        time_us = np.empty(room, np.int64)
        values = np.empty((room, features), np.float64)
        out = (source, time_us, values, far[part])
        rows, dropped = _align(state, batch, period_us, wait_us, far_ahead_us, carried, *out)
        late += dropped
        by = source[:rows]
        columns = (batch.slot[by], batch.part[by], batch.offset[by])
        records.append(Records(*columns, time_us[:rows].copy(), values[:rows].copy()))
    joined = Records._make(map(np.concatenate, zip(*records, strict=True)))
    return Aligned(joined, late, np.flatnonzero(far))


@kernel
def _align(
    state: AlignState,
    points: Points,
    period_us: int,
    wait: int,
    far_ahead: int,
    carried: NDArray[np.int64],
    source: NDArray[np.int64],
    time_us: NDArray[np.int64],
    values: NDArray[np.float64],
    far: NDArray[np.bool_],
) -> tuple[int, int]:
    places = state.values.shape[1]
    rows = late = 0
    for index in range(len(points.slot)):
        slot, time = points.slot[index], points.time_us[index]
        newest = state.newest[slot]
        wild = newest != NO_TIME and time > newest + far_ahead
        if wild and not _real_gap(state, slot, time, period_us, far_ahead):
            far[index] = True
            continue
        state.ahead[slot] = 0
        if newest == NO_TIME or time > newest:
            state.newest[slot] = time
            now_closed = (time - wait) // period_us - 1
            if newest != NO_TIME:
                rows = _close(
                    state, slot, now_closed, period_us, carried, source, time_us, values, rows, index
                )
            state.closed[slot] = max(state.closed[slot], now_closed)
        period = time // period_us
        if period <= state.closed[slot]:
            late += 1
            continue
        place = period % places
        if state.period[slot, place] != period:
            state.period[slot, place] = period
            state.values[slot, place] = np.nan
            state.measured[slot, place] = NO_TIME
        feature, value = points.feature[index], points.value[index]
        if not np.isnan(value) and time >= state.measured[slot, place, feature]:
            state.values[slot, place, feature] = value
            state.measured[slot, place, feature] = time
    return rows, late


@kernel
def _close(
    state: AlignState,
    slot: int,
    now_closed: int,
    period_us: int,
    carried: NDArray[np.int64],
    source: NDArray[np.int64],
    time_us: NDArray[np.int64],
    values: NDArray[np.float64],
    rows: int,
    index: int,
) -> int:
    """Write the records of the open periods up to `now_closed`, the oldest first."""
    places, features = state.values.shape[1], state.values.shape[2]
    while True:
        place = -1
        for candidate in range(places):
            period = state.period[slot, candidate]
            if (
                period != NO_TIME
                and period <= now_closed
                and (place < 0 or period < state.period[slot, place])
            ):
                place = candidate
        if place < 0:
            return rows
        end = (state.period[slot, place] + 1) * period_us
        for j in range(features):
            value, measured = state.values[slot, place, j], state.measured[slot, place, j]
            if measured != NO_TIME:
                state.last[slot, j], state.last_time[slot, j] = value, measured
            elif state.last_time[slot, j] != NO_TIME and end - state.last_time[slot, j] <= carried[j]:
                value = state.last[slot, j]
            values[rows, j] = value
        source[rows] = index
        time_us[rows] = end - period_us
        rows += 1
        state.period[slot, place] = NO_TIME


@kernel
def _real_gap(state: AlignState, slot: int, time: int, period_us: int, far_ahead: int) -> bool:
    """Count a period that is far ahead; whether it is the third of a row that hangs together."""
    refused = state.refused[slot]
    if state.ahead[slot] > 0 and time // period_us == refused // period_us:
        return False  # more of the same period says nothing new
    follows = state.ahead[slot] > 0 and refused < time <= refused + far_ahead
    state.ahead[slot] = state.ahead[slot] + 1 if follows else 1
    state.refused[slot] = time
    return bool(state.ahead[slot] >= _THIRD)
