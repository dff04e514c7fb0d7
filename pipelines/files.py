"""Data files as one stream of records: merged by their heads, never sorted within.

Of the files' next rows the one with the oldest event time goes first; of equally old ones that of the entity
whose name sorts first, then that of the file whose name does. So the order in which files are named changes
nothing, and a record that stands late in its file stays late. Rows are streamed: memory does not grow with
the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..thresholds.jit import kernel
from . import readers
from .readers import Chunk, Columns
from .records import Records
from .schema import FeatureSchema
from .slots import NO_SLOT, SlotTable

BATCH_ROWS = 65536
_CELLS = 1 << 22  # values that are held of all files together


class FileBatch(NamedTuple):
    """Records in merged order; the part is 0 and the offset the running number of the record."""

    records: Records
    label: NDArray[np.int8]
    """[B] 0 or 1, -1 where the file says nothing. Never a feature."""
    source: NDArray[np.int32]
    """[B] index into `DataFiles.paths`."""


class DataFiles:
    """Some files that hold the same kind of telemetry. Their paths stand in the order of their names.

    Raises DataError for files that cannot be read, a missing column and a feature that no file has.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        schema: FeatureSchema | None = None,
        columns: Columns = Columns(),  # noqa: B008
    ) -> None:
        self.paths = tuple(sorted(_expand(paths), key=lambda path: (path.name, str(path))))
        self.columns = columns
        numeric = {path: readers.head(path, columns) for path in self.paths}
        union = dict.fromkeys(name for path in self.paths for name in numeric[path])
        if schema is None:
            if not union:
                raise DataError(f"{self.paths[0]}: no numeric column beside timestamp, entity and label")
            schema = FeatureSchema(tuple(union))
        if columns.label in schema.names:
            raise DataError(f"the column '{columns.label}' is a label and can never be a feature")
        absent = [name for name in schema.names if name not in union]
        if absent:
            raise DataError(f"{self.paths[0]}: no file has the feature '{absent[0]}' as a numeric column")
        self.schema = schema

    def batches(self, table: SlotTable, rows: int = BATCH_ROWS) -> Iterator[FileBatch]:
        """All records in merged order, in batches of `rows`; entities that are new get slots in `table`."""
        merge = _Merge(self, table)
        offset = 0
        while (batch := merge.take(rows, offset)) is not None:
            offset += len(batch.label)
            yield batch


