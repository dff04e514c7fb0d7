"""Throughput, latency, memory and start of the daemon on a real Kafka, beside the limit and its peers, in one run.

    python -m benchmarks.throughput --out build/bench.json [--fast] [--record] [--only CASE,...]

`ONLY=rates,start` in the environment does the same as `--only`. Exits 1 where a bar is not met or a case fails, 2 where
it cannot run. With `--fast` it runs in seconds, and only shows that everything runs and has the right shape.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import report
from .bench import Found, Suite
from .cases import bad_input, crowds, handover, latencies, once, peers, rates, shapes, start, state, training
from .feed import FAST, FULL
from .report import Bar, say

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from rigs.kafka import Rig, missing

CASES: dict[str, Callable[[Suite], Found]] = {
    "rates": rates.rates,
    "latency": latencies.measure,
    "exactly-once": once.measure,
    "stages": rates.stages,
    "peers": peers.measure,
    "shapes": shapes.measure,
    "entities": crowds.entities,
    "million": crowds.million,
    "handover": handover.measure,
    "changelog": state.changelog,
    "restore": state.restore,
    "rebalance": state.rebalance,
    "bad-input": bad_input.measure,
    "start": start.measure,
    "training": training.measure,
}
QUICK = ("rates", "latency", "stages")
"""What the fast run does; it does another when that is asked for by name."""

ROOT = Path(__file__).resolve().parents[1]
PLOTTER = ROOT / "build" / "judge" / "bin" / "python"


def drawn(out: Path) -> list[str]:
    """A run as a picture beside its record, and the lines that show it."""
    picture = report.DOCS.with_name("benchmarks-throughput.svg")
    if not PLOTTER.exists():
        say("no picture: `make build/judge/.installed` installs what draws it")
        return []
    subprocess.run(
        [str(PLOTTER), "-m", "benchmarks.plot", str(out.absolute()), str(picture)], cwd=ROOT, check=True
    )
    return ["", f"![Records/s of the daemon, the limit and its peers]({picture.name})"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.throughput", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--fast", action="store_true", help="seconds, small: shapes, not bars")
    parser.add_argument("--record", action="store_true", help="append a section to docs/benchmarks.md")
    parser.add_argument("--only", default=os.environ.get("ONLY"), metavar="CASE,...")
    parser.add_argument("--repetitions", type=int, help="of each loop in `rates`")
    told = parser.parse_args()
    chosen = told.only.split(",") if told.only else list(QUICK if told.fast else CASES)
    if not CASES.keys() >= set(chosen):
        parser.error(f"ONLY is some of {','.join(CASES)}")
    if why := missing():
        print(f"cannot run: {why}", file=sys.stderr)
        return 2
    size, mode = (FAST, "fast") if told.fast else (FULL, "full")
    size = size._replace(repetitions=told.repetitions or size.repetitions)
    where = report.machine()
    bars: list[Bar] = []
    measured: dict[str, Any] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as name, Rig(Path(name) / "kafka", quick=False) as rig:
        suite = Suite(rig.bootstrap, Path(name), size, fast=told.fast)
        for case in chosen:
            say(f"case {case}")
            begun = time.monotonic()
            try:
                found, measured[case] = CASES[case](suite)
            except RuntimeError as error:  # an hour's other cases shall not be lost
                failed.append(case)
                found, measured[case] = Found([], {"notes": [f"did not come to its end: {str(error)[:300]}"]})
            measured[case]["seconds"] = round(time.monotonic() - begun)
            bars += found
            for line in report.table(found)[2:]:
                say(line)
    report.write(told.out, "throughput", mode, where, bars, measured)
    lines = report.lines(where, bars, measured)
    print("\n".join(lines))
    if told.record:
        report.record(mode, [*lines, *(drawn(told.out) if "peers" in measured else [])])
    return 0 if not failed and (told.fast or all(bar.met for bar in bars)) else 1


if __name__ == "__main__":
    sys.exit(main())
