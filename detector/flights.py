"""The batches under way: decoded here, taken through the chain elsewhere, and what came of them sent here."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, wait
from typing import NamedTuple

import numpy as np

from ..pipelines.brokers.base import Batch, Part
from ..thresholds import trace
from .announcing import Names, Said, announcements, score_records
from .changelog import Decision
from .outbox import Outbox
from .outcome import Outcome
from .owned import Owned, too_torn, torn_apart
from .reading import Read
from .refusals import Refusals
from .stream_setup import Setup

BATCH = 4096


class Flight(NamedTuple):
    """A batch under way."""

    batch: Batch
    read: Read
    outcome: Future[Outcome] | None
    """None where no message of the batch could be used."""


class Flights:
    """Belongs to the loop's thread, but for `_through`."""

    def __init__(
        self, setup: Setup, outbox: Outbox, refusals: Refusals, names: Names, owned: Mapping[Part, Owned]
    ) -> None:
        self._s = setup
        self._outbox = outbox
        self._refusals = refusals
        self._names = names
        self._owned = owned
        self._flights: deque[Flight] = deque()

    def __len__(self) -> int:
        return len(self._flights)

    def start(self, batch: Batch) -> None:
        """Decode a batch and hand it to the chain."""
        state = self._s.chain.state
        if len(state.idle) >= BATCH:
            self.drain()  # lest a record on its way bear a slot that is another's by then
            state.release()
        with self._s.ledger.stage("decode"):
            read = self._s.reader.read(batch)
        for (topic, partition), offset in read.next_offsets.items():
            owned = self._owned[topic, partition]
            owned.next_offset = offset
        for part, size in read.sizes.items():
            self._owned[part].bytes_in += size
        outcome = None
        if read.rows:
            outcome = self._s.worker.submit(self._through, read)
        self._flights.append(Flight(batch, read, outcome))

    def _through(self, read: Read) -> Outcome:
        """Take a decoded batch through the chain: in the worker's thread."""
        with self._s.ledger.stage("chain"):
            outcome = self._s.chain.process(read.records, read.admitted)
            slot = outcome.records.slot[outcome.row]
            trace.follow(self._s.chain.state.trace, slot, outcome.score, outcome.threshold)
            return outcome

    def land(self) -> None:
        """Wait for the oldest batch under way and send what came out of it."""
        flight = self._flights.popleft()
        outcome = None if flight.outcome is None else flight.outcome.result()
        with self._s.ledger.stage("publish"):
            self._refusals.send(flight.batch, flight.read, outcome)
            if outcome is not None:
                self._publish(flight, outcome)
            self._s.ledger.batch(flight.batch, flight.read, outcome)

    def _publish(self, flight: Flight, outcome: Outcome) -> None:
        now_us = int(self._s.clocks.wall() * 1e6)
        said = announcements(outcome, self._names, now_us, int(self._s.stream.late_after))
        records = flight.read.records

        def seconds_of(one: Said) -> float:
            row = np.flatnonzero((records.part == one.part) & (records.offset == one.offset))[0]
            return max(flight.batch.timestamp_ms[int(flight.read.message[row])], 0) / 1e3

        self._s.ledger.alerts(self._outbox.say(said, seconds_of))
        for one in said:
            if isinstance(one.message, Decision):
                self._s.ledger.decision(self._s.chain.state.parts[one.part], one.message)
        if self._s.stream.scores is not None:
            self._outbox.scores(score_records(outcome, self._names))
        table = self._s.chain.state.table
        if too_torn(table.torn, len(table)):
            self._s.same_layout()  # says so where the topic was given more partitions
            raise torn_apart(self._s.stream.name, table.torn, len(table))

    def drain(self) -> None:
        """Let everything under way land."""
        while self._flights:
            self.land()

    def landed(self, within_s: float = 0.0) -> bool:
        """Whether the oldest batch is through the chain, now or so soon."""
        outcome = self._flights[0].outcome
        return outcome is None or bool(wait([outcome], within_s).done)

    def under_way(self) -> dict[Part, int]:
        """The first offset of each partition that is not through the chain yet."""
        first: dict[Part, int] = {}
        for flight in self._flights:
            for part, offset in flight.read.first_offsets.items():
                first.setdefault(part, offset)
        return first

    def abandon(self) -> None:
        """Let the chain end what it is at, and send nothing of it."""
        while self._flights:
            flight = self._flights.popleft()
            if flight.outcome is not None:
                flight.outcome.result()
