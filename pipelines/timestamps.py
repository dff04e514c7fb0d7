"""Event times as they are written in the wild, turned into int64 microseconds since 1970.

Numbers (JSON numbers or strings that hold one) count `s`, `ms`, `us` or `ns` since 1970. With the unit
`auto` each number's size decides: below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else
nanoseconds; for the years 2000 to 2100, outside of which no time is accepted, that is never ambiguous. Other
strings are RFC 3339 with any offset; a fraction is cut to microseconds, and a time without an offset is UTC.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .records import NO_TIME

Unit = Literal["auto", "s", "ms", "us", "ns"]
UNITS: tuple[Unit, ...] = ("s", "ms", "us", "ns")
EARLIEST_US = 946_684_800_000_000  # 2000-01-01
LATEST_US = 4_102_444_800_000_000  # 2100-01-01, itself outside
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMBER = re.compile(r"[+-]?(\d+)(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
_PER_UNIT: dict[str, int] = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}  # in nanoseconds
_BOUNDS = ((10**11, "s"), (10**14, "ms"), (10**17, "us"))


class Status(IntEnum):
    """What became of a time."""

    OK = 0
    ABSENT = 1
    BAD = 2
    OUT_OF_RANGE = 3


def parse(values: Sequence[object], unit: Unit = "auto") -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Times [n] in microseconds and a `Status` for each; the time is NO_TIME where the status is not OK.

    `values` holds int, float, str or None (ABSENT); anything else is BAD.
    """
    kinds = set(map(type, values))
    if kinds == {int}:
        try:
            return from_integers(np.array(values, np.int64), unit)
        except OverflowError:
            pass  # a number of more than 64 bits: out of range, found one by one
    elif kinds == {float}:
        return from_floats(np.array(values, np.float64), unit)
    time_us = np.full(len(values), NO_TIME, np.int64)
    status = np.empty(len(values), np.uint8)
    for row, value in enumerate(values):
        status[row], time_us[row] = _one(value, unit)
    return time_us, status


def unit_of(values: Sequence[object]) -> Unit | None:
    """The unit that every number among `values` counts by its size; None where they differ, and where none is one."""
    numbers = np.array(
        [float(str(v)) for v in values if not isinstance(v, bool) and _NUMBER.fullmatch(str(v))]
    )
    found = [unit for unit in UNITS if _in_unit(numbers, unit, "auto").any()]
    return found[0] if len(found) == 1 else None


def from_integers(
    values: NDArray[np.int64], unit: Unit = "auto"
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The same for an array of int64."""
    time_us = np.full(len(values), NO_TIME, np.int64)
    for name in _PER_UNIT:
        nanoseconds = _PER_UNIT[name]
        chosen = _in_unit(values, name, unit)
        # Bounds in the unit itself: multiplying first could overflow.
        chosen &= values >= -(-EARLIEST_US * 1000 // nanoseconds)
        chosen &= values < LATEST_US * 1000 // nanoseconds
        part = values[chosen]
        time_us[chosen] = part * (nanoseconds // 1000) if nanoseconds >= 1000 else part // 1000
    return time_us, np.where(time_us == NO_TIME, Status.OUT_OF_RANGE, Status.OK).astype(np.uint8)


def from_floats(
    values: NDArray[np.float64], unit: Unit = "auto"
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The same for an array of float64, rounded to the nearest microsecond; NaN is BAD."""
    bad = np.isnan(values)
    exact = np.full(len(values), np.nan)
    for name, nanoseconds in _PER_UNIT.items():
        chosen = _in_unit(values, name, unit)
        exact[chosen] = np.rint(values[chosen] * (nanoseconds / 1000))
    good = (exact >= EARLIEST_US) & (exact < LATEST_US)
    time_us = np.where(good, exact, 0).astype(np.int64)
    time_us[~good] = NO_TIME
    status = np.where(good, Status.OK, np.where(bad, Status.BAD, Status.OUT_OF_RANGE))
    return time_us, status.astype(np.uint8)


def _in_unit(values: NDArray[np.int64] | NDArray[np.float64], name: str, unit: Unit) -> NDArray[np.bool_]:
    if unit != "auto":
        return np.full(len(values), name == unit)
    below = 0
    for bound, smaller in _BOUNDS:
        if smaller == name:
            return np.asarray((values >= below) & (values < bound))
        below = bound
    return np.asarray(values >= below)


def _one(value: object, unit: Unit) -> tuple[Status, int]:
    if value is None:
        return Status.ABSENT, NO_TIME
    if isinstance(value, str):
        return _text(value.strip(), unit)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Status.BAD, NO_TIME
    if isinstance(value, int):
        if abs(value) >= 2**63:
            return Status.OUT_OF_RANGE, NO_TIME
        time_us, status = from_integers(np.array([value], np.int64), unit)
    else:
        time_us, status = from_floats(np.array([value], np.float64), unit)
    return Status(int(status[0])), int(time_us[0])


def _text(text: str, unit: Unit) -> tuple[Status, int]:
    if len(text) >= 19 and text[4] == "-" and text[13] == ":" and text[10] in "Tt ":
        try:
            moment = datetime.fromisoformat(text.upper())
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            time_us = (moment - _EPOCH) // _MICROSECOND
        except (ValueError, OverflowError):
            return Status.BAD, NO_TIME
        inside = EARLIEST_US <= time_us < LATEST_US
        return (Status.OK, time_us) if inside else (Status.OUT_OF_RANGE, NO_TIME)
    number = _NUMBER.fullmatch(text) if len(text) <= 40 else None
    if number is None:
        return Status.BAD, NO_TIME
    return _one(int(text) if number[2] is None and number[3] is None else float(text), unit)
