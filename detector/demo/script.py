"""The demo's story: learn this machine, watch it, cause a real fault, see it found and over, recalibrate.

Every step waits for what the running daemon itself says, through its metrics and its alert topic, and fails
in words when that does not come in time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec

from ...errors import TocsinError
from ...pipelines.brokers import EMBEDDED, open_broker
from ..alerts import Alert, Status
from . import fault
from .daemon import Daemon, Metrics, value
from .host import Own
from .stage import AlertReader, host_name, incident, set_up
from .telemetry import RATE_HZ, STREAMS, Telemetry
from .view import Event, Picture, Point, StreamState, View, open_view, responsible
from .work import Work

# What started the demo (a shell, make, an installation) comes to rest before the machine is learnt.
SETTLE_S = 3.0
ANSWER_S = 60.0
LIVE_S = 240.0
# Of records scored before the fault, those included that came while the daemon was training.
NORMAL_S = 32.0
WATCH_S = 15.0
FOUND_S = 20.0
# Long enough for people, and for the program that causes it to be noticed too.
FAULT_S = 8.0
OVER_S = 60.0
QUIET_S = 30.0
RECALIBRATED_S = 90.0
NEW_BUDGET = "10/hour"

# The demo yields to everything else on the machine, and so its own work can be told from the machine's.
_NICENESS = 5
_LOOK_S = 0.25
_NAP_S = 0.1
_PHASES = ("learn", "watch", "fault", "recovery", "recalibrate", "done")


def run(out: TextIO, *, with_fault: bool = True, as_json: bool = False, keep: bool = False) -> None:
    """Tell the whole story on `out`.

    Raises:
        TocsinError: a step did not happen in its time; says which, with the daemon's last words.
    """
    began_s = time.time()
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(_terminated_like_interrupted())
        # First of all: they must not inherit the niceness of the rest.
        child = cleanup.enter_context(fault.Fault()) if with_fault else None
        work = cleanup.enter_context(Work())
        niced = os.nice(0) > 0
        os.nice(_NICENESS)
        folder = Path(tempfile.mkdtemp(prefix="tocsin-demo-"))
        if not keep:
            cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        broker = open_broker(EMBEDDED)
        cleanup.callback(broker.close)
        config, settings = set_up(broker, folder)
        view = cleanup.enter_context(open_view(out, as_json=as_json, began_s=began_s))
        own = Own(os.getpid(), [work.pid, *([child.pid] if child else [])])
        producer = broker.producer()

        def publish(stream: str, entity: str, message: bytes, time_ms: int) -> None:
            producer.produce(stream, message, key=entity.encode(), timestamp_ms=time_ms)
            producer.poll()

        telemetry = Telemetry(publish, host_name(), own, count_nice=niced)
        daemon = Daemon(config, folder / "daemon.log", settings.http.port)
        cleanup.callback(telemetry.stop)
        cleanup.callback(daemon.stop)
        story = Story(view, daemon, telemetry, AlertReader(broker, settings))
        story.say("configuration", f"{config}\n{config.read_text()}", path=str(config))
        time.sleep(SETTLE_S)
        telemetry.start()
        story.learn()
        story.watch()
        if child is not None:
            story.fault(child)
        else:
            story.no_fault()
        story.recalibrate()
        story.end(broker.bootstrap, [stream.alerts for stream in settings.streams])
        if keep:
            story.stay()


class Story:
    """The steps, and what is known while they go on."""

    def __init__(self, view: View, daemon: Daemon, telemetry: Telemetry, alerts: AlertReader) -> None:
        self._view = view
        self._daemon = daemon
        self._telemetry = telemetry
        self._reader = alerts
        self._alerts: dict[str, Alert] = {}
        self._host = host_name()
        self._metrics: Metrics | None = None
        self._looked_s = 0.0
        self.picture = Picture(self._host, _PHASES, streams={name: StreamState() for name in STREAMS})

    # -- the steps -------------------------------------------------------------------------------

    def learn(self) -> None:
        """From nothing to a model of its own."""
        self._phase(0, "The daemon has no model yet: it collects a minute of records and trains on them.")
        self._until(lambda: self._metrics, ANSWER_S, "the daemon answers")
        self.say("metrics", f"metrics: {self._daemon.url}/metrics", url=f"{self._daemon.url}/metrics")
        states = self.picture.streams
        self._until(
            lambda: all(one.state == "live" for one in states.values()), LIVE_S, "all streams are live"
        )
        self.say("live", "The daemon has trained its models and scores every record.")

    def watch(self) -> None:
        """Ordinary life, in which nothing should fire."""
        self._phase(1, "Ordinary life: nothing should fire.")
        self._rest(WATCH_S)
        hosts, enough = self.picture.streams["hosts"], round(NORMAL_S * RATE_HZ)
        self._until(lambda: hosts.scored >= enough, NORMAL_S, f"{enough} records of the host are scored")
        self._until(lambda: not self._host_firing(), QUIET_S, "the host is back to ordinary")
        text = f"{hosts.scored} records of the host were scored, {hosts.scored / RATE_HZ:.0f} s."
        self.say("watched", text, records=hosts.scored, seconds=hosts.scored / RATE_HZ)

    def fault(self, child: fault.Fault) -> None:
        """Pressure on processors and memory, found and over."""
        size, busy = fault.size(), self._telemetry.busy
        self._phase(2, "A real fault: every processor busy, and memory taken.")
        begin_ms = time.time() * 1000.0
        child.start(size)
        began_s = time.monotonic()
        text = f"Fault: {size.cores} busy processes and {size.memory_bytes >> 20} MiB of memory."
        self.say("fault_started", text, pid=child.pid, cores=size.cores, memory_bytes=size.memory_bytes)
        what = (
            f"the host's alert fires (its processors were {busy:.0%} busy before the fault; idle is better)"
        )
        self._until(lambda: self._found(begin_ms), FOUND_S, what)
        found_s = time.monotonic() - began_s
        found = self._found(begin_ms)
        assert found is not None
        self.say("found", f"Found after {found_s:.1f} s.", seconds=round(found_s, 2), alert_id=found.alert_id)
        self._rest(FAULT_S - found_s)
        self._phase(3, "The fault is stopped; the incident ends when the scores are ordinary again.")
        child.stop()
        stopped_s = time.monotonic()
        self.say("fault_stopped", "The fault is stopped.")

        def over() -> bool:
            return self._alerts[found.alert_id].status is Status.RESOLVED

        self._until(over, OVER_S, "the host's alert is resolved")
        seconds = time.monotonic() - stopped_s
        self.say("over", f"Resolved {seconds:.1f} s after the fault's end.", seconds=round(seconds, 2))

    def no_fault(self) -> None:
        """As long again without one."""
        self._phase(2, "No fault this time: nothing should fire.")
        self._rest(QUIET_S)

    def recalibrate(self) -> None:
        """Half the budget, from the records that Kafka holds, taken up by the running daemon."""
        self._phase(4, f"`tocsin recalibrate`: a budget of {NEW_BUDGET} instead.")
        self._look()
        before = self.picture.streams["hosts"].calibration
        args = ("recalibrate", "--stream", "hosts", "--budget", NEW_BUDGET)
        self.say("recalibrating", f"tocsin {' '.join(args)}")
        table = self._daemon.command(*args, timeout_s=RECALIBRATED_S)
        self.say("recalibration", table.strip())
        hosts = self.picture.streams["hosts"]
        self._until(lambda: hosts.calibration != before, RECALIBRATED_S, "the recalibration takes effect")
        text = f"The running daemon now uses calibration {hosts.calibration} (before: {before})."
        self.say("recalibrated", text, before=before, after=hosts.calibration)

    def end(self, bootstrap: str, topics: list[str]) -> None:
        """Where everything is."""
        self._phase(5, "Done.")
        opened = len(self._alerts)
        text = (
            f"{opened} incident{'s' * (opened != 1)}. Alerts: topics {', '.join(topics)} at {bootstrap}; "
            f"metrics: {self._daemon.url}/metrics."
        )
        self.say("done", text, incidents=opened, bootstrap=bootstrap, topics=topics)

    def stay(self) -> None:
        """Leave everything running until Ctrl-C."""
        self.say("staying", f"Everything goes on until Ctrl-C; the files stay in {self._daemon.log.parent}.")
        while True:
            self._look()
            time.sleep(_NAP_S)

    # -- what they are made of -------------------------------------------------------------------

    def say(self, kind: str, text: str, **data: Any) -> None:
        """Tell the view."""
        self._view.say(Event(time.time(), kind, text, data))

    def _phase(self, phase: int, note: str) -> None:
        self.picture.phase, self.picture.note = phase, note
        self.say("phase", note, phase=_PHASES[phase])

    def _rest(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._look()
            time.sleep(_NAP_S)

    def _until(self, holds: Callable[[], object], limit_s: float, what: str) -> None:
        end_s = time.monotonic() + limit_s
        while not holds():
            if time.monotonic() > end_s:
                raise self._failed(f"it was to happen within {limit_s:.0f} s that {what}, and it did not")
            time.sleep(_NAP_S)
            self._look()

    def _failed(self, why: str) -> TocsinError:
        return TocsinError(f"The demo failed: {why}.\n{self._daemon.last_words()}")

    def _look(self) -> None:
        """Everything that may have changed, into the picture."""
        self._daemon.check()
        if self._telemetry.failed is not None:
            raise TocsinError(f"The telemetry ended: {self._telemetry.failed}") from self._telemetry.failed
        for alert in self._reader.read():
            self._alert(alert)
        if time.monotonic() - self._looked_s >= _LOOK_S:
            self._looked_s = time.monotonic()
            self._metrics = self._daemon.metrics() or self._metrics
            if self._metrics is not None:
                self._streams(self._metrics)
            if self.picture.streams["hosts"].state == "live":
                self._point()
        self._view.show(self.picture)

    def _alert(self, alert: Alert) -> None:
        shown = incident(alert)
        self._alerts[alert.alert_id] = alert
        self.picture.incidents[alert.alert_id] = shown
        where = f"{shown.stream}/{shown.entity}"
        text = f"ALERT {alert.status}: {where}"
        if alert.status is Status.FIRING:
            text += f": {responsible(shown.features[:3])}"
        self.say("alert", text, alert=msgspec.to_builtins(alert))

    def _streams(self, metrics: Metrics) -> None:
        for name, one in self.picture.streams.items():
            state = _phase_of(metrics, name)
            if state and state != one.state:
                one.state = state
                self.say("stream", f"{name}: {state}", stream=name, state=state)
            one.sent = self._telemetry.sent[name]
            one.scored = int(value(metrics, "tocsin_records_scored_total", stream=name) or 0)
            one.firing = int(value(metrics, "tocsin_incidents_open", stream=name) or 0)
            version = value(metrics, "tocsin_calibration_version", stream=name)
            one.calibration = "" if version is None else f"{version:g}"

    def _point(self) -> None:
        known = self._daemon.entity("hosts", self._host) or {}
        score, threshold = known.get("score"), known.get("threshold")
        if score is not None and threshold is not None:
            self.picture.points.append(Point(score, threshold))

    def _host_firing(self) -> bool:
        """Whether an incident of the host is open."""
        return any(
            alert.labels.stream == "hosts" and alert.status is Status.FIRING
            for alert in self._alerts.values()
        )

    def _found(self, since_ms: float) -> Alert | None:
        """The host's alert that fires and was raised at or after `since_ms`."""
        for alert in self._alerts.values():
            mine = alert.labels.stream == "hosts" and alert.labels.entity == self._host
            if mine and alert.status is Status.FIRING and _epoch_ms(alert.event_time) >= since_ms:
                return alert
        return None


def _phase_of(metrics: Metrics, stream: str) -> str | None:
    for labels, is_it in metrics.get("tocsin_stream_phase", ()):
        if labels.get("stream") == stream and is_it == 1.0:
            return labels["phase"]
    return None


def _epoch_ms(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp() * 1000.0


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that nothing is left behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
