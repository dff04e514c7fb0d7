"""What a newcomer meets in the first hour, measured.

    python -m benchmarks.product --out build/bench-product.json [--record] [--only commands|demo|docs|host]

`ONLY=name` in the environment does the same as `--only`. Exits 1 where a bar is not met, 2 where it cannot run. It
measures times on this machine, which has to be left alone meanwhile; `host` watches this very machine for over an hour.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import report
from .report import Bar, at_most, say
from .terminal import Terminal, metric, ready, until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from rigs.fixtures import NEEDS
from rigs.kafka import Rig, free_ports
from tocsin.pipelines.brokers.kafka import KafkaBroker

ROOT = Path(__file__).resolve().parents[1]
CASES = ("commands", "demo", "docs", "host")
NEEDED = {"commands": ("kafka",), "demo": (), "docs": (), "host": ("kafka", "collectd", "alertmanager")}
HELP_S, LISTING_S, DEMO_S, COMMANDS, ALERT_S = 0.3, 1.0, 240.0, 3, 30.0
REPETITIONS = 9
TOPIC = "web"
LISTINGS = (
    "tocsin status",
    "tocsin entities list",
    "tocsin entities show web-01",
    "tocsin alerts list",
    "tocsin models list",
    "tocsin models show",
    "tocsin audit list",
)
Say = Callable[[str], None]


def first_steps() -> list[str]:
    """What the README tells to type with one's own Kafka, up to the daemon."""
    section = (ROOT / "README.md").read_text().split("## With your own Kafka", 1)[1]
    steps = re.findall(r"^ {8}(tocsin .*)$", section, re.MULTILINE)
    return steps[: steps.index("tocsin run") + 1]


@contextlib.contextmanager
def telemetry(bootstrap: str) -> Iterator[None]:
    """A topic with hours of JSON records of twelve hosts, and more as time goes on."""
    broker = KafkaBroker(bootstrap)
    broker.admin().create(TOPIC, 4)
    broker.close()
    command = [
        sys.executable,
        str(ROOT / "deploy" / "producer.py"),
        "--bootstrap",
        bootstrap,
        "--topic",
        TOPIC,
    ]
    producer = subprocess.Popen([*command, "--period", "5"], stdout=subprocess.DEVNULL)
    try:
        time.sleep(10)
        yield
    finally:
        producer.kill()
        producer.wait()


