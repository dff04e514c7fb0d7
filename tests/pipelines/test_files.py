"""Data files: every format to the same arrays, merged by their heads, and errors that name file and place."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import telemetry
from tocsin.errors import DataError
from tocsin.pipelines import readers
from tocsin.pipelines.files import DataFiles, FileBatch
from tocsin.pipelines.readers import Columns
from tocsin.pipelines.schema import FeatureSchema
from tocsin.pipelines.slots import SlotTable

T = 1_704_067_200


def frame(fleet: telemetry.Fleet, rows: np.ndarray) -> pa.Table:
    columns = {
        "timestamp": pa.array(fleet.time_us[rows], pa.timestamp("us", "UTC")),
        "entity": [fleet.names[entity] for entity in fleet.entity[rows]],
        "note": ["x"] * len(rows),
    }
    for place, name in enumerate(fleet.features):
        columns[name] = pa.array(fleet.values[rows, place], from_pandas=True)
    return pa.table(columns | {"label": fleet.label[rows]})


def write(table: pa.Table, path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=100)
        return path
    codec = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    with pa.output_stream(str(path), compression=codec) as sink:
        if ".csv" in path.suffixes:
            pacsv.write_csv(table, sink)
        else:
            for row in table.to_pylist():
                sink.write(json.dumps(row | {"timestamp": row["timestamp"].isoformat()}).encode() + b"\n")
    return path


def collect(
    paths: list[Path], rows: int = 65536, **options: object
) -> tuple[FileBatch, list[str], DataFiles]:
    files, table = DataFiles(paths, **options), SlotTable()
    batches = list(files.batches(table, rows))
    assert all(len(batch.label) == rows for batch in batches[:-1])
    records = type(batches[0].records)._make(
        map(np.concatenate, zip(*(b.records for b in batches), strict=True))
    )
    label, source = (np.concatenate(column) for column in list(zip(*batches, strict=True))[1:])
    return FileBatch(records, label, source), [table.name(slot) for slot in records.slot], files


@pytest.fixture(scope="module")
def fleet() -> telemetry.Fleet:
    return telemetry.generate(4, entities=4, records=150, features=5, faults=4, missing=0.05, late=0.02)


@pytest.mark.parametrize(
    "suffix", [".parquet", ".csv", ".csv.gz", ".csv.zst", ".ndjson", ".jsonl.gz", ".ndjson.zst"]
)
def test_every_format_gives_the_same_arrays(fleet: telemetry.Fleet, tmp_path: Path, suffix: str) -> None:
    every = np.arange(len(fleet.entity))
    got, names, files = collect([write(frame(fleet, every), tmp_path / f"data{suffix}")], rows=100)
    assert files.schema == FeatureSchema(fleet.features)
    np.testing.assert_array_equal(got.records.values, fleet.values)
    np.testing.assert_array_equal(got.records.time_us, fleet.time_us)
    np.testing.assert_array_equal(got.records.offset, every)
    np.testing.assert_array_equal(got.label, fleet.label)
    assert names == [fleet.names[entity] for entity in fleet.entity]


def reference(series: dict[str, list[tuple[int, str]]]) -> list[tuple[int, str, str]]:
    """Merge by heads, a row at a time."""
    left = {name: list(rows) for name, rows in sorted(series.items())}
    out = []
    while any(left.values()):
        name = min((rows[0], name) for name, rows in left.items() if rows)[1]
        out.append((*left[name].pop(0), name))
    return out


def test_files_are_merged_by_their_heads_in_any_order_given(tmp_path: Path) -> None:
    series = {
        "b.csv": [(T, "x"), (T + 5, "x"), (T + 1, "x"), (T + 9, "x")],  # late inside its file: stays late
        "a.csv": [(T, "y"), (T + 1, "w"), (T + 5, "x"), (T + 6, "w")],
        "c.csv": [(T, "x"), (T + 9, "a")],
        "d.csv": [],
    }
    expected = reference(series)
    paths = []
    for name, rows in series.items():
        text = "timestamp,entity,v\n" + "".join(f"{t},{e},{i}\n" for i, (t, e) in enumerate(rows))
        (tmp_path / name).write_text(text)
        paths.append(tmp_path / name)
    for order in itertools.permutations(paths):
        got, names, files = collect(list(order), rows=3)
        seconds = (got.records.time_us // 1_000_000).tolist()
        sources = [files.paths[source].name for source in got.source]
        assert list(zip(seconds, names, sources, strict=True)) == expected
    assert [row[2] for row in expected[:3]] == ["b.csv", "c.csv", "a.csv"], "ties: entity, then file name"


def test_many_small_buffers_change_nothing(
    fleet: telemetry.Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, series = [], {}
    for entity in range(4):
        rows = np.flatnonzero(fleet.entity == entity)
        name = f"{entity}.parquet"
        paths.append(write(frame(fleet, rows), tmp_path / name))
        series[name] = [(int(t), fleet.names[entity]) for t in fleet.time_us[rows]]
    monkeypatch.setattr(readers, "ROWS", 64)
    got, names, files = collect([tmp_path], rows=37)
    assert files.paths == tuple(sorted(paths))
    sources = [files.paths[source].name for source in got.source]
    assert list(zip(got.records.time_us.tolist(), names, sources, strict=True)) == reference(series)


@pytest.mark.parametrize(
    "times",
    [
        pa.array([T, T + 1]),
        pa.array([float(T), T + 1.0]),
        pa.array([T * 1000, (T + 1) * 1000], pa.timestamp("ms")),
        pa.array([T * 10**9, (T + 1) * 10**9], pa.timestamp("ns", "Europe/Berlin")),
        pa.array(["2024-01-01T00:00:00Z", "2024-01-01T02:00:01+02:00"]),
        pa.array([str(T), str((T + 1) * 1000)]),
    ],
)
def test_timestamps_of_every_kind(tmp_path: Path, times: pa.Array) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"timestamp": times, "entity": ["a", "a"], "v": [1, 2]}), path)
    got, _, _ = collect([path])
    assert got.records.time_us.tolist() == [T * 1_000_000, (T + 1) * 1_000_000]
    assert got.label.tolist() == [-1, -1]


def test_features_come_in_file_order_and_one_that_a_file_lacks_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"z,timestamp,b,entity,label\n1,{T},,a,1\n")
    (tmp_path / "b.csv").write_text(f"timestamp,entity,extra,z\n{T + 1},a,3,inf\n")
    got, _, files = collect([tmp_path / "b.csv", tmp_path / "a.csv"])
    assert files.schema.names == ("z", "b", "extra")
    np.testing.assert_array_equal(got.records.values, [[1, np.nan, np.nan], [np.nan, np.nan, 3]])
    assert got.label.tolist() == [1, -1]
    chosen, _, _ = collect([tmp_path / "a.csv"], schema=FeatureSchema(("b", "z")))
    np.testing.assert_array_equal(chosen.records.values, [[np.nan, 1]])


def test_nested_ndjson_has_dotted_features(tmp_path: Path) -> None:
    path = tmp_path / "n.ndjson"
    path.write_text('{"t": 1704067200, "h": {"n": "a"}, "m": {"cpu": "1", "x.y": null}, "s": "text"}\n\n')
    got, names, files = collect([path], columns=Columns("t", "h.n"))
    assert files.schema.names == ("m.cpu", r"m.x\.y")
    np.testing.assert_array_equal(got.records.values, [[1, np.nan]])
    assert names == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "", ["a.txt", "not a data file", ".parquet"]),
        ("a.csv", "", ["a.csv", "empty"]),
        ("a.parquet", "no parquet", ["a.parquet", "cannot be read"]),
        ("a.csv.gz", "no gzip", ["a.csv.gz", "cannot be read"]),
        (
            "a.csv",
            "time,entity,v\n1,a,1\n",
            ["a.csv", "no timestamp column 'timestamp'", "'time', 'entity', 'v'"],
        ),
        ("a.csv", f"timestamp,host,v\n{T},a,1\n", ["a.csv", "no entity column 'entity'"]),
        ("a.csv", f"timestamp,entity,v,v\n{T},a,1,2\n", ["a.csv", "'v' occurs twice"]),
        ("a.csv", f"timestamp,entity,v\n{T},a,x\n", ["a.csv", "no numeric column"]),
        ("a.csv", f"timestamp,entity,v\n{T},a,1\nnever,a,2\n", ["a.csv", "'timestamp', row 2", "'never'"]),
        ("a.csv", "timestamp,entity,v\n17,a,1\n", ["a.csv", "row 1", "2000 to 2100"]),
        ("a.csv", f"timestamp,entity,v\n{T},a,1\n{T},,2\n", ["a.csv", "row 2 has no entity"]),
        ("a.csv", f"timestamp,entity,v\n{T},a,1\n{T},a,1,2\n", ["a.csv", "cannot be read"]),
        ("a.ndjson", "", ["a.ndjson", "no records"]),
        ("a.ndjson", '{"timestamp": 1', ["a.ndjson", "line 1"]),
        (
            "a.ndjson",
            f'{{"timestamp": {T}, "entity": "a", "v": 1}}\n\n{{"timestamp": {T}, "v": 1}}',
            ["line 3"],
        ),
    ],
)
def test_errors_name_the_file_and_the_place(
    tmp_path: Path, name: str, content: str, words: list[str]
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        collect([tmp_path / name])
    for word in words:
        assert word in str(caught.value)


def test_errors_about_the_choice_of_files(tmp_path: Path) -> None:
    good = tmp_path / "good.csv"
    good.write_text(f"timestamp,entity,v\n{T},a,1\n{T},b,1\n")
    with pytest.raises(DataError, match="no such file"):
        DataFiles([tmp_path / "none.csv"])
    with pytest.raises(DataError, match="given twice"):
        DataFiles([good, tmp_path / "." / "good.csv"])
    with pytest.raises(DataError, match="no data files"):
        DataFiles([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no"):
        DataFiles([tmp_path / "empty"])
    with pytest.raises(DataError, match="feature 'w'"):
        DataFiles([good], schema=FeatureSchema(("w",)))
    with pytest.raises(DataError, match="never be a feature"):
        DataFiles([good], schema=FeatureSchema(("label",)))


def test_a_feature_that_turns_into_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"timestamp,entity,v\n{T},a,1\n")
    (tmp_path / "b.csv").write_text(f"timestamp,entity,v\n{T},a,x\n")
    with pytest.raises(DataError, match=r"b\.csv"):
        collect([tmp_path / "a.csv", tmp_path / "b.csv"])


def test_gzip_of_others_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(f"timestamp,entity,v\n{T},a,1\n".encode()))
    got, _, _ = collect([path])
    assert got.records.values.tolist() == [[1.0]]
