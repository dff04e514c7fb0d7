"""One data file as a stream of columns: Parquet, CSV or NDJSON, the latter two also as .gz or .zst.

Every error is a DataError that names the file and, where there is one, the column and the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import DataError, SettingsError
from . import decoding, paths, timestamps
from .decode_wide import WideDecoder
from .records import LARGEST, Messages
from .schema import FeatureSchema
from .slots import SlotTable
from .timestamps import Status, Unit

ROWS = 16384
_HEAD_LINES = 1000
_BLOCK_BYTES = 1 << 20
_COMPRESSED = (".gz", ".zst")
_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}


class Columns(NamedTuple):
    """How the columns are named that are no features, and the unit of the timestamps."""

    time: str = "timestamp"
    entity: str = "entity"
    label: str = "label"
    time_unit: Unit = "auto"


class Chunk(NamedTuple):
    """Some rows of a file, in its order."""

    time_us: NDArray[np.int64]
    names: list[str]
    code: NDArray[np.int32]
    """[n] each row's entity, as an index into `names`."""
    values: NDArray[np.float64]
    label: NDArray[np.int8]
    """[n] 0 or 1, -1 where the file says nothing."""


def format_of(path: Path) -> str:
    """`parquet`, `csv` or `ndjson`, by the file's name."""
    suffixes = path.suffixes
    last = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in _COMPRESSED else path.suffix
    found = _FORMATS.get(last)
    if found is None or (found == "parquet" and last != path.suffix):
        raise DataError(
            f"{path}: not a data file by its name; it must end in .parquet, .csv or .ndjson "
            "(the last two also with .gz or .zst)"
        )
    return found


def head(path: Path, columns: Columns) -> list[str]:
    """The numeric columns in file order, without those that are no features.

    Raises DataError if the file cannot be read or lacks the timestamp or the entity column.
    """
    with _naming(path):
        found = {"parquet": _head_parquet, "csv": _head_csv, "ndjson": _head_ndjson}[format_of(path)](path)
    listed = [name for name, _ in found]
    twice = sorted({name for name in listed if listed.count(name) > 1})
    if twice:
        raise DataError(f"{path}: column '{twice[0]}' occurs twice; rename one of them")
    for wanted, what in ((columns.time, "timestamp"), (columns.entity, "entity")):
        if wanted not in listed:
            raise DataError(f"{path}: no {what} column '{wanted}'; the file has {_some(listed)}")
    kept = {columns.time, columns.entity, columns.label}
    return [name for name, numeric in found if numeric and name not in kept]


def read(path: Path, schema: FeatureSchema, columns: Columns) -> Iterator[Chunk]:
    """The file's rows in chunks of at most `ROWS`; a feature that it lacks is missing throughout."""
    with _naming(path):
        kind = format_of(path)
        if kind == "ndjson":
            yield from _read_ndjson(path, schema, columns)
            return
        first = 1
        for batch in (
            _read_parquet(path, schema, columns) if kind == "parquet" else _read_csv(path, schema, columns)
        ):
            for start in range(0, batch.num_rows, ROWS):
                part = batch.slice(start, ROWS)
                yield _chunk(path, part, schema, columns, first)
                first += part.num_rows


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{path}: cannot be read: {reason}") from None


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:12])
    return (shown + f" and {len(names) - 12} more" if len(names) > 12 else shown) or "no columns"


def _numeric(type_: Any) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(is_kind(type_) for is_kind in kinds)


def _head_parquet(path: Path) -> list[tuple[str, bool]]:
    with pq.ParquetFile(path) as file:
        return [(field.name, _numeric(field.type)) for field in file.schema_arrow]


def _head_csv(path: Path) -> list[tuple[str, bool]]:
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty")
    with pa.input_stream(str(path), compression="detect") as stream, pacsv.open_csv(stream) as reader:
        return [(field.name, _numeric(field.type)) for field in reader.schema]


def _head_ndjson(path: Path) -> list[tuple[str, bool]]:
    found: dict[str, bool] = {}
    for number, line in _lines(path):
        if number > _HEAD_LINES:
            break
        for name, value in paths.leaves(_object(path, number, line)):
            found[name] = found.get(name, True) and _is_number(value)
    if not found:
        raise DataError(f"{path}: the file holds no records")
    return list(found.items())


def _is_number(value: object) -> bool:
    try:
        decoding.number(value)
    except ValueError:
        return False
    return True


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return decoding.read_object(line)
    except decoding.Refused as refused:
        raise DataError(f"{path}: line {number}: {refused}") from None


def _read_parquet(path: Path, schema: FeatureSchema, columns: Columns) -> Iterator[Any]:
    wanted = {*schema.names, columns.time, columns.entity, columns.label}
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(
            ROWS, columns=[name for name in file.schema_arrow.names if name in wanted]
        )


def _read_csv(path: Path, schema: FeatureSchema, columns: Columns) -> Iterator[Any]:
    types = dict.fromkeys([*schema.names, columns.label], pa.float64()) | dict.fromkeys(
        columns[:2], pa.string()
    )
    there = {name for name, _ in _head_csv(path)}
    options = pacsv.ConvertOptions(
        column_types=types, include_columns=[name for name in types if name in there]
    )
    with (
        pa.input_stream(str(path), compression="detect") as stream,
        pacsv.open_csv(stream, convert_options=options) as reader,
    ):
        yield from reader


