"""Transactions, held against a real Kafka: what is sent and the offsets it was made from are seen together or never."""

from __future__ import annotations

import itertools
import time

import pytest
from rigs.fixtures import TopicFactory
from tocsin.errors import DeliveryFailed, SettingsError
from tocsin.pipelines.brokers import BEGINNING, Broker, Consumer
from tocsin.pipelines.brokers.base import TransactionFailed
from tocsin.pipelines.brokers.embedded import EmbeddedBroker
from tocsin.pipelines.brokers.kafka import KafkaBroker

pytestmark = pytest.mark.kafka

_ids = (f"transactions-{number}" for number in itertools.count())


def member(broker: Broker, topic: str, group: str) -> Consumer:
    """A group's only member, with the topic's one partition."""
    consumer = broker.consumer(group, start="earliest")
    consumer.subscribe([topic])
    give_up = time.monotonic() + 30
    while not consumer.assignment:
        assert time.monotonic() < give_up
        consumer.consume(1, 0.1)
    return consumer


def glimpsed(broker: Broker, topic: str) -> list[bytes | None]:
    """What is committed of a topic that holds more."""
    whole, consumer = broker.consumer(uncommitted=True), broker.consumer()
    assert whole.end_offsets([(topic, 0)])[topic, 0] > 0
    consumer.assign([(topic, 0, BEGINNING)])
    found = consumer.consume(1000, 1.0).value
    consumer.close()
    whole.close()
    return found


def seen(broker: Broker, topic: str) -> list[bytes | None]:
    """What a reader of committed records finds in the topic, up to the end of all that was appended."""
    whole, consumer = broker.consumer(uncommitted=True), broker.consumer()
    end = whole.end_offsets([(topic, 0)])[topic, 0]
    consumer.assign([(topic, 0, BEGINNING)])
    found: list[bytes | None] = []
    give_up = time.monotonic() + 20
    while consumer.position().get((topic, 0), 0) < end:
        assert time.monotonic() < give_up
        found += consumer.consume(1000, 0.1).value
    consumer.close()
    whole.close()
    return found


def test_records_and_offsets_are_seen_together_or_never(
    kafka_broker: KafkaBroker, kafka_topic: TopicFactory
) -> None:
    source, target, name = kafka_topic(), kafka_topic(), next(_ids)
    consumer = member(kafka_broker, source, name)
    producer = kafka_broker.transactions(name)
    producer.produce(target, b"1")
    assert producer.open
    producer.flush(10)
    assert (glimpsed(kafka_broker, target), producer.delivered) == ([], 0)
    assert consumer.committed([(source, 0)]) == {(source, 0): None}
    producer.commit({(source, 0): 7}, consumer)
    assert (seen(kafka_broker, target), producer.delivered, producer.open) == ([b"1"], 1, False)
    assert consumer.committed([(source, 0)]) == {(source, 0): 7}
    producer.produce(target, b"2")
    producer.flush(10)
    producer.close()  # given up
    again = kafka_broker.transactions(name)
    again.produce(target, b"3")
    again.commit({(source, 0): 9}, consumer)
    assert seen(kafka_broker, target) == [b"1", b"3"]
    assert consumer.committed([(source, 0)]) == {(source, 0): 9}
    consumer.close()


def test_a_second_producer_of_the_same_id_ends_the_first(
    kafka_broker: KafkaBroker, kafka_topic: TopicFactory
) -> None:
    source, target, name = kafka_topic(), kafka_topic(), next(_ids)
    consumer = member(kafka_broker, source, name)
    first = kafka_broker.transactions(name)
    first.produce(target, b"never")
    first.flush(10)
    second = kafka_broker.transactions(name)
    with pytest.raises(TransactionFailed) as told:
        first.commit({(source, 0): 1}, consumer)
    assert told.value.fenced
    with pytest.raises(TransactionFailed):
        first.produce(target, b"never either")
    second.produce(target, b"once")
    second.commit({(source, 0): 2}, consumer)
    assert seen(kafka_broker, target) == [b"once"]
    consumer.close()


def test_who_is_no_member_any_more_commits_nothing(
    kafka_broker: KafkaBroker, kafka_topic: TopicFactory
) -> None:
    source, target, name = kafka_topic(), kafka_topic(), next(_ids)
    consumer = member(kafka_broker, source, name)
    stale = consumer.membership()
    consumer.close()
    after = member(kafka_broker, source, name)
    producer = kafka_broker.transactions(name)
    producer.produce(target, b"of a zombie")
    zombie = type("Zombie", (), {"membership": lambda self: stale})()
    with pytest.raises(TransactionFailed):
        producer.commit({(source, 0): 5}, zombie)
    producer.close()
    assert after.committed([(source, 0)]) == {(source, 0): None}
    assert seen(kafka_broker, target) == []
    after.close()


@pytest.mark.parametrize("then", ["produce", "commit"])
def test_a_record_that_is_refused_for_good_is_told_whatever_comes_first(
    kafka_broker: KafkaBroker, kafka_topic: TopicFactory, then: str
) -> None:
    """The client ends the transaction for it: what it says from then on is of the transaction alone."""
    name = kafka_topic(config={"max.message.bytes": "100"})
    producer, consumer = kafka_broker.transactions(next(_ids)), kafka_broker.consumer(f"{name}-group")

    def send_on() -> None:
        for _ in range(200):
            producer.produce(name, b"x" * 200)
            time.sleep(0.02)
            producer.poll(0)
            if then == "commit":
                producer.commit({}, consumer)

    with pytest.raises(DeliveryFailed, match=rf"'{name}'.*(too large|[Ss]ize)"):
        send_on()
    producer.close()
    consumer.close()


def test_without_a_broker_it_says_so_in_time() -> None:
    broker = KafkaBroker("127.0.0.1:1", request_s=0.5)
    begun = time.monotonic()
    with pytest.raises(TransactionFailed):
        broker.transactions("nobody")
    assert time.monotonic() - begun < 5


def test_a_broker_that_goes_away_is_no_refusal() -> None:
    """What was not taken in time is given up with its transaction: a daemon goes on, as at a refusal it would not."""
    broker = EmbeddedBroker(librdkafka={"message.timeout.ms": 500, "transaction.timeout.ms": 1000})
    broker.admin().create("out", 1)
    producer = broker.transactions("away")
    broker.down()
    producer.produce("out", b"1")
    time.sleep(1.5)
    with pytest.raises(TransactionFailed):
        producer.flush(2)
    producer.close()
    broker.close()


def test_the_id_has_a_place_of_its_own() -> None:
    with pytest.raises(SettingsError, match="transactional_id"):
        KafkaBroker("127.0.0.1:1", {"transactional.id": "x"})
