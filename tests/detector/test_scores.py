"""Scores out: every digit of a float64, and a file that is whole or not there."""

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.detector.scores import (
    ScoreRows,
    ScoresWriter,
    decode,
    encode,
    message_of,
    parquet_schema,
    score_record,
)
from tocsin.errors import DataError


@given(st.floats(), st.floats(), st.floats(), st.booleans(), st.integers(-(2**63), 2**63 - 1))
def test_every_digit_survives(
    score: float, p: float, threshold: float, anomalous: bool, time_us: int
) -> None:
    record = score_record("é", time_us, 3, 44, "v1", score, p, threshold, anomalous, None)
    again = decode(encode(record))
    assert again == record
    for sent, got in ((score, again.score), (p, again.p), (threshold, again.threshold)):
        if math.isfinite(sent):
            assert got is not None
            assert struct.pack("d", got) == struct.pack("d", sent)
        else:
            assert got is None


def test_the_whole_message() -> None:
    message = message_of(score_record("host-1", 1_000_000, 3, 44, "v1", 0.1, 0.5, 2.0, False, None))
    assert message.key == b"host-1"
    assert message.headers == []
    assert json.loads(message.value or b"") == {
        "schema_version": "1.0",
        "entity": "host-1",
        "time": 1_000_000,
        "partition": 3,
        "offset": 44,
        "calibration": "v1",
        "score": 0.1,
        "p": 0.5,
        "threshold": 2.0,
    }
    record = score_record("e", 1, 0, 0, "v1", math.nan, math.nan, math.nan, False, None, "all_missing")
    assert encode(record).endswith(b'"calibration":"v1","reason":"all_missing"}')


def test_other_bytes_are_data_errors() -> None:
    for value in (None, b"", b"{}", b'{"schema_version":"2.0"}'):
        with pytest.raises(DataError, match="the score record"):
            decode(value)


def rows(start: int, n: int) -> ScoreRows:
    at = np.arange(start, start + n)
    return ScoreRows(
        timestamp=at.astype(np.int64) * 1_000_000,
        entity=[f"host-{i % 3}" for i in at],
        score=np.where(at % 5 == 0, np.nan, at / 7),
        p_value=np.where(at % 5 == 0, np.nan, 1 / (1 + at)),
        threshold=np.where(at % 5 == 0, np.nan, 2.0),
        anomalous=at % 2 == 1,
        incident=[None if i % 2 else "a" * 32 for i in at],
        top_features=[["cpu", "mem"] if i % 5 else None for i in at],
        top_shares=[[0.75, 0.25] if i % 5 else None for i in at],
        null_reason=["warming" if i % 5 == 0 else None for i in at],
        calibration_version=["v1"] * n,
        partition=np.full(n, 2, np.int32),
        offset=at.astype(np.int64),
    )


def test_the_file_holds_the_rows_in_order_in_bounded_groups(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    with ScoresWriter(path, row_group=100) as writer:
        for start in range(0, 1000, 30):
            writer.write(rows(start, min(30, 1000 - start)))
        assert not path.exists(), "the file must not be there before it is whole"
    assert writer.rows == 1000
    file = pq.ParquetFile(path)
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    assert max(sizes) <= 100
    table = file.read()
    assert table.schema.equals(parquet_schema(), check_metadata=False)
    assert table.schema.metadata[b"schema_version"] == b"1.0"
    expected: Any = rows(0, 1000)
    assert table["offset"].to_pylist() == list(range(1000))
    assert table["timestamp"].cast(pa.int64()).to_pylist() == expected.timestamp.tolist()
    score = np.array([np.nan if v is None else v for v in table["score"].to_pylist()])
    assert score.tobytes() == expected.score.tobytes()
    assert table["score"].null_count == 200
    for name in ("entity", "incident", "top_features", "top_shares", "null_reason"):
        assert table[name].to_pylist() == getattr(expected, name)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]


def test_columns_are_those_of_the_design() -> None:
    assert parquet_schema().names == list(ScoreRows._fields)
    assert str(parquet_schema().field("timestamp").type) == "timestamp[us, tz=UTC]"
    assert str(parquet_schema().field("top_features").type) == "list<item: string>"


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    path.write_text("old")

    def fail() -> None:
        with ScoresWriter(path) as writer:
            writer.write(rows(0, 10))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]


def test_no_rows_make_an_empty_file_with_all_columns(tmp_path: Path) -> None:
    with ScoresWriter(tmp_path / "s.parquet"):
        pass
    assert pq.read_table(tmp_path / "s.parquet").num_rows == 0
    assert pq.read_schema(tmp_path / "s.parquet").names == list(ScoreRows._fields)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"nowhere/s\.parquet cannot be written"),
        ScoresWriter(tmp_path / "nowhere" / "s.parquet"),
    ):
        pass
