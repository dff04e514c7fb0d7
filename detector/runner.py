"""One stream from start to stop, in a thread of its own: its model, its changes, its loop, and what it shows."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..models.registry import Registry
from ..pipelines.brokers import Broker
from ..pipelines.brokers.base import Part
from ..pipelines.schema import FeatureSchema
from . import partition_counts, view
from .clocks import Clocks
from .control import artefacts_of, publish
from .control_feed import ControlFeed
from .garbage import look_seldom
from .http import Heartbeat, NotNow
from .intended import differences, first_changes
from .ledger import Ledger
from .metrics import Metrics
from .owned import Owned
from .reading import Reader
from .registry import open_registry
from .rekeying import Rekeyer
from .ruling import Model
from .rulings import Rulings
from .settings import Settings, Stream, settings_hash
from .startup import ahead, make_chain, model_loader, schema_of, warm
from .stopping import Stopping
from .stream import StreamLoop
from .stream_setup import Setup
from .topics import check
from .view import ruling_summary

if TYPE_CHECKING:
    from .bootstrap import Progress

log = logging.getLogger(__name__)

REPORT_S = 1.0
REPORT_SHARE = 0.02
"""Of its time, at most, the loop spends on gauges: with very many entities they are looked at less often."""
ANSWER_S = 2.0


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
        stopping: Stopping,
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
        self._stopping = stopping
        self._report_at = 0.0
        self._layout: dict[str, int] = {}
        self._top_k = metrics.top_k
        self._rekeyer: Rekeyer | None = None
        # Not waited for beyond the deadline: what it did not commit is read again.
        self.thread = threading.Thread(target=self._guarded, name=f"stream-{stream.name}", daemon=True)

    def unready(self) -> str | None:
        """None once live, else why not."""
        if self.fault is not None:
            return f"stream {self.stream.name} has failed: {self.fault}"
        if self.phase == "live" and self.loop is not None and self.loop.owned and not self.loop.restoring:
            return None
        return f"stream {self.stream.name} is {self.phase}{self._how_far()}"

    def still(self) -> str | None:
        """None while its loops move, else how long one has stood still."""
        rekeyer = self._rekeyer
        return self.heart.reason() or (rekeyer.heart.reason() if rekeyer else None)

    def _how_far(self) -> str:
        if self.progress is None or self.phase not in ("collecting", "training"):
            return ", but its partitions are not assigned and restored yet" if self.phase == "live" else ""
        return f": {self.progress.said}"

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
        registry = open_registry(self.settings, self.stream)
        with ThreadPoolExecutor(1, f"models-{self.stream.name}") as loader:
            model = self._model(registry, loader) if registry.versions() else None
            _topics_good(self._broker, self.settings, self.stream)
            self._layout = partition_counts.settle(self._broker, self.stream)
            if self.stream.rekey:
                self._start_rekeyer()
            try:
                self._score(registry, loader, model)
            finally:
                if self._rekeyer is not None:
                    self._rekeyer.stop()

    def _model(self, registry: Registry, loader: Executor) -> tuple[FeatureSchema, Callable[[str], Model]]:
        """The stream's features and what loads a version of its model; one is loaded while the broker is asked."""
        schema = schema_of(self.stream, registry, self.settings)
        load = cache(model_loader(registry, self.settings, self.stream, schema))
        # Where it cannot be, the control topic will ask for it again, or for another.
        loader.submit(ahead, self.settings, self.stream, registry, schema, load)
        return schema, load

    def _start_rekeyer(self) -> None:
        self._rekeyer = Rekeyer(
            self._broker,
            self.stream,
            self.settings.decode,
            self.ledger,
            self._clocks,
            self._stopping,
            self.settings.state.commit_every.seconds,
        )
        self._rekeyer.thread.start()

    def _score(
        self,
        registry: Registry,
        loader: Executor,
        model: tuple[FeatureSchema, Callable[[str], Model]] | None,
    ) -> None:
        starts: dict[Part, int] = {}
        if model is None:
            from .bootstrap import first_model  # what trains: a start with a model needs it not

            found = first_model(
                self._broker,
                self.settings,
                self.stream,
                Path(self.settings.registry.path),
                self._hear,
                self._stopping.asked,
            )
            if found is None:
                return
            starts = found
            model = self._model(registry, loader)
        self._enter("restoring")
        schema, load = model
        rulings = Rulings(self.settings, load)
        artefacts = artefacts_of(self.settings, self.stream)
        control = ControlFeed(self._broker, self.stream.control, artefacts, rulings, loader)
        for change in first_changes(rulings.effective().in_force, self.settings, registry):
            publish(self._broker, self.stream.control, change, artefacts)
        control.catch_up()
        self.ledger.unsealed(control.unsealed)
        for name, (mine, in_force) in differences(rulings.effective().in_force, self.settings).items():
            log.warning(
                "the control topic wins over the file; SIGHUP publishes the file's",
                extra={"setting": name, "file": mine, "in_force": in_force},
            )
        self.rulings = rulings
        warm(self.stream, schema, rulings.ruling())
        chain = make_chain(self.stream, schema, rulings.ruling().model, self.settings.state)
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
                commit_every_s=self.settings.state.commit_every.seconds,
                snapshot_every_s=self.settings.state.snapshot_every.seconds,
                writer=secrets.randbits(32),
                beat=self._beat,
                starts=starts,
                stopping=self._stopping,
                same_layout=partial(partition_counts.same, self._broker, self.stream, self._layout),
            )
        )
        look_seldom()
        self._enter("live")
        self.loop.run()
        control.close()

    def _hear(self, phase: str, progress: Progress) -> None:
        self._alive()
        self.progress = progress
        self._enter(phase)
        self.ledger.training(progress.share)
        self.report = {
            "stream": self.stream.name,
            "phase": phase,
            "collected": progress._asdict(),
            **self._rekey_report(),
        }

    def _alive(self) -> None:
        self.heart.beat()
        if self._rekeyer is not None:
            self._rekeyer.check()

    def _rekey_report(self) -> dict[str, Any]:
        return {} if self._rekeyer is None else {"rekey": self._rekeyer.report()}

    def _beat(self) -> None:
        self._alive()
        now = self._clocks.monotonic()
        if now >= self._report_at and self.loop is not None:
            self._report(self.loop)
            done = self._clocks.monotonic()
            self._report_at = done + max(REPORT_S, (done - now) / REPORT_SHARE)

    def _report(self, loop: StreamLoop) -> None:
        """Gauges and status, as the arrays stand: the worker may be ahead by the batch it is at."""
        parts = {part: owned.index for part, owned in loop.owned.items()}
        shown = view.gauges(
            loop.state, parts, loop.lags, self._top_k, whole=len(parts) == sum(self._layout.values())
        )
        self.ledger.gauges(shown)
        ruling = next((loop.state.rulings[index] for index in parts.values()), None)
        self.report = {
            "stream": self.stream.name,
            "phase": self.phase,
            **(ruling_summary(ruling) if ruling is not None else {}),
            "entities_known": shown.entities,
            "entities_off": shown.split_off,
            "entities_warming": shown.warming,
            "incidents_open": shown.firing,
            "incidents_pending": shown.pending,
            "bytes_per_entity": loop.state.bytes_per_entity(),
            "learning_frozen": [_name(part) for part, one in shown.parts.items() if one.frozen],
            "training_proposed": [_name(part) for part, one in shown.parts.items() if one.proposed],
            "partitions": [_part_report(owned) for owned in loop.owned.values()],
            "recent_alerts": self.ledger.recent[-5:],
            **self._rekey_report(),
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
        try:
            return loop.ask(lambda: question(loop)).result(ANSWER_S)
        except TimeoutError:
            raise NotNow(
                f"stream {self.stream.name} is busy, restoring for instance; ask again later"
            ) from None


def _indices(loop: StreamLoop) -> dict[Part, int]:
    return {part: owned.index for part, owned in loop.owned.items()}


def _name(part: Part) -> str:
    return f"{part[0]}/{part[1]}"


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
