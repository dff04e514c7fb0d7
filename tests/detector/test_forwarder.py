"""The forwarder on an embedded broker, before a target that is down, slow, full, picky or just right."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from rigs.daemon import until
from rigs.fixtures import TopicFactory, topics_on
from rigs.kafka import free_ports
from rigs.target import Post, Receiver, receiving
from tocsin.detector import grouping
from tocsin.detector.alerts import Kind, Resolution, Severity, Status, message_of
from tocsin.detector.forward_payload import Rules
from tocsin.detector.forward_run import plan
from tocsin.detector.forward_target import target_of
from tocsin.detector.forwarder import Forwarder, Plan
from tocsin.detector.group_messages import decode_word
from tocsin.detector.group_messages import message_of as group_message
from tocsin.detector.grouping import Heard
from tocsin.detector.happenings import Context, Happening, alert_of
from tocsin.detector.settings import load
from tocsin.detector.stopping import Stopping
from tocsin.detector.wire import Message, rfc3339
from tocsin.errors import NewerSchema
from tocsin.pipelines.brokers.embedded import EmbeddedBroker

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
HOLD_S = 600


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    one = EmbeddedBroker({"session.timeout.ms": 3000, "heartbeat.interval.ms": 300})
    yield one
    one.close()


@pytest.fixture
def topic(broker: EmbeddedBroker, request: pytest.FixtureRequest) -> str:
    make: TopicFactory = topics_on(broker, request.node.name)
    return make(2)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as one:
        yield one


def told(entity: str, status: Status = Status.FIRING, seconds: int = 0, **more: Any) -> Message:
    reason = Resolution.RECOVERED if status is Status.RESOLVED else None
    onset = START + seconds * SECOND
    end = onset + (100 if reason else 1) * SECOND
    what = Happening(
        Kind.ANOMALY, status, Severity.WARNING, entity, onset, end, 1, 4, 3.0, 0.01, 2.0, 3.5, reason, **more
    )
    return message_of(alert_of(what, Context("servers", "web", "servers", 0, "v1", "v1.1")))


def publish(broker: EmbeddedBroker, topic: str, *messages: Message, partition: int = 0) -> None:
    producer = broker.producer()
    for one in messages:
        producer.produce(topic, one.value, one.key, partition, one.headers)
    producer.flush(10)
    producer.close()


class Life:
    """A forwarder that runs in a thread of its own, from start to stop."""

    def __init__(self, broker: EmbeddedBroker, topic: str, url: str, **changes: Any) -> None:
        given = {"kind": "alertmanager", "resend_s": 60.0, "timeout_s": 5.0, "start": "earliest", **changes}
        self.stopping = Stopping(time.monotonic)
        plan = Plan(
            (topic,),
            f"{topic}.forward",
            given["start"],
            Rules(HOLD_S * SECOND) if given["kind"] == "alertmanager" else None,
            given["resend_s"],
        )
        target = target_of(url, given["kind"], given["timeout_s"])
        self.forwarder = Forwarder(broker, plan, target, self.stopping, luck=lambda: 0.0)
        self.fault: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.forwarder.run()
        except BaseException as fault:
            self.fault = fault

    def stop(self) -> None:
        self.stopping.ask()
        self.thread.join(20)
        assert not self.thread.is_alive()
        if self.fault is not None:
            raise self.fault


@contextmanager
def life(broker: EmbeddedBroker, topic: str, url: str, **changes: Any) -> Iterator[Life]:
    one = Life(broker, topic, url, **changes)
    try:
        yield one
    finally:
        one.stop()


def committed(broker: EmbeddedBroker, topic: str) -> list[int | None]:
    found = broker.committed(f"{topic}.forward", [(topic, 0), (topic, 1)])
    return [found[topic, 0], found[topic, 1]]


def entities(receiver: Receiver) -> list[str]:
    return [alert["labels"]["entity"] for alert in receiver.alerts()]


def is_open(alert: dict[str, Any]) -> bool:
    return datetime.fromisoformat(alert["endsAt"]) > datetime.now(UTC)


def test_firing_and_resolved_arrive_and_are_committed(
    broker: EmbeddedBroker, topic: str, receiver: Receiver
) -> None:
    publish(broker, topic, told("a"), told("b"), told("a", Status.RESOLVED))
    publish(broker, topic, told("c"), partition=1)
    with life(broker, topic, receiver.url):
        until(lambda: committed(broker, topic) == [3, 1], "all to be committed")
        publish(broker, topic, told("b", Status.RESOLVED))
        until(lambda: committed(broker, topic) == [4, 1], "the last to be committed")
    last = {alert["labels"]["alert_id"]: alert for alert in receiver.alerts()}
    assert {alert["labels"]["entity"]: is_open(alert) for alert in last.values()} == {
        "a": False,
        "b": False,
        "c": True,
    }
    assert {post.path for post in receiver.posts} == {"/api/v2/alerts"}


def test_a_webhook_gets_each_message_as_it_stands(
    broker: EmbeddedBroker, topic: str, receiver: Receiver
) -> None:
    messages = [told("a"), told("a", Status.RESOLVED)]
    publish(broker, topic, *messages)
    with life(broker, topic, f"{receiver.url}/hook", kind="webhook", resend_s=0.1):
        until(lambda: committed(broker, topic)[0] == 2, "both to be committed")
        time.sleep(0.5)
    assert [(post.path, post.body) for post in receiver.posts] == [
        ("/hook", message.value) for message in messages
    ]


@pytest.mark.parametrize("kind", ["alertmanager", "webhook"])
def test_what_is_expected_wakes_nobody(
    broker: EmbeddedBroker, topic: str, receiver: Receiver, kind: str
) -> None:
    """Neither when it comes nor when it is told again, nor after a restart; what is not expected is told beside it."""
    expected: dict[str, Any] = {"expected": (START + 3600 * SECOND, 7)}
    publish(broker, topic, told("quiet", **expected), told("loud"), told("calm", **expected))
    publish(broker, topic, told("calm", Status.RESOLVED, **expected))
    for _ in range(2):
        with life(broker, topic, receiver.url, kind=kind, resend_s=0.2):
            until(lambda: committed(broker, topic)[0] == 4, "all to be committed")
            time.sleep(0.7)
    assert receiver.posts
    assert not any(name in post.body for post in receiver.posts for name in (b"quiet", b"calm"))


def refusing(*statuses: Any) -> Callable[[Any], Any]:
    """Answer so, one after the other, then 200."""
    left = list(statuses)
    return lambda content: left.pop(0) if left else 200


@pytest.mark.parametrize("status", [500, 503, 408, (429, {"Retry-After": "1"}), 401, 404, 302])
def test_what_passes_is_waited_for(
    broker: EmbeddedBroker, topic: str, receiver: Receiver, status: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    receiver.reply = refusing(status)
    publish(broker, topic, told("a"))
    with life(broker, topic, receiver.url):
        until(lambda: committed(broker, topic)[0] == 1, "it to be committed")
    assert [post.status for post in receiver.posts][-1] == 200
    assert len(receiver.posts) == 2
    first, second = receiver.posts
    assert first.json[0]["labels"] == second.json[0]["labels"]
    assert second.at - first.at >= (1.0 if isinstance(status, tuple) else 0.5)
    said = [record.message for record in caplog.records]
    assert "the target does not take alerts; they are kept and tried again until it does" in said
    assert "the target takes alerts again" in said


def test_a_target_that_is_down_gets_all_when_it_is_back(broker: EmbeddedBroker, topic: str) -> None:
    (port,) = free_ports(1)
    publish(broker, topic, *(told(f"h{i}") for i in range(250)))
    receiver = Receiver()
    with life(broker, topic, f"http://127.0.0.1:{port}") as one:
        until(lambda: one.forwarder._failures >= 2, "two failures")
        assert committed(broker, topic)[0] == 0
        publish(broker, topic, told("late"), partition=1)
        with receiving(receiver, port):
            until(lambda: committed(broker, topic) == [250, 1], "all to be committed")
    assert sorted(entities(receiver)) == sorted([*(f"h{i}" for i in range(250)), "late"])


def test_a_slow_target_is_given_up_in_time_and_asked_again(
    broker: EmbeddedBroker, topic: str, receiver: Receiver
) -> None:
    pauses = [1.5]

    def slow(content: Any) -> int:
        time.sleep(pauses.pop() if pauses else 0)
        return 200

    receiver.reply = slow
    publish(broker, topic, told("a"))
    with life(broker, topic, receiver.url, timeout_s=0.3):
        until(lambda: committed(broker, topic)[0] == 1, "it to be committed")
        until(lambda: len(receiver.posts) == 2, "the slow one's end")
    first, second = receiver.alerts()
    assert first["labels"] == second["labels"]


def test_what_the_target_refuses_is_named_counted_and_passed_over(
    broker: EmbeddedBroker, topic: str, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    bad = told("bad")
    bad_id = json.loads(bad.value or b"")["alert_id"]
    receiver.reply = lambda content: (
        400 if any(alert["labels"]["entity"] == "bad" for alert in content) else 200
    )
    publish(broker, topic, told("a"), bad, told("b"))
    with life(broker, topic, receiver.url, resend_s=0.2) as one:
        until(lambda: committed(broker, topic)[0] == 3, "all to be committed")
        before = len(receiver.posts)
        until(lambda: len(receiver.posts) > before + 2, "the others to be sent again")
        assert one.forwarder.counts["refused"] == 1
        assert one.forwarder.counts["accepted"] == 2
    assert set(entities(receiver)) == {"a", "b"}
    assert sum(post.status == 400 for post in receiver.posts) == 2  # together, then alone; never again
    (said,) = [record.message for record in caplog.records if bad_id in record.message]
    assert said == (
        f"the target refuses the alert {bad_id}, it is not sent again: status 400: because of the test"
    )


def test_nothing_is_committed_before_the_target_has_taken_it(
    broker: EmbeddedBroker, topic: str, receiver: Receiver
) -> None:
    receiver.reply = lambda content: 503
    publish(broker, topic, told("a"), told("b"), told("c"))
    with life(broker, topic, receiver.url):
        until(lambda: len(receiver.posts) >= 2, "two tries")
        assert committed(broker, topic) == [0, 0]
    assert committed(broker, topic) == [0, 0]
    receiver.reply = lambda content: 200
    with life(broker, topic, receiver.url):
        until(lambda: committed(broker, topic)[0] == 3, "all to be committed")
    assert sorted(entities(receiver)) == ["a", "b", "c"]


def test_a_crash_between_answer_and_commit_repeats_the_same_alert(
    broker: EmbeddedBroker, topic: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(broker, topic, told("a"), told("b"))
    with monkeypatch.context() as patch:
        patch.setattr(Forwarder, "_commit", lambda self: None)
        with life(broker, topic, receiver.url):
            until(lambda: len(receiver.alerts()) == 2, "both to be accepted")
    assert committed(broker, topic) == [None, None]
    with life(broker, topic, receiver.url):
        until(lambda: committed(broker, topic)[0] == 2, "both to be committed")
    first, again = receiver.alerts()[:2], receiver.alerts()[2:]
    assert [alert["labels"] for alert in again] == [alert["labels"] for alert in first]
    assert [alert["startsAt"] for alert in again] == [alert["startsAt"] for alert in first]


def test_restarts_lose_nothing(broker: EmbeddedBroker, topic: str, receiver: Receiver) -> None:
    names = [f"h{i}" for i in range(40)]
    for count in (10, 20, 30, 40):
        publish(broker, topic, *map(told, names[count - 10 : count]))
        with life(broker, topic, receiver.url, kind="webhook"):
            until(lambda count=count: len(receiver.posts) >= count - 4, "most of them")  # a stop in the midst
    with life(broker, topic, receiver.url, kind="webhook"):
        until(lambda: committed(broker, topic)[0] == 40, "all to be committed")
    found = [post.json["labels"]["entity"] for post in receiver.posts]
    assert list(dict.fromkeys(found)) == names
    assert len(found) == 40  # each stop has committed what was accepted


def test_open_incidents_are_told_again_so_that_none_ends_by_itself(
    broker: EmbeddedBroker, topic: str, receiver: Receiver
) -> None:
    publish(broker, topic, told("a"), told("b"), told("b", Status.RESOLVED))

    def again(posts: list[Post]) -> list[Post]:
        return [post for post in posts if [one["labels"]["entity"] for one in post.json] == ["a"]]

    with life(broker, topic, receiver.url, resend_s=0.3):
        until(lambda: len(again(receiver.posts)) >= 3, "it to be told three times again")
    times = [post.at for post in again(receiver.posts)]
    ends = [datetime.fromisoformat(post.json[0]["endsAt"]).timestamp() for post in again(receiver.posts)]
    assert all(end - at == pytest.approx(HOLD_S, abs=2) for end, at in zip(ends, times, strict=True))
    assert {post.json[0]["labels"]["alert_id"] for post in again(receiver.posts)} == {
        json.loads(told("a").value or b"")["alert_id"]
    }
    # A new process knows what is open from the topic alone, and tells it at once.
    before = len(receiver.posts)
    with life(broker, topic, receiver.url):
        until(lambda: len(receiver.posts) > before, "it to be told after a restart")
        publish(broker, topic, told("a", Status.RESOLVED))
        until(lambda: committed(broker, topic)[0] == 4, "its end to be committed")
    told_since = [one for post in receiver.posts[before:] for one in post.json]
    assert [(one["labels"]["entity"], is_open(one)) for one in told_since] == [("a", True), ("a", False)]
    with life(broker, topic, receiver.url, resend_s=0.1):
        before = len(receiver.posts)
        time.sleep(4)
    assert receiver.posts[before:] == []


def test_a_group_that_begins_at_the_end_still_knows_what_is_open(
    broker: EmbeddedBroker, topic: str, receiver: Receiver
) -> None:
    publish(broker, topic, told("a"), told("b"), told("b", Status.RESOLVED))
    with life(broker, topic, receiver.url, start="latest"):
        until(lambda: entities(receiver) == ["a"], "the open one")
        assert committed(broker, topic) == [3, 0]  # where it begins is written before anything comes
        publish(broker, topic, told("c"))
        until(lambda: committed(broker, topic)[0] == 4, "the new one")
    assert entities(receiver) == ["a", "c"]


def test_what_is_no_alert_is_passed_over_and_a_newer_major_is_not(
    broker: EmbeddedBroker, topic: str, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    def version(message: Message, text: str) -> Message:
        content = {**json.loads(message.value or b""), "schema_version": text, "added": [1]}
        return message._replace(value=json.dumps(content).encode())

    rubbish = Message(b"k", b"no alert", [])
    messages = [told("a"), rubbish, version(told("b"), "1.9"), version(told("c"), "2.0"), told("d")]
    publish(broker, topic, *messages)
    one = Life(broker, topic, receiver.url, kind="webhook")
    one.thread.join(60)
    assert isinstance(one.fault, NewerSchema)
    assert f"the alert {topic}[0] at offset 3 has schema_version 2.0" in str(one.fault)
    assert [post.body for post in receiver.posts] == [messages[0].value, messages[2].value]
    assert one.forwarder.counts["unreadable"] == 1
    assert any(f"{topic}[0] at offset 1" in record.message for record in caplog.records)
    assert committed(broker, topic)[0] == 3  # an upgraded forwarder begins with the one that was too new


def grouped(open_: int) -> Message:
    word = {"schema_version": "1.1", "kind": "anomaly", "status": "firing", "annotations": {}}
    heard = []
    for number in range(3):
        labels = {"stream": "servers", "entity": f"h{number}", "group": "web", "severity": "warning"}
        content = {**word, "alert_id": f"{number:032}", "labels": labels, "starts_at": rfc3339(START)}
        heard.append(Heard(START, decode_word(json.dumps(content).encode(), "it")))
        if number >= open_:
            over = {**content, "status": "resolved", "ends_at": rfc3339(START)}
            heard.append(Heard(START, decode_word(json.dumps(over).encode(), "it")))
    (one,) = grouping.update(grouping.init(), heard, START + SECOND, grouping.Rules(SECOND, 3, 20, 0.1))[1]
    return group_message(one)


def test_groups_are_forwarded_like_alerts(broker: EmbeddedBroker, topic: str, receiver: Receiver) -> None:
    publish(broker, topic, grouped(3))
    with life(broker, topic, receiver.url, resend_s=0.2):
        until(lambda: len(receiver.posts) >= 3, "it to be told again")
        publish(broker, topic, grouped(0))
        until(lambda: committed(broker, topic)[0] == 2, "its end to be committed")
    told_of = receiver.alerts()
    (name,) = {alert["labels"]["group_id"] for alert in told_of}
    assert name == json.loads(grouped(3).value or b"")["group_id"]
    assert (is_open(told_of[0]), is_open(told_of[-1])) == (True, False)
    assert told_of[0]["labels"] == {
        "alertname": "TocsinGroup",
        "stream": "servers",
        "group": "web",
        "severity": "warning",
        "group_id": name,
    }
    assert told_of[0]["annotations"]["summary"] == "3 entities of web at once: h0, h1, h2; 3 open"


def test_what_is_forwarded_follows_the_settings() -> None:
    settings = load(None, {"TOCSIN__STREAM__NAME": "web", "TOCSIN__FORWARD__TO": "webhook", "HOME": "/tmp"})
    assert plan(settings, settings.streams)[:2] == (("web.alerts",), "tocsin.web.forward.webhook")
    groups = plan(settings, settings.streams, groups=True)
    assert groups[:2] == (("web.groups",), "tocsin.web.forward.groups.webhook")


def test_a_stop_does_not_wait_for_a_target_that_hangs(
    broker: EmbeddedBroker, topic: str, receiver: Receiver
) -> None:
    asked, release = threading.Event(), threading.Event()

    def hang(content: Any) -> int:
        asked.set()
        release.wait(60)
        return 200

    receiver.reply = hang
    publish(broker, topic, told("a"))
    one = Life(broker, topic, receiver.url, timeout_s=60)
    try:
        assert asked.wait(60)
        begun = time.monotonic()
        one.stop()
        assert time.monotonic() - begun < 8
    finally:
        release.set()
    assert committed(broker, topic)[0] == 0
