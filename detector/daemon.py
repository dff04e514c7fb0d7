"""`tocsin run`: the long-lived process. One thread a stream, one worker for all chains, one for HTTP.

A stream goes through: starting, collecting and training (without a model), restoring, live, stopped.
"""

from __future__ import annotations

import logging
import secrets
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prometheus_client.registry import CollectorRegistry

from ..errors import SettingsError, TocsinError
from ..pipelines.brokers import Broker, open_broker
from ..pipelines.brokers.base import Part
from . import layout, view
from . import metric_defs as defs
from .bootstrap import Progress, first_model
from .clocks import Clocks
from .control import artefacts_of, publish
from .control_feed import ControlFeed
from .http import Heartbeat, Server, Sources
from .intended import differences, first_changes, reloaded
from .ledger import Ledger
from .metrics import Metrics
from .owned import Owned
from .reading import Reader
from .registry import open_registry
from .rulings import Rulings
from .settings import Settings, Stream, load, settings_hash
from .startup import make_chain, model_loader, schema_of, warm
from .stream import Setup, StreamLoop
from .topics import check
from .view import ruling_summary

log = logging.getLogger(__name__)

REPORT_S = 1.0
STOP_S = 10.0
ANSWER_S = 2.0
SWITCH_S = 1e-4
"""How long the consuming thread may keep the interpreter from the worker, which needs it for moments between kernels:
with Python's own 5 ms the worker waited as long as it worked."""


