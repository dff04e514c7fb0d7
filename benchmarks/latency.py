"""How long an alert takes: its LogAppendTime less that of the record that completes k-of-m, on the same broker.

The records are produced at an even pace by this process, on the same cores as the broker and the daemon. The times are
the broker's own, whole milliseconds.
"""

from __future__ import annotations

import gc
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from numpy.typing import NDArray

from .feed import PARTITIONS, Message

TICK_S = 0.005


class Latency(NamedTuple):
    """Milliseconds over so many alerts."""

    alerts: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    records_per_s: float
    """What was really produced."""
    digests: int
    """Alerts that were folded into a digest; there should be none."""
    tenths_ms: list[float]
    """The median in each tenth of the alerts, in the order of their records: whether a backlog grows or shrinks."""


class Paced(NamedTuple):
    """What was produced."""

    records: int
    records_per_s: float


def pace(bootstrap: str, topic: str, messages: list[Message], records_per_s: float) -> Paced:
    """Produce messages evenly at a rate, in steps of TICK_S.

    Without garbage collection: one among millions of messages would hold it up, then all that was due comes at once.
    """
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "acks": 1})
    producer.list_topics(topic, timeout=10)
    gc.disable()
    try:
        began, sent = time.perf_counter(), 0
        while sent < len(messages):
            due = min(len(messages), int((time.perf_counter() - began) * records_per_s) + 1)
            for message in itertools.islice(messages, sent, due):
                producer.produce(topic, message.value, message.key, message.partition)
            sent = due
            producer.poll(0)
            time.sleep(TICK_S)
        seconds = time.perf_counter() - began
    finally:
        gc.enable()
    if producer.flush(60):
        raise RuntimeError(f"records for {topic} were not acknowledged")
    return Paced(sent, sent / seconds)


def everything(bootstrap: str, topic: str) -> Iterator[Any]:
    """All records of a topic as they stand."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "latency",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": False,
            "fetch.queue.backoff.ms": 5,
        }
    )
    parts = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    left = sum(high - low for low, high in (consumer.get_watermark_offsets(part) for part in parts))
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    while left > 0:
        for message in consumer.consume(4096, 1.0):
            if message.error() is None:
                left -= 1
                yield message
    consumer.close()


def append_times(bootstrap: str, topic: str) -> list[NDArray[np.int64]]:
    """LogAppendTime in ms by partition and offset."""
    found: list[list[int]] = [[] for _ in range(PARTITIONS)]
    for message in everything(bootstrap, topic):
        found[message.partition()].append(message.timestamp()[1])
    return [np.array(times, np.int64) for times in found]


class Opening(NamedTuple):
    """One alert of an incident that began to fire."""

    partition: int
    offset: int
    appended_ms: int
    digest: bool


def openings(bootstrap: str, topic: str) -> list[Opening]:
    """The firing alerts of a topic."""
    found = []
    for message in everything(bootstrap, topic):
        alert = json.loads(message.value())
        if alert["status"] == "firing":
            notes = alert["annotations"]
            found.append(
                Opening(
                    notes["partition"],
                    notes["last_offset"],
                    message.timestamp()[1],
                    alert["kind"] == "digest",
                )
            )
    return found


def latency(
    paced: Paced, opened: list[Opening], appended: list[NDArray[np.int64]], first: list[int], end: list[int]
) -> Latency:
    """Over the alerts whose records lie from `first` to before `end`, by partition."""
    mine = [one for one in opened if first[one.partition] <= one.offset < end[one.partition]]
    times = sorted(
        (int(appended[one.partition][one.offset]), one.appended_ms) for one in mine if not one.digest
    )
    taken = [after - before for before, after in times]
    digests = sum(one.digest for one in mine)
    if not taken:
        return Latency(0, float("nan"), float("nan"), float("nan"), paced.records_per_s, digests, [])
    p50, p99 = np.percentile(taken, [50, 99])
    tenths = [float(np.median(part)) for part in np.array_split(taken, 10) if len(part)]
    return Latency(
        len(taken), float(p50), float(p99), float(max(taken)), paced.records_per_s, digests, tenths
    )
