"""Reading the input topics for training: to a fixed end, through the decoders, on each kind of broker."""

from __future__ import annotations

import time

import msgspec
import numpy as np
import pytest
from confluent_kafka import Producer as RawProducer
from rigs.daemon import until
from telemetry import generate, keys, messages
from tocsin.errors import BrokerUnavailable, DataError, UnknownTopic
from tocsin.pipelines import collect, formats
from tocsin.pipelines.alignment import Alignment
from tocsin.pipelines.brokers import Broker
from tocsin.pipelines.collect import Collector, Decoding, Span, discover, read, spans
from tocsin.pipelines.decoding import How
from tocsin.pipelines.schema import FeatureSchema

WIDE = Decoding(formats.of("json_wide"), How("host", "ts"))


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
    how = Decoding(
        formats.of("json_long"), How("host", "ts", metric="name"), Alignment(10_000_000, 10_000_000)
    )
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


class Silent:
    """A consumer from which nothing comes any more; it says only where it is."""

    broker_down = False

    def __init__(self, *positions: int) -> None:
        self._positions = list(positions)
        self.paused: set[tuple[str, int]] = set()

    def assign(self, offsets) -> None:
        assert list(offsets) == [("t", 0, 3)]

    def consume(self, max_records: int, timeout_s: float) -> collect.Batch:
        return batch([])

    def position(self):
        at = self._positions.pop(0) if len(self._positions) > 1 else self._positions[0]
        return {("t", 0): at} if at else {}

    def pause(self, parts) -> None:
        self.paused |= set(parts)


def test_quiet_before_the_end_is_an_error_that_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "PATIENCE_S", 0.05)
    wanted = [Span(("t", 0), 3, 9)]
    with pytest.raises(BrokerUnavailable, match=r"t\[0\] is at offset 7 of 9"):
        list(read(Silent(7), wanted))
    with pytest.raises(BrokerUnavailable, match=r"t\[0\] is at offset 3 of 9"):
        list(read(Silent(0), wanted))  # nothing was met at all


def test_quiet_at_the_end_is_the_end_though_the_last_offsets_never_showed() -> None:
    consumer = Silent(7, 9)
    assert list(read(consumer, [Span(("t", 0), 3, 9)])) == []
    assert consumer.paused == {("t", 0)}


def test_a_broker_that_goes_away_is_an_error_and_not_the_end(
    embedded, fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "PATIENCE_S", 1.0)
    embedded.admin().create("cut", 1)
    produce(embedded, "cut", 1, list(zip(keys(fleet), messages(fleet), strict=True)))
    wanted = spans(embedded, ["cut"])
    batches = read_all(embedded, [wanted[0]._replace(last=wanted[0].last + 1)])
    assert next(batches).size > 0
    embedded.down()
    with pytest.raises(BrokerUnavailable, match=rf"of {wanted[0].last + 1}\b"):
        list(batches)


@pytest.mark.kafka
def test_marks_of_transactions_are_passed_without_waiting(kafka, kafka_broker, kafka_topic, fleet) -> None:
    name = kafka_topic()
    raw = RawProducer({"bootstrap.servers": kafka.bootstrap, "transactional.id": name, "retry.backoff.ms": 5})
    raw.init_transactions(10)
    raw.begin_transaction()
    for key, value in list(zip(keys(fleet), messages(fleet), strict=True))[:5]:
        raw.produce(name, value, key)
    raw.commit_transaction(10)
    # a broker says that a transaction is committed before its records can be read
    assert until(lambda: spans(kafka_broker, [name]), "records that can be read") == [Span((name, 0), 0, 6)]
    began = time.monotonic()
    assert sum(one.size for one in read_all(kafka_broker, spans(kafka_broker, [name]))) == 5
    assert time.monotonic() - began < collect.PATIENCE_S / 2
