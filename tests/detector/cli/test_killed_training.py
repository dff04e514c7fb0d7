"""`tocsin train` killed in the middle, and again: it goes on, and ends with the bytes of one that was left alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from telemetry import generate
from tocsin.detector.cli import main
from tocsin.models.checkpoints import GOES_ON

CONFIG = """
[stream]
name = "hosts"
entity = "host"
time = "ts"
lags = 2
[registry]
path = "registry"
[train]
min_records = 200
steps = 20
stack = 1
"""
PATIENCE_S = 200.0
STACKS = 3 * 5
"""Of one model each: two entities' and the group's, on four folds and on all."""

pytestmark = pytest.mark.slow


def trained(*told: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(("train", "--data", "all.parquet", *told))
    assert not left.value.code


def test_a_training_that_is_killed_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    fleet = generate(seed=5, entities=2, records=520, features=2)
    columns = {"ts": pa.array(fleet.time_us, pa.timestamp("us", "UTC"))}
    columns["host"] = pa.array([fleet.names[i] for i in fleet.entity])
    columns |= {name: fleet.values[:, i] for i, name in enumerate(fleet.features)}
    pq.write_table(pa.table(columns), "all.parquet")
    Path("tocsin.toml").write_text(CONFIG)
    trained()
    folder = Path("registry/hosts")
    (whole,) = folder.glob("v*")

    command = [sys.executable, "-m", "tocsin.detector.cli", "train", "--data", "all.parquet"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        end = time.monotonic() + PATIENCE_S
        while len(list(folder.glob(".training-*/*.checkpoint"))) < 2:
            assert child.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < end
            time.sleep(0.001)
    finally:
        child.kill()
        child.wait()
    kept = sorted(path.name for path in folder.glob(".training-*/*.checkpoint"))
    assert 2 <= len(kept) < STACKS
    assert list(folder.glob("v*")) == [whole]
    # What it left is no version, and is in nobody's way.
    capsys.readouterr()
    for told in (("list", "--json"), ("verify",)):
        with pytest.raises(SystemExit) as left:
            main(("models", *told))
        assert not left.value.code
        assert ".training" not in capsys.readouterr().out

    trained("--json")
    done = capsys.readouterr()
    assert done.err.count(GOES_ON) == 1
    again = folder / json.loads(done.out)["version"]
    assert again.name.startswith("v0002-")
    for name in ("weights.safetensors", "calibration.safetensors"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    assert manifest(again)["history"] == manifest(whole)["history"]
    assert manifest(again)["training"]["warnings"] == manifest(whole)["training"]["warnings"]
    assert list(folder.glob(".training-*")) == []


def manifest(version: Path) -> Any:
    return json.loads((version / "manifest.json").read_text())
