"""Many alerts at once on a real Kafka: told as one by a process that is killed, goes on, and never touches an alert."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from rigs.daemon import Home, Message, until
from rigs.target import Receiver, receiving
from tocsin.detector.alerts import Kind, Resolution, Severity, Status, message_of
from tocsin.detector.happenings import Context, Happening, alert_of

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

START = 1_700_000_000_000_000
KILLED = """
import os, signal
from tocsin.pipelines.brokers.consumer import KafkaConsumer

commit = KafkaConsumer.commit

def killed(self, offsets):
    if any(offsets.values()):
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self, offsets)

KafkaConsumer.commit = killed
from tocsin.detector.cli import main
main(["alerts", "group"])
"""
"""The command, in a process that ends where it would first commit something that it has dealt with."""


def publish(home: Home, status: Status, *entities: str) -> None:
    reason = Resolution.RECOVERED if status is Status.RESOLVED else None
    messages = []
    for entity in entities:
        what = Happening(
            Kind.ANOMALY, status, Severity.WARNING, entity, START, START, 1, 4, 3.0, 0.001, 2.0, 3.5, reason
        )
        messages.append(message_of(alert_of(what, Context("hosts", "hosts", "in", 0, "v1", "v1.1"))))
    home.send([one.value for one in messages], [one.key for one in messages], "alerts")


def groups(home: Home) -> list[dict[str, Any]]:
    return [message.json() for message in home.read("groups")]


def test_killed_between_acknowledgement_and_commit_the_same_group_comes_again(
    make_home: Callable[..., Home],
) -> None:
    home = make_home("grouping", untrained=True)
    # A member that was killed is missed after so long; its successor waits for that.
    home.write(
        home.stream(groups=home.topic("groups")),
        kafka={"librdkafka": {"session.timeout.ms": 6000}},
        group={"wait": "1s"},
    )
    home.make_topic("input", 3)
    assert "groups" not in home.run("check", "--create-topics").stdout
    assert "made topic" in home.run("check", "--create-topics", "--groups").stdout
    names = [f"host-{i}" for i in range(12)]
    publish(home, Status.FIRING, *names)
    alerts = home.read("alerts")

    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=home.folder, env=dict(os.environ), check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    (first,) = groups(home)
    assert (first["status"], first["annotations"]["entities"]) == ("firing", 12)

    running = home.background("alerts", "group")
    again = until(lambda: groups(home)[1:], "the same group again")[0]
    assert again == first
    publish(home, Status.RESOLVED, *names[:-1])
    until(lambda: groups(home)[-1]["annotations"]["open"] == 1, "one to be left")
    running.stop()
    publish(home, Status.RESOLVED, names[-1])
    running = home.background("alerts", "group")
    until(lambda: groups(home)[-1]["status"] == "resolved", "its end")
    running.stop()
    assert {one["group_id"] for one in groups(home)} == {first["group_id"]}
    assert {member["entity"] for member in groups(home)[-1]["members"]} == set(names)
    with receiving(Receiver()) as receiver:
        forwarder = home.background("alerts", "forward", "--groups", "--to", "webhook", "--url", receiver.url)
        until(lambda: len(receiver.posts) == len(groups(home)), "all to be forwarded")
        forwarder.stop()
    assert [post.json for post in receiver.posts] == groups(home)
    ends = home.ends("alerts")
    assert home.broker.committed(f"{home.topic('group')}.groups", list(ends)) == ends
    untouched: list[Message] = home.read("alerts")
    assert {one.value for one in alerts} < {one.value for one in untouched}
    assert len(untouched) == 24, "nothing is opened, changed or hidden"
    assert home.run("alerts", "rank", "--json").stdout == "[]\n"
    assert json.loads(home.run("alerts", "list", "--json").stdout)[0]["status"] == "resolved"
