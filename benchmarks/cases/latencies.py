"""How long an alert takes at half load and at 10 records/s, by one daemon."""

from __future__ import annotations

import statistics
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
    """At half the rate that the daemon reaches, several times; after the last, by the same daemon, at 10 records/s."""
    bench, size, rows = suite.main, suite.size, feed.tested_rows(suite.main.fleet, suite.size)
    last = 1 - PLAIN_PER_ENTITY / size.tested
    spiked = feed.with_spikes(bench.fleet, rows, SPIKES_PER_ENTITY, SPIKE_LENGTH, last)
    busy = list(feed.messages(spiked, rows, MAIN))
    quiet = singles(spiked, rows, size.alerts_at_ten * 3 // 2)
    halves = []
    for number in range(size.repetitions):
        rate = bench.daemon().records_per_s / 2  # just before, for the machine's pace changes
        if not number:
            warm_up(bench, f"{LIVE}-before", busy, rate)
        after = quiet if number == size.repetitions - 1 else []
        half, ten = _latencies(bench, f"{LIVE}-{number}", rate, busy, after)
        halves.append(half)
    bars = [
        at_least("alerts measured at half load", min(one.alerts for one in halves), "", size.alerts_at_half),
        at_most("p99 latency at half load", statistics.median(one.p99_ms for one in halves), "ms", HALF_MS),
        at_least("alerts measured at 10 records/s", ten.alerts, "", size.alerts_at_ten),
        at_most("p99 latency at 10 records/s", ten.p99_ms, "ms", TEN_MS),
    ]
    notes = [f"latency at {told('half load', one)}" for one in halves] + [f"latency at {told('10/s', ten)}"]
    return Found(
        bars, {"notes": notes, "half load": [one._asdict() for one in halves], "10 records/s": ten._asdict()}
    )


def told(load: str, one: latency.Latency) -> str:
    """For people."""
    return (
        f"{load}: p50 {one.p50_ms:.0f} ms, p99 {one.p99_ms:.0f} ms, worst {one.worst_ms:.0f} ms over {one.alerts} "
        f"alerts at {one.records_per_s:,.0f} records/s"
    )


def _latencies(
    bench: Bench, topic: str, rate: float, busy: list[Message], quiet: list[Message]
) -> tuple[latency.Latency, latency.Latency]:
    service.make_topic(bench.bootstrap, topic)
    settings = bench.settings("latency", topic)
    with service.running(settings) as running:
        say(f"latency: {len(busy):,} records at {rate:,.0f}/s")
        at_half = latency.pace(bench.bootstrap, topic, busy, rate)
        running.through(len(busy))
        if quiet:
            say(f"latency: {len(quiet):,} records at 10/s")
        at_ten = latency.pace(bench.bootstrap, topic, quiet, 10)
        running.through(len(busy) + len(quiet))
    appended = latency.append_times(bench.bootstrap, topic)
    opened = latency.openings(bench.bootstrap, settings.streams[0].alerts)
    ends = [len(times) for times in appended]
    border = ends.copy()
    for message in quiet:
        border[message.partition] -= 1
    return (
        latency.latency(at_half, opened, appended, [0] * PARTITIONS, border),
        latency.latency(at_ten, opened, appended, border, ends),
    )
