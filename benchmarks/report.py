"""What comes out of a benchmark: bars as JSON, a table for people, and on request a dated section of the docs."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import confluent_kafka

LIBRARIES = ("tocsin", "confluent-kafka", "msgspec", "numpy", "numba", "jax", "jaxlib")
DOCS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


class Bar(NamedTuple):
    """Something that must be reached."""

    bar: str
    value: float
    unit: str
    required: float
    met: bool


def at_least(name: str, value: float, unit: str, required: float) -> Bar:
    """A bar that is met from `required` on."""
    return Bar(name, value, unit, required, value >= required)


def at_most(name: str, value: float, unit: str, required: float) -> Bar:
    """A bar that is met up to `required`."""
    return Bar(name, value, unit, required, value <= required)


def machine() -> dict[str, Any]:
    """What it ran on."""
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "librdkafka": confluent_kafka.libversion()[0],
        "load_before": round(os.getloadavg()[0], 2),
    }


def say(text: str) -> None:
    """How far it is, for whoever waits."""
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def write(
    out: Path, name: str, mode: str, where: dict[str, Any], bars: list[Bar], measured: dict[str, Any]
) -> None:
    """The JSON file: one entry per bar, and everything else that was seen."""
    where["load_after"] = round(os.getloadavg()[0], 2)
    content = {
        "benchmark": name,
        "mode": mode,
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": where,
        "bars": [bar._asdict() for bar in bars],
        "measured": measured,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=1) + "\n")


def head(where: dict[str, Any]) -> list[str]:
    """What it ran on, for people."""
    return [
        f"{where['processor']}, {where['cores']} cores, load {where['load_before']} before and "
        f"{where['load_after']} after (broker, producer and daemon included); "
        f"Python {where['python']}, librdkafka {where['librdkafka']}, "
        + ", ".join(f"{name} {where[name]}" for name in LIBRARIES),
        "",
    ]


def table(bars: list[Bar]) -> list[str]:
    """The bars as a table in Markdown."""
    return [
        "| bar | value | required | met |",
        "|---|---|---|---|",
        *(
            f"| {bar.bar} | {bar.value:.3g} {bar.unit} | {bar.required:g} | {'yes' if bar.met else 'NO'} |"
            for bar in bars
        ),
    ]


def lines(where: dict[str, Any], bars: list[Bar], measured: dict[str, Any]) -> list[str]:
    """A run of the throughput benchmark for people, as Markdown: of each case its rates, notes and stages."""
    told = head(where)
    for case, one in measured.items():
        if rates := one.get("rates"):
            told += [f"| {case} | records/s, median | least | most |", "|---|---|---|---|"]
            told += [
                f"| {name} | {seen['median']:,.0f} | {seen['least']:,.0f} | {seen['most']:,.0f} |"
                for name, seen in rates.items()
            ]
            told.append("")
        if notes := one.get("notes"):
            told += [*(f"- {note}" for note in notes), ""]
        for name, steps in one.get("stages", {}).items():
            told += [f"| {name} | us per record |", "|---|---|"]
            told += [*(f"| {step} | {cost:.2f} |" for step, cost in steps.items()), ""]
    return [*told, *table(bars)]


def record(mode: str, told: list[str]) -> None:
    """Append a dated section to docs/benchmarks.md."""
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    DOCS.write_text(DOCS.read_text() + "\n".join(["", f"## {today}, {mode}", "", *told, ""]))
