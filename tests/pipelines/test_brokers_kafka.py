"""What only a real Kafka can show: rights, logins, transactions, restarts, three nodes, eviction."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer as RawProducer
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient
from confluent_kafka.admin import ResourcePatternType as Pattern
from confluent_kafka.admin import ResourceType as Kind
from rigs.daemon import until
from rigs.fixtures import USERS, TopicFactory, topics_on
from rigs.kafka import Rig
from tocsin.errors import BrokerError, DeliveryFailed
from tocsin.pipelines.brokers import BEGINNING, Consumer, Part
from tocsin.pipelines.brokers.kafka import KafkaBroker

pytestmark = pytest.mark.kafka


def login(rig: Rig, password: str = USERS["reader"]) -> KafkaBroker:
    table = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "reader",
        "sasl.password": password,
    }
    return KafkaBroker(rig.login_bootstrap, table, request_s=3.0)


def allow(rig: Rig, operation: AclOperation, kind: Kind, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": rig.bootstrap})
    rule = AclBinding(kind, name, Pattern.LITERAL, "User:reader", "*", operation, AclPermissionType.ALLOW)
    for future in admin.create_acls([rule]).values():
        future.result()


def read(consumer: Consumer, count: int, limit_s: float = 30.0) -> list[bytes | None]:
    found: list[bytes | None] = []
    give_up = time.monotonic() + limit_s
    while len(found) < count and time.monotonic() < give_up:
        found += consumer.consume(1000, 0.1).value
    return found


def test_a_wrong_password_is_told_as_such(kafka: Rig) -> None:
    wrong = "not-the-password"
    broker = login(kafka, wrong)
    for use in (
        lambda: broker.admin().topics(),
        lambda: broker.consumer("g").subscribe(["x"]),
    ):
        with pytest.raises(BrokerError, match=r"refuses the connection.*uthentication.*sasl") as caught:
            use()
        assert wrong not in str(caught.value)
    broker.close()


def test_missing_rights_are_named_and_granted_ones_suffice(
    kafka: Rig, kafka_broker: KafkaBroker, kafka_topic: TopicFactory
) -> None:
    name = kafka_topic()
    producer = kafka_broker.producer()
    producer.produce(name, b"secret")
    producer.flush(10)
    broker, group = login(kafka), f"{name}.group"

    with pytest.raises(BrokerError, match=rf"'{name}'.*does not allow.*ACL"):
        broker.consumer(group).subscribe([name])
    with pytest.raises(BrokerError, match=rf"'{name}\.more'.*does not allow.*ACL"):
        broker.admin().create(f"{name}.more", 1)
    assert name not in broker.admin().topics()

    allow(kafka, AclOperation.READ, Kind.TOPIC, name)
    alone = (
        broker.consumer()
    )  # without a group no right to one is needed, whatever the library asks for meanwhile
    alone.assign([(name, 0, 0)])
    assert read(alone, 1) == [b"secret"]
    give_up = time.monotonic() + 1.5
    while time.monotonic() < give_up:
        assert read(alone, 1, 0.1) == []
    alone.close()
    consumer = broker.consumer(group, start="earliest")
    consumer.subscribe([name])
    with pytest.raises(BrokerError, match=rf"'{group}'.*does not allow.*ACL"):
        read(consumer, 1)
    consumer.close()

    allow(kafka, AclOperation.READ, Kind.GROUP, group)
    consumer = broker.consumer(group, start="earliest")
    consumer.subscribe([name])
    assert read(consumer, 1) == [b"secret"]
    consumer.commit({(name, 0): 1})
    consumer.close()

    poor = broker.producer()
    with pytest.raises(DeliveryFailed, match=rf"'{name}'.*(uthorization|its log says why)"):  # noqa: PT012
        poor.produce(name, b"x")
        poor.flush(10)
    broker.close()


def test_records_of_an_aborted_transaction_are_not_seen(
    kafka: Rig, kafka_broker: KafkaBroker, kafka_topic: TopicFactory
) -> None:
    name = kafka_topic()
    raw = RawProducer({"bootstrap.servers": kafka.bootstrap, "transactional.id": name, "retry.backoff.ms": 5})
    raw.init_transactions(10)
    for number, keep in enumerate([True, False, True]):
        raw.begin_transaction()
        raw.produce(name, b"%d" % number)
        raw.flush(10)
        if keep:
            raw.commit_transaction(10)
        else:
            raw.abort_transaction(10)
    consumer = kafka_broker.consumer()
    consumer.assign([(name, 0, BEGINNING)])
    assert read(consumer, 2) == [b"0", b"2"]
    assert not read(consumer, 1, limit_s=0.5)

    raw.begin_transaction()
    raw.produce(name, b"open")
    raw.flush(10)
    # 0, commit, 1, abort, 2, commit; the open one is behind the end that a reader can reach.
    assert consumer.end_offsets([(name, 0)]) == {(name, 0): 6}
    assert not read(consumer, 1, limit_s=0.5)
    raw.commit_transaction(10)
    assert read(consumer, 1) == [b"open"]


def test_a_topic_with_a_smaller_limit_refuses_a_record_by_name(
    kafka_broker: KafkaBroker, kafka_topic: TopicFactory
) -> None:
    """The client would take it: the refusal comes with the delivery report."""
    name = kafka_topic(config={"max.message.bytes": "1000"})
    producer = kafka_broker.producer()
    producer.produce(name, b"x" * 5000)
    with pytest.raises(DeliveryFailed, match=rf"'{name}'.*too large"):
        producer.flush(10)


def test_the_limit_of_a_topic_is_the_only_one(kafka_broker: KafkaBroker, kafka_topic: TopicFactory) -> None:
    """The client library's own, a megabyte, would stop what came in from going out again with headers."""
    name = kafka_topic(config={"max.message.bytes": "3000000"})
    producer = kafka_broker.producer()
    producer.produce(name, b"x" * 2_000_000)
    producer.flush(30)
    consumer = kafka_broker.consumer()
    consumer.assign([(name, 0, BEGINNING)])
    assert [len(value or b"") for value in read(consumer, 1)] == [2_000_000]
    consumer.close()


