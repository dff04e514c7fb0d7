"""What other services may rely on when they read alerts: on each broker, and across the death of a process."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from rigs.fixtures import USERS, TopicFactory
from rigs.kafka import Rig
from rigs.source import ROOT
from tocsin import Alert, AlertSubscriber, Status, Unreadable
from tocsin.detector.alerts import Kind, Resolution, Severity, message_of
from tocsin.detector.happenings import Context, Happening, alert_of
from tocsin.errors import (
    BrokerError,
    BrokerUnavailable,
    NewerSchema,
    SettingsError,
    TocsinError,
    UnknownTopic,
)
from tocsin.pipelines.brokers import Broker
from tocsin.pipelines.brokers.embedded import EmbeddedBroker
from tocsin.pipelines.brokers.kafka import KafkaBroker

CONTEXT = Context("web", "web", "input", 0, "v0001", "v0001.1")
_groups = (f"service-{number}" for number in itertools.count())


def alert(number: int, status: Status = Status.FIRING, kind: Kind = Kind.ANOMALY, held: int = 0) -> Alert:
    reason = Resolution.RECOVERED if status is Status.RESOLVED else None
    what = Happening(
        kind, status, Severity.WARNING, f"host-{number}", 10**15 + number, 10**15 + number + 5, 1, 2, 3.0, 0.1,
        2.0, 3.5, reason, held=held,
    )  # fmt: skip
    return alert_of(what, CONTEXT)


def changed(one: Alert, **fields: object) -> bytes:
    content: dict[str, Any] = json.loads(message_of(one).value or b"")
    return json.dumps({**content, **fields}).encode()


def send(broker: Broker, topic: str, *messages: Alert | bytes, partition: int = 0) -> None:
    producer = broker.producer()
    for one in messages:
        value = one if isinstance(one, bytes) else message_of(one).value
        producer.produce(topic, value, key=b"k", partition=partition)
    producer.flush(20)
    producer.close()


Subscribe = Callable[..., AlertSubscriber]


@pytest.fixture
def subscribe(broker: Broker) -> Iterator[Subscribe]:
    """Makes subscribers on the broker, in a group of the test's own; short sessions, and closed at the end."""
    made: list[AlertSubscriber] = []
    group = next(_groups)

    def make(topics: str | list[str], **more: Any) -> AlertSubscriber:
        one = AlertSubscriber(
            broker.bootstrap, topics, more.pop("group", group), librdkafka=client(broker), **more
        )
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


def client(broker: Broker) -> dict[str, int]:
    session = 3000 if isinstance(broker, EmbeddedBroker) else 6000
    return {"session.timeout.ms": session, "heartbeat.interval.ms": 300, "fetch.wait.max.ms": 20}


def ids(alerts: Iterable[Alert]) -> list[int]:
    return [int(one.labels.entity.removeprefix("host-")) for one in alerts]


def read(subscriber: AlertSubscriber, count: int, acknowledge: bool = True) -> list[Alert]:
    """So many alerts, and that the next one is not there yet."""
    found = []
    for _ in range(count):
        one = subscriber.receive(timeout=30)
        assert one is not None
        found.append(one)
        if acknowledge:
            subscriber.acknowledge(one)
    assert subscriber.receive(timeout=0.3) is None
    return found


def committed(broker: Broker, subscriber: AlertSubscriber, topic: str) -> int | None:
    subscriber.receive(timeout=0)  # commits what may be
    return broker.committed(subscriber._group, [(topic, 0)])[topic, 0]


def test_alerts_come_typed_and_in_order(broker: Broker, topic: TopicFactory, subscribe: Subscribe) -> None:
    name = topic()
    sent = [alert(1), alert(2), alert(1, Status.RESOLVED)]
    send(broker, name, *sent)
    subscriber = subscribe(name, timeout=10)
    found = list(itertools.islice(subscriber, 3))
    assert found == sent
    assert found[0].labels.entity == "host-1"
    assert {one: one.status for one in found}[found[2]] is Status.RESOLVED  # they can be kept in sets
    with pytest.raises(AttributeError):
        found[0].alert_id = "x"  # type: ignore[misc]
    assert subscriber.counts == (3, 0, 0, 0, 0)


