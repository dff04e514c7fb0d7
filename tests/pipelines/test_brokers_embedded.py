"""The embedded broker: faults on demand, data loss, other processes, its end."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from confluent_kafka import KafkaError, KafkaException
from rigs.fixtures import TopicFactory, topics_on
from tocsin.errors import BrokerError, BrokerUnavailable, DeliveryFailed, UnknownTopic
from tocsin.pipelines.brokers import BEGINNING, Batch, CommitRefused, DataLoss, open_broker
from tocsin.pipelines.brokers.consumer import KafkaConsumer
from tocsin.pipelines.brokers.embedded import EmbeddedBroker
from tocsin.pipelines.brokers.faults import Quiet
from tocsin.pipelines.brokers.mock import Request

ILLEGAL_GENERATION, NOT_LEADER = 22, 6
TOPIC_AUTHORIZATION_FAILED, CLUSTER_AUTHORIZATION_FAILED = 29, 31


@pytest.fixture
def topic(embedded: EmbeddedBroker) -> TopicFactory:
    return topics_on(embedded, "t")


def fill(broker: EmbeddedBroker, topic: str, count: int) -> None:
    producer = broker.producer()
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=0)
    producer.flush(10)
    producer.close()


def offsets(consumer: KafkaConsumer, count: int, limit_s: float = 15.0) -> list[int]:
    found: list[int] = []
    give_up = time.monotonic() + limit_s
    while len(found) < count and time.monotonic() < give_up:
        found += consumer.consume(1000, 0.1).offset
    return found


def test_it_is_opened_by_name() -> None:
    broker = open_broker("embedded")
    assert isinstance(broker, EmbeddedBroker)
    assert broker.bootstrap.startswith("127.0.0.1:")
    assert not any(broker.capabilities)
    broker.close()


def test_another_process_can_use_it(embedded: EmbeddedBroker, topic: TopicFactory) -> None:
    name = topic()
    code = (
        "import sys; from confluent_kafka import Producer; p = Producer({'bootstrap.servers': sys.argv[1]});"
        "p.produce(sys.argv[2], b'from afar'); sys.exit(p.flush(10))"
    )
    subprocess.run([sys.executable, "-c", code, embedded.bootstrap, name], check=True, timeout=30)
    consumer = embedded.consumer()
    consumer.assign([(name, 0, BEGINNING)])
    batch = Batch([], [], [], [], [], [], [])
    while not batch:
        batch = consumer.consume(10, 1.0)
    assert batch.value == [b"from afar"]


def test_it_ends_with_its_object() -> None:
    broker = EmbeddedBroker()
    cluster, bootstrap = broker._cluster, broker.bootstrap
    assert cluster.open
    del broker
    gc.collect()
    assert not cluster.open
    with pytest.raises(BrokerError, match="closed"):
        cluster.bootstraps()
    with pytest.raises(BrokerUnavailable):
        KafkaConsumer(
            {"bootstrap.servers": bootstrap, "group.id": "g"}, start="error", headers=True, request_s=0.5
        ).subscribe(["x"])


def test_a_closed_broker_says_so() -> None:
    broker = EmbeddedBroker()
    broker.close()
    broker.close()
    with pytest.raises(BrokerError, match="closed"):
        broker.down()


def test_records_that_retention_took_are_reported_and_reading_goes_on(
    embedded: EmbeddedBroker, topic: TopicFactory
) -> None:
    name = topic()
    fill(embedded, name, 100)
    consumer = embedded.consumer("g", start="earliest")
    consumer.subscribe([name])
    assert len(offsets(consumer, 100)) == 100
    consumer.commit({(name, 0): 10})
    consumer.close()
    embedded.delete_records(name, 0, 60)

    again = embedded.consumer("g", start="latest")
    again.subscribe([name])
    assert offsets(again, 40) == list(range(60, 100))
    loss = DataLoss(name, 0, wanted=10, resumed=60)
    assert again.events().losses == [loss]
    assert loss.lost == 50
    assert again.events().losses == []
    again.close()


def test_an_offset_beyond_the_end_means_a_new_topic_and_starts_at_its_beginning(
    embedded: EmbeddedBroker, topic: TopicFactory
) -> None:
    name = topic()
    fill(embedded, name, 5)
    consumer = embedded.consumer()
    consumer.assign([(name, 0, 1000)])
    assert offsets(consumer, 5) == [0, 1, 2, 3, 4]
    (loss,) = consumer.events().losses
    assert loss == DataLoss(name, 0, wanted=1000, resumed=0)
    assert loss.lost == 0


def test_a_loss_during_an_outage_is_dealt_with_after_it(
    embedded: EmbeddedBroker, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partition stands still meanwhile; nothing is raised."""
    name = topic()
    fill(embedded, name, 10)
    embedded.delete_records(name, 0, 5)
    consumer = embedded.consumer()
    monkeypatch.setattr(consumer, "begin_offsets", raise_unavailable)
    consumer.assign([(name, 0, 0)])
    assert offsets(consumer, 1, limit_s=1.0) == []
    assert consumer.events().losses == []
    monkeypatch.undo()
    assert offsets(consumer, 5) == [5, 6, 7, 8, 9]
    assert consumer.events().losses == [DataLoss(name, 0, 0, 5)]


