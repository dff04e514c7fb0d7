"""How long an alert takes at half load and at 10 records/s, by one daemon."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .. import feed, latency, service
from ..bench import Bench, Found, Suite
from ..feed import MAIN, PARTITIONS, Message
from ..report import at_least, at_most, say

LIVE = "live"
SPIKES_PER_ENTITY, SPIKE_LENGTH = 1.5, 6
STRETCH = 3
PLAIN_PER_ENTITY = 30
"""Records of an entity at the end of the half load without a spike, so that nothing is open at 10 records/s."""
HALF_MS, TEN_MS = 100.0, 50.0


def singles(fleet: feed.Fleet, rows: np.ndarray, count: int) -> list[Message]:
    """STRETCH extreme records for each of `count` entities, a few entities by turns: at the latest the third opens.

    They follow `rows`, the last of the fleet, in event time.
    """
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


def warm_up(
    bench: Bench, topic: str, sent: list[Message], rate: float, environment: Mapping[str, str] | None = None
) -> None:
    """The same once before, on another topic: the broker compiles what it does while it does it, for many seconds."""
    service.make_topic(bench.bootstrap, topic)
    with service.running(bench.settings("warm-up", topic), environment) as running:
        latency.pace(bench.bootstrap, topic, sent, rate)
        running.through(len(sent))


def measure(suite: Suite) -> Found:
    """First at half the rate that the daemon reaches, then at 10 records/s."""
    bench, size = suite.main, suite.size
    rate = suite.rate or bench.daemon().records_per_s
    found = _latencies(bench, rate)
    bars = []
    for name, alerts, p99_ms in (
        ("half load", size.alerts_at_half, HALF_MS),
        ("10 records/s", size.alerts_at_ten, TEN_MS),
    ):
        bars.append(at_least(f"alerts measured at {name}", found[name].alerts, "", alerts))
        bars.append(at_most(f"p99 latency at {name}", found[name].p99_ms, "ms", p99_ms))
    notes = [
        f"latency at {name}: p50 {one.p50_ms:.0f} ms, p99 {one.p99_ms:.0f} ms, worst {one.worst_ms:.0f} ms over "
        f"{one.alerts} alerts at {one.records_per_s:,.0f} records/s"
        for name, one in found.items()
    ]
    return Found(bars, {"notes": notes, **{name: one._asdict() for name, one in found.items()}})


def _latencies(bench: Bench, rate: float) -> dict[str, latency.Latency]:
    size, rows = bench.size, feed.tested_rows(bench.fleet, bench.size)
    last = 1 - PLAIN_PER_ENTITY / size.tested
    spiked = feed.with_spikes(bench.fleet, rows, SPIKES_PER_ENTITY, SPIKE_LENGTH, last)
    busy = list(feed.messages(spiked, rows, MAIN))
    quiet = singles(spiked, rows, size.alerts_at_ten * 3 // 2)
    warm_up(bench, f"{LIVE}-before", busy, rate / 2)
    service.make_topic(bench.bootstrap, LIVE)
    settings = bench.settings("latency", LIVE)
    with service.running(settings) as running:
        say(f"latency: {len(busy):,} records at {rate / 2:,.0f}/s")
        at_half = latency.pace(bench.bootstrap, LIVE, busy, rate / 2)
        running.through(len(busy))
        say(f"latency: {len(quiet):,} records at 10/s")
        at_ten = latency.pace(bench.bootstrap, LIVE, quiet, 10)
        running.through(len(busy) + len(quiet))
    appended = latency.append_times(bench.bootstrap, LIVE)
    opened = latency.openings(bench.bootstrap, settings.streams[0].alerts)
    ends = [len(times) for times in appended]
    border = ends.copy()
    for message in quiet:
        border[message.partition] -= 1
    return {
        "half load": latency.latency(at_half, opened, appended, [0] * PARTITIONS, border),
        "10 records/s": latency.latency(at_ten, opened, appended, border, ends),
    }