def test_what_retention_took_shows_as_data_loss(
    kafka: Rig, kafka_broker: KafkaBroker, kafka_topic: TopicFactory
) -> None:
    from confluent_kafka import TopicPartition

    name = kafka_topic()
    producer = kafka_broker.producer()
    for number in range(20):
        producer.produce(name, b"%d" % number)
    producer.flush(10)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in admin.delete_records([TopicPartition(name, 0, 15)]).values():
        future.result()
    consumer = kafka_broker.consumer()
    consumer.assign([(name, 0, 5)])
    assert read(consumer, 5) == [b"15", b"16", b"17", b"18", b"19"]
    assert [(loss.wanted, loss.resumed) for loss in consumer.events().losses] == [(5, 15)]


def test_a_member_that_stops_polling_is_thrown_out_told_and_taken_back(
    kafka: Rig, kafka_topic: TopicFactory
) -> None:
    name = kafka_topic()
    table = {"max.poll.interval.ms": 6000, "session.timeout.ms": 6000}
    broker = KafkaBroker(kafka.bootstrap, table)
    producer = broker.producer()
    producer.produce(name, b"x")
    producer.flush(10)
    lost: list[Part] = []
    revoked: list[Part] = []
    consumer = broker.consumer(f"{name}.group", start="earliest")
    consumer.subscribe([name], on_revoke=revoked.extend, on_lost=lost.extend)
    assert read(consumer, 1) == [b"x"]
    time.sleep(7.5)
    assert read(consumer, 1) == [b"x"]  # nothing was committed
    assert consumer.events().evictions == 1
    assert (lost, revoked) == ([(name, 0)], [])
    broker.close()


def test_the_group_protocol_of_kafka_4_works_too(kafka: Rig, kafka_topic: TopicFactory) -> None:
    name = kafka_topic(partitions=2)
    broker = KafkaBroker(kafka.bootstrap, {"group.protocol": "consumer"})
    producer = broker.producer()
    for number in range(10):
        producer.produce(name, b"%d" % number, partition=number % 2)
    producer.flush(10)
    one = broker.consumer(f"{name}.group", start="earliest")
    one.subscribe([name])
    assert len(read(one, 10)) == 10
    one.commit({(name, 0): 5, (name, 1): 5})
    two = broker.consumer(f"{name}.group", start="earliest")
    two.subscribe([name])
    give_up = time.monotonic() + 40
    while not (len(one.assignment) == len(two.assignment) == 1) and time.monotonic() < give_up:
        assert not one.consume(10, 0.05)
        assert not two.consume(10, 0.05)
    assert sorted(one.assignment + two.assignment) == [(name, 0), (name, 1)]
    broker.close()


def test_compaction_keeps_the_newest_value_of_a_key(
    kafka_broker: KafkaBroker, kafka_topic: TopicFactory
) -> None:
    """The changelog rests on it; the settings make the cleaner run within seconds."""
    name = kafka_topic(
        config={
            "cleanup.policy": "compact",
            "segment.ms": "100",
            "min.cleanable.dirty.ratio": "0.01",
            "max.compaction.lag.ms": "100",
        }
    )
    producer = kafka_broker.producer()
    for number in range(20):
        producer.produce(name, b"%d" % number, key=b"k%d" % (number % 2))
        producer.flush(10)
        time.sleep(0.01)
    give_up = time.monotonic() + 60
    kept: list[bytes | None] = []
    while time.monotonic() < give_up:
        time.sleep(1.0)
        producer.produce(name, b"roll", key=b"roll")  # a new segment: the active one is never cleaned
        producer.flush(10)
        consumer = kafka_broker.consumer()
        consumer.assign([(name, 0, BEGINNING)])
        end = consumer.end_offsets([(name, 0)])[(name, 0)]
        kept = []
        while consumer.position().get((name, 0), 0) < end:
            kept += consumer.consume(1000, 0.1).value
        consumer.close()
        if len(kept) < 20:
            break
    assert [value for value in kept if value != b"roll"][-2:] == [b"18", b"19"]
    assert len(kept) < 20


@pytest.mark.slow
def test_a_node_of_three_is_killed_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    with Rig(tmp_path / "rig", nodes=3) as rig:
        broker = KafkaBroker(rig.bootstrap)
        name = topics_on(broker, "t")(partitions=3)
        admin = broker.admin()
        made = until(lambda: admin.topics().get(name), "the node that is asked to know the topic, too")
        assert made.replicas == 3
        consumer = broker.consumer("g", start="earliest")
        consumer.subscribe([name])
        producer = broker.producer()
        seen: list[bytes | None] = []
        for number in range(300):
            producer.produce(name, b"%d" % number, partition=number % 3)
            if number == 100:
                rig.nodes[0].stop(kill=True)
            if number == 200:
                rig.nodes[0].start()
            if number % 10 == 0:
                producer.flush(60)
                seen += consumer.consume(100, 0.05).value
        producer.flush(60)
        assert producer.delivered == 300
        seen += read(consumer, 300 - len(seen), limit_s=60)
        assert sorted(int(value or b"-1") for value in set(seen)) == list(range(300))
        assert sum(broker.consumer().end_offsets([(name, part) for part in range(3)]).values()) == 300
        broker.close()
