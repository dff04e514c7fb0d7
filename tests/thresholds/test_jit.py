"""Compiled kernels on disk: used again while the sources are the same, and never in the way of other ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rigs.source import ROOT

PROGRAM = """
from tocsin.thresholds import level
from tocsin.thresholds.state import Mode
import numpy as np
mode = Mode({given})
print(level.shifted(mode), level.shifted.stats.cache_hits)
"""
STATE = """
from typing import NamedTuple
class {name}(NamedTuple):
    value: int
Mode = {name}
"""
LEVEL = """
from .jit import kernel
@kernel
def shifted(mode):
    return mode.value + {by}
"""


def run(folder: Path, name: str, by: int, *, before: Sequence[str] = ()) -> str:
    """A package whose kernel takes a named tuple of that name, run in a process of its own, under a command."""
    package = folder / "tocsin" / "thresholds"
    package.mkdir(parents=True, exist_ok=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    shutil.copy(ROOT / "thresholds" / "jit.py", package / "jit.py")
    (package / "state.py").write_text(STATE.format(name=name))
    (package / "level.py").write_text(LEVEL.format(by=by))
    done = subprocess.run(
        [*before, sys.executable, "-c", PROGRAM.format(given=5)],
        cwd=folder,
        # Sources of one second and one size would be taken for each other by their .pyc files.
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_upgrade_over_compiled_kernels_compiles_anew(tmp_path: Path) -> None:
    assert run(tmp_path, "Settings", 1) == "6 Counter()"
    again = run(tmp_path, "Settings", 1)
    assert again.startswith("6 Counter({")
    assert again.endswith(": 1})")
    # Another source, and a type that the stored index names and that is no more.
    assert run(tmp_path, "Rules", 2) == "7 Counter()"


def test_on_a_full_disk_it_compiles_each_time(tmp_path: Path) -> None:
    full = ("prlimit", "--fsize=0", "--")
    for _ in range(2):
        assert run(tmp_path, "Settings", 1, before=full) == "6 Counter()"
    assert run(tmp_path, "Settings", 1) == "6 Counter()"
    assert run(tmp_path, "Settings", 1).startswith("6 Counter({")
