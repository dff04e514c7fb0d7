"""Faults on a real Kafka: what is lost, doubled or different after each, under both guarantees.

    python -m benchmarks.faults --out build/faults.json [--fast] [--seed N] [--record] [--only CASE,...] [--add]

`ONLY=kill,storm` in the environment does the same as `--only`; `--add` keeps what the file says of other cases. It is
written after each case. Exits 1 where a bar is not met, 2 where it cannot run.
"""

from __future__ import annotations

import argparse
import json
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
from .oracle import Verdict
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
    parser.add_argument("--add", action="store_true", help="to what the file says of other cases")
    told = parser.parse_args()
    chosen = told.only.split(",")
    if not CASES.keys() >= set(chosen):
        parser.error(f"ONLY is some of {','.join(CASES)}")
    if why := missing():
        print(f"cannot run: {why}", file=sys.stderr)
        return 2
    mode = "fast" if told.fast else "full"
    where, rows = report.machine(), dict[str, list[Row]]()
    if told.add and told.out.exists():
        rows = {case: one for case, one in earlier(told.out, mode, told.seed).items() if case not in chosen}
    with tempfile.TemporaryDirectory() as name, Rig(Path(name) / "kafka") as rig:
        stage = Stage(Path(name), rig, told.seed, fast=told.fast)
        for case in chosen:
            say(f"case {case}")
            try:
                rows[case] = CASES[case](stage)
            except AssertionError:
                print(stage.last_words(), file=sys.stderr)
                raise
            found = bars([row for one in rows.values() for row in one])
            measured = {case: [plain(row) for row in one] for case, one in rows.items()}
            report.write(told.out, "faults", mode, where, found, {"seed": told.seed, "cases": measured})
    ordered = [row for case in CASES for row in rows.get(case, ())]
    lines = [*report.head(where), f"Seed {told.seed}.", "", *table(ordered), "", *report.table(found)]
    print("\n".join(lines))
    if told.record:
        before = PAGE.read_text().partition(MARK)[0]
        PAGE.write_text(before + MARK + "\n" + "\n".join(lines) + "\n")
    return 0 if all(bar.met for bar in found) else 1


def earlier(path: Path, mode: str, seed: int) -> dict[str, list[Row]]:
    """The rows of an earlier run, by case. Raises ValueError where it was of another mode or seed."""
    content = json.loads(path.read_text())
    if (content["mode"], content["measured"]["seed"]) != (mode, seed):
        raise ValueError(f"{path} is of another mode or seed")
    cases: dict[str, list[dict[str, Any]]] = content["measured"]["cases"]
    return {
        case: [Row(**{**row, "verdict": Verdict(**row["verdict"])}) for row in found]
        for case, found in cases.items()
    }


def plain(row: Row) -> dict[str, Any]:
    """For the JSON file."""
    return {**row._asdict(), "verdict": row.verdict._asdict()}


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


if __name__ == "__main__":
    sys.exit(main())