def test_offsets_are_committed_up_to_the_oldest_unacknowledged(
    broker: Broker, topic: TopicFactory, subscribe: Subscribe
) -> None:
    name = topic()
    send(broker, name, *map(alert, range(4)))
    subscriber = subscribe(name)
    found = read(subscriber, 4, acknowledge=False)
    assert committed(broker, subscriber, name) == 0
    for number, offset in ((1, 0), (3, 0), (0, 2), (2, 4)):
        assert subscriber.acknowledge(found[number])
        assert committed(broker, subscriber, name) == offset
    assert not subscriber.acknowledge(found[0])
    assert subscriber.counts.acknowledged == 4


def test_a_group_goes_on_behind_what_it_acknowledged(
    broker: Broker, topic: TopicFactory, subscribe: Subscribe
) -> None:
    name = topic()
    send(broker, name, *map(alert, range(5)))
    with subscribe(name) as first:
        found = read(first, 5, acknowledge=False)
        for number in (0, 1, 3):
            first.acknowledge(found[number])
    assert ids(read(subscribe(name), 3)) == [2, 3, 4]
    assert ids(read(subscribe(name, group=next(_groups)), 5)) == [0, 1, 2, 3, 4]


@contextmanager
def service(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that never outlives its test; what it says comes by `said`."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str], lines: int = 1) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(lines)]


READER = """
import sys, time
from tocsin import AlertSubscriber
bootstrap, topic, group, session, start = sys.argv[1:]
table = {"session.timeout.ms": int(session), "heartbeat.interval.ms": 300}
subscriber = AlertSubscriber(bootstrap, topic, group, librdkafka=table, start=start)
print("ready", flush=True)
for number, alert in enumerate(subscriber):
    if number == 0:
        subscriber.acknowledge(alert)
    print(alert.labels.entity, flush=True)
"""


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_a_subscriber_killed_before_acknowledging_is_handed_the_alert_again(
    broker: Broker, topic: TopicFactory, subscribe: Subscribe, start: str
) -> None:
    """One alert is acknowledged, three are read; the process dies; its successor gets the last two."""
    name, group = topic(), next(_groups)
    session = client(broker)["session.timeout.ms"]
    command = [sys.executable, "-c", READER, broker.bootstrap, name, group, str(session), start]
    if start == "latest":
        send(broker, name, alert(99))
    with service(command) as process:
        assert said(process) == ["ready\n"]
        give_up = time.monotonic() + 30
        while broker.committed(group, [(name, 0)])[name, 0] is None:  # until it has its partition
            assert time.monotonic() < give_up
            time.sleep(0.1)
        send(broker, name, alert(1), alert(2), alert(3))
        assert said(process, 3) == ["host-1\n", "host-2\n", "host-3\n"]
        first = 1 if start == "latest" else 0
        while broker.committed(group, [(name, 0)])[name, 0] != first + 1:
            assert time.monotonic() < give_up, "what was acknowledged was never committed"
            time.sleep(0.1)
        process.kill()
    assert ids(read(subscribe(name, group=group), 2)) == [2, 3]


def test_repeats_are_dropped_and_counted(broker: Broker, topic: TopicFactory, subscribe: Subscribe) -> None:
    name = topic()
    held = [alert(7, kind=Kind.DIGEST, held=count) for count in (1, 2, 2)]
    send(broker, name, alert(1), alert(1), alert(1, Status.RESOLVED), *held)
    subscriber = subscribe(name)
    first = subscriber.receive(timeout=30)
    assert first is not None
    subscriber.acknowledge(first)
    found = [first, *read(subscriber, 3)]
    assert [(one.labels.entity, one.status.value, one.annotations.held) for one in found] == [
        ("host-1", "firing", 0),
        ("host-1", "resolved", 0),
        ("host-7", "firing", 1),
        ("host-7", "firing", 2),
    ]
    send(broker, name, alert(1), alert(1, Status.RESOLVED))
    assert subscriber.receive(timeout=2) is None
    assert subscriber.counts == (4, 4, 4, 0, 0)
    assert committed(broker, subscriber, name) == 8


def test_a_repeat_of_an_unacknowledged_alert_is_not_committed_either(
    broker: Broker, topic: TopicFactory, subscribe: Subscribe
) -> None:
    name = topic()
    send(broker, name, alert(0), alert(1), alert(1), alert(2))
    subscriber = subscribe(name)
    found = read(subscriber, 3, acknowledge=False)
    subscriber.acknowledge(found[0])
    subscriber.acknowledge(found[2])
    assert committed(broker, subscriber, name) == 1
    subscriber.acknowledge(found[1])
    assert committed(broker, subscriber, name) == 4


def test_a_newer_minor_is_read_and_what_it_added_ignored(
    broker: Broker, topic: TopicFactory, subscribe: Subscribe
) -> None:
    name = topic()
    send(broker, name, changed(alert(1), schema_version="1.9", added={"later": [1]}))
    [found] = read(subscribe(name), 1)
    assert (found.schema_version, found.labels.entity) == ("1.9", "host-1")


NEWER = [
    changed(alert(5), schema_version="2.0", status=3),
    changed(alert(5), schema_version="1.9", kind="a kind of later days"),
]


@pytest.mark.parametrize("newer", NEWER, ids=["major", "minor with new values"])
def test_what_a_newer_version_wrote_is_refused_and_never_passed_over(
    embedded: EmbeddedBroker, newer: bytes
) -> None:
    embedded.admin().create("alerts", 1)
    send(embedded, "alerts", alert(0), newer, alert(1))
    group, table = next(_groups), client(embedded)
    with AlertSubscriber(embedded.bootstrap, "alerts", group, librdkafka=table) as subscriber:
        assert ids(itertools.islice(subscriber, 1)) == [0]
        subscriber.acknowledge(alert(0))
        with pytest.raises(NewerSchema, match=r"alerts\[0\] at offset 1 .*[Uu]pgrade"):
            subscriber.receive(timeout=10)
        assert ids(read(subscriber, 1)) == [1]  # the rest is not held up
        assert subscriber.counts.unreadable == 1
        assert committed(embedded, subscriber, "alerts") == 1  # what cannot be read is not done


def test_what_is_no_alert_is_passed_over_said_and_counted(
    broker: Broker, topic: TopicFactory, subscribe: Subscribe, caplog: pytest.LogCaptureFixture
) -> None:
    name = topic()
    producer = broker.producer()
    producer.produce(name, None, key=b"a tombstone")
    producer.flush(20)
    broken = changed(alert(5), status="no such status")
    send(broker, name, b"no JSON", b"", broken, alert(1))
    subscriber = subscribe(name)
    assert ids(read(subscriber, 1)) == [1]
    assert subscriber.counts == (1, 1, 0, 3, 0)
    assert committed(broker, subscriber, name) == 5
    assert len([one for one in caplog.messages if one.startswith("passed over: the alert")]) == 3


def test_what_cannot_be_read_is_handed_over_where_that_is_wished(embedded: EmbeddedBroker) -> None:
    embedded.admin().create("alerts", 1)
    send(embedded, "alerts", b"no JSON", NEWER[0], b"a bad day", alert(1))
    aside: list[Unreadable] = []

    def put_aside(message: Unreadable) -> None:
        if message.value == b"a bad day" and len(aside) == 2:
            raise LookupError("the place to put it is full")
        aside.append(message)

    group, table = next(_groups), client(embedded)
    with AlertSubscriber(
        embedded.bootstrap, "alerts", group, librdkafka=table, on_unreadable=put_aside
    ) as subscriber:
        with pytest.raises(LookupError):
            subscriber.receive(timeout=30)
        assert [(one.offset, one.value, one.newer) for one in aside] == [
            (0, b"no JSON", False),
            (1, NEWER[0], True),
        ]
        assert aside[0].reason.startswith("the alert alerts[0] at offset 0 cannot be read")
        assert ids(read(subscriber, 1)) == [1]
        assert committed(embedded, subscriber, "alerts") == 2


def test_waiting_is_bounded_and_a_stop_is_heard_from_another_thread(
    broker: Broker, topic: TopicFactory, subscribe: Subscribe
) -> None:
    name = topic()
    subscriber = subscribe(name, timeout=0.5)
    began = time.monotonic()
    assert list(subscriber) == []
    assert subscriber.receive(timeout=0) is None
    assert time.monotonic() - began < 5
    timer = threading.Timer(0.5, subscriber.stop)
    timer.start()
    assert subscriber.receive() is None  # which would wait for ever
    assert list(subscriber) == []
    timer.join()
    subscriber.close()
    subscriber.close()
    assert list(subscriber) == []
    with pytest.raises(TocsinError, match="closed"):
        subscriber.receive()


def test_a_second_reader_is_refused_and_any_thread_may_acknowledge(
    broker: Broker, topic: TopicFactory, subscribe: Subscribe
) -> None:
    name = topic()
    subscriber = subscribe(name)
    refused: list[str] = []

    def intrude() -> None:
        for use in (subscriber.receive, subscriber.close):
            try:
                use()
            except TocsinError as error:
                refused.append(str(error))
        send(broker, name, alert(1))

    intruder = threading.Timer(0.5, intrude)
    intruder.start()
    found = subscriber.receive(timeout=30)
    intruder.join()
    assert found is not None
    assert ["another thread" in text for text in refused] == [True, True]
    worker = threading.Thread(target=subscriber.acknowledge, args=(found,))
    worker.start()
    worker.join()
    assert committed(broker, subscriber, name) == 1


def test_nothing_more_is_handed_out_while_too_many_are_unacknowledged(
    broker: Broker, topic: TopicFactory, subscribe: Subscribe, caplog: pytest.LogCaptureFixture
) -> None:
    name = topic()
    send(broker, name, *map(alert, range(300)))
    subscriber = subscribe(name, max_unacknowledged=2)
    found = read(subscriber, 2, acknowledge=False)
    assert [text for text in caplog.messages if "2 alerts are unacknowledged" in text]
    assert len(subscriber._fetched) < 200
    for one in found:
        subscriber.acknowledge(one)
    assert ids(found + read(subscriber, 298)) == list(range(300))


def test_members_share_and_what_was_open_goes_to_the_next_owner(
    broker: Broker, topic: TopicFactory, subscribe: Subscribe
) -> None:
    name = topic(partitions=2)
    one = subscribe(name)
    for partition in (0, 1):
        send(broker, name, *(alert(10 * partition + number) for number in range(3)), partition=partition)
    found = read(one, 6, acknowledge=False)
    for first in found:
        if first.labels.entity in ("host-0", "host-10"):
            one.acknowledge(first)
    if isinstance(broker, EmbeddedBroker):
        # Its group throws out whoever is not heard for two seconds, as on a busy machine, and takes no commit from
        # it when its partitions go. Kafka waits for it, so there the commit is left to the handover.
        assert one.receive(timeout=0.1) is None
    two = subscribe(name)
    seen: list[int] = []
    give_up = time.monotonic() + 60
    while len(seen) < 2 and time.monotonic() < give_up:
        assert one.receive(timeout=0.1) is None
        more = two.receive(timeout=0.1)
        if more is not None:
            two.acknowledge(more)
            seen += ids([more])
    assert sorted(seen) in ([1, 2], [11, 12])
    gone = next(alert for alert in found if alert.labels.entity == f"host-{seen[0]}")
    assert not one.acknowledge(gone)  # the other has it now
    kept = {1, 2, 11, 12} - set(seen)
    assert all(one.acknowledge(first) for first in found if set(ids([first])) <= kept)


def test_who_was_thrown_out_for_its_slowness_is_handed_what_was_open_again(
    broker: Broker, topic: TopicFactory
) -> None:
    name, table = topic(), client(broker)
    table["max.poll.interval.ms"] = table["session.timeout.ms"]
    send(broker, name, alert(0), alert(1))
    with AlertSubscriber(broker.bootstrap, name, next(_groups), librdkafka=table) as subscriber:
        read(subscriber, 2, acknowledge=False)
        time.sleep(table["session.timeout.ms"] / 1000 + 2)
        subscriber.acknowledge(alert(0))  # too late to be committed, but not to be known
        assert ids(read(subscriber, 1)) == [1]
        assert subscriber.counts == (3, 2, 1, 0, 0)
        assert committed(broker, subscriber, name) == 2


@pytest.mark.kafka
def test_a_login_is_given_by_client_settings_and_never_shown(
    kafka: Rig, kafka_broker: KafkaBroker, kafka_topic: TopicFactory
) -> None:
    name, group = kafka_topic(), next(_groups)
    send(kafka_broker, name, alert(1))
    table = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "reader",
        "sasl.password": "a wrong one",
    }
    with pytest.raises(BrokerError, match="refuses the connection") as caught:
        AlertSubscriber(kafka.login_bootstrap, name, group, librdkafka=table)
    assert "a wrong one" not in str(caught.value)
    table["sasl.password"] = USERS["reader"]
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for kind, what in ((ResourceType.TOPIC, name), (ResourceType.GROUP, group)):
        rule = (kind, what, ResourcePatternType.LITERAL, "User:reader", "*", AclOperation.READ)
        for future in admin.create_acls([AclBinding(*rule, AclPermissionType.ALLOW)]).values():
            future.result()
    with AlertSubscriber(kafka.login_bootstrap, name, group, librdkafka=table) as subscriber:
        assert USERS["reader"] not in repr(subscriber)
        assert ids(read(subscriber, 1)) == [1]
        assert committed(kafka_broker, subscriber, name) == 1


