"""`tocsin run`: the long-lived process. One thread a stream, one worker for all chains, one for HTTP.

A stream goes through: starting, collecting and training (without a model), restoring, live, stopped.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prometheus_client.registry import CollectorRegistry

from .. import __version__
from ..errors import TocsinError
from ..pipelines.brokers import Broker, open_broker
from . import metric_defs as defs
from .clocks import Clocks
from .control import artefacts_of, publish
from .freed_memory import give_back, share_arenas
from .garbage import look_seldom
from .http import Server, Sources
from .http_access import access_of
from .intended import reloaded
from .metrics import Metrics
from .runner import StreamRunner
from .settings import Settings, load, settings_hash
from .stopping import STOP_S, Stopping
from .wire import rfc3339

log = logging.getLogger(__name__)

SWITCH_S = 1e-4
"""How long the consuming thread may keep the interpreter from the worker, which needs it for moments between kernels:
with Python's own 5 ms the worker waited as long as it worked."""

GIVE_BACK_S = 2.0
"""How often memory that is free goes back to the system."""


class Daemon:
    """All streams of a configuration, their metrics and their HTTP server."""

    def __init__(self, settings: Settings, broker: Broker, clocks: Clocks | None = None) -> None:
        self.settings = settings
        self._clocks = clocks or Clocks()
        self._stopping = Stopping(self._clocks.monotonic)
        self.metrics = Metrics(CollectorRegistry(), settings.http.top_k_entities)
        self._broker = broker
        self._worker = ThreadPoolExecutor(1, "chain")
        self.runners = [
            StreamRunner(settings, stream, broker, self.metrics, self._worker, self._clocks, self._stopping)
            for stream in settings.streams
        ]
        self.server = Server(
            settings.http.host,
            settings.http.port,
            self.metrics.registry,
            Sources(self._healthy, self._ready, self._status, self._entities, self._entity),
            access_of(settings.http),
        )
        self._who = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "since": rfc3339(int(self._clocks.wall() * 1e6)),
        }
        self._wake = threading.Event()
        self._reload = threading.Event()

    def stop(self) -> None:
        """Ask everything to end; safe in a signal handler."""
        self._stopping.ask()
        self._wake.set()

    def reload(self) -> None:
        """Ask for the configuration to be read again; safe in a signal handler."""
        self._reload.set()
        self._wake.set()

    def run(self) -> bool:
        """Run until `stop`, or until a stream fails; whether every stream has ended by the deadline of a stop.

        Raises:
            TocsinError: what a person must see to.
        """
        self.server.start()
        log.info("listening", extra={"url": self.server.url, "metrics": f"{self.server.url}/metrics"})
        for runner in self.runners:
            runner.thread.start()
        given_back = self._clocks.monotonic()
        try:
            while not self._stopping.asked() and all(runner.thread.is_alive() for runner in self.runners):
                self._wake.wait(0.5)
                self._wake.clear()
                if self._clocks.monotonic() - given_back >= GIVE_BACK_S:
                    give_back()
                    given_back = self._clocks.monotonic()
                self.metrics.set(defs.READY, float(self._ready() is None))
                if self._reload.is_set():
                    self._reload.clear()
                    self._read_again()
        finally:
            self._stopping.ask()
            for runner in self.runners:
                runner.thread.join(self._stopping.left(STOP_S))
            self.server.stop()
            self._worker.shutdown(wait=False, cancel_futures=True)
        faults = [runner.fault for runner in self.runners if runner.fault is not None]
        if faults:
            raise faults[0]
        return not any(runner.thread.is_alive() for runner in self.runners)

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
                now = self.settings
                fixed = (runner.stream, now.kafka, now.state, now.control, now.registry)
                if (stream, new.kafka, new.state, new.control, new.registry) != fixed:
                    log.warning(
                        "changes of [stream], [kafka], [state], [control] and [registry] act at the next start",
                        extra={"stream": stream.name},
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
        return next((why for runner in self.runners if (why := runner.still())), None)

    def _ready(self) -> str | None:
        return next((why for runner in self.runners if (why := runner.unready())), None)

    def _status(self) -> dict[str, Any]:
        return {
            "daemon": self._who,
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
    share_arenas()  # before the threads that are to share them
    look_seldom()
    broker = open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)
    try:
        daemon = Daemon(settings, broker)
        signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
        signal.signal(signal.SIGINT, lambda *_: daemon.stop())
        signal.signal(signal.SIGHUP, lambda *_: daemon.reload())
        ended = daemon.run()
    except BaseException:
        broker.close()
        raise
    if not ended:
        # A client, or a compiler, does not come back in time. To wait for it would be no use: nothing is lost.
        log.warning("the time to stop is over; what was not committed will be read again")
        logging.shutdown()
        os._exit(0)
    broker.close()
