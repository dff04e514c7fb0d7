"""A fault in the telemetry of a real Kafka until it stands in a real Alertmanager, and until it is gone from there.

Open incidents are held for three seconds only, so what Alertmanager shows for longer was told again and again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rigs.alertmanager import Alertmanager
from rigs.daemon import Daemon, Home, until
from rigs.target import Receiver, receiving
from telemetry import keys, messages

pytestmark = [pytest.mark.kafka, pytest.mark.alertmanager]

FORWARD = {"to": "alertmanager", "resend": "1s", "hold": "3s"}


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    one = Alertmanager(tmp_path / "alertmanager")
    one.start()
    yield one
    one.close()


@pytest.fixture
def home(make_home: Callable[..., Home], request: pytest.FixtureRequest) -> Home:
    one = make_home(request.node.name)
    # A member that was killed is missed after so long; its successor waits for that.
    one.write(forward=FORWARD, kafka={"librdkafka": {"session.timeout.ms": 6000}})
    one.make_topics()
    return one


def open_on_topic(home: Home) -> dict[str, dict[str, Any]]:
    """The last message of every incident that is open by the alert topic."""
    found: dict[str, dict[str, Any]] = {}
    for message in home.read("alerts"):
        alert = message.json()
        found[alert["alert_id"]] = alert
    return {name: alert for name, alert in found.items() if alert["status"] == "firing"}


def forward(home: Home, alertmanager: Alertmanager) -> Daemon:
    return home.background("alerts", "forward", "--url", alertmanager.url)


def test_a_fault_reaches_alertmanager_and_its_end_clears_it(
    home: Home, alertmanager: Alertmanager, trained: Any
) -> None:
    live = trained.live
    values, names = messages(live), keys(live)
    # Cut in the midst of a fault that is strong enough to be found at once.
    spike = next(fault for fault in live.faults if fault.kind == "spike")
    cut = int((live.arrival_us <= (spike.first_us + spike.last_us) // 2).sum())
    home.start()
    forwarder = forward(home, alertmanager)
    home.send(values[:cut], names[:cut])
    home.caught_up()
    opened = open_on_topic(home)
    assert live.names[spike.entity] in {alert["labels"]["entity"] for alert in opened.values()}
    until(lambda: alertmanager.shown().keys() == opened.keys(), "the open incidents in Alertmanager")
    for name, shown in alertmanager.shown().items():
        assert shown["labels"] == {**opened[name]["labels"], "alert_id": name}
        assert shown["annotations"]["summary"] == opened[name]["annotations"]["summary"]
    time.sleep(5)
    assert alertmanager.shown().keys() == opened.keys(), "they are open, so they must not end by themselves"

    # Neither a kill of the forwarder nor an Alertmanager that has forgotten everything loses one.
    forwarder.kill()
    alertmanager.stop()
    alertmanager.start()
    forwarder = forward(home, alertmanager)
    until(lambda: alertmanager.shown().keys() == opened.keys(), "the open incidents again")

    home.send(values[cut:], names[cut:])
    home.caught_up()
    left = open_on_topic(home)
    assert opened.keys() - left.keys(), "the rest of the telemetry ends the fault"
    until(lambda: alertmanager.shown().keys() == left.keys(), "what has ended to be gone")

    begun = time.monotonic()
    forwarder.stop()
    assert time.monotonic() - begun < 10
    ends = home.ends("alerts")
    group = f"{home.topic('group')}.forward.alertmanager"
    assert home.broker.committed(group, list(ends)) == ends


def test_a_trial_takes_the_same_way(home: Home, alertmanager: Alertmanager) -> None:
    forward(home, alertmanager)
    trial = home.background("alerts", "test", "--severity", "critical", "--for", "1h", "--json")
    (shown,) = until(alertmanager.shown, "the test alert").values()
    assert shown["labels"]["alertname"] == "TocsinTest"
    assert shown["labels"]["severity"] == "critical"
    assert "nothing is wrong" in shown["annotations"]["summary"]
    trial.stop()  # interrupted, it ends the alert all the same
    until(lambda: not alertmanager.shown(), "its end")
    told = [json.loads(line) for line in trial.log_file.read_text().splitlines()]
    assert [(one["kind"], one["status"]) for one in told] == [("test", "firing"), ("test", "resolved")]


def test_killed_between_answer_and_commit_the_alert_comes_again_and_is_the_same(home: Home) -> None:
    killed: list[Daemon] = []

    def kill(content: Any) -> int:
        if not killed:
            killed.append(forwarder)
            forwarder.kill()  # the answer, which is on its way, finds nobody
        return 200

    receiver = Receiver()
    receiver.reply = kill
    with receiving(receiver):
        secret = home.folder / "url"
        secret.write_text(f"{receiver.url.replace('//', '//ada:s3cret@')}/hooks/t0ken\n")
        given = {"TOCSIN__FORWARD__URL_FILE": str(secret)}
        forwarder = home.background("alerts", "forward", "--to", "webhook", **given)
        home.run("alerts", "test", "--for", "0s")
        until(lambda: killed and receiver.posts, "the first post")
        forwarder = home.background("alerts", "forward", "--to", "webhook", **given)
        until(lambda: len(receiver.posts) >= 3, "the first again, and the second")
        forwarder.stop()
    first, again, last = (post.json for post in receiver.posts)
    assert (first, last["status"], last["alert_id"]) == (again, "resolved", first["alert_id"])
    for daemon in home.daemons:
        assert "s3cret" not in daemon.log_file.read_text()
        assert "t0ken" not in daemon.log_file.read_text()
