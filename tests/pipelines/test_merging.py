"""Partitions merged by their heads, whatever order the broker hands them out in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rigs.fixtures import TopicFactory
from tocsin.pipelines import merging
from tocsin.pipelines.brokers import Broker
from tocsin.pipelines.merging import Merged, Message


def produce(broker: Broker, topic: str, rows: Iterator[tuple[int, int]]) -> None:
    """(partition, timestamp) of each message; the value says both."""
    producer = broker.producer()
    for partition, stamp in rows:
        producer.produce(topic, f"{partition} {stamp}".encode(), partition=partition, timestamp_ms=stamp)
    producer.flush(30)
    producer.close()


def drained(merged: Merged, count: int) -> list[Message]:
    found: list[Message] = []
    for _ in range(2000):
        found += merged.read(0.05)
        if len(found) >= count:
            return found
    raise AssertionError(f"{len(found)} of {count} messages")


def test_what_lies_there_comes_in_the_order_of_time(
    broker: Broker, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third partition is the largest, and more is held of each than may be fetched ahead."""
    monkeypatch.setattr(merging, "MOST", 500)
    monkeypatch.setattr(merging, "BATCH", 300)
    name = topic(3)
    rows = [(0 if i % 8 == 0 else 1 if i % 8 == 1 else 2, 1_700_000_000_000 + i) for i in range(8000)]
    rows.sort(key=lambda row: row[0])  # a partition after the other
    produce(broker, name, iter(rows))
    merged = Merged(broker.consumer(), {(name, p): 0 for p in range(3)}, lambda: 0.0)
    found = drained(merged, 8000)
    stamps = [message.timestamp_ms for message in found]
    assert stamps == sorted(stamps)
    assert merged.next_offsets == {(name, 0): 1000, (name, 1): 1000, (name, 2): 6000}
    produce(broker, name, iter([(1, 1_700_000_009_000)]))  # the others have ended: nobody waits for them
    assert drained(merged, 1)[0].value == b"1 1700000009000"
    merged.close()


def test_the_order_within_a_partition_stays_and_reading_goes_on_where_it_was(
    broker: Broker, topic: TopicFactory
) -> None:
    name = topic(2)
    produce(broker, name, iter([(0, 5), (0, 1), (0, 7), (1, 2), (1, 6)]))
    merged = Merged(broker.consumer(), {(name, 0): 0, (name, 1): 0}, lambda: 0.0)
    assert [(one.part[1], one.timestamp_ms) for one in drained(merged, 5)] == [
        (1, 2), (0, 5), (0, 1), (1, 6), (0, 7),
    ]  # fmt: skip
    merged.close()
    again = Merged(broker.consumer(), {(name, 0): 2, (name, 1): 1}, lambda: 0.0)
    assert [one.value for one in drained(again, 2)] == [b"1 6", b"0 7"]
    again.close()


class Withheld:
    """A consumer of which one partition does not come, although the broker holds more of it."""

    def __init__(self, given: Broker, part: tuple[str, int]) -> None:
        self._consumer = given.consumer()
        self._part = part

    def __getattr__(self, name: str) -> object:
        return getattr(self._consumer, name)

    def assign(self, offsets: object) -> None:
        self._consumer.assign([one for one in offsets if one[:2] != self._part])  # type: ignore[attr-defined]


def test_a_partition_that_does_not_come_holds_the_others_up_for_a_while_only(
    broker: Broker, topic: TopicFactory
) -> None:
    name = topic(2)
    produce(broker, name, iter([(0, 5), (1, 2)]))
    now = 0.0
    merged = Merged(Withheld(broker, (name, 1)), {(name, 0): 0, (name, 1): 0}, lambda: now)  # type: ignore[arg-type]
    assert all(merged.read(0.1) == [] for _ in range(10))
    now = merging.PATIENCE_S
    assert [one.value for one in drained(merged, 1)] == [b"0 5"]
    merged.close()
