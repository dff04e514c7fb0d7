"""`tocsin replay --report`: from files to one page."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from telemetry import generate
from tocsin.detector.cli import main

CONFIG = """
[stream]
name = "hosts"
[registry]
path = "registry"
[train]
min_records = 200
steps = 20
"""


def call(*args: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        main(args)
    return int(left.value.code or 0), out.getvalue(), err.getvalue()


def test_a_replay_of_files_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    Path("tocsin.toml").write_text(CONFIG)
    fleet = generate(seed=21, entities=2, records=900, features=3, faults=4, clean=0.5)
    train = fleet.time_us < fleet.time_us.min() + 400 * 10_000_000
    for name, rows in (("train", train), ("test", ~train)):
        columns = {"timestamp": pa.array(fleet.time_us[rows], pa.timestamp("us", "UTC"))}
        columns["entity"] = pa.array([fleet.names[i] for i in fleet.entity[rows]])
        columns |= {feature: fleet.values[rows, i] for i, feature in enumerate(fleet.features)}
        if name == "test":
            columns["label"] = fleet.label[rows].astype(np.int64)
        pq.write_table(pa.table(columns), f"{name}.parquet")
    assert call("train", "--data", "train.parquet")[0] == 0

    code, _, err = call("replay", "--data", "test.parquet", "--report", "report.html")
    assert code == 0, err
    assert "the report is in report.html" in err
    content = Path("report.html").read_text()
    assert "Quality against the labels" in content
    assert "host-00" in content
    assert "4 of 4 events found" in content or "of 4 events found" in content
    said = call("replay", "--data", "test.parquet", "--report", "again.html", "--json")[1]
    assert json.loads(said)["records"] == 1000
    assert Path("again.html").read_text() == content

    # Records of the training alone: the page says that none is judged.
    assert call("replay", "--data", "train.parquet", "--report", "report.html")[0] == 0
    assert "They only warm it up" in Path("report.html").read_text()
    code, _, err = call("replay", "--data", "test.parquet", "--report", "missing/report.html")
    assert code == 1
    assert "missing/report.html cannot be written" in err
    assert "Traceback" not in err