def commands(bootstrap: str, folder: Path, say: Say) -> tuple[list[Bar], dict[str, Any]]:
    """From a JSON topic to a live daemon by the README's commands; then how quickly commands answer."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    terminal = Terminal(folder / "commands", {"TOCSIN__HTTP__PORT": str(port)})
    steps = [step.replace("localhost:9092", bootstrap) for step in first_steps()]
    begun = time.monotonic()
    with telemetry(bootstrap), contextlib.ExitStack() as running:
        for step in steps:
            if step == "tocsin run":
                running.enter_context(terminal.goes_on(step))
            else:
                terminal.type(step)
        until(lambda: ready(url), "the daemon to be ready", 600)
        until(lambda: metric(url, "tocsin_records_scored_total") > 0, "the first score", 60)
        live_s = time.monotonic() - begun
        say(f"commands: {len(steps)} to a live daemon, {live_s:.0f} s")
        until(lambda: metric(url, "tocsin_records_scored_total") > 60, "scores of every host", 120)
        helps = [terminal.seconds("tocsin --help") for _ in range(REPETITIONS)]
        listings = {line: [terminal.seconds(line) for _ in range(REPETITIONS)] for line in LISTINGS}
    medians = {line: statistics.median(all_s) for line, all_s in listings.items()}
    worst = max(medians, key=medians.__getitem__)
    bars = [
        at_most("tocsin --help, median", statistics.median(helps), "s", HELP_S),
        at_most(f"slowest listing command ({worst}), median", medians[worst], "s", LISTING_S),
        at_most("commands from a JSON topic to a live daemon", len(steps), "", COMMANDS),
    ]
    return bars, {
        "live_after_s": live_s,
        "help_s": helps,
        "listings_s": listings,
        "transcript": terminal.transcript,
    }


def demo(folder: Path, say: Say) -> tuple[list[Bar], dict[str, Any]]:
    """`make demo` in a fresh clone of what is committed, with packages cached, to the alert of its fault."""
    clone = folder / "a fresh clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    begun, found_s, told = time.monotonic(), float("inf"), []
    with subprocess.Popen(["make", "demo"], cwd=clone, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            told.append(line.rstrip())
            if "Found after" in line:
                found_s = min(found_s, time.monotonic() - begun)
    whole_s = time.monotonic() - begun
    say(
        f"demo: the first alert after {found_s:.0f} s, all of it {whole_s:.0f} s, exit code {process.returncode}"
    )
    shutil.rmtree(clone)
    return [at_most("fresh clone to the demo's first alert", found_s, "s", DEMO_S)], {
        "found_s": found_s,
        "whole_s": whole_s,
        "code": process.returncode,
        "told": told,
    }


def docs(folder: Path) -> tuple[list[Bar], dict[str, Any]]:
    """Settings, metrics, commands and errors in the docs that differ from the code: tests of the docs that fail."""
    out = folder / "docs.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-c", "tests/pytest.ini", "tests/test_docs.py"]
    subprocess.run([*command, f"--junitxml={out}"], cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    suite = xml.etree.ElementTree.parse(out).getroot().find("testsuite")
    assert suite is not None
    assert int(suite.attrib["tests"]) > 0
    differ = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    return [at_most("what the docs say that the code does not", differ, "", 0)], {
        "checks": int(suite.attrib["tests"])
    }


def host(bootstrap: str, folder: Path, report_file: Path, say: Say) -> tuple[list[Bar], dict[str, Any]]:
    """A fault on this host to its alert in Alertmanager."""
    from .host import measure

    found = measure(bootstrap, folder, report_file, say)
    name = "fault on this host to the alert in Alertmanager, 1 record/s, slowest"
    return [at_most(name, found["seconds"]["most"], "s", ALERT_S)], found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench-product.json"))
    parser.add_argument("--record", action="store_true", help="append a section to docs/benchmarks.md")
    parser.add_argument("--only", choices=CASES, default=os.environ.get("ONLY") or None)
    told = parser.parse_args()
    if told.only not in (None, *CASES):
        parser.error(f"ONLY is one of {', '.join(CASES)}")
    cases = [told.only] if told.only else list(CASES)
    for need in dict.fromkeys(need for case in cases for need in NEEDED[case]):
        if why := NEEDS[need]():
            print(f"cannot run: {why}", file=sys.stderr)
            return 2
    where = report.machine()
    told.out.parent.mkdir(parents=True, exist_ok=True)
    bars: list[Bar] = []
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        bootstrap = ""
        if any("kafka" in NEEDED[case] for case in cases):
            bootstrap = stack.enter_context(Rig(folder / "kafka", quick=False)).bootstrap
        for case in cases:
            if case == "commands":
                found = commands(bootstrap, folder, say)
            elif case == "demo":
                found = demo(folder, say)
            elif case == "docs":
                found = docs(folder)
            else:
                found = host(bootstrap, folder, told.out.with_name("host-report.html"), say)
            bars += found[0]
            measured[case] = found[1]
    report.write(told.out, "product", "full", where, bars, measured)
    lines = report.head(where) + report.table(bars) + notes(measured)
    print("\n".join(lines))
    if told.record:
        report.record("product", lines)
    return 0 if all(bar.met for bar in bars) else 1


def notes(measured: dict[str, Any]) -> list[str]:
    """The spread behind the bars."""
    told = [""]
    if one := measured.get("commands"):
        told.append(f"- a live daemon {one['live_after_s']:.0f} s after the first command, training included")
        told.append(f"- `tocsin --help`: {spread(one['help_s'])}")
        told += [f"- `{line}`: {spread(all_s)}" for line, all_s in one["listings_s"].items()]
    if one := measured.get("demo"):
        told.append(f"- the demo: first alert after {one['found_s']:.0f} s, all of it {one['whole_s']:.0f} s")
    if one := measured.get("docs"):
        told.append(f"- {one['checks']} checks of the docs against the code")
    if one := measured.get("host"):
        told.append(
            f"- fault to Alertmanager: {spread(one['seconds']['all'])}; {one['others']} other alerts meanwhile"
        )
    return told


def spread(seconds: list[float]) -> str:
    return (
        f"median {statistics.median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f} s "
        f"over {len(seconds)}"
    )


if __name__ == "__main__":
    sys.exit(main())
