"""Faults on a real Kafka: what is lost, doubled or different after each, under both guarantees.

    python -m benchmarks.faults --out build/faults.json [--fast] [--seed N] [--record] [--only CASE,...]

`ONLY=kill,storm` in the environment does the same as `--only`. Exits 1 where a bar is not met, 2 where it cannot run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from rigs.kafka import Rig, missing

from .. import report
from ..report import Bar, at_most, say
from .cases import CASES
from .stage import Row, Stage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
MARK = "<!-- what follows is written by `make faults` -->\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.faults", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/faults.json"))
    parser.add_argument("--fast", action="store_true", help="few records and few times")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument("--only", default=os.environ.get("ONLY") or ",".join(CASES))
    told = parser.parse_args()
    chosen = told.only.split(",")
    if not CASES.keys() >= set(chosen):
        parser.error(f"ONLY is some of {','.join(CASES)}")
    if why := missing():
        print(f"cannot run: {why}", file=sys.stderr)
        return 2
    where, rows = report.machine(), list[Row]()
    with tempfile.TemporaryDirectory() as name, Rig(Path(name) / "kafka") as rig:
        stage = Stage(Path(name), rig, told.seed, fast=told.fast)
        for case in chosen:
            say(f"case {case}")
            rows += CASES[case](stage)
    found = bars(rows)
    measured: dict[str, Any] = {"seed": told.seed, "rows": [plain(row) for row in rows]}
    report.write(told.out, "faults", "fast" if told.fast else "full", where, found, measured)
    lines = [*report.head(where), f"Seed {told.seed}.", "", *table(rows), "", *report.table(found)]
    print("\n".join(lines))
    if told.record:
        before = PAGE.read_text().partition(MARK)[0]
        PAGE.write_text(before + MARK + "\n" + "\n".join(lines) + "\n")
    return 0 if all(bar.met for bar in found) else 1


def bars(rows: list[Row]) -> list[Bar]:
    """Over all faults."""
    seen = [row.verdict for row in rows]
    once = [row.verdict for row in rows if row.guarantee == "exactly_once"]
    return [
        at_most("records lost", sum(one.lost for one in seen), "", 0),
        at_most("planted alerts missed", sum(one.missed for one in seen), "", 0),
        at_most(
            "alerts lost or not the replay's",
            sum(one.alerts_lost + one.alerts_foreign for one in seen),
            "",
            0,
        ),
        at_most("scores that differ from the replay's", sum(one.differing for one in seen), "", 0),
        at_most(
            "states that differ from the uninterrupted run's", sum(not one.state_equal for one in seen), "", 0
        ),
        at_most("alerts doubled, exactly once", sum(one.alerts_doubled for one in once), "", 0),
        at_most("scores and dead letters doubled, exactly once", sum(one.doubled for one in once), "", 0),
    ]


def table(rows: list[Row]) -> list[str]:
    """One line a fault and guarantee."""
    heads = (
        "fault", "guarantee", "times", "records", "lost", "told again", "alerts planted / missed",
        "alerts lost / told again", "scores different", "state equal", "well again, s: median, most",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        v, took = row.verdict, row.recovery_s
        ready = f"{statistics.median(took):.1f}, {max(took):.1f}" if took else ""
        lines.append(
            f"| {row.fault} | `{row.guarantee}` | {row.injected} | {v.records:,} | {v.lost} | {v.doubled:,} | "
            f"{v.expected} / {v.missed} | {v.alerts_lost} / {v.alerts_doubled} | {v.differing} | "
            f"{'yes' if v.state_equal else 'NO'} | {ready} |"
        )
    return lines


def plain(row: Row) -> dict[str, Any]:
    """For the JSON file."""
    return {**row._asdict(), "verdict": row.verdict._asdict()}


if __name__ == "__main__":
    sys.exit(main())