def test_several_topics(broker: Broker, topic: TopicFactory, subscribe: Subscribe) -> None:
    names = [topic(), topic()]
    for number, name in enumerate(names):
        send(broker, name, alert(number))
    assert sorted(ids(read(subscribe(names), 2))) == [0, 1]


def test_a_new_group_may_begin_with_what_comes(
    broker: Broker, topic: TopicFactory, subscribe: Subscribe
) -> None:
    name = topic()
    send(broker, name, alert(0))
    subscriber = subscribe(name, start="latest")
    give_up = time.monotonic() + 30
    while committed(broker, subscriber, name) is None:
        assert time.monotonic() < give_up
        time.sleep(0.1)
    send(broker, name, alert(1))
    assert ids(read(subscriber, 1)) == [1]


def test_an_outage_is_waited_for(embedded: EmbeddedBroker) -> None:
    embedded.admin().create("alerts", 1)
    send(embedded, "alerts", alert(0))
    group, table = next(_groups), client(embedded)
    with AlertSubscriber(embedded.bootstrap, "alerts", group, librdkafka=table) as subscriber:
        read(subscriber, 1, acknowledge=False)
        embedded.down()
        assert subscriber.receive(timeout=2) is None
        subscriber.acknowledge(alert(0))
        began = time.monotonic()
        assert subscriber.receive(timeout=1) is None
        assert time.monotonic() - began < 5
        embedded.up()
        send(embedded, "alerts", alert(1))
        assert ids(read(subscriber, 1)) == [1]
        assert committed(embedded, subscriber, "alerts") == 2


