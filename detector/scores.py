"""Scores out: one compact JSON record per scored record on the scores topic, and the file scores.parquet.

Both hold the same facts. JSON keeps all digits of a float64, so `recalibrate` and `replay` read from the
topic exactly what the daemon computed.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from .outputs import writing
from .wire import Message, decode_json, number

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SCHEMA_VERSION = "1.0"
ROW_GROUP = 65_536  # rows held in memory before they go to the file


class ScoreRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record's outcome. `time` is event time in microseconds since 1970; `score` is null with a reason.

    `incident` is the id of the incident that was firing. Fields with their default value are left out of
    the JSON.
    """

    schema_version: str
    entity: str
    time: int
    partition: int
    offset: int
    calibration: str
    score: float | None = None
    p: float | None = None
    threshold: float | None = None
    anomalous: bool = False
    incident: str | None = None
    reason: str | None = None


_DECODER = msgspec.json.Decoder(ScoreRecord)
_ENCODER = msgspec.json.Encoder()


def score_record(
    entity: str,
    time_us: int,
    partition: int,
    offset: int,
    calibration: str,
    score: float,
    p_value: float,
    threshold: float,
    anomalous: bool,
    incident: str | None,
    reason: str | None = None,
) -> ScoreRecord:
    """The record of a row; a NaN becomes null. `reason` says why there is no score."""
    return ScoreRecord(
        SCHEMA_VERSION,
        entity,
        time_us,
        partition,
        offset,
        calibration,
        number(score),
        number(p_value),
        number(threshold),
        anomalous,
        incident,
        reason,
    )


def encode(record: ScoreRecord) -> bytes:
    """The record as JSON."""
    return _ENCODER.encode(record)


def message_of(record: ScoreRecord) -> Message:
    """The message of a record: key = entity, no headers (there is one of these per record in)."""
    return Message(record.entity.encode(), _ENCODER.encode(record), [])


def decode(value: bytes | None, what: str = "the score record") -> ScoreRecord:
    """A record out of JSON. DataError, naming `what`, where it is none or of a newer major."""
    return decode_json(_DECODER, value, what, 1)


class ScoreRows(NamedTuple):
    """A batch for scores.parquet: columns of one length, NaN in the float columns where there is no score.

    timestamp is int64 microseconds; score, p_value and threshold float64; anomalous bool; partition and
    offset integers; the others are sequences of str, of None, or of lists. Arrays and lists both do.
    """

    timestamp: Any
    entity: Any
    score: Any
    p_value: Any
    threshold: Any
    anomalous: Any
    incident: Any
    top_features: Any
    top_shares: Any
    null_reason: Any
    calibration_version: Any
    partition: Any
    offset: Any


def parquet_schema() -> pa.Schema:
    """The columns of scores.parquet, in order."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("entity", pa.string(), nullable=False),
            pa.field("score", pa.float64()),
            pa.field("p_value", pa.float64()),
            pa.field("threshold", pa.float64()),
            pa.field("anomalous", pa.bool_(), nullable=False),
            pa.field("incident", pa.string()),
            pa.field("top_features", pa.list_(pa.string())),
            pa.field("top_shares", pa.list_(pa.float64())),
            pa.field("null_reason", pa.string()),
            pa.field("calibration_version", pa.string()),
            pa.field("partition", pa.int32(), nullable=False),
            pa.field("offset", pa.int64(), nullable=False),
        ],
        metadata={"schema_version": SCHEMA_VERSION},
    )


class ScoresWriter:
    """Writes scores.parquet in row groups of bounded size, whole or not at all.

    Use it as a context manager: rows go to a temporary file beside `path`, which takes its name when the
    block ends without an error and is removed otherwise. Memory does not grow with the number of rows.
    """

    def __init__(self, path: Path, row_group: int = ROW_GROUP) -> None:
        self.path = path
        self.rows = 0
        self._row_group = row_group
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")

    def __enter__(self) -> ScoresWriter:
        import pyarrow.parquet as pq

        with writing(self.path):
            self._writer = pq.ParquetWriter(self._temporary, parquet_schema(), compression="zstd")
        return self

    def write(self, rows: ScoreRows) -> None:
        """Add rows, in the order that the file is to have."""
        import pyarrow as pa

        schema = parquet_schema()
        columns = [
            pa.array(column, type=field.type, from_pandas=True)
            for field, column in zip(schema, rows, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self.rows += batch.num_rows
        if self._held_rows >= self._row_group:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._held and self._writer is not None:
            table = pa.Table.from_batches(self._held)
            with writing(self.path):
                self._writer.write_table(table, row_group_size=self._row_group)
        self._held, self._held_rows = [], 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._writer is not None
        try:
            if kind is None:
                self._flush()
            with writing(self.path):
                self._writer.close()
                if kind is None:
                    self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)
