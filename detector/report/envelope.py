"""Series over time in bounded memory: the lowest and the highest value of each bucket, so that no peak is lost.

Every key (an entity's slot, a partition) has `buckets` buckets of one width, which doubles whenever its time runs
beyond them, neighbours being merged. So a series fills between half and all of its buckets however long it is.
Where many keys would need more than `cells` buckets together, all of them get half as many.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...pipelines.records import NO_TIME

FIRST_WIDTH_US: Final = 1_000_000
LEAST_BUCKETS: Final = 16
PRESENT: Final = 128
"""The mark of a bucket that holds anything."""


class Series(NamedTuple):
    """The b buckets of one key that hold anything, in order."""

    time_us: NDArray[np.int64]
    """[b] where each begins."""
    width_us: int
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    """[b, C]; NaN where no value was finite."""
    marks: NDArray[np.uint8]
    """[b] the marks of all its rows together."""


class Envelope:
    """C columns and a byte of marks per key."""

    def __init__(self, columns: int, buckets: int = 1024, cells: int = 1 << 22) -> None:
        self._columns, self._buckets, self._cells = columns, buckets, cells
        self._start = np.zeros(0, np.int64)
        self._width = np.zeros(0, np.int64)
        self._low = np.zeros((0, buckets, columns), np.float32)
        self._high = np.zeros((0, buckets, columns), np.float32)
        self._marks = np.zeros((0, buckets), np.uint8)

    def take(
        self,
        key: NDArray[Any],
        time_us: NDArray[np.int64],
        values: NDArray[Any],
        marks: NDArray[np.uint8] | int = 0,
    ) -> None:
        """Add n rows: keys [n], times [n] that never go back within a key, values [n, C], marks [n] below 128."""
        if not len(key):
            return
        key = key.astype(np.int64)
        self._reserve(int(key.max()) + 1)
        new = self._start[key] == NO_TIME
        if new.any():
            first = np.full(len(self._start), np.iinfo(np.int64).max)
            np.minimum.at(first, key[new], time_us[new])
            begun = np.unique(key[new])
            self._start[begun] = first[begun]
        self._widen(key, time_us)
        place = np.maximum((time_us - self._start[key]) // self._width[key], 0)
        finite = np.isfinite(values)
        np.minimum.at(self._low, (key, place), np.where(finite, values, np.inf).astype(np.float32))
        np.maximum.at(self._high, (key, place), np.where(finite, values, -np.inf).astype(np.float32))
        np.bitwise_or.at(self._marks, (key, place), np.uint8(PRESENT) | np.asarray(marks, np.uint8))

    def series(self, key: int) -> Series:
        """What is held of a key; no buckets where it never came."""
        if key >= len(self._start):
            nothing = np.zeros((0, self._columns), np.float32)
            return Series(
                np.zeros(0, np.int64), FIRST_WIDTH_US, nothing, nothing.copy(), np.zeros(0, np.uint8)
            )
        at = np.flatnonzero(self._marks[key])
        low, high = self._low[key, at], self._high[key, at]
        none = ~np.isfinite(high)
        return Series(
            self._start[key] + at * self._width[key],
            int(self._width[key]),
            np.where(none, np.float32(np.nan), low),
            np.where(none, np.float32(np.nan), high),
            self._marks[key, at] & np.uint8(PRESENT - 1),
        )

    def _reserve(self, keys: int) -> None:
        held = len(self._start)
        if keys <= held:
            return
        room = max(keys, held + held // 2)
        while room * self._buckets > self._cells and self._buckets > LEAST_BUCKETS:
            self._fold(np.arange(held), 2)
            self._buckets //= 2
            kept = slice(0, self._buckets)
            self._low, self._high = self._low[:, kept].copy(), self._high[:, kept].copy()
            self._marks = self._marks[:, kept].copy()
        more = room - held
        start, width, low, high, marks = _rows(more, self._buckets, self._columns)
        self._start = np.concatenate([self._start, start])
        self._width = np.concatenate([self._width, np.full(more, width)])
        self._low = np.concatenate([self._low, low])
        self._high = np.concatenate([self._high, high])
        self._marks = np.concatenate([self._marks, marks])

    def _widen(self, key: NDArray[np.int64], time_us: NDArray[np.int64]) -> None:
        """Double widths until every time has a bucket."""
        most = np.zeros(len(self._start), np.int64)
        np.maximum.at(most, key, (time_us - self._start[key]) // self._width[key])
        doublings = np.zeros(len(most), np.int64)
        while (over := (most >> doublings) >= self._buckets).any():
            doublings[over] += 1
        for times in np.unique(doublings[doublings > 0]).tolist():
            self._fold(np.flatnonzero(doublings == times), 1 << times)

    def _fold(self, keys: NDArray[np.int64], factor: int) -> None:
        """Make one bucket of `factor` neighbours, a power of two; the rest of the row is empty again."""
        inside = min(factor, self._buckets)
        kept, shape = self._buckets // inside, (len(keys), self._buckets // inside, inside)
        low = self._low[keys].reshape(*shape, self._columns).min(axis=2)
        high = self._high[keys].reshape(*shape, self._columns).max(axis=2)
        marks = np.bitwise_or.reduce(self._marks[keys].reshape(shape), axis=2)
        self._low[keys], self._high[keys], self._marks[keys] = np.inf, -np.inf, 0
        self._low[keys, :kept], self._high[keys, :kept], self._marks[keys, :kept] = low, high, marks
        self._width[keys] *= factor


def _rows(keys: int, buckets: int, columns: int) -> tuple[Any, int, Any, Any, Any]:
    """Starts, width, lows, highs and marks of keys that hold nothing."""
    return (
        np.full(keys, NO_TIME, np.int64),
        FIRST_WIDTH_US,
        np.full((keys, buckets, columns), np.inf, np.float32),
        np.full((keys, buckets, columns), -np.inf, np.float32),
        np.zeros((keys, buckets), np.uint8),
    )