def test_what_the_broker_dropped_is_counted(embedded: EmbeddedBroker) -> None:
    embedded.admin().create("alerts", 1)
    send(embedded, "alerts", *map(alert, range(3)))
    group, table = next(_groups), client(embedded)
    with AlertSubscriber(embedded.bootstrap, "alerts", group, librdkafka=table) as subscriber:
        read(subscriber, 3, acknowledge=False)
    embedded.delete_records("alerts", 0, 2)
    with AlertSubscriber(embedded.bootstrap, "alerts", group, librdkafka=table) as subscriber:
        assert ids(read(subscriber, 1)) == [2]
        assert subscriber.counts.lost == 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bootstrap": ""}, "bootstrap"),
        ({"bootstrap": "embedded"}, "address"),
        ({"topics": []}, "topic"),
        ({"topics": [""]}, "topic"),
        ({"group": ""}, "group"),
        ({"start": "error"}, "earliest or latest"),
        ({"remember": -1}, "remember"),
        ({"max_unacknowledged": 0}, "max_unacknowledged"),
        ({"librdkafka": {"enable.auto.commit": True}}, "enable.auto.commit"),
        ({"librdkafka": {"no.such.setting": 1}}, "no.such.setting"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"bootstrap": "127.0.0.1:1", "topics": "alerts", "group": "g", **wrong}
    with pytest.raises(SettingsError, match=said):
        AlertSubscriber(**given)


