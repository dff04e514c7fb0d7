"""The changelog: what writing it takes, how fast it is read, and how long a rebalance keeps others waiting."""

from __future__ import annotations

import itertools
import json
import threading
import time
from typing import NamedTuple

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from tocsin.detector.changelog import Snapshot
from tocsin.detector.restore import read_changelog
from tocsin.pipelines.brokers.kafka import KafkaBroker

from .. import feed, latency, service
from ..bench import Bench, Found, Suite, by_turns, share
from ..feed import PARTITIONS
from ..limit import BATCH, CONSUMER
from ..report import at_least, at_most, say
from .crowds import crowd, model_of_alike

OVERHEAD, READING, PAUSE_S = 0.1, 0.5, 1.0
OFTEN, HARDLY = 'snapshot_every = "1s"', 'snapshot_every = "1d"'
SOON, SOON_FAST = 'snapshot_every = "2m"', 'snapshot_every = "10s"'
"""Late enough that all records have been read by then."""
WRITTEN_S = 600.0
SNAPSHOTS = "tocsin_state_snapshots_total"
ENTITIES, FEW = 1_000_000, 1_000
"""Whose state is read, in a full run and a fast one."""
CALM = "calm"
CALM_PER_S, CALM_S, TOLD_S = 2_000, 40.0, 120.0
"""Records/s while a daemon comes and goes, for how long, and how long after it all must be scored."""


def changelog(suite: Suite) -> Found:
    """Snapshots as often as the input's bytes allow, and none."""
    bench = suite.main
    loops = {
        "snapshots as often as allowed": lambda: bench.daemon(OFTEN).records_per_s,
        "no snapshots": lambda: bench.daemon(HARDLY).records_per_s,
    }
    found = by_turns(loops, suite.size.repetitions)
    taken = 1 - share(found, "snapshots as often as allowed", "no snapshots")
    return Found([at_most("throughput that the changelog takes", taken, "", OVERHEAD)], {"rates": found})


def restore(suite: Suite) -> Found:
    """The state of a million entities out of its changelog, and the same topic consumed by a loop."""
    entities = FEW if suite.fast else ENTITIES
    sent = crowd(model_of_alike(suite).fleet, entities, 0)
    bench = model_of_alike(suite).beside("to-restore", sent)
    soon = SOON_FAST if suite.fast else SOON
    settings = bench.settings("restore", state=f"{service.most_entities(entities)}\n{soon}")
    with service.running(settings, program=service.EAGER) as running:
        running.through(bench.filled.messages)
        before, give_up = running.metric(SNAPSHOTS), time.monotonic() + WRITTEN_S
        while running.metric(SNAPSHOTS) < before + PARTITIONS:
            if time.monotonic() > give_up:
                raise RuntimeError("the state was not written")
            time.sleep(service.POLL_S)
    topic = settings.streams[0].changelog
    loops = {
        "entities read": lambda: entities / _read(bench, topic, entities).seconds,
        "entities consumed": lambda: entities / _consumed_s(bench, topic),
    }
    found = by_turns(loops, suite.size.repetitions)
    note = _where_it_goes(_read(bench, topic, entities), entities)
    bench.drop()
    ratio = share(found, "entities read", "entities consumed")
    return Found(
        [at_least("rate of reading the changelog / of consuming it", ratio, "", READING)],
        {"rates": found, "notes": [note]},
    )


class Read(NamedTuple):
    """State out of a changelog, as the daemon reads it."""

    fetched_s: float
    """To consume what is stored, and check each message."""
    unpacked_s: float
    """To check each snapshot as a whole, and make arrays of it, block by block."""
    nbytes: int
    """Of the arrays."""

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.fetched_s + self.unpacked_s


def _read(bench: Bench, topic: str, entities: int) -> Read:
    broker = KafkaBroker(bench.bootstrap)
    begun = time.perf_counter()
    parts = [(bench.topic, number) for number in range(PARTITIONS)]
    changelog = read_changelog(broker, topic, parts, lambda: None)
    fetched = time.perf_counter()
    found = [_size(changelog.restored(*part).snapshot) for part in parts]
    unpacked = time.perf_counter()
    broker.close()
    known, nbytes = map(sum, zip(*found, strict=True))
    if known != entities:
        raise RuntimeError(f"{known} entities are in the changelog of {entities}")
    return Read(fetched - begun, unpacked - fetched, nbytes)


