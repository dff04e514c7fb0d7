"""Fixtures around brokers, for every test; `conftest.py` takes them in."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from rigs import kafka as rig
from tocsin.pipelines.brokers import Broker
from tocsin.pipelines.brokers.embedded import EmbeddedBroker
from tocsin.pipelines.brokers.kafka import KafkaBroker

SECRET = f"planted-{uuid.uuid4().hex}"
"""A password that nothing may ever show."""
USERS = {"reader": "reader-password", **dict.fromkeys(("owner", "daemon", "analyst", "pager"), SECRET)}
_numbers = itertools.count(1)

NEEDS: dict[str, Callable[[], str | None]] = {
    "kafka": rig.missing,
    "collectd": lambda: (
        None
        if Path("/usr/lib/collectd/write_kafka.so").exists()
        else "collectd is missing: `make system` (as root)"
    ),
    "prometheus": lambda: (
        None
        if shutil.which("prometheus") and shutil.which("promtool")
        else "Prometheus is missing: `make system` (as root)"
    ),
    "chromium": lambda: None if shutil.which("chromium") else "Chromium is missing: `make system` (as root)",
    "alertmanager": lambda: (
        None
        if shutil.which("prometheus-alertmanager") and shutil.which("amtool")
        else "Alertmanager is missing: `make system` (as root)"
    ),
    "systemd": lambda: (
        None if shutil.which("systemd-analyze") else "systemd-analyze is missing: `make system` (as root)"
    ),
    "kcat": lambda: None if shutil.which("kcat") else "kcat is missing: `make system` (as root)",
}
"""Marker -> why tests with it cannot run here."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, by name and with what helps, what lacks its component; under TOCSIN_TEST_NO_SKIP=1 fail it."""
    for marker, missing in NEEDS.items():
        if item.get_closest_marker(marker) or marker in getattr(item, "fixturenames", ()):
            why = missing()
            if why and os.environ.get("TOCSIN_TEST_NO_SKIP") == "1":
                pytest.fail(f"may not be skipped here, but {why}", pytrace=False)
            if why:
                pytest.skip(why)


class TopicFactory(Protocol):
    """Makes a topic with a name of its own."""

    def __call__(self, partitions: int = 1, config: Mapping[str, str] | None = None) -> str: ...


def topics_on(broker: Broker, test: str) -> TopicFactory:
    """A factory of topics on a broker; their names begin like the test's."""
    stem = re.sub(r"[^a-zA-Z0-9]+", "-", test).strip("-")[:60]

    def make(partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        name = f"{stem}.{next(_numbers)}"
        admin = broker.admin()
        assert admin.create(name, partitions, config)
        admin.close()
        return name

    return make


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rig.Rig]:
    """One node of real Kafka for the whole session, started when first asked for."""
    with rig.Rig(tmp_path_factory.mktemp("kafka") / "rig", users=USERS) as one:
        _meet_groups(one.bootstrap)
        yield one


def _meet_groups(bootstrap: str) -> None:
    """Ask for a group until its coordinator answers: a new cluster makes the topic of groups at the first request."""
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": "rig", "log_level": 0})
    try:
        give_up = time.monotonic() + 60
        while True:
            try:
                client.committed([TopicPartition("rig", 0)], timeout=10)
                return
            except KafkaException:  # at once where the coordinator is known but not ready
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.1)
    finally:
        client.close()


@pytest.fixture
def kafka_broker(kafka: rig.Rig) -> Iterator[KafkaBroker]:
    """The session's Kafka, through the product's own client; what a test leaves open is closed."""
    broker = KafkaBroker(kafka.bootstrap)
    yield broker
    broker.close()


@pytest.fixture
def kafka_topic(kafka_broker: KafkaBroker, request: pytest.FixtureRequest) -> TopicFactory:
    """Makes topics on the session's Kafka."""
    return topics_on(kafka_broker, request.node.name)


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    """An embedded broker of its own, with sessions so short that its rebalances are bearable."""
    broker = EmbeddedBroker({"session.timeout.ms": 3000, "heartbeat.interval.ms": 300})
    yield broker
    broker.close()


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each broker in turn."""
    one: Broker = request.getfixturevalue("kafka_broker" if request.param == "kafka" else request.param)
    return one


@pytest.fixture
def topic(broker: Broker, request: pytest.FixtureRequest) -> TopicFactory:
    """Makes topics on `broker`."""
    return topics_on(broker, request.node.name)
