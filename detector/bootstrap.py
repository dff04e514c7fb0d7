"""A stream without a model: count what the topic still holds, train in a niced child when it is enough, go live.

Counting takes every record that can be read; the training counts only those that have a place in time, so it may
find too few where the count was enough. Then the stream goes on collecting and tries again when more has come.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import BrokerUnavailable, DataError, TooFewRecords
from ..models.checkpoints import GOES_ON
from ..pipelines import formats, timestamps
from ..pipelines.brokers.base import BEGINNING, Batch, Broker, Part
from ..pipelines.decoding import Refused
from .reading import how_of
from .settings import Settings, Stream
from .startup import alignment_of

log = logging.getLogger(__name__)

LEAST_RECORDS = 100
BATCH = 4096
POLL_S = 0.5
TOO_FEW = 75
"""How `train --first` exits where it found too few usable records: "try again later" (EX_TEMPFAIL)."""
MORE = 10
"""A tenth more records are worth another training."""


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
    needed: int = 0
    """Records before which no training is tried: more than the last one had, which found too few usable ones."""
    too_few: str | None = None
    """What that training said."""

    @property
    def ready(self) -> bool:
        """All that was there has been seen, at least half of the entities have enough, and more than last time."""
        enough = self.entities > 0 and 2 * self.enough >= self.entities
        return self.caught_up and enough and self.records >= self.needed

    @property
    def said(self) -> str:
        """How far it is, in words."""
        counted = (
            f"{self.enough} of {self.entities} entities have enough records ({self.share:.0%} of the median "
            "entity's need)"
        )
        if self.too_few is None:
            return counted
        return (
            f"{counted}; the last training found too few usable ones, the next begins at {self.needed} records "
            f"({self.records} so far): {self.too_few}"
        )


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
        self._format = formats.of(stream.format)
        self._how = how_of(stream, settings.decode)
        alignment = alignment_of(stream)
        self._period_us = 0 if alignment is None else alignment.period_us
        self._open = 0 if alignment is None else alignment.open_periods
        self._need = settings.train.min_records
        self._span_us = int(settings.train.min_span)
        self._seen: dict[str, Seen] = {}
        self._needed = 0
        self._too_few: str | None = None
        self._consumer = broker.consumer(headers=False)
        self.parts: list[Part] = [
            (topic, p) for topic in stream.scored for p in range(topics[topic].partitions)
        ]
        self._held = self._ends()
        self._broker, self._rekey_group = broker, stream.rekey_group
        self._behind: dict[Part, int] = {}
        """Where the input ended, until all of that was sent on to the topic that is counted here."""
        if stream.rekey:
            given = [(topic, p) for topic in stream.topics for p in range(topics[topic].partitions)]
            self._behind = self._consumer.end_offsets(given)
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
            self._sent_on() and all(self._reached(part, end) for part, end in self._held.items()),
            self._needed,
            self._too_few,
        )

    def go_on(self, records: int, why: str) -> None:
        """A training on the first `records` found too few usable ones, as `why` says: ask for more."""
        self._needed, self._too_few = records + max(records // MORE, 1), why

    def _sent_on(self) -> bool:
        if not self._behind:
            return True
        try:
            sent = self._broker.committed(self._rekey_group, self._behind)
        except BrokerUnavailable:
            return False
        if any((sent[part] or 0) < end for part, end in self._behind.items()):
            return False
        self._behind = {}
        self._held = self._ends()
        return True

    def _ends(self) -> dict[Part, int]:
        """The end of each partition that holds something."""
        begins, ends = self._consumer.begin_offsets(self.parts), self._consumer.end_offsets(self.parts)
        return {part: ends[part] for part in self.parts if ends[part] > begins[part]}

    def _reached(self, part: Part, end: int) -> bool:
        return self._consumer.position().get(part, -1) >= end

    def close(self) -> None:
        """Release the consumer."""
        self._consumer.close()

    def _share(self, seen: Seen) -> float:
        closed = max(seen.records - self._open, 0)  # what a training would find, wherever it ends
        by_records = closed / self._need
        by_span = min((seen.last_us - seen.first_us) / max(self._span_us, 1), closed / LEAST_RECORDS)
        return max(by_records, by_span)

    def _count(self, batch: Batch) -> None:
        for value, key, stamp in zip(batch.value, batch.key, batch.timestamp_ms, strict=True):
            try:
                shares = self._format.shares(value or b"", self._how)
            except Refused:
                continue  # the daemon will send it to the dead letters once it is live
            for share in shares:
                name = (key or b"").decode("utf-8", "replace") if share.entity is None else str(share.entity)
                times, status = timestamps.parse([share.time], self._how.time_unit)
                self._met(name, int(times[0]) if status[0] == timestamps.Status.OK else stamp * 1000)

    def _met(self, entity: str, time_us: int) -> None:
        """Count a record."""
        before = self._seen.get(entity, Seen(0, time_us, time_us))
        # In the long format the measurements of one period are one record.
        same = self._period_us and time_us // self._period_us == before.last_us // self._period_us
        more = 0 if same and before.records else 1
        # An entity's first record is its earliest: to the chain, one from before it is late.
        self._seen[entity] = Seen(before.records + more, before.first_us, max(before.last_us, time_us))


class Training:
    """A training in a child process of the lowest priority."""

    def __init__(self, command: Sequence[str], log_file: Path) -> None:
        self._log_file, self._file = log_file, log_file.open("w+b")
        self._process = subprocess.Popen(command, stdout=self._file, stderr=subprocess.STDOUT)

    def poll(self) -> bool:
        """Whether it has ended.

        Raises:
            TooFewRecords: it found too few usable records; the text is its last line.
            DataError: it failed; the text holds what it said last.
        """
        code = self._process.poll()
        if code is None:
            return False
        self._file.seek(0)
        said = self._file.read().decode("utf-8", "replace").strip()
        self._file.close()
        if code == TOO_FEW:
            raise TooFewRecords(said.rpartition("\n")[2])
        if code != 0:
            raise DataError(f"the first training failed (exit code {code}): {said[-2000:]}")
        return True

    def goes_on(self) -> bool:
        """Whether it has said that it goes on from a checkpoint."""
        return (
            GOES_ON.encode() in self._log_file.read_bytes()
        )  # by itself: the child writes where `_file` stands

    def stop(self) -> None:
        """End it; what it has done is gone on with by the next."""
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
        *("--stream", stream.name, "--since", "start", "--nice", "--first", "--json"),
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

    A training that finds too few usable records is no failure: the collecting goes on.

    Raises:
        DataError: the training failed.
    """
    collector = Collector(broker, stream, settings)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        while not stopping():
            progress = collector.collect()
            hear("collecting", progress)
            if not progress.ready:
                continue
            positions = collector.positions()
            log.info(
                "training the first model", extra={"records": progress.records, "entities": progress.entities}
            )
            training = Training(train_command(settings, stream), folder / f".{stream.name}.training.log")
            told = False
            try:
                while not stopping():
                    if not told and training.goes_on():
                        log.info("the first training goes on from a checkpoint")
                        told = True
                    if training.poll():
                        return positions
                    hear("training", collector.collect())
            except TooFewRecords as why:
                collector.go_on(progress.records, str(why))
                log.warning(
                    "too few usable records for the first model; collecting goes on", extra={"why": str(why)}
                )
            finally:
                training.stop()
        return None
    finally:
        collector.close()