def raise_unavailable(parts: object) -> None:
    raise BrokerUnavailable("for now")


def test_a_topic_that_is_deleted_while_it_is_read_is_named(
    embedded: EmbeddedBroker, topic: TopicFactory
) -> None:
    name = topic()
    fill(embedded, name, 5)
    consumer = embedded.consumer("g", start="earliest")
    consumer.subscribe([name])
    assert len(offsets(consumer, 5)) == 5
    consumer._watch.doubt = True  # a false alarm: an answer of a node that has not yet heard of the topic
    assert offsets(consumer, 1, limit_s=0.3) == []
    embedded.delete_topic(name)
    with pytest.raises(UnknownTopic, match=name):
        offsets(consumer, 1, limit_s=20)
    consumer.close()


def test_clients_close_in_time_while_the_broker_is_away(
    embedded: EmbeddedBroker, topic: TopicFactory
) -> None:
    name = topic()
    fill(embedded, name, 5)
    consumer, producer = embedded.consumer("g", start="earliest"), embedded.producer()
    consumer.subscribe([name])
    assert len(offsets(consumer, 5)) == 5
    embedded.down()
    while not consumer.broker_down:
        consumer.consume(1, 0.1)
    producer.produce(name, b"x")
    began = time.monotonic()
    consumer.close()
    producer.close()
    assert time.monotonic() - began < 5


def test_transient_produce_errors_lose_and_double_nothing(
    embedded: EmbeddedBroker, topic: TopicFactory
) -> None:
    name = topic()
    embedded.spoil(Request.PRODUCE, [NOT_LEADER, NOT_LEADER, -195, NOT_LEADER])
    fill(embedded, name, 100)
    consumer = embedded.consumer()
    consumer.assign([(name, 0, BEGINNING)])
    assert offsets(consumer, 100) == list(range(100))
    assert consumer.end_offsets([(name, 0)]) == {(name, 0): 100}


def test_a_permanent_produce_error_names_topic_and_reason(
    embedded: EmbeddedBroker, topic: TopicFactory
) -> None:
    name = topic()
    producer = embedded.producer()
    embedded.spoil(Request.PRODUCE, [TOPIC_AUTHORIZATION_FAILED])
    producer.produce(name, b"x", partition=0)
    with pytest.raises(DeliveryFailed, match=rf"'{name}'.*[Aa]uthorization"):
        producer.flush(10)


def test_a_full_queue_waits_and_in_the_end_fails(topic: TopicFactory, embedded: EmbeddedBroker) -> None:
    broker = EmbeddedBroker({"queue.buffering.max.messages": 10, "queue.buffering.max.kbytes": 10_000})
    name = topics_on(broker, "t")()
    producer = broker.producer()
    for number in range(200):  # far more than fit: each waits for room
        producer.produce(name, b"%d" % number)
    producer.flush(10)
    assert producer.delivered == 200
    broker.down()
    producer._block_s = 0.3
    for number in range(10):
        producer.produce(name, b"%d" % number)
    with pytest.raises(DeliveryFailed, match=rf"'{name}'.*queue of 10 records has been full for 0.3 s"):
        producer.produce(name, b"one too many")
    broker.close()


def test_a_producer_that_may_not_produce_at_all_says_so_for_good(
    embedded: EmbeddedBroker, topic: TopicFactory
) -> None:
    name = topic()
    embedded.spoil(Request.INIT_PRODUCER_ID, [CLUSTER_AUTHORIZATION_FAILED])
    producer = embedded.producer()
    producer.produce(name, b"x", partition=0)
    for _ in range(2):
        with pytest.raises(DeliveryFailed, match=rf"'{name}'.*cannot go on.*[Aa]uthorization"):
            producer.flush(10)
    producer.close()