def _chunk(path: Path, batch: Any, schema: FeatureSchema, columns: Columns, first: int) -> Chunk:
    """Arrow columns as arrays; `first` is the number of the first row, for messages."""
    time_us = _times(path, batch.column(columns.time), columns, first)
    entity = batch.column(columns.entity).cast(pa.string()).dictionary_encode()
    names = entity.dictionary.to_pylist()
    blank = pc.is_null(entity).to_numpy(zero_copy_only=False)
    code = entity.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)
    if names:
        blank = blank | np.array([not name.strip() for name in names])[code]
    if blank.any():
        row = first + int(blank.argmax())
        raise DataError(f"{path}: row {row} has no entity in column '{columns.entity}'")
    values = np.full((batch.num_rows, len(schema)), np.nan)
    there = set(batch.schema.names)
    for place, name in enumerate(schema.names):
        if name in there:
            values[:, place] = _floats(path, batch.column(name), name)
    values[np.abs(values) > LARGEST] = np.nan
    label = np.full(batch.num_rows, -1, np.int8)
    if columns.label in there:
        label = _labels(_floats(path, batch.column(columns.label), columns.label))
    return Chunk(time_us, names, code, values, label)


def _labels(values: NDArray[np.float64]) -> NDArray[np.int8]:
    return np.where(np.isnan(values), -1, np.nan_to_num(values) != 0).astype(np.int8)


def _floats(path: Path, column: Any, name: str) -> NDArray[np.float64]:
    type_ = column.type
    if not (_numeric(type_) or pa.types.is_boolean(type_)):
        raise DataError(f"{path}: column '{name}' holds {type_}, not numbers")
    if pa.types.is_boolean(type_):
        column = column.cast(pa.int8())
    numbers: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def _times(path: Path, column: Any, columns: Columns, first: int) -> NDArray[np.int64]:
    type_ = column.type
    where = f"{path}: column '{columns.time}'"
    if column.null_count:
        row = first + int(pc.is_null(column).to_numpy(zero_copy_only=False).argmax())
        raise DataError(f"{where} is empty in row {row}")
    if pa.types.is_timestamp(type_) or pa.types.is_date(type_):
        whole = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).to_numpy(zero_copy_only=False)
        time_us, status = timestamps.from_integers(whole, "us")
    elif pa.types.is_integer(type_):
        whole = column.cast(pa.int64(), safe=False).to_numpy(zero_copy_only=False)
        time_us, status = timestamps.from_integers(whole, columns.time_unit)
    elif pa.types.is_floating(type_):
        exact = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        time_us, status = timestamps.from_floats(exact, columns.time_unit)
    elif pa.types.is_string(type_) or pa.types.is_large_string(type_):
        time_us, status = timestamps.parse(column.to_pylist(), columns.time_unit)
    else:
        raise DataError(f"{where} holds {type_}, which is no time")
    bad = np.flatnonzero(status != Status.OK)
    if len(bad):
        row = int(bad[0])
        outside = status[row] == Status.OUT_OF_RANGE
        why = "lies outside the years 2000 to 2100" if outside else "is neither an epoch number nor RFC 3339"
        raise DataError(f"{where}, row {first + row}: '{column[row].as_py()}' {why}")
    return time_us


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1."""
    number, rest = 0, b""
    with pa.input_stream(str(path), compression="detect") as stream:
        while block := stream.read(_BLOCK_BYTES):
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                number += 1
                if line.strip():
                    yield number, line
    if rest.strip():
        yield number + 1, rest


def _read_ndjson(path: Path, schema: FeatureSchema, columns: Columns) -> Iterator[Chunk]:
    """Lines go through the decoder of wide messages: what a topic may hold, a file may hold."""
    label = f"label '{columns.label}'"
    features = FeatureSchema((*schema.names, label))
    try:
        decoder = WideDecoder(
            features,
            entity=columns.entity,
            time=columns.time,
            time_unit=columns.time_unit,
            feature_paths={label: columns.label},
        )
    except SettingsError as error:
        raise DataError(f"{path}: {error}") from None
    lines: list[tuple[int, bytes]] = []
    for line in _lines(path):
        lines.append(line)
        if len(lines) == ROWS:
            yield _decode(path, decoder, lines)
            lines = []
    if lines:
        yield _decode(path, decoder, lines)


def _decode(path: Path, decoder: WideDecoder, lines: list[tuple[int, bytes]]) -> Chunk:
    nothing = np.zeros(len(lines), np.int64)
    table = SlotTable()
    messages = Messages(
        nothing.astype(np.int32), nothing, nothing, [None] * len(lines), [line for _, line in lines]
    )
    decoded = decoder.decode(messages, table)
    for rejection in decoded.rejected:
        raise DataError(f"{path}: line {lines[rejection.message][0]}: {rejection.detail}")
    records = decoded.records
    names = [table.name(slot) for slot in range(table.size)]
    label = _labels(records.values[:, -1])
    return Chunk(records.time_us, names, records.slot, np.ascontiguousarray(records.values[:, :-1]), label)