def _expand(paths: Sequence[str | Path]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(child for child in path.iterdir() if _is_data(child))
            if not inside:
                raise DataError(f"{path}: the folder holds no .parquet, .csv or .ndjson file")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    if not found:
        raise DataError("no data files were given")
    seen: dict[Path, Path] = {}
    for path in found:
        if path.resolve() in seen:
            raise DataError(f"{path}: the same file is given twice; name each once")
        seen[path.resolve()] = path
    return found


def _is_data(path: Path) -> bool:
    try:
        readers.format_of(path)
    except DataError:
        return False
    return path.is_file()


class _Merge:
    """The heads of all files in one buffer of K files x C rows."""

    def __init__(self, files: DataFiles, table: SlotTable) -> None:
        count, features = len(files.paths), len(files.schema)
        size = max(64, min(readers.ROWS, _CELLS // (count * features)))
        self._files, self._table = files, table
        self._chunks = [
            _sliced(readers.read(path, files.schema, files.columns), size) for path in files.paths
        ]
        self._time = np.zeros((count, size), np.int64)
        self._code = np.zeros((count, size), np.int32)
        self._rank = np.zeros((count, size), np.int32)
        self._values = np.zeros((count, size, features))
        self._label = np.zeros((count, size), np.int8)
        self._begin = np.zeros(count, np.int64)
        self._end = np.zeros(count, np.int64)
        self._done = np.zeros(count, np.bool_)
        self._codes: dict[str, int] = {}
        self._order = np.zeros(0, np.int32)
        self._slots = np.zeros(0, np.int32)

    def take(self, rows: int, offset: int) -> FileBatch | None:
        """The next `rows` records, fewer at the end, None after it."""
        file, at = np.empty(rows, np.int32), np.empty(rows, np.int64)
        values = np.empty((rows, len(self._files.schema)))
        time_us, label = np.empty(rows, np.int64), np.empty(rows, np.int8)
        code = np.empty(rows, np.int32)
        filled = 0
        while filled < rows:
            self._refill()
            found = int(
                _merge(self._time, self._rank, self._begin, self._end, self._done, file[filled:], at[filled:])
            )
            if not found:
                break
            # Copied now: the next refill overwrites the rows.
            part = slice(filled, filled + found)
            rows_of = (file[part], at[part])
            time_us[part], code[part] = self._time[rows_of], self._code[rows_of]
            values[part], label[part] = self._values[rows_of], self._label[rows_of]
            filled += found
        if not filled:
            return None
        numbers = np.arange(offset, offset + filled, dtype=np.int64)
        part_of = np.zeros(filled, np.int32)
        slots = self._slots_of(code[:filled])
        records = Records(slots, part_of, numbers, time_us[:filled], values[:filled])
        return FileBatch(records, label[:filled], file[:filled])

    def _refill(self) -> None:
        new = False
        for k in np.flatnonzero((self._begin == self._end) & ~self._done).tolist():
            chunk = next(self._chunks[k], None)
            if chunk is None:
                self._done[k] = True
                continue
            size = len(chunk.time_us)
            known = len(self._codes)
            codes = [self._codes.setdefault(name, len(self._codes)) for name in chunk.names]
            new |= len(self._codes) > known
            self._time[k, :size], self._values[k, :size] = chunk.time_us, chunk.values
            self._label[k, :size] = chunk.label
            self._code[k, :size] = np.array(codes, np.int32)[chunk.code]
            self._begin[k], self._end[k] = 0, size
            if not new:
                self._rank[k] = self._order[self._code[k]]
        if new:
            names = sorted(self._codes, key=lambda name: name.encode("utf-8"))
            self._order = np.empty(len(names), np.int32)
            self._order[[self._codes[name] for name in names]] = np.arange(len(names))
            self._rank[:] = self._order[self._code]

    def _slots_of(self, codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Slots by code, given out in the order in which entities first appear."""
        names = list(self._codes)
        more = np.full(len(names) - len(self._slots), NO_SLOT, np.int32)
        self._slots = np.concatenate([self._slots, more])
        _, first = np.unique(codes, return_index=True)
        for code in codes[np.sort(first)].tolist():
            if self._slots[code] == NO_SLOT:
                self._slots[code] = self._table.intern(0, names[code])
        slots: NDArray[np.int32] = self._slots[codes]
        return slots


def _sliced(chunks: Iterator[Chunk], size: int) -> Iterator[Chunk]:
    for chunk in chunks:
        for start in range(0, len(chunk.time_us), size):
            part = slice(start, start + size)
            yield Chunk(
                chunk.time_us[part], chunk.names, chunk.code[part], chunk.values[part], chunk.label[part]
            )


@kernel
def _merge(
    time: NDArray[np.int64],
    rank: NDArray[np.int32],
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    done: NDArray[np.bool_],
    file: NDArray[np.int32],
    at: NDArray[np.int64],
) -> int:
    """Fill `file` and `at` with the next rows; stops early where a file's buffer has run out."""
    for count in range(len(file)):
        best = -1
        for k in range(len(begin)):
            if begin[k] == end[k]:
                if not done[k]:
                    return count
                continue
            if best >= 0:
                mine, other = time[k, begin[k]], time[best, begin[best]]
                if mine > other or (mine == other and rank[k, begin[k]] >= rank[best, begin[best]]):
                    continue
            best = k
        if best < 0:
            return count
        file[count], at[count] = best, begin[best]
        begin[best] += 1
    return len(file)
