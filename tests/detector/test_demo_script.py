"""The demo's script: each step waits for what the daemon says, and fails in words when it does not come."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tocsin.detector import alerts, happenings
from tocsin.detector.demo import daemon, script, stage
from tocsin.detector.demo.fault import Size
from tocsin.detector.demo.telemetry import STREAMS
from tocsin.detector.demo.view import JsonView
from tocsin.detector.settings import Settings
from tocsin.errors import TocsinError
from tocsin.pipelines.brokers import EMBEDDED, open_broker


def metrics(**of: float) -> daemon.Metrics:
    lines = ["# TYPE tocsin_stream_phase gauge"]
    lines += [f'tocsin_stream_phase{{stream="{name}",phase="live"}} 1' for name in STREAMS]
    lines += ["# TYPE tocsin_records_scored counter"]
    lines += [f'tocsin_records_scored_total{{stream="{name}"}} {of["scored"]}' for name in STREAMS]
    lines += ["# TYPE tocsin_calibration_version gauge"]
    lines += [f'tocsin_calibration_version{{stream="{name}"}} {of["calibration"]}' for name in STREAMS]
    return daemon.parse("\n".join(lines) + "\n")


def alert(
    status: alerts.Status, time_s: float, stream: str = "hosts", entity: str | None = None
) -> alerts.Alert:
    happening = happenings.Happening(
        kind=alerts.Kind.ANOMALY,
        status=status,
        severity=alerts.Severity.CRITICAL,
        entity=entity or stage.host_name(),
        onset_us=1,
        time_us=int(time_s * 1e6),
        first_offset=1,
        offset=2,
        score=5.0,
        p_value=0.001,
        threshold=1.0,
        peak=5.0,
        reason=alerts.Resolution.RECOVERED,
    )
    context = happenings.Context(stream, stream, stream, 0, "m", "c")
    return happenings.alert_of(
        happening=happening, context=context, features=[alerts.Feature("cpu_user", 1.0, 0.1, 0.9)]
    )


class World:
    """Everything around a story, obedient: a daemon that is live, a fault that is found and ends."""

    def __init__(self) -> None:
        self.log = Path("/nowhere/daemon.log")
        self.url = "http://127.0.0.1:1"
        self.calibration = 0.0
        self.pid = 1
        self.sent = dict.fromkeys(STREAMS, 7)
        self.failed: Exception | None = None
        self.busy = 0.4
        self.waiting: list[alerts.Alert] = []
        self.began_s = time.monotonic()
        self.out = io.StringIO()
        self.blind = self.deaf = self.dead = False

    def story(self) -> script.Story:
        return script.Story(JsonView(self.out, time.time()), self, self, self)  # type: ignore[arg-type]

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in map(json.loads, self.out.getvalue().splitlines()) if e["event"] == kind]

    # the daemon
    def check(self) -> None:
        if self.dead:
            raise TocsinError("The daemon ended with code 1.")

    def metrics(self) -> daemon.Metrics:
        return metrics(scored=5.0 * (time.monotonic() - self.began_s), calibration=self.calibration)

    def entity(self, stream: str, name: str) -> dict[str, Any]:
        return {"score": 0.5, "threshold": 1.5}

    def command(self, *args: str, timeout_s: float) -> str:
        self.calibration += 0.0 if self.deaf else 1.0
        return "before after"

    def last_words(self) -> str:
        return "Its last lines:\nlast words"

    # the reader of alerts
    def read(self) -> list[alerts.Alert]:
        found, self.waiting = self.waiting, []
        return found

    # the fault
    def start(self, how: Size) -> None:
        if not self.blind:
            self.waiting.append(alert(alerts.Status.FIRING, time.time()))

    def stop(self) -> None:
        self.waiting.append(alert(alerts.Status.RESOLVED, time.time()))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    limits = {
        "NORMAL_S": 0.3,
        "WATCH_S": 0.3,
        "FAULT_S": 0.2,
        "QUIET_S": 0.3,
        "FOUND_S": 0.4,
        "OVER_S": 0.4,
        "RECALIBRATED_S": 0.4,
        "LIVE_S": 0.4,
        "_LOOK_S": 0.01,
        "_NAP_S": 0.01,
    }
    for name, seconds in limits.items():
        monkeypatch.setattr(script, name, seconds)
    return World()


def test_a_story_from_beginning_to_end(world: World) -> None:
    story = world.story()
    story.learn()
    story.watch()
    story.fault(world)  # type: ignore[arg-type]
    story.recalibrate()
    story.end("broker:1", ["hosts.alerts"])
    assert [e["phase"] for e in world.told("phase")] == list(script._PHASES)
    assert world.told("watched")[0]["records"] >= 1
    assert [e["alert"]["status"] for e in world.told("alert")] == ["firing", "resolved"]
    assert "cpu_user 1 instead of 0.1 (90%)" in world.told("alert")[0]["text"]
    assert world.told("found")[0]["seconds"] < 0.4
    assert world.told("recalibrated")[0] | {"before": "0", "after": "1"} == world.told("recalibrated")[0]
    assert world.told("done")[0]["incidents"] == 1
    assert story.picture.points[-1] == (0.5, 1.5)
    assert story.picture.streams["processes"].state == "live"
    assert story.picture.streams["processes"].sent == 7


def test_a_fault_that_is_not_found_fails_the_demo_in_words(world: World) -> None:
    world.blind = True
    story = world.story()
    with pytest.raises(
        TocsinError, match=r"the host's alert fires \(its processors were 40% busy"
    ) as failure:
        story.fault(world)  # type: ignore[arg-type]
    assert "last words" in str(failure.value)


def test_neither_an_old_alert_nor_that_of_something_else_is_the_hosts(world: World) -> None:
    world.blind = True
    world.waiting = [
        alert(alerts.Status.FIRING, time.time() - 60.0),
        alert(alerts.Status.FIRING, time.time() + 60.0, stream="processes", entity="python"),
        alert(alerts.Status.FIRING, time.time() + 60.0, entity="another"),
    ]
    with pytest.raises(TocsinError, match="the host's alert fires"):
        world.story().fault(world)  # type: ignore[arg-type]


def test_a_recalibration_that_never_acts_fails(world: World) -> None:
    world.deaf = True
    with pytest.raises(TocsinError, match="the recalibration takes effect"):
        world.story().recalibrate()


def test_a_daemon_that_ends_and_telemetry_that_fails_end_the_story(world: World) -> None:
    world.failed = OSError("no broker")
    with pytest.raises(TocsinError, match="telemetry ended: no broker"):
        world.story().watch()
    world.dead = True
    with pytest.raises(TocsinError, match="ended with code 1"):
        world.story().learn()


def test_without_a_fault_it_watches_as_long(world: World) -> None:
    story, begun = world.story(), time.monotonic()
    story.no_fault()
    assert time.monotonic() - begun >= 0.3


def test_the_configuration_is_valid_and_its_topics_are_made(tmp_path: Path) -> None:
    broker = open_broker(EMBEDDED)
    try:
        path, settings = stage.set_up(broker, tmp_path)
        assert isinstance(settings, Settings)
        assert path == tmp_path / "tocsin.toml"
        assert settings.kafka.bootstrap == broker.bootstrap
        assert settings.thresholds.budget == "20/hour"
        assert settings.train.min_records == 120
        assert settings.registry.path == str(tmp_path / "registry")
        assert settings.registry.private_key == str(tmp_path / "signing-key.pem")
        # The daemon is another process and sees an address: it must know what that broker cannot do.
        assert open_broker(broker.bootstrap).capabilities == broker.capabilities
        admin = broker.admin()
        topics = admin.topics()
        for name in STREAMS:
            assert {name, f"{name}.alerts", f"{name}.changelog", f"{name}.control"} <= set(topics)
        reader = stage.AlertReader(broker, settings)
        producer = broker.producer()
        sent = alert(alerts.Status.FIRING, 1.0, stream="processes", entity="java")
        producer.produce("processes.alerts", alerts.message_of(sent).value)
        producer.flush(10.0)
        found: list[alerts.Alert] = []
        deadline = time.monotonic() + 10
        while not found and time.monotonic() < deadline:
            found += reader.read()
            time.sleep(0.05)
        assert found == [sent]
        shown = stage.incident(sent)
        assert (shown.stream, shown.entity, shown.status) == ("processes", "java", "firing")
        assert shown.features == [("cpu_user", 1.0, 0.1, 0.9)]
    finally:
        broker.close()


def test_metrics_are_read_by_name_and_labels() -> None:
    found = metrics(scored=12.0, calibration=3.0)
    assert daemon.value(found, "tocsin_records_scored_total", stream="hosts") == 12.0
    assert daemon.value(found, "tocsin_records_scored_total") == 24.0
    assert daemon.value(found, "tocsin_records_scored_total", stream="other") is None
    assert script._phase_of(found, "hosts") == "live"
    assert script._phase_of(found, "other") is None


def test_a_daemon_that_cannot_start_says_why(tmp_path: Path) -> None:
    config = tmp_path / "tocsin.toml"
    config.write_text("[streams.hosts]\nshape = 3\n")
    child = daemon.Daemon(config, tmp_path / "log", stage.free_port())
    deadline = time.monotonic() + 30

    def wait() -> None:
        while time.monotonic() < deadline:
            child.check()
            time.sleep(0.05)

    with pytest.raises(TocsinError, match="ended with code 2"):
        wait()
    assert "shape" in child.last_words()
    assert child.metrics() is None
    with pytest.raises(TocsinError, match="`tocsin check` ended with code 2"):
        child.command("check", timeout_s=60.0)
    child.stop()


def test_an_unanswered_command_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = SimpleNamespace(_config=tmp_path)
    monkeypatch.setattr(daemon, "_TOCSIN", ("/bin/sh", "-c", "sleep 60"))
    with pytest.raises(TocsinError, match="not done within"):
        daemon.Daemon.command(owner, "recalibrate", timeout_s=0.2)  # type: ignore[arg-type]