def _size(snapshot: Snapshot | None) -> tuple[int, int]:
    """Entities, and bytes of their arrays, each block of which is made, as for a restore, and gone again."""
    if snapshot is None:
        return 0, 0
    return len(snapshot.entities), sum(array.nbytes for block in snapshot.blocks for array in block.values())


def _where_it_goes(read: Read, entities: int) -> str:
    """The parts of a reading, and what it takes to write as many bytes to memory that nobody has used."""
    begun = time.perf_counter()
    np.empty(read.nbytes // PARTITIONS, np.uint8).fill(1)
    written_s = (time.perf_counter() - begun) * PARTITIONS
    fetched, unpacked, written = (1e6 * s / entities for s in (read.fetched_s, read.unpacked_s, written_s))
    return (
        f"of reading an entity: {fetched:.1f} us to fetch and check what is stored, {unpacked:.1f} us to unpack "
        f"{read.nbytes / entities:,.0f} bytes; {written:.1f} us to write as many to memory fresh from the system"
    )


def _consumed_s(bench: Bench, topic: str) -> float:
    """Seconds to consume a topic as it stands, by the limit's consumer."""
    consumer = Consumer({**CONSUMER, "bootstrap.servers": bench.bootstrap, "enable.partition.eof": True})
    begun, left = time.perf_counter(), PARTITIONS
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    while left:
        for message in consumer.consume(BATCH, 0.1):
            left -= message.error() is not None  # the end of a partition
    seconds = time.perf_counter() - begun
    consumer.close()
    return seconds


def rebalance(suite: Suite) -> Found:
    """The longest time in which nothing is told of a partition that stays, while another daemon comes and goes."""
    bench = suite.main
    seconds = 15.0 if suite.fast else CALM_S
    rows = feed.tested_rows(bench.fleet, bench.size)
    records = list(itertools.islice(feed.messages(bench.fleet, rows), int(CALM_PER_S * seconds)))
    settings = bench.settings("calm", CALM)
    scores = f"{settings.streams[0].name}.scores"
    for topic in (CALM, scores):
        service.make_topic(bench.bootstrap, topic)
    told = {"TOCSIN__STREAM__SCORES": scores}
    with service.running(settings, told) as first:
        sending = threading.Thread(target=latency.pace, args=(bench.bootstrap, CALM, records, CALM_PER_S))
        sending.start()
        time.sleep(seconds / 4)
        with service.running(settings, told) as second:
            while second.metric("tocsin_partitions_assigned") < PARTITIONS / 2:
                time.sleep(service.POLL_S)
            time.sleep(2.0)  # what it says of itself is a second old
            kept = first.partitions()
            say(f"rebalance: partitions {kept} stayed")
        sending.join()
        told_ms, give_up = _told_ms(bench, scores), time.monotonic() + TOLD_S
        while sum(map(len, told_ms.values())) < len(records):
            if time.monotonic() > give_up:
                raise RuntimeError("not all records were scored")
            time.sleep(service.POLL_S)
            told_ms = _told_ms(bench, scores)
    pauses = {part: float(np.diff(np.unique(told_ms[part])).max()) / 1e3 for part in kept}
    note = "longest pauses of the partitions that stayed, s: " + ", ".join(
        map("{:.2f}".format, pauses.values())
    )
    longest = max(pauses.values(), default=float("nan"))
    return Found(
        [at_most("pause of a partition that stays, in a rebalance", longest, "s", PAUSE_S)],
        {"notes": [note], "pauses": pauses},
    )


def _told_ms(bench: Bench, topic: str) -> dict[int, list[int]]:
    """When the broker was told the scores of each input partition."""
    found: dict[int, list[int]] = {part: [] for part in range(PARTITIONS)}
    for message in latency.everything(bench.bootstrap, topic):
        found[json.loads(message.value())["partition"]].append(message.timestamp()[1])
    return found
