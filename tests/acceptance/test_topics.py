"""What an operator does to topics under a daemon: made anew, given partitions, emptied before they were read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from rigs.daemon import Daemon, Home, until
from telemetry import keys, messages

pytestmark = pytest.mark.kafka

QUICK = {"librdkafka": {"topic.metadata.refresh.interval.ms": 2000}}
"""Clients hear of what became of a topic in minutes, by default."""


def client(home: Home) -> AdminClient:
    return AdminClient({"bootstrap.servers": home.broker.bootstrap})


def begun(home: Home, trained: Any, records: int) -> tuple[Daemon, list[bytes], list[bytes]]:
    """A daemon that has read the first so many records; all of them, and their keys."""
    home.make_topics()
    values, names = messages(trained.live), keys(trained.live)
    daemon = home.start()
    home.send(values[:records], names[:records])
    home.caught_up()
    return daemon, values, names


def make_anew(home: Home) -> None:
    """Delete the input, and make it again."""
    name = home.topic("input")
    admin = client(home)
    admin.delete_topics([name])[name].result(10)
    until(lambda: name not in home.broker.admin().topics(), "the topic to be gone")
    home.make_topic("input", 3)


def scored(home: Home) -> Counter[tuple[str, int]]:
    """How often each entity's record of each millisecond is in the scores."""
    scores = (message.json() for message in home.read("scores"))
    return Counter((one["entity"], one["time"] // 1000) for one in scores)


def sent(values: list[bytes]) -> Counter[tuple[str, int]]:
    """How often it was sent."""
    return Counter((one["host"], one["ts"]) for one in map(json.loads, values))


@pytest.mark.parametrize("guarantee", ["at_least_once", pytest.param("exactly_once", marks=pytest.mark.slow)])
def test_a_topic_that_was_made_anew_while_nobody_looked(
    make_home: Callable[..., Home], trained: Any, guarantee: str
) -> None:
    """The new one is longer than what was read of the old: only its id tells them apart."""
    home = make_home(f"anew-{guarantee}")
    home.write(home.stream(guarantee=guarantee))
    daemon, values, names = begun(home, trained, 1500)
    daemon.stop()
    make_anew(home)
    home.send(values[1500:4500], names[1500:4500])
    daemon = home.start()
    home.caught_up()
    assert "made anew" in daemon.tail()
    assert daemon.metric("tocsin_entities_warming") == 0, "what was known of entities is kept"
    daemon.kill()  # what it had learned of the new topic must do
    daemon = home.start()
    home.send(values[4500:5000], names[4500:5000])
    home.caught_up()
    assert "made anew" not in daemon.tail()
    daemon.stop()
    assert scored(home) == sent(values[:5000])


@pytest.mark.slow
def test_a_topic_that_is_made_anew_under_a_daemon(make_home: Callable[..., Home], trained: Any) -> None:
    """Before its client has heard that it was gone."""
    home = make_home("anew-live")
    home.write(kafka=QUICK)
    daemon, values, names = begun(home, trained, 3000)
    make_anew(home)
    home.send(values[3000:4000], names[3000:4000])
    home.caught_up()
    assert "made anew" in daemon.tail()
    until(lambda: daemon.metric("tocsin_consumer_lag_records") == 0, "the lag to be that of the new topic")
    daemon.kill()
    daemon = home.start()
    home.send(values[4000:5000], names[4000:5000])
    home.caught_up()
    daemon.stop()
    assert scored(home) == sent(values[:5000])


def test_a_topic_that_is_given_partitions_under_a_daemon(
    make_home: Callable[..., Home], trained: Any
) -> None:
    home = make_home("grown-live")
    home.write(kafka=QUICK)
    daemon, values, names = begun(home, trained, 3000)
    admin = home.broker.admin()
    admin.grow(home.topic("input"), 4)
    admin.close()
    home.send(values[3000:4000], names[3000:4000])
    assert daemon.end() == 1
    assert "had 3 and has 4" in daemon.tail()
    assert "tocsin check --accept-partitions" in daemon.tail()


def test_what_retention_took_is_counted_to_the_record(make_home: Callable[..., Home], trained: Any) -> None:
    home = make_home("overtaken")
    home.write()
    daemon, values, names = begun(home, trained, 2000)
    read = home.committed()
    daemon.stop()
    home.send(values[2000:5000], names[2000:5000])
    deleted = {part: at + 150 + 50 * part[1] for part, at in read.items()}
    asked = [TopicPartition(*part, at) for part, at in deleted.items()]
    admin = client(home)
    for done in admin.delete_records(asked).values():
        done.result(10)
    daemon = home.start()
    home.caught_up()
    for (topic, partition), at in deleted.items():
        lost = daemon.metric("tocsin_data_loss_records_total", topic=topic, partition=str(partition))
        assert lost == at - read[topic, partition]
    daemon.stop()
    gone = sum(deleted.values()) - sum(read.values())
    assert scored(home).total() == 5000 - gone


@pytest.mark.parametrize("guarantee", ["at_least_once", pytest.param("exactly_once", marks=pytest.mark.slow)])
def test_a_topic_that_lost_its_end_while_nobody_looked(
    make_home: Callable[..., Home], trained: Any, guarantee: str
) -> None:
    """As by an election of a leader that lagged: what was read of it is longer than what is left."""
    home = make_home(f"cut-{guarantee}")
    home.write(home.stream(guarantee=guarantee))
    daemon, values, names = begun(home, trained, 1500)
    daemon.stop()
    group = home.broker.consumer(home.stream()["group_id"])
    group.commit({part: at + 1000 for part, at in home.committed().items()})
    group.close()
    daemon = home.start()
    home.send(values[1500:2500], names[1500:2500])
    home.caught_up()
    assert "cut off before what was read" in daemon.tail()
    daemon.kill()
    daemon = home.start()
    home.send(values[2500:3000], names[2500:3000])
    home.caught_up()
    assert "cut off before what was read" not in daemon.tail()
    daemon.stop()
    assert set(scored(home)) == set(sent(values[:3000]))
    told = (message.json() for message in home.read("scores"))
    assert set(Counter((one["partition"], one["offset"]) for one in told if "score" in one).values()) == {1}
