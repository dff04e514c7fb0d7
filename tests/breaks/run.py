"""Shows that every promise's test can fail: applies each named break to a copy of the tree and demands red.

    python tests/breaks/run.py                  all of them, then the same tests on the unbroken tree: green
    ONLY=refresh-by-batch,clock-in-chain python tests/breaks/run.py

`breaks.toml` names for each patch the test that must go red and the promise it stands for. The tree itself is
never touched. A test that is skipped, or cannot even be collected, does not count as red. Quick tests run two at a
time; those that start brokers and daemons one by one, as in `make test`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KAFKA_LIB = Path("tests/kafka/lib")
COMPILED = (".nbi", ".nbc")
"""Machine code that numba keeps beside the sources; it is renewed where a patch changes one of them."""
REAL = ("tests/contract", "tests/acceptance")
"""Where tests start brokers and daemons, which would disturb each other."""
RESULT = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", re.MULTILINE)


class Break(NamedTuple):
    name: str
    test: str
    promise: str


class Run(NamedTuple):
    """One test on one tree."""

    result: str
    """red, green, skipped or error"""
    seconds: float
    output: str


def breaks(only: str | None) -> list[Break]:
    table = tomllib.loads((HERE / "breaks.toml").read_text())
    patches = {path.stem for path in HERE.glob("*.patch")}
    if patches != table.keys():
        sys.exit(f"patches and breaks.toml differ: {', '.join(sorted(patches ^ table.keys()))}")
    chosen = only.split(",") if only else list(table)
    unknown = [name for name in chosen if name not in table]
    if unknown:
        sys.exit(f"there is no break {', '.join(unknown)}; there are {', '.join(table)}")
    return [Break(name, **table[name]) for name in chosen]


def export(target: Path) -> None:
    """The tree as it is: what git tracks or would track, and compiled kernels so that few are compiled anew."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    kept = [ROOT / name for name in names if name]
    for folder in ("models", "pipelines", "thresholds", "detector"):
        kept += [path for path in (ROOT / folder).rglob("__pycache__/*") if path.suffix in COMPILED]
    for source in kept:
        if source.is_file():
            (target / source.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / source.relative_to(ROOT))
    if (ROOT / KAFKA_LIB).is_dir():
        (target / KAFKA_LIB).symlink_to(ROOT / KAFKA_LIB)


def pytest(tree: Path, tests: list[str]) -> Run:
    """Run tests of a tree that bears the package's name, in a process that imports the package from there."""
    compiled = ROOT / "build" / "xla"
    environ = os.environ | {"PYTHONPATH": str(tree.parent), "JAX_COMPILATION_CACHE_DIR": str(compiled)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        "tests/pytest.ini",
        "-q",
        "-rA",
        "-x",
        "--tb=short",
        *tests,
    ]
    began = time.monotonic()
    done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, check=False)
    summary = done.stdout.rpartition("short test summary info")[2]
    results = set(RESULT.findall(summary))
    if done.returncode == 1 and "FAILED" in results:
        result = "red"
    elif done.returncode == 0:
        result = "green" if "PASSED" in results and "SKIPPED" not in results else "skipped"
    else:
        result = "error"
    return Run(result, time.monotonic() - began, done.stdout + done.stderr)


def shown(scratch: Path, pristine: Path, one: Break) -> Run:
    """The named test on a copy of the tree with the break in it."""
    tree = scratch / one.name / "tocsin"
    shutil.copytree(pristine, tree, symlinks=True)
    patch = ["git", "apply", "--unsafe-paths", f"--directory={tree}", str(HERE / f"{one.name}.patch")]
    applied = subprocess.run(patch, cwd="/", capture_output=True, text=True, check=False)
    if applied.returncode:
        return Run("does not apply", 0.0, applied.stderr)
    run = pytest(tree, [one.test])
    shutil.rmtree(tree.parent)
    return run


def told(chosen: Iterable[Break], runs: Iterable[Run], width: int) -> int:
    """Say of each break, as soon as it is known, whether its test went red; returns how many did not."""
    wrong = 0
    for one, run in zip(chosen, runs, strict=True):
        wrong += run.result != "red"
        print(f"{one.name:<{width}}  {run.result:<7}  {run.seconds:5.0f} s  {one.promise}", flush=True)
        if run.result != "red":
            print(f"    {one.test}\n{run.output[-3000:]}")
    return wrong


def main() -> int:
    chosen = breaks(os.environ.get("ONLY"))
    real = [one for one in chosen if one.test.startswith(REAL)]
    quick = [one for one in chosen if one not in real]
    with tempfile.TemporaryDirectory(prefix="breaks-") as scratch, ThreadPoolExecutor(2) as two:
        pristine = Path(scratch, "pristine", "tocsin")
        pristine.mkdir(parents=True)
        export(pristine)
        width = max(len(one.name) for one in chosen)

        def show(one: Break) -> Run:
            return shown(Path(scratch), pristine, one)

        wrong = told(quick, two.map(show, quick), width) + told(real, map(show, real), width)
        tests = sorted({one.test for one in chosen})
        unbroken = pytest(pristine, tests)
        print(
            f"{'(nothing broken)':<{width}}  {unbroken.result:<7}  {unbroken.seconds:5.0f} s  {len(tests)} tests"
        )
        if unbroken.result != "green":
            wrong += 1
            print(unbroken.output[-3000:])
    print(
        f"{len(chosen)} breaks, {wrong} wrong"
        if wrong
        else f"all {len(chosen)} breaks are red, and green without"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
