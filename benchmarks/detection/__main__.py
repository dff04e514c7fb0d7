"""Detection on labelled telemetry, by the product's own commands, beside floors that are run on the same records.

    python -m benchmarks.detection --out build/bench-detection.json [--record] [--only CASE] [--judge PYTHON]

`ONLY=name` in the environment does the same as `--only`; `TOCSIN_DATA` names the folder of datasets. Without a name all
run, two at a time, each in a process of its own, and at last what measures time, alone. Exits 1 where a bar is not met,
2 where it cannot run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .. import report
from ..report import Bar, say
from . import cases, data
from .bench import Bench
from .panel import FLOOR

AT_ONCE = 2
"""Cases under way together: each is one process that computes."""
TIMED = ("cost",)
"""Cases that measure time, which nothing may disturb."""
Result = tuple[list[Bar], dict[str, Any]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.detection", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench-detection.json"))
    parser.add_argument("--record", action="store_true", help="append a section to docs/benchmarks.md")
    parser.add_argument("--only", choices=tuple(cases.TABLE), default=os.environ.get("ONLY") or None)
    parser.add_argument("--judge", type=Path, default=Path("build/judge/bin/python"))
    told = parser.parse_args()
    if told.only not in (None, *cases.TABLE):
        parser.error(f"ONLY is one of {', '.join(cases.TABLE)}")
    if not data.folder().is_dir():
        print(f"cannot run: {data.folder()} is no folder; set TOCSIN_DATA", file=sys.stderr)
        return 2
    where = report.machine()
    with tempfile.TemporaryDirectory() as name:
        if told.only:
            bars, measured = run(told.only, Bench(Path(name), told.judge.absolute(), say))
        else:
            bars, measured = run_all(Path(name), told.judge.absolute())
    report.write(told.out, "detection", "full", where, bars, measured)
    lines = report.head(where) + report.table(bars) + tables(measured)
    print("\n".join(lines))
    if told.record:
        if drawn := _drawn(told.judge.absolute(), measured):
            lines += ["", f"![VUS-PR by detector and by entity]({drawn.name})"]
        report.record("detection", lines)
    return 0 if all(bar.met for bar in bars) else 1


def run(case: str, bench: Bench) -> Result:
    """One case in this process."""
    begun = time.monotonic()
    bars, seen = cases.TABLE[case](bench)
    for bar in bars:
        say(
            f"{bar.bar}: {bar.value:.3g} {bar.unit} (required {bar.required:g}) {'' if bar.met else 'NOT MET'}"
        )
    return bars, {case: seen | {"seconds": round(time.monotonic() - begun)}}


def run_all(folder: Path, judge: Path) -> Result:
    """Every case, in processes of their own. Raises RuntimeError where one ends without a result."""

    def elsewhere(case: str) -> Result:
        out = folder / f"{case}.json"
        command = [sys.executable, "-m", "benchmarks.detection", "--only", case, "--out", str(out)]
        ended = subprocess.run([*command, "--judge", str(judge)], cwd=data.ROOT, stdout=subprocess.DEVNULL)
        if not out.exists():
            raise RuntimeError(f"the case {case} ended with {ended.returncode} and no result")
        content = json.loads(out.read_text())
        return [Bar(**bar) for bar in content["bars"]], content["measured"]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(elsewhere, [case for case in cases.TABLE if case not in TIMED]))
    found += map(elsewhere, TIMED)
    return [bar for bars, _ in found for bar in bars], {
        name: seen for _, measured in found for name, seen in measured.items()
    }


def _drawn(judge: Path, measured: dict[str, Any]) -> Path | None:
    """The panel as a picture beside the record of it, where it was run."""
    if "panel" not in measured:
        return None
    vus = {
        who: one["vus_pr"]
        for who, one in measured["panel"].items()
        if isinstance(one, dict) and "vus_pr" in one
    }
    out = report.DOCS.with_name("benchmarks-detection.svg")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(vus, file)
        file.flush()
        command = [str(judge), "-m", "benchmarks.detection.judge", "plot", file.name, str(out)]
        subprocess.run(command, cwd=data.ROOT, check=True)
    return out


def tables(measured: dict[str, Any]) -> list[str]:
    """The detectors beside each other, by dataset and by entity."""
    told: list[str] = []
    for case in ("panel", "singles"):
        detectors = {
            who: one
            for who, one in measured.get(case, {}).items()
            if isinstance(one, dict) and "vus_pr" in one
        }
        if not detectors:
            continue
        sets = list(detectors["tocsin"]["vus_pr_by_set"])
        columns = [f"{one}: VUS-PR / AUC-PR" for one in sets]
        columns += ["events found", "others a day", "inside", "tocsin better by (95 %)"]
        told += ["", f"| {case} | {' | '.join(columns)} |"]
        told.append("|---" * (len(sets) + 5) + "|")
        for who, one in detectors.items():
            by = one.get("tocsin_better_by")
            cells = [f"{one['vus_pr_by_set'][s]:.3f} / {one['auc_pr_by_set'][s]:.3f}" for s in sets]
            cells += [f"{one['recall']:.2f}", f"{one['others_per_day']:.2f}", f"{one['inside']:.3f}"]
            cells.append("" if by is None else f"{by[0]:+.3f} ({by[1]:+.3f} to {by[2]:+.3f})")
            told.append(f"| {who} | {' | '.join(cells)} |")
        random = detectors["tocsin"]["base_rate_by_set"]
        told.append(f"| (a random score, AUC-PR) | {' | '.join(f'{random[s]:.3f}' for s in sets)} | | | | |")
    for case in ("seeds", "choices", "profiles", "hours"):
        rows = {name: one for name, one in measured.get(case, {}).items() if isinstance(one, dict)}
        if rows:
            told += ["", f"| {case} | VUS-PR | events found | others a day | inside |", "|---" * 5 + "|"]
            told += [
                f"| {name} | {one['vus_pr']:.4f} | {one['recall']:.3f} | {one['others_per_day']:.2f} | "
                f"{one['inside']:.3f} |"
                for name, one in rows.items()
            ]
    if gain := measured.get("hours", {}).get("gain"):
        told += ["", "- told the hour, VUS-PR by {:+.4f} ({:+.4f} to {:+.4f})".format(*gain)]
    if found := measured.get("rate", {}).get("run_length"):
        said = "the time between two false incidents, said from half of that third for its other half"
        counts = f"{found['expected']:.1f} openings in all, {found['counted']} counted"
        told += [
            "",
            f"- {said}: {counts}; the intervals of {found['meet']} of {found['entities']} entities meet",
        ]
    if own := measured.get("panel", {}).get("tocsin"):
        floor = measured["panel"][FLOOR]["vus_pr"]
        told += [
            "",
            "| entity | VUS-PR | lag-PCA | events | found | others a day | median delay, min |",
            "|---" * 7 + "|",
        ]
        for entity, seen in own["entities"].items():
            delay = seen["median_delay_min"]
            cells = [entity, f"{own['vus_pr'][entity]:.3f}", f"{floor[entity]:.3f}", str(seen["events"])]
            cells += [
                f"{seen['recall']:.2f}",
                f"{seen['others_per_day']:.2f}",
                "" if delay is None else f"{delay:.0f}",
            ]
            told.append(f"| {' | '.join(cells)} |")
        told += ["", "| attribution | Hit@100 | Hit@150 | NDCG | events |", "|---|---|---|---|---|"]
        told += [
            f"| {who} | {one['hit_100']:.3f} | {one['hit_150']:.3f} | {one['ndcg']:.3f} | {one['events']} |"
            for who, one in measured["panel"]["attribution"].items()
        ]
    return told


if __name__ == "__main__":
    sys.exit(main())
