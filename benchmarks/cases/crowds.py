"""What a record costs as entities grow: the daemon's cost less the limit's, over entities that are all warm.

The entities resemble each other, so that those that the model has never seen look ordinary to it. Each sends LAGS
records before the measured ones, which are drawn uniformly.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .. import feed, service
from ..bench import Bench, Found, Loop, Suite, by_turns
from ..feed import MAIN, Message
from ..report import Bar, at_most

SIZES, RECORDS, REPETITIONS = (100, 1_000, 10_000), 800_000, 3
MILLION, MILLION_RECORDS, MILLION_REPETITIONS = 1_000_000, 2_000_000, 3
FEW = 1_000
GROWTH = 1.3
STEP_US = 10_000
"""From a record of the topic to the next, in event time."""


def alike(fleet: feed.Fleet) -> feed.Fleet:
    """The fleet, each entity moved and stretched to the level and spread of the middle one."""
    values = fleet.values.copy()
    order = np.argsort(fleet.entity, kind="stable").reshape(len(fleet.names), -1)
    series = values[order]
    level, spread = series.mean(axis=1, keepdims=True), series.std(axis=1, keepdims=True)
    values[order] = (series - level) / spread * np.median(spread, axis=0) + np.median(level, axis=0)
    return fleet._replace(values=values.round(5))


def crowd(fleet: feed.Fleet, entities: int, records: int) -> Iterator[Message]:
    """LAGS records of each entity by turns, then so many of entities drawn uniformly, each a walk along a series."""
    random = np.random.default_rng(feed.SEED)
    drawn = random.integers(0, entities, records, np.int32)
    sent = np.concatenate([np.tile(np.arange(entities, dtype=np.int32), MAIN.lags), drawn])
    series = np.argsort(fleet.entity, kind="stable").reshape(len(fleet.names), -1)
    begin = random.integers(0, series.shape[1], entities)
    step = (begin[sent] + occurrence(sent)) % series.shape[1]
    rows = series[sent % len(series), step]
    time_us = int(fleet.time_us[0]) + np.arange(len(sent), dtype=np.int64) * STEP_US
    names = tuple(f"crowd-{number:07d}" for number in range(entities))
    for first in range(0, len(sent), feed.CHUNK):
        mine = slice(first, first + feed.CHUNK)
        part = fleet._replace(
            names=names, entity=sent[mine], time_us=time_us[mine], values=fleet.values[rows[mine]]
        )
        yield from feed.messages(part, np.arange(len(part.entity)))


def occurrence(sent: NDArray[np.int32]) -> NDArray[np.int64]:
    """[n] how often each entity was in the list before."""
    order = np.argsort(sent, kind="stable")
    first = np.flatnonzero(np.diff(sent[order], prepend=-1))
    found = np.empty(len(sent), np.int64)
    found[order] = np.arange(len(sent)) - np.repeat(first, np.diff(np.append(first, len(sent))))
    return found


def entities(suite: Suite) -> Found:
    """From a hundred to ten thousand."""
    sizes, records = (SIZES, RECORDS) if not suite.fast else (SIZES[:2], 20_000)
    return _measured(suite, sizes, records, REPETITIONS)


def million(suite: Suite) -> Found:
    """A million beside a thousand."""
    if suite.fast:
        return _measured(suite, (FEW // 10, FEW), 20_000, 1)
    return _measured(suite, (FEW, MILLION), MILLION_RECORDS, MILLION_REPETITIONS)


def _measured(suite: Suite, sizes: tuple[int, ...], records: int, repetitions: int) -> Found:
    """All sizes by turns: what the machine does meanwhile weighs on each of them."""
    model = model_of_alike(suite)
    benches = {
        size: model.beside(
            f"crowd-{size}-{records}", crowd(model.fleet, size, records), before=size * MAIN.lags
        )
        for size in sizes
    }
    ran: dict[int, list[service.Rate]] = {size: [] for size in sizes}
    loops: dict[str, Loop] = {}
    for size, bench in benches.items():
        loops[f"{size:,} entities, limit"] = lambda b=bench: b.limit("--decode")
        loops[f"{size:,} entities, daemon"] = lambda b=bench, mine=ran[size]: _daemon(b, mine)
    rates = by_turns(loops, min(repetitions, suite.size.repetitions))
    notes: list[str] = []
    costs: dict[int, list[float]] = {}
    for size, bench in benches.items():
        daemon, limit = (rates[f"{size:,} entities, {name}"]["all"] for name in ("daemon", "limit"))
        costs[size] = [1e6 / own - 1e6 / plain for own, plain in zip(daemon, limit, strict=True)]
        notes.append(
            f"{size:,} entities: {statistics.median(costs[size]):.2f} us a record more than the limit "
            f"({', '.join(f'{one:.2f}' for one in costs[size])}), "
            f"{ran[size][-1].alerts / bench.filled.messages * 1000:.2f} alerts for a thousand records, "
            f"{ran[size][-1].rss:,} bytes resident"
        )
        bench.drop()
    bars: list[Bar] = []
    if FEW in costs:
        most = max(sizes)
        few = costs[FEW if most != FEW else min(sizes)]
        ratio = statistics.median(a / b for a, b in zip(costs[most], few, strict=True))
        bars.append(
            at_most(f"cost of a record over the limit's, {most:,} entities / 1,000", ratio, "", GROWTH)
        )
    return Found(bars, {"rates": rates, "notes": notes})


@cache
def model_of_alike(suite: Suite) -> Bench:
    """A model to which all entities of a crowd look ordinary, trained once a run."""
    size = suite.size
    return suite.trained("alike", size, MAIN, alike(feed.fleet_of(size)))


def _daemon(bench: Bench, ran: list[service.Rate]) -> float:
    ran.append(bench.daemon(service.most_entities(bench.filled.messages)))
    return ran[-1].records_per_s
