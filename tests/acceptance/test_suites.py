"""The suites under `benchmarks/`, in small: the throughput's runs and keeps its shape, and a fault loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).resolve().parents[2]


def ran(module: str, case: str, out: Path) -> dict[str, Any]:
    """What a suite wrote of one of its cases; it must have ended well."""
    options = ["--fast", "--only", case, "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    content: dict[str, Any] = json.loads(out.read_text())
    assert content["mode"] == "fast"
    assert all(one.keys() == {"bar", "value", "unit", "required", "met"} for one in content["bars"])
    return content


def test_the_daemon_is_measured_beside_its_limit(tmp_path: Path) -> None:
    content = ran("throughput", "rates", tmp_path / "bench.json")
    loops = content["measured"]["rates"]["rates"]
    assert loops.keys() == {"consume only", "limit", "its own decoder", "daemon"}
    assert all(loop["least"] > 0 for loop in loops.values())
    bars = {one["bar"]: one for one in content["bars"]}
    assert bars["compilations in steady state"]["met"]
    assert bars["daemon's share of the limit"]["value"] > 0


def test_a_daemon_that_is_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    content = ran("faults", "kill", tmp_path / "faults.json")
    assert all(one["met"] for one in content["bars"])
    rows = content["measured"]["cases"]["kill"]
    assert [row["guarantee"] for row in rows] == ["at_least_once", "exactly_once"]
    for row in rows:
        assert row["injected"] > 1
        assert row["verdict"]["expected"] > 0
