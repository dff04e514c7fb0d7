"""Two daemons on one topic, handing 100,000 entities from one to the next, and how fast a silent replay is."""

from __future__ import annotations

import itertools
import time

from .. import feed, service
from ..bench import Found, Spread, Suite, share, spread
from ..feed import MAIN
from ..limit import FIRST, LAST
from ..report import at_least, say
from .crowds import crowd, model_of_alike
from .state import HARDLY

ENTITIES, FEW, MORE = 100_000, 1_000, 100_000
"""Entities that are handed over, in a full run and a fast one; records after they are all warm."""
SHARED = "shared-by-two"
OWN, REPLAY = "a daemon", "its records replayed silently by the next"
REPLAYED = "tocsin_state_replayed_records_total"
COMMITTED_S = 3.0
"""Longer than from one commit to the next."""


def measure(suite: Suite) -> Found:
    """The rate of both together, then one after the other on the same state."""
    both = _together(suite)
    notes, seconds = _one_after_the_other(suite)
    rates = _replayed(suite)
    ratio = share(rates, REPLAY, OWN)
    return Found(
        [at_least("rate of the silent replay / the daemon's own", ratio, "", 1.0)],
        {
            "rates": {"two daemons, together": spread([both]), **rates},
            "notes": notes,
            "handover": seconds,
        },
    )


def _together(suite: Suite) -> float:
    """Records/s of two daemons of one group; all records can be read from one moment on, when both are there."""
    bench = suite.main
    service.make_topic(bench.bootstrap, SHARED)
    settings = bench.settings("two", SHARED)
    rows = feed.tested_rows(bench.fleet, bench.size)
    with service.running(settings) as one, service.running(settings) as other:
        while not (
            one.metric("tocsin_partitions_assigned") == other.metric("tocsin_partitions_assigned") == 2
        ):
            time.sleep(service.POLL_S)
        count = feed.fill(bench.bootstrap, SHARED, feed.messages(bench.fleet, rows), at_once=True).messages
        seen: list[tuple[float, float]] = []
        while not seen or seen[-1][1] < count:
            seen.append((time.perf_counter(), one.read().consumed + other.read().consumed))
            time.sleep(service.POLL_S / 2)
    steady = [point for point in seen if FIRST * count <= point[1] <= LAST * count]
    if len(steady) < 2:  # over before it could be watched
        steady = [seen[0], seen[-1]]
    (begun, before), (ended, after) = steady[0], steady[-1]
    return (after - before) / (ended - begun)


def _one_after_the_other(suite: Suite) -> tuple[list[str], dict[str, float]]:
    """A daemon that knows all entities ends, is followed by another, which is killed, and by a third."""
    entities = FEW if suite.fast else ENTITIES
    model = model_of_alike(suite)
    sent = crowd(model.fleet, entities, 2 * MORE)
    bench = model.beside("handed-over", itertools.islice(sent, entities * MAIN.lags + MORE))
    settings = bench.settings("handover", state=service.most_entities(entities))
    with service.running(settings) as first:
        first.through(bench.filled.messages)
        begun = time.perf_counter()
        first.stop()
        ended_s = time.perf_counter() - begun
    found = {"entities": float(entities), "end_s": ended_s}
    with service.running(settings) as second:
        found |= {"ready_s": second.ready_s, "restore_s": _restore_s(second)}
        second.through(feed.fill(bench.bootstrap, bench.topic, sent).messages)
        second.kill()
    with service.running(settings) as third:
        found |= {
            "replayed_records": third.metric(REPLAYED),
            "restore_after_kill_s": _restore_s(third),
        }
    told = (
        f"{entities:,} entities: {ended_s:.1f} s from SIGTERM to the end, {found['restore_s']:.1f} s to restore, "
        f"{found['ready_s']:.1f} s from the next command to ready"
    )
    killed = (
        f"after a kill: {found['replayed_records']:,.0f} records replayed silently, "
        f"{found['restore_after_kill_s']:.1f} s to restore and replay"
    )
    return [told, killed], found


def _replayed(suite: Suite) -> dict[str, Spread]:
    """Records/s of a daemon that writes no snapshot but the first, and of the next, which replays them all."""
    bench, found = suite.main, dict[str, list[float]]({OWN: [], REPLAY: []})
    for number in range(suite.size.repetitions):
        settings = bench.settings(f"replayed-{number}", state=HARDLY)
        with service.running(settings) as first:
            readings = first.through(bench.filled.messages)
            time.sleep(COMMITTED_S)
            first.kill()
        found[OWN].append(service.rate(readings, bench.filled.messages).records_per_s)
        with service.running(settings) as second:
            replayed = second.metric(REPLAYED)
            if replayed < 0.9 * bench.filled.messages:
                raise RuntimeError(f"only {replayed:,.0f} of {bench.filled.messages:,} records were replayed")
            seconds = _restore_s(second)
        with service.running(settings) as third:  # with the same state, and nothing to replay
            found[REPLAY].append(replayed / (seconds - _restore_s(third)))
        say(f"{number + 1}: {', '.join(f'{name} {rates[-1]:,.0f}/s' for name, rates in found.items())}")
    return {name: spread(rates) for name, rates in found.items()}


def _restore_s(running: service.Service) -> float:
    return running.metric("tocsin_state_restore_seconds")