def test_a_fatal_error_that_the_client_lost_is_named_by_its_log(
    embedded: EmbeddedBroker, topic: TopicFactory
) -> None:
    producer = embedded.producer()
    producer.produce(topic(), b"x", partition=0)

    class Losing:
        """A client that logs a fatal error and then loses it, as confluent-kafka does when both meet in one poll."""

        def __init__(self, client: object) -> None:
            self._client = client

        def flush(self, timeout_s: float) -> int:
            producer._watch.log(2, "%s [%s] %s", "FATAL", "tocsin#1", "Fatal error: no such right")
            raise SystemError

        def __len__(self) -> int:
            return 1

        def __getattr__(self, name: str) -> object:
            return getattr(self._client, name)

    client, producer._client = producer._client, Losing(producer._client)
    with pytest.raises(DeliveryFailed, match=r"cannot go on: Fatal error: no such right"):
        producer.flush(10)
    producer._client = client
    producer.close()


def test_a_fatal_error_that_is_told_at_the_close_ends_nothing(
    embedded: EmbeddedBroker, topic: TopicFactory
) -> None:
    """As a broker's answer to the abort of a transaction whose commit timed out."""
    producer = embedded.producer()
    client: Any = producer._client
    fatal = KafkaException(KafkaError(KafkaError.INVALID_TXN_STATE, "Failed to end transaction", fatal=True))
    producer._client = MagicMock(**{"close.side_effect": fatal, "flush.return_value": 0})
    producer.close()
    producer._client.close.assert_called_once_with()
    client.close()


def test_a_node_that_has_not_heard_of_a_topic_is_asked_again(
    embedded: EmbeddedBroker, topic: TopicFactory
) -> None:
    name, asked = topic(), []
    consumer = embedded.consumer("g", start="earliest")
    client: Any = consumer._client

    def hearsay(wanted: str, timeout: float) -> object:
        asked.append(wanted)
        return client.list_topics("nobody-knows" if len(asked) < 3 else wanted, timeout=timeout)

    def renamed(wanted: str, timeout: float) -> object:
        return SimpleNamespace(topics={wanted: next(iter(hearsay(wanted, timeout).topics.values()))})

    consumer._client = SimpleNamespace(list_topics=renamed)
    assert consumer._partitions(name) == {0}
    assert len(asked) == 3
    consumer._client = client
    consumer.close()


def test_a_commit_of_an_older_generation_is_refused(embedded: EmbeddedBroker, topic: TopicFactory) -> None:
    name = topic()
    fill(embedded, name, 1)
    consumer = embedded.consumer("g", start="earliest")
    consumer.subscribe([name])
    assert len(offsets(consumer, 1)) == 1
    embedded.spoil(Request.OFFSET_COMMIT, [ILLEGAL_GENERATION])
    with pytest.raises(CommitRefused, match=r"'g'.*moved on"):
        consumer.commit({(name, 0): 1})
    consumer.close()


def test_records_of_a_partition_that_goes_during_a_call_are_left_to_its_next_owner(
    embedded: EmbeddedBroker, topic: TopicFactory
) -> None:
    """`on_revoke` committed what was handed out before; a record handed out after it would be done twice."""
    name = topic()
    fill(embedded, name, 3)
    consumer = embedded.consumer()
    consumer.assign([(name, 0, 0)])
    time.sleep(0.3)

    class Revoking:
        """A client whose second call brings a revocation, as a rebalance between the two would."""

        def __init__(self, client: object) -> None:
            self._client = client

        def consume(self, count: int, timeout_s: float) -> list[object]:
            rest = self._client.consume(count, timeout_s)  # type: ignore[attr-defined]
            consumer._gone.add((name, 0))
            consumer._assigned.discard((name, 0))
            return list(rest)

        def __getattr__(self, attribute: str) -> object:
            return getattr(self._client, attribute)

    client = consumer._client
    consumer._client = Revoking(client)  # type: ignore[assignment]
    assert not consumer.consume(100, 5.0)
    consumer._client = client
    consumer._assigned.add((name, 0))


def test_log_lines_of_the_client_are_not_repeated() -> None:
    now = [0.0]
    quiet = Quiet(every_s=30.0, clock=lambda: now[0])

    def passes(text: str) -> bool:
        return quiet.filter(logging.LogRecord("x", logging.ERROR, "f", 1, text, (), None))

    assert passes("broker 1: connection refused after 3 ms")
    assert not passes("broker 1: connection refused after 17 ms")
    assert passes("broker 1: authentication failed")
    now[0] = 30.0
    assert passes("broker 1: connection refused after 17 ms")
    assert not passes(
        "CONFWARN [x]: Configuration property session.timeout.ms is a consumer property and will"
    )
