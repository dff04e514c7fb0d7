"""Reading the input topics for training: to a fixed end, through the decoders, on each kind of broker."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from telemetry import generate, keys, messages
from tocsin.errors import DataError, UnknownTopic
from tocsin.pipelines import collect
from tocsin.pipelines.alignment import Alignment
from tocsin.pipelines.brokers import Broker
from tocsin.pipelines.collect import Collector, Decoding, Long, Span, discover, read, spans
from tocsin.pipelines.schema import FeatureSchema

WIDE = Decoding("host", "ts", "auto", 1_000_000)


@pytest.fixture(scope="module")
def fleet():
    return generate(seed=2, entities=6, records=50, features=3)


def produce(broker: Broker, topic: str, partitions: int, rows: list[tuple[bytes, bytes]], at_ms=None) -> None:
    producer = broker.producer()
    for i, (key, value) in enumerate(rows):
        stamp = None if at_ms is None else int(at_ms[i])
        producer.produce(topic, value, key, partition=sum(key) % partitions, timestamp_ms=stamp)
    producer.flush(30)
    producer.close()


def read_all(broker: Broker, wanted: list[Span], **times):
    consumer = broker.consumer(headers=False)
    try:
        yield from read(consumer, wanted, **times)
    finally:
        consumer.close()


def test_everything_up_to_the_end_fixed_beforehand_and_nothing_after(broker, topic, fleet) -> None:
    name = topic(3)
    rows = list(zip(keys(fleet), messages(fleet), strict=True))
    produce(broker, name, 3, rows)
    wanted = spans(broker, [name])
    produce(broker, name, 3, rows[:20])  # later than the end
    collector = Collector(FeatureSchema(fleet.features), WIDE)
    got = list(collector.records(read_all(broker, wanted)))
    assert sum(len(records.slot) for records in got) == len(rows)
    assert collector.messages == len(rows)
    values = {}
    for records in got:
        for slot, row in zip(records.slot.tolist(), records.values, strict=True):
            values.setdefault(collector.table.name(slot), []).append(row)
    for i, entity in enumerate(fleet.names):
        np.testing.assert_array_equal(values[entity], fleet.values[fleet.entity == i])


def test_times_of_the_broker_bound_what_is_read(broker, topic, fleet) -> None:
    name = topic(2)
    stamps = fleet.time_us // 1000
    produce(broker, name, 2, list(zip(keys(fleet), messages(fleet), strict=True)), stamps)
    since, until = int(np.quantile(stamps, 0.3)), int(np.quantile(stamps, 0.7))
    batches = read_all(broker, spans(broker, [name], since, until), since_ms=since, until_ms=until)
    expected = int(((stamps >= since) & (stamps < until)).sum())
    assert sum(batch.size for batch in batches) == expected


def test_nothing_to_read_ends_at_once_and_an_unknown_topic_is_named(broker, topic) -> None:
    assert spans(broker, [topic(2)]) == []
    assert list(read_all(broker, [])) == []
    with pytest.raises(UnknownTopic, match="no-such-topic"):
        spans(broker, ["no-such-topic"])


def test_unreadable_messages_are_counted_by_reason(embedded, fleet) -> None:
    admin = embedded.admin()
    admin.create("mixed", 1)
    good = list(zip(keys(fleet), messages(fleet), strict=True))[:5]
    produce(
        embedded, "mixed", 1, [*good, (b"k", b"{"), (b"k", b"[1]"), (b"k", b'{"host": "a", "ts": "never"}')]
    )
    collector = Collector(FeatureSchema(fleet.features), WIDE)
    got = list(collector.records(read_all(embedded, spans(embedded, ["mixed"]))))
    assert sum(len(records.slot) for records in got) == 5
    assert collector.rejected == {"not_json": 1, "not_object": 1, "bad_time": 1}


def batch(values: list[bytes]):
    n = len(values)
    return collect.Batch(["t"] * n, [0] * n, list(range(n)), [0] * n, [None] * n, values, None)


def test_features_are_discovered_by_name_without_what_is_no_feature() -> None:
    rows = [
        {"ts": 1_700_000_000, "host": "a", "label": 0, "disk": {"free": 1, "name": "sda"}, "cpu": 0.5},
        {"ts": 1_700_000_001, "host": "a", "label": 0, "mem": 3, "up": True, "none": None},
    ]
    values = [msgspec.json.encode(row) for row in rows]
    schema = discover([batch([*values, b"{", None])], WIDE, ["mem"])
    assert schema.names == ("cpu", "disk.free", "mem")
    assert schema.counters == ("mem",)
    with pytest.raises(DataError, match="no numbers to watch"):
        discover([batch([b'{"host": "a"}'])], WIDE)


def test_long_messages_become_records_and_name_their_features() -> None:
    how = WIDE._replace(long=Long("name", "value", Alignment(10_000_000, 10_000_000)))
    values = [
        msgspec.json.encode({"ts": 1_700_000_000 + 10 * i, "host": "a", "name": name, "value": i})
        for i in range(10)
        for name in ("mem", "cpu")
    ]
    schema = discover([batch(values)], how)
    assert schema.names == ("cpu", "mem")
    got = list(Collector(schema, how).records([batch(values[:7]), batch(values[7:])]))
    closed = np.concatenate([records.values for records in got])
    np.testing.assert_array_equal(closed, np.repeat(np.arange(len(closed)), 2).reshape(-1, 2))
    assert len(closed) >= 7