def test_a_missing_topic_and_a_missing_broker_are_told_at_once(embedded: EmbeddedBroker) -> None:
    with pytest.raises(UnknownTopic, match="no-such-topic"):
        AlertSubscriber(embedded.bootstrap, "no-such-topic", "g")
    with pytest.raises(BrokerUnavailable):  # after the ten seconds that a request may take
        AlertSubscriber("127.0.0.1:1", "alerts", "g")


CONFIG = """
[kafka]
bootstrap = "{bootstrap}"
[kafka.librdkafka]
"session.timeout.ms" = 3000
"heartbeat.interval.ms" = 300
[streams.one]
topics = ["one"]
[streams.two]
topics = ["two"]
"""


def test_a_configuration_says_where_alerts_are(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    path = tmp_path / "tocsin.toml"
    path.write_text(CONFIG.format(bootstrap=embedded.bootstrap))
    for number, name in enumerate(("one.alerts", "two.alerts")):
        embedded.admin().create(name, 1)
        send(embedded, name, alert(number))
    with AlertSubscriber.from_config(path, "both", timeout=30) as both:
        assert sorted(ids(read(both, 2))) == [0, 1]
    with AlertSubscriber.from_config(str(path), "second", stream="two") as second:
        assert ids(read(second, 1)) == [1]
    for wrong, said in (({"stream": "three"}, "three"), ({"group": "tocsin.one"}, "daemon")):
        with pytest.raises(SettingsError, match=said):
            AlertSubscriber.from_config(path, **{"group": "g", **wrong})


LIGHT = """
import sys
import tocsin
assert "tocsin.detector" not in sys.modules, "importing tocsin imports more"
from tocsin import AlertSubscriber
with AlertSubscriber.from_config(sys.argv[1], "light", timeout=30) as alerts:
    for alert in alerts:
        alerts.acknowledge(alert)
        break
heavy = {"jax", "jaxlib", "flax", "optax", "numba", "llvmlite", "river", "pydantic", "pydantic_core", "pyarrow"}
print(alert.labels.entity, alerts.counts.acknowledged, sorted(heavy & sys.modules.keys()))
"""


def test_a_service_that_reads_alerts_loads_neither_models_nor_training(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    path = tmp_path / "tocsin.toml"
    path.write_text(CONFIG.format(bootstrap=embedded.bootstrap))
    for name in ("one.alerts", "two.alerts"):
        embedded.admin().create(name, 1)
    send(embedded, "one.alerts", alert(1))
    command = [sys.executable, "-c", LIGHT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr) == ("host-1 1 []\n", "")


def test_the_example_runs_ends_and_goes_on(broker: Broker, topic: TopicFactory) -> None:
    """As a user starts it; SIGTERM ends it cleanly, and its successor does not see what was done."""
    name, group = topic(), next(_groups)
    command = [sys.executable, str(ROOT / "docs/examples/subscribe.py"), broker.bootstrap, name, group]
    opened, closed = alert(1), alert(1, Status.RESOLVED)
    send(broker, name, opened, b"no JSON")
    lives = [
        [f"open {opened.alert_id} host-1: \n", f"unreadable {name}[0]@1: the alert"],
        [f"close {closed.alert_id} host-1: recovered\n"],
    ]
    # The embedded broker's groups wait for a member that has left until its session is over (45 s).
    for expected in lives if broker.capabilities.steady_groups else lives[:1]:
        with service(command) as process:
            for line, begin in zip(said(process, len(expected)), expected, strict=True):
                assert line.startswith(begin)
            process.terminate()
            rest, errors = process.communicate(timeout=30)
        assert (process.returncode, rest, errors) == (0, "", "")
        send(broker, name, closed)


def lines_of_kcat() -> list[str]:
    """Every kcat command that the documentation shows."""
    pages = sorted((ROOT / "docs").glob("*.md"))
    return [line.strip() for page in pages for line in page.read_text().splitlines() if "    kcat " in line]


@pytest.mark.kcat
@pytest.mark.parametrize("line", lines_of_kcat())
def test_the_kcat_commands_of_the_documentation_work(broker: Broker, topic: TopicFactory, line: str) -> None:
    name = topic()
    producer = broker.producer()
    for one in (alert(1), alert(1, Status.RESOLVED)):
        message = message_of(one)
        producer.produce(name, message.value, key=message.key, headers=message.headers)
    producer.flush(20)
    assert "HOST:PORT" in line
    command = re.sub(r"NAME[\w.-]+", name, line.replace("HOST:PORT", broker.bootstrap))
    command = command.replace("my-service", next(_groups)).replace("kcat ", "kcat -e -q ")  # ends at the end
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, ""), command
    if "grep" in line:
        assert done.stdout == "host-1\n"
    elif "-c 1" in line:
        assert json.loads(done.stdout)["alert_id"] == alert(1).alert_id
    else:
        assert done.stdout.count(alert(1).alert_id) >= 2
