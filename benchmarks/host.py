"""From a fault on this host to its alert in Alertmanager: collectd, a real Kafka, every setting its default.

    collectd (1 record/s) -> Kafka -> tocsin run -> Kafka -> tocsin alerts forward -> Alertmanager

The topic holds half an hour of this host, which is left alone, before a command is typed, and the model is trained on
that: what one types to set Tocsin up on the host that it watches is no part of its ordinary life. Tocsin itself is,
from then on; the alert of its beginning is closed as the new ordinary. Of every other alert someone says that it was
right: at a budget of one false alert a day, a few within the hour that nobody has confirmed raise the threshold.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rigs.alertmanager import Alertmanager
from rigs.collectd import collectd
from rigs.kafka import free_ports
from tocsin.pipelines.brokers.kafka import KafkaBroker

from .terminal import Terminal, metric, ready, until

TOPIC = "collectd"
BEFORE_S = 1800.0
"""What the topic holds when the commands are typed."""
FAULTS = 2
LIVE_S, SETTLED_S, SHOWN_S, OVER_S = 600.0, 2400.0, 90.0, 900.0
APART_S = 300.0
"""Ordinary life before each fault: three half-lives of the slow average that follows what was before."""
BUSY_PER_CORE, MEMORY_SHARE, MEMORY_BYTES = 8, 0.4, 8 << 30
BUSY = "while True: sum(range(10_000))"
HELD = """
import sys, time
size, chunk = int(sys.argv[1]), b"x" * (1 << 24)
held = bytearray(size)
for at in range(0, size - len(chunk), len(chunk)):
    held[at : at + len(chunk)] = chunk
time.sleep(3600)
"""


def measure(bootstrap: str, folder: Path, report: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds from each fault to its alert, the transcript of what was typed, and a report of the whole."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    terminal = Terminal(folder / "host", {"TOCSIN__HTTP__PORT": str(port)})
    broker = KafkaBroker(bootstrap)
    broker.admin().create(TOPIC, 3)
    broker.close()
    name = socket.gethostname()
    alertmanager = Alertmanager(folder / "alertmanager")
    alertmanager.start()
    try:
        with collectd(terminal.folder, bootstrap, TOPIC, host=name, key=name):
            time.sleep(BEFORE_S)
            left_alone = datetime.now(UTC).isoformat(timespec="seconds")
            terminal.type(f"tocsin init --bootstrap {bootstrap} --topic {TOPIC}")
            terminal.type("tocsin check --connect --create-topics")
            terminal.type(f"tocsin train --since start --until {left_alone}")
            with (
                terminal.goes_on("tocsin run"),
                terminal.goes_on(f"tocsin alerts forward --to alertmanager --url {alertmanager.url}"),
            ):
                say("host: the daemon goes live")
                begun = time.monotonic()
                until(lambda: ready(url), "the daemon to be ready", LIVE_S)
                until(lambda: metric(url, "tocsin_records_scored_total") > 60, "a minute of scores", 300)
                live_s = time.monotonic() - begun
                terminal.type("tocsin status")
                settle(alertmanager, terminal, url, say)
                found = [one_fault(alertmanager, terminal, say) for _ in range(FAULTS)]
                terminal.type("tocsin alerts list")
                terminal.type("tocsin entities list")
                terminal.type('tocsin recalibrate --since 15m --budget "1/week per entity" --dry-run')
                terminal.type('tocsin recalibrate --since 15m --budget "1/week per entity"')
                until(lambda: metric(url, "tocsin_calibration_version") > 0, "the recalibration to act", 60)
                terminal.type("tocsin status")
                terminal.type("tocsin audit list")
                terminal.type("tocsin replay --since 1h --report report.html")
                shutil.copy(terminal.folder / "report.html", report)
    finally:
        alertmanager.close()
    shown = [one["seconds"] for one in found]
    return {
        "seconds": {
            "median": statistics.median(shown),
            "least": min(shown),
            "most": max(shown),
            "all": shown,
        },
        "live_after_s": live_s,
        "others": sum(one["others"] for one in found),
        "transcript": terminal.transcript,
    }


def settle(alertmanager: Alertmanager, terminal: Terminal, url: str, say: Callable[[str], None]) -> None:
    """Tocsin has begun on the host that it watches: that is the new ordinary, learned from its next 500 records."""
    closed: set[str] = set()
    begun = quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < APART_S or _is_learning(url):
        if shown := alertmanager.shown().keys():
            for alert in shown - closed:
                terminal.type(f'tocsin alerts resolve {alert} --rebase --reason "Tocsin runs here now"')
            closed |= shown
            quiet_since = time.monotonic()
        if time.monotonic() - begun > SETTLED_S:
            raise TimeoutError(f"the host has no new ordinary after {SETTLED_S:.0f} s\n{_entities(terminal)}")
        time.sleep(5.0)
    terminal.type("tocsin entities list")
    say(f"host: {len(closed)} alerts of its beginning")


def _is_learning(url: str) -> bool:
    # asked for so, for a command would be work on the host
    with urllib.request.urlopen(f"{url}/api/v1/entities", timeout=10) as answer:
        return any(one["warming"] for one in json.loads(answer.read()))


def one_fault(alertmanager: Alertmanager, terminal: Terminal, say: Callable[[str], None]) -> dict[str, Any]:
    """Ordinary life, then a fault until its alert is shown there, then the alert's end and the word that it was right.

    An alert that is open as the fault begins, or opened before it, is no alert of the fault. Where none is shown the
    seconds are those waited for it.
    """

    def right(alert: str) -> None:
        terminal.type(f'tocsin alerts feedback {alert} --true --reason "known work on this host"')

    others: set[str] = set()
    waiting_since = quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < APART_S:
        if shown := alertmanager.shown().keys():
            for alert in shown - others:
                right(alert)
            others |= shown
            quiet_since = time.monotonic()
        if quiet_since - waiting_since > OVER_S:
            raise TimeoutError(
                f"an alert is open before the fault, and has been for {OVER_S:.0f} s\n{_entities(terminal)}"
            )
        time.sleep(1.0)
    begun = time.monotonic()
    with fault():
        while not (found := alertmanager.shown().keys() - others) and time.monotonic() - begun < SHOWN_S:
            time.sleep(0.05)
        seconds = time.monotonic() - begun
        told = f"shown {seconds:.1f} s after the fault" if found else f"not shown within {SHOWN_S:.0f} s"
        say(f"host: {told} ({len(others)} others before it)\n{_entities(terminal)}")
        time.sleep(5.0)
    until(lambda: not alertmanager.shown(), "its end", OVER_S, 1.0)
    for alert in found:
        right(alert)
    return {"seconds": seconds, "others": len(others)}


def _entities(terminal: Terminal) -> str:
    return terminal.type("tocsin entities list", keep=False)


@contextlib.contextmanager
def fault() -> Iterator[None]:
    """More work than the processors can do, and much of the free memory taken, until the end of the block."""
    memory = min(int(psutil.virtual_memory().available * MEMORY_SHARE), MEMORY_BYTES)
    works = [(HELD, str(memory))] + [(BUSY,)] * (BUSY_PER_CORE * (os.cpu_count() or 1))
    processes = [subprocess.Popen([sys.executable, "-c", *work]) for work in works]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
