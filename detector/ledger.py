"""What a stream tells Prometheus and `tocsin status`: counted once per batch, never per record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from ..pipelines.brokers.base import Batch, Events, Part
from ..pipelines.windows import Verdict
from ..thresholds.constants import Kind
from . import metric_defs as defs
from .alerts import Alert
from .changelog import Decision
from .changes import Feedback, Recalibration
from .clocks import Clocks
from .control import Unloadable
from .control_feed import Arrived
from .metrics import Metrics
from .outbox import Acknowledged
from .outcome import Outcome, unscored
from .reading import Read
from .view import Gauges

RECENT = 100


class Ledger:
    """The metrics of one stream. Counts and times may come from any thread, gauges from the loop's alone."""

    def __init__(self, metrics: Metrics, stream: str, clocks: Clocks) -> None:
        self._metrics = metrics
        self._stream = stream
        self._clocks = clocks
        self.recent: list[Alert] = []
        """The latest alerts, oldest first, at most RECENT."""
        metrics.start_stream(stream)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of a batch."""
        begun = self._clocks.monotonic()
        try:
            yield
        finally:
            self._metrics.observe(defs.STAGE_SECONDS, self._clocks.monotonic() - begun, name)

    def batch(self, batch: Batch, read: Read, outcome: Outcome | None) -> None:
        """A batch that has landed."""
        metrics, stream = self._metrics, self._stream
        metrics.add(defs.RECORDS_CONSUMED, batch.size, stream)
        metrics.observe(defs.BATCH_RECORDS, batch.size, stream)
        if read.tally.unknown:
            metrics.add(defs.POINTS_UNKNOWN, read.tally.unknown, stream)
        if read.tally.infinite:
            metrics.add(defs.VALUES_INFINITE, read.tally.infinite, stream)
        if outcome is None:
            return
        metrics.add(defs.RECORDS_SCORED, len(outcome.row), stream)
        for reason, evicted in outcome.evicted._asdict().items():
            metrics.add(defs.EVICTED, evicted, stream, reason)
        if outcome.late_points:
            metrics.add(defs.POINTS_LATE, outcome.late_points, stream)
        for verdict, count in unscored(outcome).items():
            if count:
                metrics.add(defs.RECORDS_UNSCORED, count, stream, Verdict(verdict).name.lower())
        metrics.observe(defs.SCORE_HISTOGRAM, outcome.score, stream)
        metrics.observe(defs.THRESHOLD_HISTOGRAM, outcome.threshold, stream)
        metrics.add(defs.ANOMALOUS, int(np.count_nonzero(outcome.anomalous)), stream)
        metrics.add(defs.EXCUSED, int(np.count_nonzero(outcome.excused)), stream)
        kinds = outcome.events["kind"]
        opened = int(np.count_nonzero((kinds == Kind.OPENED) | (kinds == Kind.DIGEST_OPENED)))
        held = int(np.count_nonzero((kinds == Kind.DIGEST_OPENED) | (kinds == Kind.DIGEST_UPDATED)))
        metrics.add(defs.INCIDENTS_OPENED, opened, stream)
        metrics.add(defs.INCIDENTS_HELD, held, stream)

    def refused(self, counts: Mapping[str, int]) -> None:
        """Messages that could not be used, by reason."""
        for reason, count in counts.items():
            self._metrics.add(defs.DEAD_LETTERS, count, self._stream, reason)

    def alerts(self, alerts: Iterable[Alert]) -> None:
        """Alerts that were handed to the producer."""
        self.recent = [*self.recent, *alerts][-RECENT:]

    def acknowledged(self, done: Iterable[Acknowledged]) -> None:
        """Alerts that the broker holds."""
        latencies = []
        for one in done:
            self._metrics.add(defs.ALERTS, 1, self._stream, one.severity, one.status)
            latencies.append(one.latency_s)
        if latencies:
            self._metrics.observe(defs.ALERT_LATENCY, latencies, self._stream)

    def decision(self, part: Part, decision: Decision) -> None:
        """A decision that was handed to the producer."""
        labels = (self._stream, part[0], str(part[1]))
        self._metrics.add(defs.DECISIONS, 1, *labels, decision.what, decision.action)
        if decision.kind == "drift":
            self._metrics.add(defs.DRIFT_DECISIONS, 1, *labels, decision.of)

    def change(self, arrived: Arrived) -> None:
        """A change that came on the control topic."""
        change = arrived.change
        if isinstance(change, Unloadable):
            self.unsealed(change.unsealed)
            if change.kind in ("promotion", "rollback"):
                self._metrics.add(defs.MODEL_FAILURES, 1, self._stream)
            recalibration = change.kind == "recalibration"
        else:
            recalibration = isinstance(change.change, Recalibration)
            if isinstance(change.change, Feedback):
                self._metrics.add(defs.FEEDBACK, 1, self._stream, change.change.verdict)
        if recalibration:
            self._metrics.add(defs.RECALIBRATIONS, 1, self._stream, "refused" if arrived.why else "applied")

    def unsealed(self, count: int) -> None:
        """Changes that were refused for want of a seal that holds."""
        self._metrics.add(defs.CHANGES_REFUSED, count, self._stream)

    def snapshot(self, size: int) -> None:
        """A partition's snapshot that was handed to the producer."""
        self._metrics.add(defs.SNAPSHOTS, 1, self._stream)
        self._metrics.add(defs.SNAPSHOT_BYTES, size, self._stream)

    def replay(self, part: Part, records: int, cover: float) -> None:
        """What a crash just before the newest snapshot would have replayed, and how many times that is held."""
        labels = (self._stream, part[0], str(part[1]))
        self._metrics.set(defs.REPLAY, records, *labels)
        self._metrics.set(defs.REPLAY_COVER, cover, *labels)

    def committed(self) -> None:
        """Offsets that the group has stored."""
        self._metrics.set(defs.COMMIT_TIME, self._clocks.wall(), self._stream)

    def lag(self, ends: Mapping[Part, int], committed: Mapping[Part, int]) -> None:
        """The end of each partition, and the offset that the group has stored of it."""
        for part, offset in committed.items():
            self._metrics.set(defs.LAG, ends[part] - offset, self._stream, part[0], str(part[1]))

    def rekeyed(self, messages: int) -> None:
        """Messages that were sent on, keyed by entity."""
        self._metrics.add(defs.REKEYED, messages, self._stream)

    def gone_input(self, parts: Iterable[Part]) -> None:
        """Partitions that are not rekeyed here any more."""
        for topic, partition in parts:
            self._metrics.drop(defs.LAG, self._stream, topic, str(partition))

    def consumer_events(self, events: Events) -> None:
        """What the client met."""
        for name, count in events.errors.items():
            self._metrics.add(defs.BROKER_ERRORS, count, self._stream, name)
        for loss in events.losses:
            self._metrics.add(
                defs.DATA_LOSS, max(loss.lost, 0), self._stream, loss.topic, str(loss.partition)
            )

    def assigned(self, parts: list[Part], seconds: float, replayed: int) -> None:
        """Partitions that were taken over."""
        self._metrics.add(defs.REBALANCES, 1, self._stream, "assigned")
        self._metrics.set(defs.RESTORE_SECONDS, seconds, self._stream)
        self._metrics.add(defs.RESTORED_RECORDS, replayed, self._stream)

    def rolled_back(self) -> None:
        """A transaction was given up."""
        self._metrics.add(defs.ROLLED_BACK, 1, self._stream)

    def gone(self, parts: list[Part], event: str) -> None:
        """Partitions that another member owns from now on."""
        self._metrics.add(defs.REBALANCES, 1, self._stream, event)
        for topic, partition in parts:
            for definition in (
                defs.LAG,
                defs.EVENT_TIME,
                defs.DRIFT_MEAN,
                defs.DRIFT_ESTIMATE,
                defs.LEARNING_FROZEN,
                defs.TRAINING_PROPOSED,
                defs.REPLAY,
                defs.REPLAY_COVER,
            ):
                self._metrics.drop(definition, self._stream, topic, str(partition))

    def phase(self, phase: str) -> None:
        """What the stream is doing: starting, collecting, training, restoring, live, stopped."""
        self._metrics.choose(defs.STREAM_PHASE, phase, self._stream)

    def training(self, share: float) -> None:
        """How much of the first model is done."""
        self._metrics.set(defs.TRAINING_PROGRESS, share, self._stream)

    def gauges(self, shown: Gauges) -> None:
        """What the state shows."""
        metrics, stream = self._metrics, self._stream
        for definition, value in (
            (defs.ENTITIES, shown.entities),
            (defs.ENTITIES_WARMING, shown.warming),
            (defs.ENTITIES_TORN, shown.torn),
            (defs.INCIDENTS_PENDING, shown.pending),
            (defs.INCIDENTS_OPEN, shown.firing),
            (defs.OPENINGS, shown.opened_today),
            (defs.BUDGET, shown.budget_per_day),
            (defs.COUNTED, shown.counted_per_day),
            (defs.CHANGE_VERSION, shown.change),
            (defs.CALIBRATION_VERSION, shown.calibration),
            (defs.COMPILATIONS, shown.compilations),
            (defs.PARTITIONS, len(shown.parts)),
        ):
            metrics.set(definition, value, stream)
        metrics.replace(defs.MODEL_INFO, {shown.model: 1.0} if shown.model else {}, stream)
        over: dict[tuple[str, ...], float] = {} if shown.split_over is None else {(): shown.split_over}
        metrics.replace(defs.BUDGET_ENTITIES, over, stream)
        metrics.replace(defs.ENTITY_SCORE, shown.top, stream)
        for (topic, partition), one in shown.parts.items():
            labels = (stream, topic, str(partition))
            if one.watermark_s is not None:
                metrics.set(defs.EVENT_TIME, one.watermark_s, *labels)
            metrics.set(defs.LEARNING_FROZEN, one.frozen, *labels)
            metrics.set(defs.TRAINING_PROPOSED, one.proposed, *labels)
            for signal, (mean, estimate) in one.drift.items():
                metrics.set(defs.DRIFT_MEAN, mean, *labels, signal)
                metrics.set(defs.DRIFT_ESTIMATE, estimate, *labels, signal)
