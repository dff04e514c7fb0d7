"""What an accelerator gives: the scorer and training on JAX's devices, beside what those devices can do at all.

    python -m benchmarks.accelerator --out build/accelerator.json [--fast] [--record]

Needs no broker and has no bars. Run on a machine with a device that JAX knows (and with JAX's package for it); the
processor's scores on the same rows are the measure of the device's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tocsin.models import devices  # before JAX, which it tells of its devices

from . import report, roofline
from .cases import training
from .feed import MAIN
from .report import say

SIZES = (65_536, (256, 65_536), 1 << 28, 4_096)
QUICK = (4_096, (256, 4_096), 1 << 22, 512)
"""Records a call, in blocks of so many, values of a copy, side of a product."""
WORK = training.FULL._replace(entities=64, stacks=(8, 64), repetitions=2)
STEPS, FEW_STEPS = 800, 20


def _training(work: training.Work, steps: int, top: dict[str, float]) -> dict[str, Any]:
    found = training.train(work, steps).measured
    return found | {
        "notes": [*found["notes"], roofline.floor_of_training(work.shape, work.entities * steps, top)]
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.accelerator", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/accelerator.json"))
    parser.add_argument("--fast", action="store_true", help="seconds, small")
    parser.add_argument("--record", action="store_true", help="append a section to docs/benchmarks.md")
    told = parser.parse_args()
    rows, blocks, values, side = QUICK if told.fast else SIZES
    work, steps = (training.FAST, FEW_STEPS) if told.fast else (WORK, STEPS)
    devices.accelerate()
    where, mode = report.machine(), "fast" if told.fast else "full"
    measured: dict[str, Any] = {}
    top = roofline.ceilings(values, side)
    kind = f"devices: {len(devices.usable())} x {devices.kind()}"
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "ceilings": lambda: {"notes": [kind, roofline.words(top, values, side)]},
        "scorer": lambda: roofline.scorer(rows, blocks, MAIN, top),
        "training": lambda: _training(work, steps, top),
    }
    for name, part in parts.items():
        say(name)
        measured[name] = part()
        report.write(told.out, "accelerator", mode, where, [], measured)
    lines = report.lines(where, [], measured)
    print("\n".join(lines))
    if told.record:
        report.record("accelerator", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
