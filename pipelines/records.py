"""The columns that travel between the stages, with one row per message or record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

NO_TIME = int(np.iinfo(np.int64).min)
"""Stands for "no time yet" wherever times are int64 microseconds since 1970."""
LARGEST = 1e37
"""A value beyond this, either way, counts as infinite and so as missing: float32 cannot work with it."""


class Messages(NamedTuple):
    """What a broker or a file delivered, undecoded: one entry per message, in consumption order."""

    part: NDArray[np.int32]
    """Index of the message's (topic, partition) in the stream's table."""
    offset: NDArray[np.int64]
    timestamp_ms: NDArray[np.int64]
    """The broker's timestamp, milliseconds since 1970; 0 or below where there is none."""
    key: Sequence[bytes | None]
    value: Sequence[bytes | None]


class Records(NamedTuple):
    """Decoded records. Rows stand in consumption order; only the order within a partition counts."""

    slot: NDArray[np.int32]
    """[B] the entity's slot."""
    part: NDArray[np.int32]
    """[B] index of (topic, partition) in the stream's table."""
    offset: NDArray[np.int64]
    time_us: NDArray[np.int64]
    """[B] event time, microseconds since 1970."""
    values: NDArray[np.float64]
    """[B, F] in the order of the feature schema; NaN is missing."""


class Points(NamedTuple):
    """Decoded single measurements (long format). The same order as `Records`."""

    slot: NDArray[np.int32]
    part: NDArray[np.int32]
    offset: NDArray[np.int64]
    time_us: NDArray[np.int64]
    feature: NDArray[np.int32]
    """[B] index of the feature in the schema."""
    value: NDArray[np.float64]
    """[B] NaN is missing."""


Columns = TypeVar("Columns", bound="Records | Points")


def take_rows(records: Columns, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Columns:
    """The chosen rows, as a mask, as indices or as a slice."""
    kind = cast(Callable[..., Columns], type(records))
    return kind(*(column[rows] for column in records))
