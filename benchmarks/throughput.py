"""Throughput, latency and memory of the daemon on a real Kafka, beside the limit, in one run.

    python -m benchmarks.throughput --out build/bench.json [--fast] [--record] [--only rates|latency|stages]

`ONLY=name` in the environment does the same as `--only`. Exits 1 where a bar is not met, 2 where it cannot run. With
`--fast` it runs in seconds, and only shows that everything runs and has the right shape.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import feed, latency, report, service
from .feed import FAST, FULL, PARTITIONS, Message, Size
from .report import Bar, at_least, say

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from rigs.kafka import Rig, missing

SHARE_OF_LIMIT = 0.4
FILLED, LIVE = "filled", "live"
CASES = ("rates", "latency", "stages")
SPIKES_PER_ENTITY, SPIKE_LENGTH = 1.5, 6
STRETCH = 3
PLAIN_PER_ENTITY = 30
"""Records of an entity at the end of the half load without a spike, so that nothing is open at 10 records/s."""


class Bench(NamedTuple):
    """What every case needs."""

    size: Size
    bootstrap: str
    folder: Path
    fleet: feed.Fleet
    say: Callable[[str], None]

    def settings(self, topic: str, run: str) -> Any:
        """Settings of a fresh group."""
        return service.settings_of(
            self.folder, self.bootstrap, topic, run, least=min(100, self.size.trained), steps=self.size.steps
        )


def limit(bench: Bench, *, decode: bool) -> float:
    """Records/s of the pinned loop."""
    told = ["--bootstrap", bench.bootstrap, "--topic", FILLED, "--partitions", str(PARTITIONS)]
    told += ["--records", str(bench.size.records), *(["--decode"] if decode else [])]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.limit", *told], check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout)["records_per_s"])


def daemon(bench: Bench, run: str) -> service.Rate:
    """A fresh group over the filled topic."""
    with service.running(bench.settings(FILLED, run)) as running:
        return service.rate(running.through(bench.size.records), bench.size.records)


def spread(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "all": values}


def rates(bench: Bench, repetitions: int) -> dict[str, Any]:
    """Consuming alone, the limit and the daemon by turns."""
    consuming, limits, daemons = [], [], []
    for number in range(repetitions):
        consuming.append(limit(bench, decode=False))
        limits.append(limit(bench, decode=True))
        daemons.append(daemon(bench, f"rate-{number}"))
        bench.say(
            f"{number + 1}/{repetitions}: consume {consuming[-1]:,.0f}/s, limit {limits[-1]:,.0f}/s, "
            f"daemon {daemons[-1].records_per_s:,.0f}/s ({daemons[-1].cpu_us:.1f} us CPU a record), "
            f"load {os.getloadavg()[0]:.1f}"
        )
    own = [one.records_per_s for one in daemons]
    last = daemons[-1]
    return {
        "rates": {"consume only": spread(consuming), "limit": spread(limits), "daemon": spread(own)},
        "shares": {
            # Of the same repetition, so that what else the machine does weighs on both.
            "the limit": statistics.median(a / b for a, b in zip(own, limits, strict=True)),
            "consuming": statistics.median(a / b for a, b in zip(own, consuming, strict=True)),
        },
        "daemon_cpu_us": statistics.median(one.cpu_us for one in daemons),
        "alerts_in_a_thousand": last.alerts / bench.size.records * 1000,
        "scored_share": last.scored / bench.size.records,
        "stages": {
            "daemon, wall": {
                name: statistics.median(one.stages_us[name] for one in daemons) for name in last.stages_us
            }
        },
        "state": {"resident, whole daemon": statistics.median(one.rss for one in daemons)},
    }


def singles(bench: Bench, fleet: feed.Fleet, count: int) -> list[Message]:
    """STRETCH extreme records for each of `count` entities, a few entities by turns: at the latest the third opens.

    They follow the last tested records in event time.
    """
    rows = feed.tested_rows(fleet, bench.size)
    last = rows[-len(fleet.names) :]
    last = last[np.argsort(fleet.entity[last])]
    chosen = last[np.linspace(0, len(last) - 1, min(count, len(last))).astype(np.int64)]
    period_us = int(np.median(np.diff(np.sort(fleet.time_us[fleet.entity == 0]))))
    extreme = fleet.values[chosen] + 60 * np.nanstd(fleet.values[rows], axis=0)
    found: list[Message] = []
    for first in range(0, len(chosen), 5):
        mine = slice(first, first + 5)
        for step in range(1, STRETCH + 1):
            part = fleet._replace(
                entity=fleet.entity[chosen[mine]],
                time_us=fleet.time_us[chosen[mine]] + step * period_us,
                values=extreme[mine],
            )
            found += feed.messages(part, np.arange(len(part.entity)))
    return found


def latencies(bench: Bench, rate: float) -> dict[str, Any]:
    """One daemon: first at half the rate, then at 10 records/s."""
    size = bench.size
    rows = feed.tested_rows(bench.fleet, size)
    last = 1 - PLAIN_PER_ENTITY / size.tested
    spiked = feed.with_spikes(bench.fleet, rows, SPIKES_PER_ENTITY, SPIKE_LENGTH, last)
    busy, quiet = list(feed.messages(spiked, rows)), singles(bench, spiked, size.alerts_at_ten * 3 // 2)
    service.make_topic(bench.bootstrap, LIVE)
    settings = bench.settings(LIVE, "latency")
    with service.running(settings) as running:
        bench.say(f"latency: {len(busy):,} records at {rate / 2:,.0f}/s")
        at_half = latency.pace(bench.bootstrap, LIVE, busy, rate / 2)
        running.through(len(busy))
        bench.say(f"latency: {len(quiet):,} records at 10/s")
        at_ten = latency.pace(bench.bootstrap, LIVE, quiet, 10)
        running.through(len(busy) + len(quiet))
    appended = latency.append_times(bench.bootstrap, LIVE)
    opened = latency.openings(bench.bootstrap, settings.streams[0].alerts)
    ends = [len(times) for times in appended]
    border = ends.copy()
    for message in quiet:
        border[message.partition] -= 1
    return {
        "half load": latency.latency(at_half, opened, appended, [0] * PARTITIONS, border)._asdict(),
        "10 records/s": latency.latency(at_ten, opened, appended, border, ends)._asdict(),
    }


def stages(bench: Bench) -> dict[str, Any]:
    """The steps on resident records."""
    settings = bench.settings(FILLED, "stages")
    told = ["--config", str(settings.file), "--records", str(min(bench.size.records, 300_000))]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stages", *told], check=True, stdout=subprocess.PIPE, text=True
    )
    return dict(json.loads(done.stdout))


def measure(bench: Bench, only: str | None) -> tuple[list[Bar], dict[str, Any]]:
    """Run the cases; the bars and all that was seen."""
    bars: list[Bar] = []
    measured: dict[str, Any] = {}
    if only in (None, "rates", "latency"):
        measured |= rates(bench, bench.size.repetitions if only != "latency" else 1)
    if only in (None, "rates"):
        bars.append(
            at_least("daemon's share of the limit", measured["shares"]["the limit"], "", SHARE_OF_LIMIT)
        )
        bars.append(at_least("records scored", measured["scored_share"], "of all", 0.99))
    if only in (None, "latency"):
        found = measured["latency"] = latencies(bench, measured["rates"]["daemon"]["median"])
        for name, least in (
            ("half load", bench.size.alerts_at_half),
            ("10 records/s", bench.size.alerts_at_ten),
        ):
            bars.append(at_least(f"alerts measured at {name}", found[name]["alerts"], "", least))
    if only in (None, "stages"):
        seen = stages(bench)
        measured.setdefault("stages", {})["on resident records"] = seen["microseconds"]
        measured.setdefault("state", {}).update(
            {"state per entity": seen["bytes_per_entity"], "resident per entity": seen["rss_per_entity"]}
        )
    return bars, measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--fast", action="store_true", help="seconds, small: shapes, not bars")
    parser.add_argument("--record", action="store_true", help="append a section to docs/benchmarks.md")
    parser.add_argument("--only", choices=CASES, default=os.environ.get("ONLY") or None)
    parser.add_argument("--repetitions", type=int, help="of each loop in `rates`")
    told = parser.parse_args()
    if told.only not in (None, *CASES):
        parser.error(f"ONLY is one of {', '.join(CASES)}")
    if why := missing():
        print(f"cannot run: {why}", file=sys.stderr)
        return 2
    size, mode = (FAST, "fast") if told.fast else (FULL, "full")
    size = size._replace(repetitions=told.repetitions or size.repetitions)
    where = report.machine()
    with tempfile.TemporaryDirectory() as name, Rig(Path(name) / "kafka", quick=False) as rig:
        folder = Path(name)
        fleet = feed.fleet_of(size)
        bench = Bench(size, rig.bootstrap, folder, fleet, say)
        say(f"training on {size.entities} entities of {size.trained} records")
        feed.train(bench.settings(FILLED, "training"), fleet, feed.trained_rows(fleet, size))
        say(f"filling {size.records:,} records into {PARTITIONS} partitions")
        service.make_topic(rig.bootstrap, FILLED)
        width = feed.fill(rig.bootstrap, FILLED, fleet, feed.tested_rows(fleet, size))
        bars, measured = measure(bench, told.only)
    measured["size"] = {**size._asdict(), "bytes_per_record": width, "partitions": PARTITIONS}
    report.write(told.out, "throughput", mode, where, bars, measured)
    lines = report.lines(where, bars, measured)
    print("\n".join(lines))
    if told.record:
        report.record(mode, lines)
    return 0 if told.fast or all(bar.met for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
