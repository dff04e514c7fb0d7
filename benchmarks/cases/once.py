"""`guarantee = "exactly_once"` beside the default: records/s by turns, and how soon a subscriber sees an alert."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from .. import feed, latency, service
from ..bench import Bench, Found, Suite, by_turns, share
from ..feed import MAIN, PARTITIONS, Message
from ..report import at_least, at_most, say
from .latencies import SPIKE_LENGTH, SPIKES_PER_ENTITY, told, warm_up

ONCE = {"TOCSIN__STREAM__GUARANTEE": "exactly_once"}
LIVE = "live-once"
SHARE, VISIBLE_MS = 0.8, 250.0


def measure(suite: Suite) -> Found:
    """Both by turns, then alerts at half the rate that is reached with transactions, several times."""
    bench = suite.main
    loops = {
        "at least once": lambda: bench.daemon().records_per_s,
        "exactly once": lambda: bench.daemon(environment=ONCE).records_per_s,
    }
    found = by_turns(loops, suite.size.repetitions)
    of_default = share(found, "exactly once", "at least once")
    rows = feed.tested_rows(bench.fleet, bench.size)
    spiked = feed.with_spikes(bench.fleet, rows, SPIKES_PER_ENTITY, SPIKE_LENGTH, 1.0)
    busy = list(feed.messages(spiked, rows, MAIN))
    warm_up(bench, f"{LIVE}-before", busy, found["exactly once"]["median"] / 2, ONCE)
    seen = [
        _visible(bench, f"{LIVE}-{number}", busy, loops["exactly once"]() / 2)
        for number in range(suite.size.repetitions)
    ]
    p99_ms = statistics.median(one.p99_ms for one in seen)
    least = min(one.alerts for one in seen)
    bars = [
        at_least("exactly once over at least once, records/s", of_default, "", SHARE),
        at_least("alerts seen at half load", least, "", suite.size.alerts_at_half),
        at_most("p99 until a subscriber of committed records sees an alert", p99_ms, "ms", VISIBLE_MS),
    ]
    notes = [f"seen at {told('half load', one)}" for one in seen]
    return Found(bars, {"rates": found, "notes": notes, "visible": [one._asdict() for one in seen]})


def _visible(bench: Bench, topic: str, busy: list[Message], records_per_s: float) -> latency.Latency:
    service.make_topic(bench.bootstrap, topic)
    settings = bench.settings("visible", topic)
    with service.running(settings, ONCE) as running:
        command = [sys.executable, "-m", "benchmarks.visible", "--bootstrap", bench.bootstrap]
        watcher = subprocess.Popen(
            [*command, "--topic", settings.streams[0].alerts], stdout=subprocess.PIPE, text=True
        )
        assert watcher.stdout is not None
        watcher.stdout.readline()
        say(f"exactly once: {len(busy):,} records at {records_per_s:,.0f}/s")
        paced = latency.pace(bench.bootstrap, topic, busy, records_per_s)
        running.through(len(busy))
        watcher.terminate()
        printed, _ = watcher.communicate(timeout=60)
    opened = [latency.Opening(*one) for one in json.loads(printed)]
    appended = latency.append_times(bench.bootstrap, topic)
    return latency.latency(paced, opened, appended, [0] * PARTITIONS, [len(times) for times in appended])