class StreamRunner:
    """One stream from start to stop, in a thread of its own."""

    def __init__(
        self,
        settings: Settings,
        stream: Stream,
        broker: Broker,
        metrics: Metrics,
        worker: Executor,
        clocks: Clocks,
    ) -> None:
        self.stream = stream
        self.settings = settings
        self.heart = Heartbeat(clocks.monotonic)
        self.ledger = Ledger(metrics, stream.name, clocks)
        self.fault: BaseException | None = None
        self.phase = "starting"
        self.progress: Progress | None = None
        self.loop: StreamLoop | None = None
        self.rulings: Rulings | None = None
        self.report: dict[str, Any] = {"stream": stream.name, "phase": self.phase}
        self._broker = broker
        self._worker = worker
        self._clocks = clocks
        self._stopping = threading.Event()
        self._reported_at = 0.0
        self._top_k = metrics.top_k
        self.thread = threading.Thread(target=self._guarded, name=f"stream-{stream.name}")

    def stop(self) -> None:
        """Ask it to end."""
        self._stopping.set()
        if self.loop is not None:
            self.loop.stop()

    def unready(self) -> str | None:
        """None once live, else why not."""
        if self.fault is not None:
            return f"stream {self.stream.name} has failed: {self.fault}"
        if self.phase == "live" and self.loop is not None and self.loop.owned:
            return None
        return f"stream {self.stream.name} is {self.phase}{self._how_far()}"

    def _how_far(self) -> str:
        if self.progress is None or self.phase not in ("collecting", "training"):
            return " for partitions to be assigned" if self.phase == "live" else ""
        return (
            f": {self.progress.enough} of {self.progress.entities} entities have enough records"
            f" ({self.progress.share:.0%} of the median entity's need)"
        )

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as fault:  # handed to the main thread, which ends the process
            self.fault = fault
        finally:
            self._enter("stopped")

    def _enter(self, phase: str) -> None:
        if phase != self.phase:
            log.info("phase", extra={"stream": self.stream.name, "phase": phase})
        self.phase = phase
        self.ledger.phase(phase)
        self.report = {**self.report, "phase": phase}

    def _run(self) -> None:
        self._enter("starting")
        _topics_good(self._broker, self.settings, self.stream)
        layout.settle(self._broker, self.stream)
        registry = open_registry(self.settings, self.stream)
        starts: dict[Part, int] = {}
        if not registry.versions():
            found = first_model(
                self._broker,
                self.settings,
                self.stream,
                Path(self.settings.registry.path),
                self._hear,
                self._stopping.is_set,
            )
            if found is None:
                return
            starts = found
        self._enter("restoring")
        schema = schema_of(self.stream, registry, self.settings)
        rulings = Rulings(self.settings, model_loader(registry, self.settings, self.stream, schema))
        artefacts = artefacts_of(self.settings, self.stream)
        with ThreadPoolExecutor(1, f"models-{self.stream.name}") as loader:
            control = ControlFeed(self._broker, self.stream.control, artefacts, rulings, loader)
            for change in first_changes(rulings.effective().in_force, self.settings, registry):
                publish(self._broker, self.stream.control, change, artefacts)
            control.catch_up()
            for name, (mine, in_force) in differences(rulings.effective().in_force, self.settings).items():
                log.warning(
                    "the control topic wins over the file; SIGHUP publishes the file's",
                    extra={"setting": name, "file": mine, "in_force": in_force},
                )
            self.rulings = rulings
            warm(self.stream, schema, rulings.ruling())
            chain = make_chain(self.stream, schema, rulings.ruling().model)
            self.loop = StreamLoop(
                Setup(
                    stream=self.stream,
                    decode=self.settings.decode,
                    broker=self._broker,
                    chain=chain,
                    reader=Reader(self.stream, self.settings.decode, chain.state),
                    rulings=rulings,
                    control=control,
                    ledger=self.ledger,
                    worker=self._worker,
                    clocks=self._clocks,
                    config_hash=settings_hash(self.settings, self.stream),
                    snapshot_every_s=self.settings.state.snapshot_every.seconds,
                    writer=secrets.randbits(32),
                    beat=self._beat,
                    starts=starts,
                )
            )
            if self._stopping.is_set():
                self.loop.stop()
            self._enter("live")
            self.loop.run()
            control.close()

    def _hear(self, phase: str, progress: Progress) -> None:
        self.heart.beat()
        self.progress = progress
        self._enter(phase)
        self.ledger.training(progress.share)
        self.report = {"stream": self.stream.name, "phase": phase, "collected": progress._asdict()}

    def _beat(self) -> None:
        self.heart.beat()
        now = self._clocks.monotonic()
        if now - self._reported_at >= REPORT_S and self.loop is not None:
            self._reported_at = now
            self._report(self.loop)

    def _report(self, loop: StreamLoop) -> None:
        """Gauges and status, as the arrays stand: the worker may be ahead by the batch it is at."""
        parts = {part: owned.index for part, owned in loop.owned.items()}
        shown = view.gauges(loop.state, parts, loop.lags, self._top_k)
        self.ledger.gauges(shown)
        ruling = next((loop.state.rulings[index] for index in parts.values()), None)
        self.report = {
            "stream": self.stream.name,
            "phase": self.phase,
            **(ruling_summary(ruling) if ruling is not None else {}),
            "entities_known": shown.entities,
            "entities_warming": shown.warming,
            "incidents_open": shown.firing,
            "incidents_pending": shown.pending,
            "bytes_per_entity": loop.state.bytes_per_entity(),
            "partitions": [_part_report(owned) for owned in loop.owned.values()],
            "recent_alerts": self.ledger.recent[-5:],
        }

    def entities(self, limit: int, after: str) -> list[dict[str, Any]]:
        """Entities by name, answered by the loop between two batches."""
        found: list[dict[str, Any]] = self._ask(
            lambda loop: view.entities(loop.state, _indices(loop), loop.lags, limit, after), []
        )
        return found

    def entity(self, name: str) -> dict[str, Any] | None:
        """One entity, or None."""
        found: dict[str, Any] | None = self._ask(
            lambda loop: view.find(loop.state, _indices(loop), loop.lags, name), None
        )
        return found

    def _ask(self, question: Callable[[StreamLoop], Any], otherwise: Any) -> Any:
        loop = self.loop
        if loop is None or not self.thread.is_alive():
            return otherwise
        return loop.ask(lambda: question(loop)).result(ANSWER_S)


def _indices(loop: StreamLoop) -> dict[Part, int]:
    return {part: owned.index for part, owned in loop.owned.items()}


def _part_report(owned: Owned) -> dict[str, Any]:
    return {
        "topic": owned.part[0],
        "partition": owned.part[1],
        "next_offset": owned.next_offset,
        "committed": owned.committed,
        "snapshot_offset": owned.snapshot_offset,
    }


def _topics_good(broker: Broker, settings: Settings, stream: Stream) -> None:
    """Raises SettingsError with the fix where a topic is missing or wrong."""
    report = check(broker, settings, [stream])
    fatal = [finding for finding in report.findings if finding.fatal]
    if fatal:
        raise SettingsError("\n".join(f"{f.subject} {f.problem}: {f.fix}." for f in fatal))


