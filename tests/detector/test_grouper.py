"""The grouper on an embedded broker and on fakes: told, acknowledged, committed, in this order; stopped and gone on."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import MagicMock

import pytest
from rigs.daemon import until
from rigs.fixtures import TopicFactory, topics_on
from tocsin.detector import grouper, tide
from tocsin.detector.alerts import Kind, Resolution, Severity, Status, alert_id, message_of
from tocsin.detector.clocks import Clocks
from tocsin.detector.group_messages import group_id
from tocsin.detector.grouper import Grouper, Plan, plan
from tocsin.detector.grouping import Rules
from tocsin.detector.happenings import Context, Happening, alert_of
from tocsin.detector.settings import load
from tocsin.detector.stopping import Stopping
from tocsin.detector.wire import Message
from tocsin.errors import DeliveryFailed, NewerSchema, UnknownTopic
from tocsin.pipelines.brokers import Broker
from tocsin.pipelines.brokers.base import Batch, CommitRefused, StillWaiting
from tocsin.pipelines.brokers.embedded import EmbeddedBroker

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
WAIT_S = 0.6
RULES = Rules(int(WAIT_S * SECOND), 3, 20, 0.1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tide, "LOOK_S", 0.05)
    monkeypatch.setattr(grouper, "WAIT_S", 0.05)


def told(
    entity: str, status: Status = Status.FIRING, stream: str = "servers", p_value: float = 0.01
) -> Message:
    reason = Resolution.RECOVERED if status is Status.RESOLVED else None
    end = START + (100 if reason else 1) * SECOND
    what = Happening(
        Kind.ANOMALY, status, Severity.WARNING, entity, START, end, 1, 4, 3.0, p_value, 2.0, 3.5, reason
    )
    return message_of(alert_of(what, Context(stream, "web", "servers", 0, "v1", "v1.1")))


def id_of(entity: str) -> str:
    return alert_id("servers", entity, "anomaly", START)


class Stage:
    """A topic of alerts and one of groups, two partitions each, and groupers on them."""

    def __init__(self, broker: Broker, topic: TopicFactory) -> None:
        self.broker = broker
        self.alerts, self.groups = topic(2), topic(2)
        self.lives: list[Grouper] = []

    def publish(self, *messages: Message, partition: int = 0, timestamp_ms: int | None = None) -> None:
        producer = self.broker.producer()
        for one in messages:
            producer.produce(self.alerts, one.value, one.key, partition, one.headers, timestamp_ms)
        producer.flush(30)
        producer.close()

    @contextmanager
    def life(self, *, wait_s: float = WAIT_S, start: Any = "earliest", least: int = 3) -> Iterator[Grouper]:
        rules = RULES._replace(wait_us=int(wait_s * SECOND), least=least)
        given = Plan((self.alerts,), {"servers": self.groups}, f"{self.alerts}.groups", start, rules)
        stopping, faults = Stopping(time.monotonic), list[BaseException]()
        one = Grouper(self.broker, given, stopping)

        def work() -> None:
            try:
                one.run()
            except BaseException as fault:
                faults.append(fault)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield one
        finally:
            stopping.ask()
            thread.join(30)
            assert not thread.is_alive()
            if faults:
                raise faults[0]

    def committed(self) -> list[int | None]:
        found = self.broker.committed(f"{self.alerts}.groups", [(self.alerts, 0), (self.alerts, 1)])
        return [found[self.alerts, 0], found[self.alerts, 1]]

    def read(self) -> list[dict[str, Any]]:
        """All that was told, in the order in which it was."""
        consumer = self.broker.consumer()
        ends = consumer.end_offsets([(self.groups, 0), (self.groups, 1)])
        consumer.assign([(*part, 0) for part in ends])
        found: list[dict[str, Any]] = []
        while len(found) < sum(ends.values()):
            batch = consumer.consume(1000, 0.2)
            assert all(key == b"web" for key in batch.key)
            found += [json.loads(value or b"") for value in batch.value]
        consumer.close()
        return found


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedBroker]:
    one = EmbeddedBroker({"session.timeout.ms": 3000, "heartbeat.interval.ms": 300})
    yield one
    one.close()


@pytest.fixture
def stage(shared: EmbeddedBroker, request: pytest.FixtureRequest) -> Stage:
    return Stage(shared, topics_on(shared, request.node.name))


def facts(message: dict[str, Any]) -> tuple[str, int, int]:
    notes = message["annotations"]
    return message["status"], notes["members"], notes["open"]


def test_many_at_once_are_told_as_one_until_the_last_is_over(stage: Stage) -> None:
    with stage.life():
        stage.publish(told("b"), told("c"), partition=1)
        stage.publish(told("a"), told("d"))
        until(stage.read, "the group")
        until(lambda: stage.committed() == [2, 2], "what is told to be committed")
        stage.publish(told("a", Status.RESOLVED), told("d", Status.RESOLVED))
        stage.publish(told("b", Status.RESOLVED), told("c", Status.RESOLVED), partition=1)
        until(lambda: facts(stage.read()[-1])[0] == "resolved", "its end")
        until(lambda: stage.committed() == [4, 4], "the rest to be committed")
    found = stage.read()
    assert facts(found[0]) == ("firing", 4, 4)
    assert facts(found[-1]) == ("resolved", 4, 0)
    assert len({one["group_id"] for one in found}) == 1
    assert {member["alert_id"] for member in found[0]["members"]} == set(map(id_of, "abcd"))


def test_what_is_not_decided_holds_the_offsets_back(stage: Stage) -> None:
    now_ms = int(time.time() * 1000)
    stage.publish(told("a"), told("a", Status.RESOLVED), told("b"), timestamp_ms=now_ms)
    with stage.life(wait_s=60):
        until(lambda: stage.committed() == [0, 0], "where the group begins", 10)
        time.sleep(1.0)
        assert stage.committed() == [0, 0]
    assert stage.committed() == [0, 0]
    assert stage.read() == []
    stage.publish(told("c"), partition=1, timestamp_ms=now_ms + 1)
    with stage.life():
        until(lambda: stage.committed() == [3, 1], "all to be decided")
    (only,) = stage.read()
    assert facts(only) == ("firing", 3, 2)


def test_few_are_passed_over_and_committed_when_their_time_is_over(stage: Stage) -> None:
    begun = time.monotonic()  # the wait counts from the times the messages bear
    stage.publish(told("a"), told("b"), told("a", Status.RESOLVED))
    with stage.life():
        until(lambda: stage.committed() == [3, 0], "the two to be given up")
    assert time.monotonic() - begun > WAIT_S
    assert stage.read() == []


def test_a_restart_knows_what_is_open_from_the_topic_alone(stage: Stage) -> None:
    stage.publish(*map(told, "abc"))
    with stage.life():
        until(lambda: stage.committed() == [3, 0], "the group to be told")
    with stage.life():
        time.sleep(5 * WAIT_S)
    (first,) = stage.read()
    stage.publish(told("b", Status.RESOLVED))
    with stage.life():
        until(lambda: len(stage.read()) == 2, "the change")
    assert facts(stage.read()[1]) == ("firing", 3, 2)
    assert stage.read()[1]["group_id"] == first["group_id"]


def test_what_was_a_group_by_other_rules_is_told_to_be_none_any_more(stage: Stage) -> None:
    stage.publish(*map(told, "abc"))
    with stage.life():
        until(lambda: stage.committed() == [3, 0], "the group to be told")
    with stage.life(least=4):
        until(lambda: len(stage.read()) == 2, "its end", 20)
    first, last = stage.read()
    assert (last["group_id"], last["status"], last["annotations"]["regrouped"]) == (
        first["group_id"],
        "resolved",
        True,
    )
    assert last["ends_at"] == last["updated_at"] > first["updated_at"]
    with stage.life(least=4):
        time.sleep(5 * WAIT_S)
    assert len(stage.read()) == 2
    with stage.life():
        until(lambda: len(stage.read()) == 3, "it to be one again")
    assert stage.read()[2] == first


def test_a_crash_before_the_commit_tells_the_same_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.publish(told("a"), told("b"))
    stage.publish(told("c"), partition=1)
    with monkeypatch.context() as patch:
        patch.setattr(Grouper, "_checkpoint", lambda self: None)
        with stage.life():
            until(stage.read, "the group")
    assert stage.committed() == [None, None]
    with stage.life():
        until(lambda: stage.committed() == [2, 1], "it to be committed")
    first, again = stage.read()
    assert again == first


def test_a_group_that_begins_at_the_end_tells_only_what_is_open(stage: Stage) -> None:
    long_ago = int((time.time() - 3600) * 1000)
    stage.publish(*map(told, "xyz"), *(told(name, Status.RESOLVED) for name in "xyz"), timestamp_ms=long_ago)
    stage.publish(*map(told, "abc"))
    with stage.life(start="latest"):
        until(lambda: stage.committed() == [9, 0], "where it begins")
        until(stage.read, "what is open")
        stage.publish(told("a", Status.RESOLVED))
        until(lambda: len(stage.read()) == 2, "a change of it")
        time.sleep(5 * WAIT_S)
    assert [facts(message) for message in stage.read()] == [("firing", 3, 3), ("firing", 3, 2)]


def test_what_is_no_alert_is_passed_over_and_a_newer_major_is_not(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    content = {**json.loads(told("d").value or b""), "schema_version": "2.0"}
    newer = Message(b"d", json.dumps(content).encode(), [])
    foreign = [told(name, stream="others") for name in "xyz"]
    tombstone = Message(b"k", None, [])
    stage.publish(*map(told, "abc"), Message(b"k", b"no alert", []), tombstone, *foreign)
    with stage.life() as one:
        until(lambda: stage.committed() == [8, 0], "all to be dealt with")
        assert one.counts == {"told": 1, "unreadable": 1}
    assert any(f"{stage.alerts}[0] at offset 3 cannot be read" in record.message for record in caplog.records)
    stage.publish(told("a", Status.RESOLVED), newer, told("b", Status.RESOLVED))

    def upgraded_too_late() -> None:
        with stage.life():
            until(lambda: stage.committed() == [9, 0], "what lies before it")

    with pytest.raises(NewerSchema, match=r"at offset 9 has schema_version 2\.0"):
        upgraded_too_late()
    assert stage.committed() == [9, 0]  # an upgraded one begins with the one that was too new
    assert [facts(message) for message in stage.read()] == [("firing", 3, 3), ("firing", 3, 2)]


def test_a_clock_that_is_far_ahead_holds_nothing_back(stage: Stage) -> None:
    stage.publish(*map(told, "abc"), timestamp_ms=int((time.time() + 86_400) * 1000))
    with stage.life():
        until(lambda: stage.committed() == [3, 0], "them to be told")
    (only,) = stage.read()
    assert facts(only) == ("firing", 3, 3)


def test_an_alert_without_a_p_value_is_told_as_such(stage: Stage) -> None:
    stage.publish(told("a", p_value=float("nan")), told("b"), told("c"))
    with stage.life():
        until(stage.read, "the group")
    (only,) = stage.read()
    assert [(one["entity"], one["p_value"], one["discovery"]) for one in only["members"]][-1] == (
        "a",
        None,
        False,
    )


def test_a_topic_of_groups_that_is_missing_is_named(shared: EmbeddedBroker) -> None:
    settings = load(None, {"TOCSIN__STREAM__NAME": "nowhere", "HOME": "/tmp"})
    one = Grouper(shared, plan(settings, settings.streams), Stopping(time.monotonic))
    with pytest.raises(UnknownTopic, match=r"'nowhere\.groups' does not exist .*--create-topics --groups"):
        one.run()


def test_the_plan_follows_the_settings() -> None:
    given = {
        "TOCSIN__STREAM__NAME": "web",
        "TOCSIN__GROUP__WAIT": "10s",
        "TOCSIN__GROUP__LEAST": "5",
        "HOME": "/tmp",
    }
    settings = load(None, given)
    assert plan(settings, settings.streams) == Plan(
        ("web.alerts",),
        {"web": "web.groups"},
        "tocsin.web.groups",
        "earliest",
        Rules(10 * SECOND, 5, 20, 0.1),
    )
    named = load(None, {**given, "TOCSIN__GROUP__GROUP_ID": "mine", "TOCSIN__STREAM__GROUPS": "many"})
    assert plan(named, named.streams)[1:3] == ({"web": "many"}, "mine")
    two = {"TOCSIN__STREAMS__A__TOPICS": "a", "TOCSIN__STREAMS__B__ALERTS": "a.alerts", "HOME": "/tmp"}
    assert plan(load(None, two), load(None, two).streams)[:3] == (
        ("a.alerts",),
        {"a": "a.groups", "b": "b.groups"},
        "tocsin.groups",
    )


@pytest.mark.kafka
def test_one_works_and_another_takes_over(kafka_broker: Broker, kafka_topic: TopicFactory) -> None:
    stage = Stage(kafka_broker, kafka_topic)

    def working(*lives: Grouper) -> list[bool]:
        return [one._tide is not None for one in lives]

    stage.publish(*map(told, "abc"))
    with stage.life() as second:
        until(lambda: working(second) == [True], "the first alone")
        with stage.life() as first:
            until(lambda: stage.committed() == [3, 0], "the group")
            stage.publish(told("d", stream="others"), partition=1)  # no member, however soon it comes
            until(lambda: sum(working(first, second)) == 1, "one of the two")
        until(lambda: working(second) == [True], "the one that stays")
        stage.publish(*(told(name, Status.RESOLVED) for name in "abc"))
        until(lambda: facts(stage.read()[-1])[0] == "resolved", "its end")
        until(lambda: stage.committed() == [6, 1], "the last ones")
    assert len({one["group_id"] for one in stage.read()}) == 1


@pytest.mark.kafka
def test_new_partitions_are_read_from_their_beginning(
    kafka_broker: Broker, kafka_topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouper, "LOOK_S", 0.5)
    stage = Stage(kafka_broker, kafka_topic)
    stage.publish(told("a"), told("b"))
    with stage.life(wait_s=8):
        until(lambda: stage.committed() == [0, 0], "the start")
        admin = kafka_broker.admin()
        admin.grow(stage.alerts, 3)
        admin.close()
        stage.publish(told("c"), partition=2)
        until(stage.read, "the group")
    assert facts(stage.read()[0]) == ("firing", 3, 3)


# -- on fakes ----------------------------------------------------------------------------------


class Fake:
    """A grouper on fakes: one partition with three alerts of long ago, and a producer that may owe answers."""

    def __init__(self) -> None:
        values = [told(name).value for name in "abc"]
        self.broker = MagicMock()
        self.seat, reading = MagicMock(), MagicMock()
        self.broker.consumer.side_effect = lambda group=None, **_: self.seat if group else reading
        self.seat.assignment = [("t", 0)]
        self.seat.committed.return_value = {("t", 0): None}
        reading.position.return_value = {}
        reading.begin_offsets.side_effect = lambda parts: dict.fromkeys(parts, 0)
        reading.end_offsets.side_effect = lambda parts: {part: 3 if part[0] == "t" else 0 for part in parts}
        batches = iter([Batch(["t"] * 3, [0] * 3, [0, 1, 2], [1000] * 3, [b"k"] * 3, list(values), None)])
        reading.consume.side_effect = lambda *_: next(batches, Batch([], [], [], [], [], [], None))
        self.broker.admin.return_value.topics.return_value = {
            "t": MagicMock(partitions=1),
            "g": MagicMock(partitions=1),
        }
        self.producer = self.broker.producer.return_value
        self.stopping = Stopping(lambda: 0.0)
        clock: Callable[[], float] = iter(range(10**6)).__next__
        given = Plan(("t",), {"servers": "g"}, "group", "earliest", RULES)
        self.one = Grouper(self.broker, given, self.stopping, Clocks(monotonic=clock))

    def turn(self, times: int = 3) -> None:
        for _ in range(times):
            self.one._turn()

    def sent(self) -> list[str]:
        return [json.loads(call.args[1])["group_id"] for call in self.producer.produce.call_args_list]


@pytest.fixture
def fake() -> Fake:
    return Fake()


def test_offsets_are_committed_only_after_what_they_stand_for_is_acknowledged(fake: Fake) -> None:
    fake.producer.flush.side_effect = StillWaiting("the leader is away")
    fake.turn()
    assert fake.sent() == [group_id("servers", "web", min(map(id_of, "abc")))]
    fake.seat.commit.assert_not_called()
    fake.one._revoked([("t", 0)])  # not even where the partitions go to another
    fake.seat.commit.assert_not_called()


def test_what_was_acknowledged_is_committed_and_a_refused_commit_is_tried_again(fake: Fake) -> None:
    fake.seat.commit.side_effect = [CommitRefused("rebalance"), None]
    fake.turn()
    assert [call.args for call in fake.seat.commit.call_args_list] == [({("t", 0): 3},)] * 2
    assert len(fake.sent()) == 1


def test_after_a_failure_nothing_more_is_committed(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fake.producer.flush.side_effect = DeliveryFailed("too large")
    fake.seat.close.side_effect = lambda: fake.one._revoked([("t", 0)])
    with pytest.raises(DeliveryFailed):
        fake.one.run()
    fake.seat.commit.assert_not_called()
    assert caplog.records[-1].message == "stopped grouping"


def test_lost_partitions_are_left_without_a_commit(fake: Fake) -> None:
    fake.turn(2)
    fake.seat.commit.reset_mock()
    fake.one._lost([("t", 0)])
    fake.seat.commit.assert_not_called()
    assert fake.one._tide is None
