"""What every broker must do, held against each; `Capabilities` names what only one can."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
from rigs.fixtures import TopicFactory
from rigs.kafka import Rig, free_ports
from tocsin.errors import BrokerError, BrokerUnavailable, DeliveryFailed, SettingsError, UnknownTopic
from tocsin.pipelines.brokers import (
    BEGINNING,
    Batch,
    Broker,
    CommitRefused,
    Consumer,
    Part,
    Producer,
    open_broker,
)
from tocsin.pipelines.brokers.embedded import EmbeddedBroker
from tocsin.pipelines.brokers.kafka import KafkaBroker

_groups = (f"group-{number}" for number in itertools.count())


@pytest.fixture
def group() -> str:
    return next(_groups)


_producers: weakref.WeakKeyDictionary[Broker, Producer] = weakref.WeakKeyDictionary()


def fill(broker: Broker, topic: str, count: int, partitions: int = 1, first: int = 0) -> None:
    """Number records; one producer a broker, for a new one needs up to a second to get its identity."""
    producer = _producers.setdefault(broker, broker.producer())
    for number in range(first, first + count):
        part, at = number % partitions, 1000 + number
        producer.produce(topic, b"%d" % number, key=b"k", partition=part, timestamp_ms=at)
    producer.flush(20)


def drain(consumer: Consumer, count: int, limit_s: float = 30.0, at_once: int = 1000) -> Batch:
    """Consume until `count` records came (or the time is over), as one batch."""
    columns: list[list[object]] = [[] for _ in Batch._fields]
    give_up = time.monotonic() + limit_s
    while len(columns[0]) < count and time.monotonic() < give_up:
        batch = consumer.consume(at_once, 0.1)
        assert batch.size <= at_once
        for column, more in zip(columns, batch, strict=True):
            column.extend(more or ())
    return Batch(*columns)  # type: ignore[arg-type]


def poll_until(condition: Callable[[], bool], *consumers: Consumer, limit_s: float = 60.0) -> None:
    """Keep consumers polled until something is so."""
    give_up = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < give_up, "it did not happen in time"
        for consumer in consumers:
            consumer.consume(100, 0.05)


def values(batch: Batch) -> list[int]:
    return [int(value or b"-1") for value in batch.value]


# -- records ----------------------------------------------------------------------------------


def test_records_keep_their_order_within_a_partition(broker: Broker, topic: TopicFactory) -> None:
    name = topic(partitions=3)
    fill(broker, name, 3000, partitions=3)
    consumer = broker.consumer()
    consumer.assign([(name, partition, BEGINNING) for partition in range(3)])
    batch = drain(consumer, 3000, at_once=700)
    assert batch.size == 3000
    for partition in range(3):
        rows = [row for row in range(3000) if batch.partition[row] == partition]
        assert [batch.offset[row] for row in rows] == list(range(1000))
        assert [values(batch)[row] for row in rows] == list(range(partition, 3000, 3))


def test_key_headers_and_time_arrive_as_they_were_sent(broker: Broker, topic: TopicFactory) -> None:
    name = topic()
    producer = broker.producer()
    producer.produce(
        name, b"\x00\xff", key=b"\xfe", headers=[("a", b"\x00\x01"), ("a", None)], timestamp_ms=12345
    )
    producer.produce(name, None, key=b"gone")
    producer.produce(name, b"", headers=[])
    producer.flush(10)
    consumer = broker.consumer()
    consumer.assign([(name, 0, BEGINNING)])
    batch = drain(consumer, 3)
    assert batch.topic == [name] * 3
    assert batch.key == [b"\xfe", b"gone", None]
    assert batch.value == [b"\x00\xff", None, b""]
    assert batch.headers is not None
    assert batch.headers[0] == [("a", b"\x00\x01"), ("a", None)]
    assert not batch.headers[1]
    assert not batch.headers[2]
    assert batch.timestamp_ms[0] == 12345
    assert abs(batch.timestamp_ms[1] / 1000 - time.time()) < 60


def test_headers_are_left_out_on_request(broker: Broker, topic: TopicFactory) -> None:
    name = topic()
    fill(broker, name, 3)
    consumer = broker.consumer(headers=False)
    consumer.assign([(name, 0, BEGINNING)])
    batch = drain_once(consumer)
    assert batch
    assert batch.headers is None


def test_a_batch_is_bounded_and_an_idle_topic_gives_an_empty_one(broker: Broker, topic: TopicFactory) -> None:
    name = topic()
    fill(broker, name, 50)
    consumer = broker.consumer()
    consumer.assign([(name, 0, BEGINNING)])
    assert values(drain(consumer, 50, at_once=7)) == list(range(50))
    began = time.monotonic()
    batch = consumer.consume(100, 0.2)
    assert not batch
    assert batch.size == 0
    assert 0.1 < time.monotonic() - began < 2


def test_a_single_record_does_not_wait_for_company(broker: Broker, topic: TopicFactory) -> None:
    """The first record is returned at once, not when the time for a full batch is over."""
    name = topic()
    consumer = broker.consumer()
    consumer.assign([(name, 0, BEGINNING)])
    consumer.consume(1000, 0.5)
    waits = []
    for number in range(5):
        fill(broker, name, 1, first=number)
        began = time.monotonic()
        assert values(drain_once(consumer)) == [number]
        waits.append(time.monotonic() - began)
    assert sorted(waits)[2] < 1.0


def drain_once(consumer: Consumer) -> Batch:
    for _ in range(10):
        batch = consumer.consume(1000, 5.0)
        if batch:
            return batch
    raise AssertionError("nothing came")


# -- offsets ----------------------------------------------------------------------------------


def test_a_group_resumes_at_what_it_committed(broker: Broker, topic: TopicFactory, group: str) -> None:
    name = topic()
    fill(broker, name, 100)
    consumer = broker.consumer(group, start="earliest")
    consumer.subscribe([name])
    assert values(drain(consumer, 100)) == list(range(100))
    assert consumer.committed([(name, 0)]) == {(name, 0): None}
    assert consumer.position() == {(name, 0): 100}
    consumer.commit({(name, 0): 40})
    consumer.close()

    again = broker.consumer(group, start="latest")
    again.subscribe([name])
    assert values(drain(again, 60)) == list(range(40, 100))
    assert again.committed([(name, 0)]) == {(name, 0): 40}
    assert broker.committed(group, [(name, 0)]) == {(name, 0): 40}
    again.close()


def test_what_was_not_committed_is_read_again(broker: Broker, topic: TopicFactory, group: str) -> None:
    """Neither polling nor closing commits anything by itself."""
    name = topic()
    fill(broker, name, 10)
    for _ in range(2):
        consumer = broker.consumer(group, start="earliest")
        consumer.subscribe([name])
        assert values(drain(consumer, 10)) == list(range(10))
        consumer.close()


@pytest.mark.parametrize(("start", "first"), [("earliest", 0), ("latest", 20)])
def test_a_new_group_begins_by_the_start_policy(
    broker: Broker, topic: TopicFactory, group: str, start: str, first: int
) -> None:
    name = topic()
    fill(broker, name, 20)
    consumer = broker.consumer(group, start=start)  # type: ignore[arg-type]
    consumer.subscribe([name])
    poll = consumer.consume(100, 0)
    give_up = time.monotonic() + 20
    seen = values(poll)
    while not consumer.assignment and time.monotonic() < give_up:
        seen += values(consumer.consume(100, 0.1))
    fill(broker, name, 10, first=20)
    seen += values(drain(consumer, 30 - first - len(seen)))
    assert seen == list(range(first, 30))
    consumer.close()


def test_a_new_group_may_refuse_to_guess_where_to_begin(
    broker: Broker, topic: TopicFactory, group: str
) -> None:
    name = topic()
    consumer = broker.consumer(group)
    consumer.subscribe([name])
    with pytest.raises(BrokerError, match=rf"{group}.*no committed offset.*start"):
        drain(consumer, 1, limit_s=10)
    consumer.close()


def test_the_ends_of_partitions(broker: Broker, topic: TopicFactory) -> None:
    name = topic(partitions=2)
    fill(broker, name, 11, partitions=2)
    consumer = broker.consumer()
    parts = [(name, 0), (name, 1)]
    assert consumer.begin_offsets(parts) == {(name, 0): 0, (name, 1): 0}
    assert consumer.end_offsets(parts) == {(name, 0): 6, (name, 1): 5}
    assert consumer.end_offsets([]) == {}


def test_search_by_time(broker: Broker, topic: TopicFactory) -> None:
    name = topic(partitions=2)
    fill(broker, name, 10, partitions=2)  # times 1000..1009, even ones in partition 0
    consumer = broker.consumer()
    parts = [(name, 0), (name, 1)]
    if broker.capabilities.search_by_time:
        assert consumer.offsets_for_time(parts, 1005) == {(name, 0): 3, (name, 1): 2}
        assert consumer.offsets_for_time(parts, 5000) == consumer.end_offsets(parts)
    else:
        with pytest.raises(BrokerError, match="cannot search by time"):
            consumer.offsets_for_time(parts, 1005)


# -- manual assignment ------------------------------------------------------------------------


def test_manual_assignment_reads_from_the_given_offsets(broker: Broker, topic: TopicFactory) -> None:
    name = topic(partitions=2)
    fill(broker, name, 20, partitions=2)
    consumer = broker.consumer()
    consumer.assign([(name, 1, 4)])
    assert consumer.assignment == [(name, 1)]
    assert values(drain(consumer, 6)) == [9, 11, 13, 15, 17, 19]
    consumer.assign([(name, 0, 8), (name, 1, 9)])
    assert sorted(values(drain(consumer, 3))) == [16, 18, 19]
    consumer.assign([])
    assert consumer.assignment == []
    assert not consumer.consume(10, 0.2)


def test_seeking_moves_one_partition_only(broker: Broker, topic: TopicFactory) -> None:
    name = topic(partitions=2)
    fill(broker, name, 20, partitions=2)
    consumer = broker.consumer()
    consumer.assign([(name, 0, 0), (name, 1, 0)])
    assert drain(consumer, 20).size == 20
    consumer.seek({(name, 1): 8})
    assert values(drain(consumer, 2)) == [17, 19]
    assert not consumer.consume(10, 0.3)
    with pytest.raises(BrokerError, match="not assigned"):
        consumer.seek({(name, 7): 0})


def test_a_paused_partition_stands_still_and_goes_on(broker: Broker, topic: TopicFactory) -> None:
    name = topic()
    fill(broker, name, 5)
    consumer = broker.consumer()
    consumer.assign([(name, 0, BEGINNING)])
    assert drain(consumer, 5).size == 5
    consumer.pause([(name, 0)])
    fill(broker, name, 5, first=5)
    assert not drain(consumer, 1, limit_s=0.7)
    consumer.resume([(name, 0)])
    assert values(drain(consumer, 5)) == [5, 6, 7, 8, 9]


# -- groups -----------------------------------------------------------------------------------


def test_assignment_callbacks_choose_offsets_and_commit_on_the_way_out(
    broker: Broker, topic: TopicFactory, group: str
) -> None:
    name = topic(partitions=2)
    fill(broker, name, 20, partitions=2)
    told: list[tuple[str, list[Part]]] = []
    consumer = broker.consumer(group, start="earliest")

    def on_assign(parts: list[Part]) -> dict[Part, int]:
        told.append(("assigned", parts))
        return {(name, 1): 7}

    def on_revoke(parts: list[Part]) -> None:
        told.append(("revoked", parts))
        assert consumer.assignment == parts  # still this member's: the last chance to commit
        consumer.commit(consumer.position())

    consumer.subscribe([name], on_assign, on_revoke)
    batch = drain(consumer, 13)
    assert sorted(values(batch)) == sorted([*range(0, 20, 2), 15, 17, 19])
    consumer.close()
    assert told == [("assigned", [(name, 0), (name, 1)]), ("revoked", [(name, 0), (name, 1)])]
    assert broker.committed(group, [(name, 0), (name, 1)]) == {(name, 0): 10, (name, 1): 10}


def test_an_error_in_a_callback_reaches_the_caller(broker: Broker, topic: TopicFactory, group: str) -> None:
    name = topic()

    def on_assign(parts: list[Part]) -> None:
        raise LookupError("state cannot be restored")

    consumer = broker.consumer(group, start="earliest")
    consumer.subscribe([name], on_assign)
    with pytest.raises(LookupError, match="restored"):
        drain(consumer, 1, limit_s=10)
    consumer.close()


def test_two_members_share_partitions_and_nothing_is_read_by_both(
    broker: Broker, topic: TopicFactory, group: str
) -> None:
    """Cooperatively: the first keeps what it keeps, and is told of the difference only."""
    name = topic(partitions=4)
    taken: list[Part] = []
    added: list[Part] = []
    seen: list[tuple[int, int]] = []
    steady = broker.capabilities.steady_groups

    def read(consumer: Consumer) -> None:
        batch = consumer.consume(100, 0.05)
        seen.extend(zip(batch.partition, batch.offset, strict=True))
        after = {(name, part): at + 1 for part, at in zip(batch.partition, batch.offset, strict=True)}
        try:
            consumer.commit(after)
        except CommitRefused:
            if steady:
                raise

    one = broker.consumer(group, start="earliest")
    one.subscribe([name], on_assign=added.extend, on_revoke=taken.extend)
    fill(broker, name, 40, partitions=4)
    give_up = time.monotonic() + 60
    while len(seen) < 40 and time.monotonic() < give_up:
        read(one)
    two = broker.consumer(group, start="earliest")
    two.subscribe([name])
    while not (len(one.assignment) == len(two.assignment) == 2) and time.monotonic() < give_up:
        read(one)
        read(two)
    assert sorted(one.assignment + two.assignment) == [(name, part) for part in range(4)]
    if steady:
        assert len(taken) == 2
        assert sorted(added) == [(name, part) for part in range(4)]
        assert set(two.assignment) == set(taken)
    fill(broker, name, 40, partitions=4, first=40)
    while len(set(seen)) < 80 and time.monotonic() < give_up:
        read(one)
        read(two)
    assert sorted(seen if steady else set(seen)) == [(part, at) for part in range(4) for at in range(20)]
    one.close()
    two.close()


@pytest.mark.kafka
def test_whoever_keeps_partitions_goes_on_committing_while_another_member_joins(
    kafka_broker: KafkaBroker, kafka_topic: TopicFactory, group: str
) -> None:
    """By default members hear of a rebalance after up to 3 s, and until all have heard no commit comes back."""
    name, over, longest = kafka_topic(partitions=4), threading.Event(), [0.0]
    fill(kafka_broker, name, 4000, partitions=4)
    one, two = (kafka_broker.consumer(group, start="earliest") for _ in range(2))

    def read(consumer: Consumer) -> None:
        batch = consumer.consume(1, 0.05)
        after = {(name, part): at + 1 for part, at in zip(batch.partition, batch.offset, strict=True)}
        with contextlib.suppress(CommitRefused):  # of one that is going
            consumer.commit(after)

    def stay() -> None:
        while not over.is_set():
            began, joining = time.monotonic(), len(two.assignment) < 2
            read(one)
            if joining:
                longest[0] = max(longest[0], time.monotonic() - began)

    one.subscribe([name])
    poll_until(lambda: len(one.assignment) == 4, one)
    staying = threading.Thread(target=stay)
    staying.start()
    two.subscribe([name])
    poll_until(lambda: len(two.assignment) == 2, two)
    over.set()
    staying.join()
    one.close()
    two.close()
    assert longest[0] < 2.0


def test_a_commit_for_a_partition_of_another_member_is_refused(
    broker: Broker, topic: TopicFactory, group: str
) -> None:
    """A member that was closed cannot move the offsets of those who stayed."""
    name = topic()
    fill(broker, name, 5)
    owner = broker.consumer(group, start="earliest")
    owner.subscribe([name])
    assert drain(owner, 5).size == 5
    stranger = broker.consumer(group, start="earliest")
    with pytest.raises(CommitRefused, match=group):
        stranger.commit({(name, 0): 3})
    assert owner.committed([(name, 0)]) == {(name, 0): None}
    owner.close()


# -- what goes wrong --------------------------------------------------------------------------


def test_an_unknown_topic_is_named(broker: Broker, group: str) -> None:
    for use in (
        lambda: broker.consumer(group).subscribe(["no-such-topic"]),
        lambda: broker.consumer().assign([("no-such-topic", 0, 0)]),
        lambda: broker.consumer().end_offsets([("no-such-topic", 0)]),
    ):
        with pytest.raises(UnknownTopic, match="no-such-topic"):
            use()
    assert "no-such-topic" not in broker.admin().topics()


def test_a_failed_delivery_is_told_once_and_counted(broker: Broker, topic: TopicFactory) -> None:
    name = topic()
    producer = broker.producer()
    producer.produce("no-such-topic", b"bad")
    producer.produce(name, b"good")
    with pytest.raises(DeliveryFailed, match=r"1 records.*'no-such-topic'.*[Uu]nknown topic"):
        producer.flush(20)
    assert (producer.delivered, producer.waiting) == (1, 0)
    producer.flush(1)
    assert "no-such-topic" not in broker.admin().topics()


def produce_and_flush(producer: Producer, topic: str, partition: int) -> None:
    """Whether the client knows the topic already decides which of the two raises."""
    producer.produce(topic, b"x", partition=partition)
    producer.flush(20)


def test_an_unknown_partition_is_named(broker: Broker, topic: TopicFactory) -> None:
    name = topic(partitions=2)
    with pytest.raises(UnknownTopic, match="no partition 2, only 2"):
        broker.consumer().assign([(name, 2, 0)])
    producer = broker.producer()
    with pytest.raises(DeliveryFailed, match=rf"{name}.*[Uu]nknown partition"):
        produce_and_flush(producer, name, partition=2)


def test_an_oversized_record_is_refused_and_the_rest_delivered(broker: Broker, topic: TopicFactory) -> None:
    name = topic()
    producer = broker.producer()
    producer.produce(name, b"before")
    with pytest.raises(DeliveryFailed, match=rf"{name}.*100000000 bytes.*too large"):
        producer.produce(name, b"x" * 100_000_000)
    producer.produce(name, b"after")
    producer.flush(10)
    consumer = broker.consumer()
    consumer.assign([(name, 0, BEGINNING)])
    assert drain(consumer, 2).value == [b"before", b"after"]


def test_after_a_flush_everything_is_acknowledged(broker: Broker, topic: TopicFactory) -> None:
    name = topic()
    producer = broker.producer()
    producer.flush(1)
    for number in range(100):
        producer.produce(name, b"%d" % number)
    producer.flush(10)
    assert (producer.delivered, producer.waiting) == (100, 0)
    assert broker.consumer().end_offsets([(name, 0)]) == {(name, 0): 100}


@pytest.mark.parametrize("ask", ["admin", "subscribe", "committed", "offsets", "create", "flush"])
def test_a_broker_that_is_down_at_the_start_is_named_in_time(ask: str) -> None:
    (port,) = free_ports(1)
    broker = KafkaBroker(f"127.0.0.1:{port}", request_s=1.0)
    began = time.monotonic()
    uses: dict[str, Callable[[], object]] = {
        "admin": lambda: broker.admin().topics(),
        "subscribe": lambda: broker.consumer("g").subscribe(["x"]),
        "committed": lambda: broker.consumer("g").committed([("x", 0)]),
        "offsets": lambda: broker.consumer().end_offsets([("x", 0)]),
        "create": lambda: broker.admin().create("x", 1),
    }
    if ask == "flush":
        producer = broker.producer()
        producer.produce("x", b"1")
        with pytest.raises(DeliveryFailed, match=rf"'x'.*127\.0\.0\.1:{port}.*within 1 s.*no broker"):
            producer.flush(1)
        producer.poll()  # what the client has to tell stands in the same queue
        assert producer.waiting == 1
    else:
        with pytest.raises(BrokerUnavailable, match=rf"127\.0\.0\.1:{port}"):
            uses[ask]()
    assert time.monotonic() - began < 5
    broker.close()


class Outage(Protocol):
    def down(self) -> None: ...
    def up(self) -> None: ...


@pytest.fixture
def outage(broker: Broker, request: pytest.FixtureRequest) -> Iterator[Outage]:
    """Takes the broker under test off the network, and brings it back with what it held."""

    class Stop:
        def __init__(self, rig: Rig) -> None:
            self.down, self.up = rig.stop, rig.start

    one: Outage = broker if isinstance(broker, EmbeddedBroker) else Stop(request.getfixturevalue("kafka"))
    yield one
    one.up()


def test_a_broker_that_goes_away_and_comes_back_loses_nothing(
    broker: Broker, topic: TopicFactory, group: str, outage: Outage
) -> None:
    """Meanwhile: no exception, the outage is visible, and commits say so within seconds."""
    name = topic()
    fill(broker, name, 100)
    consumer = broker.consumer(group, start="earliest")
    consumer.subscribe([name])
    assert values(drain(consumer, 100)) == list(range(100))
    consumer.commit({(name, 0): 100})
    producer = broker.producer()
    for number in range(100, 150):
        producer.produce(name, b"%d" % number)
    producer.flush(10)
    seen = values(drain(consumer, 50))

    outage.down()
    poll_until(lambda: consumer.broker_down, consumer)
    for number in range(150, 200):
        producer.produce(name, b"%d" % number)
    began = time.monotonic()
    with pytest.raises(DeliveryFailed, match=rf"50 records for \['{name}'\].*still queued"):
        producer.flush(0.5)
    with pytest.raises(BrokerUnavailable, match=group):
        consumer.commit({(name, 0): 150})
    assert time.monotonic() - began < 5
    assert consumer.events().errors

    outage.up()
    producer.flush(30)
    assert (producer.delivered, producer.waiting) == (100, 0)
    give_up = time.monotonic() + 30
    while len(set(seen)) < 100 and time.monotonic() < give_up:
        # Where the session ended meanwhile, what was not committed comes twice.
        seen += values(consumer.consume(1000, 0.1))
    assert sorted(set(seen)) == list(range(100, 200))
    assert not consumer.broker_down
    consumer.commit({(name, 0): 200})
    assert consumer.committed([(name, 0)]) == {(name, 0): 200}
    consumer.close()


def test_the_outage_ends_to_be_seen_while_nothing_moves(
    broker: Broker, topic: TopicFactory, outage: Outage
) -> None:
    name = topic()
    fill(broker, name, 1)
    consumer = broker.consumer()
    consumer.assign([(name, 0, BEGINNING)])
    drain(consumer, 1)  # a node that was never connected to does not count as down
    assert not consumer.broker_down
    outage.down()
    poll_until(lambda: consumer.broker_down, consumer)
    outage.up()
    poll_until(lambda: not consumer.broker_down, consumer)


# -- topics -----------------------------------------------------------------------------------


def test_topics_are_made_once_and_listed(broker: Broker, topic: TopicFactory) -> None:
    name = topic(partitions=3)
    admin = broker.admin()
    assert admin.create(name, 5) is False
    assert admin.topics()[name].partitions == 3
    assert admin.topics()[name].replicas == 1


def test_a_topic_that_is_made_anew_has_another_id(broker: Broker, topic: TopicFactory) -> None:
    admin = broker.admin()
    ids = [admin.topic_id(topic()) for _ in range(2)]
    if broker.capabilities.topic_ids:
        assert len({*ids, ""}) == 3
        with pytest.raises(UnknownTopic, match="no-such-topic"):
            admin.topic_id("no-such-topic")
    else:
        assert ids == ["", ""]


def test_topic_settings(broker: Broker, topic: TopicFactory) -> None:
    admin = broker.admin()
    compacted = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}
    if broker.capabilities.compaction:
        name = topic(config=compacted)
        assert compacted.items() <= admin.describe_config(name).items()
        with pytest.raises(UnknownTopic, match="no-such-topic"):
            admin.describe_config("no-such-topic")
        with pytest.raises(BrokerError, match="odd"):
            admin.create(f"{name}.odd", 1, {"no.such.setting": "1"})
    else:
        with pytest.raises(BrokerError, match="no topic settings"):
            topic(config=compacted)
        with pytest.raises(BrokerError, match="no topic settings"):
            admin.describe_config(topic())


# -- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"no.such.setting": 1}, "no.such.setting"),
        ({"security.protocol": "shouting"}, "security.protocol"),
        ({"enable.auto.commit": True}, "enable.auto.commit"),
        ({"group.id": "mine"}, "group_id"),
        ({"acks": 0}, "acks"),
    ],
)
def test_impossible_settings_are_named(table: dict[str, str | int], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        open_broker("127.0.0.1:1", table).consumer("g")


def test_secrets_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)
    secret = "a-very-secret-password"
    table = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "u",
        "sasl.password": secret,
        "debug": "all",
    }
    broker = KafkaBroker(f"127.0.0.1:{port}", table, request_s=0.5)
    with caplog.at_level("DEBUG"), pytest.raises(BrokerUnavailable) as caught:
        broker.admin().topics()
    assert secret not in caplog.text + str(caught.value) + repr(broker)
    broker.close()


def test_closing_twice_and_closing_the_broker_closes_what_is_open(
    broker: Broker, topic: TopicFactory
) -> None:
    name = topic()
    consumer, producer, admin = broker.consumer(), broker.producer(), broker.admin()
    consumer.assign([(name, 0, BEGINNING)])
    producer.produce(name, b"x")
    producer.flush(10)
    for client in (consumer, producer, admin):
        client.close()
        client.close()
    left = broker.consumer()
    broker.close()
    with pytest.raises(RuntimeError):
        left.consume(1, 0)
