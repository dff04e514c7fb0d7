"""Bad input: how far the rate falls, and whether memory stays bounded.

It may fall by no more than the share of the work that the bad records add. Of malformed messages that is their share
of all; of large ones the share of bytes that they bring; the first record of an entity counts as two, itself and its
admission.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .. import feed, service
from ..bench import Bench, Found, Suite, by_turns, share
from ..feed import Message
from ..report import Bar, at_least, at_most

RECORDS, FAST_RECORDS, REPETITIONS = 300_000, 10_000, 3
MALFORMED_SHARE, LARGE_SHARE, LARGE_BYTES, LARGE_RECORDS = 0.1, 0.01, 1_000_000, 60_000
NEW_SHARE = 0.5
HELD = 10_000
"""Entities that may be held of a partition, where each comes but once."""
MORE_MIB = 512
"""Memory beyond that with clean records: what the client's queue and the batches under way hold of large messages, and
the state of HELD entities of each partition, with room for the allocator's play."""
TIME = b'{"ts":1704067200000,'


class Case(NamedTuple):
    """A topic of bad input and the share of the work that is bad."""

    name: str
    bench: Bench
    bad: float
    state: str = ""


def spoiled(given: Iterator[Message]) -> Iterator[Message]:
    """One message in ten is no record: cut off, no object, without entity, of a wrong type, or nothing at all."""
    every = round(1 / MALFORMED_SHARE)
    for number, message in enumerate(given):
        if number % every:
            yield message
            continue
        half = message.value[: len(message.value) // 2]
        wrong = message.value.replace(b'"chan_00":', b'"chan_00":[],"was":')
        kinds = (half, b"[1,2,3]", TIME + b'"chan_00":1}', wrong, b"\xff\xfe")
        yield message._replace(value=kinds[number // every % len(kinds)])


def swollen(given: Iterator[Message]) -> Iterator[Message]:
    """One record in a hundred carries text that nobody asked for, up to LARGE_BYTES."""
    every = round(1 / LARGE_SHARE)
    for number, message in enumerate(given):
        if number % every:
            yield message
        else:
            room = LARGE_BYTES - len(message.value) - len(b',"text":""')
            yield message._replace(value=message.value[:-1] + b',"text":"' + b"x" * room + b'"}')


def strangers(fleet: feed.Fleet, rows: np.ndarray) -> Iterator[Message]:
    """Each record is of an entity of its own."""
    names = tuple(f"new-{number:07d}" for number in range(len(rows)))
    entity = np.arange(len(rows), dtype=np.int32)
    part = fleet._replace(names=names, entity=entity, time_us=fleet.time_us[rows], values=fleet.values[rows])
    return feed.messages(part, np.arange(len(rows)))


def measure(suite: Suite) -> Found:
    """Each by turns with as many good records."""
    main = suite.main
    rows = feed.tested_rows(main.fleet, main.size)[: FAST_RECORDS if suite.fast else RECORDS]

    def good(count: int | None = None) -> Iterator[Message]:
        return feed.messages(main.fleet, rows[:count])

    clean = main.beside("clean", good())
    large = main.beside("large", swollen(good(LARGE_RECORDS)))
    bytes_bad = 1 - clean.filled.width / large.filled.width
    cases = (
        Case("a tenth malformed", main.beside("malformed", spoiled(good())), MALFORMED_SHARE),
        Case("one in a hundred of 1 MB", large, bytes_bad),
        Case(
            "every entity new",
            main.beside("new", strangers(main.fleet, rows)),
            NEW_SHARE,
            service.most_entities(HELD),
        ),
    )
    last: dict[str, service.Rate] = {}

    def daemon(name: str, bench: Bench, state: str = "") -> float:
        last[name] = bench.daemon(state)
        return last[name].records_per_s

    loops = {"clean": lambda: daemon("clean", clean)}
    loops |= {one.name: lambda one=one: daemon(one.name, one.bench, one.state) for one in cases}
    rates = by_turns(loops, min(REPETITIONS, main.size.repetitions))
    bars: list[Bar] = []
    for one in cases:
        kept = share(rates, one.name, "clean")
        bars.append(at_least(f"rate with {one.name}, of the clean one", kept, "", 1 - one.bad))
        more = (last[one.name].rss - last["clean"].rss) / 2**20
        bars.append(at_most(f"memory with {one.name}, beyond the clean one's", more, "MiB", MORE_MIB))
    notes = [
        f"{name}: {ran.scored:,} records scored, at most {ran.rss / 2**20:,.0f} MiB resident"
        for name, ran in last.items()
    ]
    return Found(bars, {"rates": rates, "notes": notes})
