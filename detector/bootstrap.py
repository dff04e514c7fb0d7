"""A stream without a model: count what the topic still holds, train in a niced child when it is enough, go live."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..pipelines import paths, timestamps
from ..pipelines.brokers.base import BEGINNING, Batch, Broker, Part
from ..pipelines.decoding import Refused, find, read_object
from .settings import Settings, Stream

log = logging.getLogger(__name__)

LEAST_RECORDS = 100
BATCH = 4096
POLL_S = 0.5


class Seen(NamedTuple):
    """What was met of one entity."""

    records: int
    first_us: int
    last_us: int


class Progress(NamedTuple):
    """How far the collecting is: entities seen, those with enough, and the share of the median entity's need."""

    records: int
    entities: int
    enough: int
    share: float
    caught_up: bool
    """Everything has been counted that the topics held when the collecting began."""

    @property
    def ready(self) -> bool:
        """All that was there has been seen, and at least half of the entities have enough."""
        return self.caught_up and self.entities > 0 and 2 * self.enough >= self.entities


class Collector:
    """Counts the records of each entity on the input topics, from the oldest that is held.

    The records stay on the topic, so that nothing is lost with this process.
    """

    def __init__(self, broker: Broker, stream: Stream, settings: Settings) -> None:
        admin = broker.admin()
        try:
            topics = admin.topics()
        finally:
            admin.close()
        self._entity = paths.split(stream.entity) if stream.entity else None
        self._time = paths.split(stream.time) if stream.time else None
        self._unit = stream.time_unit
        self._period_us = int(stream.period) if stream.format == "json_long" else 0
        self._need = settings.train.min_records
        self._span_us = int(settings.train.min_span)
        self._seen: dict[str, Seen] = {}
        self._consumer = broker.consumer(headers=False)
        self.parts: list[Part] = [
            (topic, p) for topic in stream.topics for p in range(topics[topic].partitions)
        ]
        begins, ends = self._consumer.begin_offsets(self.parts), self._consumer.end_offsets(self.parts)
        self._held = {part: ends[part] for part in self.parts if ends[part] > begins[part]}
        self._consumer.assign([(*part, BEGINNING) for part in self.parts])

    def collect(self) -> Progress:
        """Take in what has come, waiting a little for the first record."""
        batch = self._consumer.consume(BATCH, POLL_S)
        if batch:
            self._count(batch)
        return self.progress()

    def positions(self) -> dict[Part, int]:
        """The first offset of each partition that was not counted."""
        begun = self._consumer.begin_offsets(self.parts)
        return {**begun, **self._consumer.position()}

    def progress(self) -> Progress:
        """How far it is."""
        shares = [self._share(seen) for seen in self._seen.values()]
        return Progress(
            sum(seen.records for seen in self._seen.values()),
            len(shares),
            sum(share >= 1.0 for share in shares),
            min(float(np.median(shares)), 1.0) if shares else 0.0,
            all(self._reached(part, end) for part, end in self._held.items()),
        )

    def _reached(self, part: Part, end: int) -> bool:
        return self._consumer.position().get(part, -1) >= end

    def close(self) -> None:
        """Release the consumer."""
        self._consumer.close()

    def _share(self, seen: Seen) -> float:
        by_records = seen.records / self._need
        by_span = min((seen.last_us - seen.first_us) / max(self._span_us, 1), seen.records / LEAST_RECORDS)
        return max(by_records, by_span)

    def _count(self, batch: Batch) -> None:
        for value, key, stamp in zip(batch.value, batch.key, batch.timestamp_ms, strict=True):
            try:
                content = read_object(value or b"")
                name = find("entity", content, self._entity) if self._entity else None
                written = find("time", content, self._time) if self._time else None
            except Refused:
                continue  # the daemon will send it to the dead letters once it is live
            entity = str(name) if name is not None else (key or b"").decode("utf-8", "replace")
            times, status = timestamps.parse([written], self._unit)
            time_us = int(times[0]) if status[0] == timestamps.Status.OK else stamp * 1000
            before = self._seen.get(entity, Seen(0, time_us, time_us))
            # In the long format the measurements of one period are one record.
            same = self._period_us and time_us // self._period_us == before.last_us // self._period_us
            more = 0 if same and before.records else 1
            self._seen[entity] = Seen(
                before.records + more, min(before.first_us, time_us), max(before.last_us, time_us)
            )


class Training:
    """A training in a child process of the lowest priority."""

    def __init__(self, command: Sequence[str], log_file: Path) -> None:
        self._file = log_file.open("w+b")
        self._process = subprocess.Popen(command, stdout=self._file, stderr=subprocess.STDOUT)

    def poll(self) -> bool:
        """Whether it has ended.

        Raises:
            DataError: it failed; the text holds what it said last.
        """
        code = self._process.poll()
        if code is None:
            return False
        self._file.seek(0)
        said = self._file.read().decode("utf-8", "replace").strip()
        self._file.close()
        if code != 0:
            raise DataError(f"the first training failed (exit code {code}): {said[-2000:]}")
        return True

    def stop(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._file.close()


def train_command(settings: Settings, stream: Stream) -> list[str]:
    """The command that trains on what the topics hold."""
    config = ["--config", settings.file] if settings.file else []
    return [
        *(sys.executable, "-m", "tocsin.detector.cli", "train", *config),
        *("--stream", stream.name, "--since", "start", "--nice", "--json"),
    ]


def first_model(
    broker: Broker,
    settings: Settings,
    stream: Stream,
    folder: Path,
    hear: Callable[[str, Progress], None],
    stopping: Callable[[], bool],
) -> dict[Part, int] | None:
    """Collect and train until there is a model; None where it was stopped before.

    `hear` is told the phase (collecting, training) and the progress about twice a second. Returns the offsets
    that were counted before the training, where the stream goes live: records that were trained on only warm it.

    Raises:
        DataError: the training failed.
    """
    collector = Collector(broker, stream, settings)
    training = None
    try:
        while not stopping():
            progress = collector.collect()
            hear("collecting", progress)
            if progress.ready:
                break
        if stopping():
            return None
        positions = collector.positions()
        log.info(
            "training the first model", extra={"records": progress.records, "entities": progress.entities}
        )
        folder.mkdir(parents=True, exist_ok=True)
        training = Training(train_command(settings, stream), folder / f".{stream.name}.training.log")
        while not stopping():
            if training.poll():
                return positions
            hear("training", collector.collect())
        return None
    finally:
        if training is not None:
            training.stop()
        collector.close()
