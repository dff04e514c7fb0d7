"""States as the plain arrays that a snapshot holds, so many entities at a time, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StateError
from ..pipelines.slots import take
from .arrays import Arrays
from .changelog import BLOCK

ADDED = frozenset({"progress.entities"})
"""Fields that are younger than the format: where a snapshot lacks one, it begins as for a new partition or entity."""


class Taken:
    """Copies of rows, so many at a time, of a state as it is when they are asked for."""

    def __init__(self, states: Mapping[str, Any], slots: NDArray[np.int32]) -> None:
        self._states, self._slots = states, slots

    def __iter__(self) -> Iterator[Arrays]:
        for at in range(0, len(self._slots), BLOCK):
            mine = self._slots[at : at + BLOCK]
            yield plain(
                {
                    f"{name}.{field}": column
                    for name, state in self._states.items()
                    for field, column in zip(state._fields, take(state, mine), strict=True)
                }
            )


def plain(arrays: dict[str, NDArray[Any]]) -> Arrays:
    """Records of several fields as one plain array per field, which is all that the changelog format holds."""
    plain: Arrays = {}
    for name, array in arrays.items():
        if array.dtype.names is None:
            plain[name] = array
        else:
            plain.update(
                {f"{name}.{field}": np.ascontiguousarray(array[field]) for field in array.dtype.names}
            )
    return plain


def typed(fresh: Any, name: str, arrays: Arrays, rows: int, topic: str, partition: int) -> Any:
    """The state `fresh` is a row of, out of plain arrays, which it may share."""
    columns = []
    for field, column in zip(fresh._fields, fresh, strict=True):
        key = f"{name}.{field}"
        if column.dtype.names is None:
            columns.append(_usable(arrays, key, rows, column, topic, partition))
            continue
        restored = np.empty((rows, *column.shape[1:]), column.dtype)
        for sub in column.dtype.names:
            restored[sub] = _usable(arrays, f"{key}.{sub}", rows, column[sub], topic, partition)
        columns.append(restored)
    return type(fresh)(*columns)


def _usable(
    arrays: Arrays, key: str, rows: int, row: NDArray[Any], topic: str, partition: int
) -> NDArray[Any]:
    found = arrays.get(key)
    if found is None and key in ADDED:
        return np.repeat(row, rows, axis=0)
    if found is None or (found.shape, found.dtype) != ((rows, *row.shape[1:]), row.dtype):
        there = "it is not there" if found is None else f"it is {found.dtype}{list(found.shape)}"
        raise StateError(
            f"The snapshot of {topic}/{partition} has no usable field {key} ({there}). It was written by "
            "another version of tocsin; go back to that version, or start a stream with a new name."
        )
    return found