class Daemon:
    """All streams of a configuration, their metrics and their HTTP server."""

    def __init__(self, settings: Settings, broker: Broker, clocks: Clocks | None = None) -> None:
        self.settings = settings
        self._clocks = clocks or Clocks()
        self.metrics = Metrics(CollectorRegistry(), settings.http.top_k_entities)
        self._broker = broker
        self._worker = ThreadPoolExecutor(1, "chain")
        self.runners = [
            StreamRunner(settings, stream, broker, self.metrics, self._worker, self._clocks)
            for stream in settings.streams
        ]
        self.server = Server(
            settings.http.host,
            settings.http.port,
            self.metrics.registry,
            Sources(self._healthy, self._ready, self._status, self._entities, self._entity),
        )
        self._wake = threading.Event()
        self._reload = threading.Event()
        self._stopping = False

    def stop(self) -> None:
        """Ask everything to end; safe in a signal handler."""
        self._stopping = True
        self._wake.set()

    def reload(self) -> None:
        """Ask for the configuration to be read again; safe in a signal handler."""
        self._reload.set()
        self._wake.set()

    def run(self) -> None:
        """Run until `stop`, or until a stream fails.

        Raises:
            TocsinError: what a person must see to.
        """
        self.server.start()
        log.info("listening", extra={"url": self.server.url, "metrics": f"{self.server.url}/metrics"})
        for runner in self.runners:
            runner.thread.start()
        try:
            while not self._stopping and all(runner.thread.is_alive() for runner in self.runners):
                self._wake.wait(0.5)
                self._wake.clear()
                self.metrics.set(defs.READY, float(self._ready() is None))
                if self._reload.is_set():
                    self._reload.clear()
                    self._read_again()
        finally:
            for runner in self.runners:
                runner.stop()
            for runner in self.runners:
                runner.thread.join(STOP_S)
            self.server.stop()
            self._worker.shutdown(wait=False, cancel_futures=True)
        faults = [runner.fault for runner in self.runners if runner.fault is not None]
        if faults:
            raise faults[0]

    def _read_again(self) -> None:
        """Publish what the file changes of what decides; say what needs a restart. A bad file changes nothing."""
        if self.settings.file is None:
            return
        try:
            new = load(Path(self.settings.file))
            for runner in self.runners:
                stream = new.stream(runner.stream.name)
                if settings_hash(new, stream) != settings_hash(self.settings, runner.stream):
                    log.info("the configuration has changed", extra={"stream": stream.name})
                if stream != runner.stream or new.kafka != self.settings.kafka:
                    log.warning(
                        "changes of [stream] and [kafka] act at the next start", extra={"stream": stream.name}
                    )
                if runner.rulings is not None:
                    for change in reloaded(runner.rulings.effective().in_force, new):
                        publish(self._broker, stream.control, change, artefacts_of(new, stream))
        except TocsinError as fault:
            log.error(
                "the configuration was not reloaded; the last good one stays", extra={"why": str(fault)}
            )
            return
        logging.getLogger("tocsin").setLevel(new.log.level.upper())
        self.settings = new

    def _healthy(self) -> str | None:
        return next((why for runner in self.runners if (why := runner.heart.reason())), None)

    def _ready(self) -> str | None:
        return next((why for runner in self.runners if (why := runner.unready())), None)

    def _status(self) -> dict[str, Any]:
        return {
            "ready": self._ready() is None,
            "why": self._ready(),
            "streams": [r.report for r in self.runners],
        }

    def _of(self, stream: str | None) -> list[StreamRunner]:
        return [runner for runner in self.runners if stream in (None, runner.stream.name)]

    def _entities(self, stream: str | None, limit: int, after: str) -> list[dict[str, Any]]:
        found = [
            {"stream": runner.stream.name, **one}
            for runner in self._of(stream)
            for one in runner.entities(limit, after)
        ]
        return found[:limit]

    def _entity(self, stream: str | None, name: str) -> dict[str, Any] | None:
        for runner in self._of(stream):
            found = runner.entity(name)
            if found is not None:
                return {"stream": runner.stream.name, **found}
        return None


def run(settings: Settings) -> None:
    """Run the daemon of a configuration until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
    sys.setswitchinterval(SWITCH_S)
    broker = open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)
    try:
        daemon = Daemon(settings, broker)
        signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
        signal.signal(signal.SIGINT, lambda *_: daemon.stop())
        signal.signal(signal.SIGHUP, lambda *_: daemon.reload())
        daemon.run()
    finally:
        broker.close()
