"""One stream's loop: one thread consumes, sends and commits; the chain works elsewhere, outside the GIL.

    consume -> decode -> [worker: chain] -> alerts, scores, dead letters -> acknowledged -> state -> offsets

While the worker scores one batch the next is consumed and decoded. What must see a still chain (a change, a
snapshot, a partition that comes or goes) first waits until nothing is under way.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from ..pipelines.brokers.base import Batch, Broker, Part
from ..thresholds import trace
from .announcing import Names, Said, announcements, score_records
from .applying import Applier
from .chain import Chain
from .changelog import Decision
from .checkpoints import SETTLE_S, Checkpoints
from .clocks import Clocks
from .control_feed import ControlFeed
from .ledger import Ledger
from .outbox import Outbox
from .outcome import Outcome
from .owned import Owned, check_torn
from .reading import Read, Reader
from .recovery import Recovery
from .refusals import Refusals
from .rulings import Rulings
from .settings import Decode, Stream
from .stopping import StopAsked, Stopping
from .takeover import Takeover

log = logging.getLogger(__name__)

BATCH = 4096
UNDER_WAY = 2
"""Batches decoded but not yet through the chain: one being scored and one ready."""
POLL_S = 0.2
ALERT_POLL_S = 0.005
CONTROL_S = 0.2
SNAPSHOT_SHARE = 0.1


class Flight(NamedTuple):
    """A batch under way."""

    batch: Batch
    read: Read
    outcome: Future[Outcome] | None
    """None where no message of the batch could be used."""


class Setup(NamedTuple):
    """Everything that a loop is made of."""

    stream: Stream
    decode: Decode
    broker: Broker
    chain: Chain
    reader: Reader
    rulings: Rulings
    control: ControlFeed
    ledger: Ledger
    worker: Executor
    clocks: Clocks
    config_hash: str
    commit_every_s: float
    snapshot_every_s: float
    writer: int
    """A number drawn once per process."""
    beat: Callable[[], None]
    starts: Mapping[Part, int]
    """Where partitions of a new group begin, if not by the start policy: behind what was trained on."""
    stopping: Stopping


class StreamLoop:
    """The loop of one stream. All methods but `ask` and `_through` belong to the thread that calls `run`."""

    def __init__(self, setup: Setup) -> None:
        self._s = setup
        self.stream = setup.stream
        self.state = setup.chain.state
        self.lags = setup.chain.lags
        self._consumer = setup.broker.consumer(setup.stream.group_id, start=setup.stream.start)
        self._side = setup.broker.consumer()
        self._outbox = Outbox(
            setup.broker.producer(),
            setup.stream,
            self.state.parts.__getitem__,
            setup.clocks,
            setup.stopping,
        )
        self._names = Names(
            setup.stream.name,
            self.state.schema.names,
            self.state.table.name,
            self.state.parts,
            setup.stream.runbook,
        )
        self.owned: dict[Part, Owned] = {}
        self.restoring = False
        """Partitions are being taken over: some of those owned may not be ready yet."""
        self._applier = Applier(
            setup.chain,
            setup.rulings,
            self._outbox,
            setup.ledger,
            self._names,
            setup.clocks.wall,
            int(setup.stream.late_after),
            setup.config_hash,
        )
        self._refusals = Refusals(self._outbox, setup.ledger, setup.decode)
        self._checkpoints = Checkpoints(
            self._consumer, self._side, self._outbox, self.state, setup.ledger, setup.writer
        )
        self._takeover = Takeover(
            setup.broker,
            self._consumer,
            setup.stream.changelog,
            Recovery(
                setup.chain,
                setup.reader,
                setup.rulings,
                setup.stream.name,
                self._side,
                self._start_of,
                self._still_on,
            ),
            self._applier,
            self._checkpoints,
            self._outbox,
            setup.clocks,
            setup.stopping,
        )
        self._flights: deque[Flight] = deque()
        self._questions: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._failed = False
        self._committed_at = self._controlled_at = setup.clocks.monotonic()

    def ask(self, question: Callable[[], object]) -> Future[object]:
        """Have `question` answered between two batches, where the state stands still."""
        answer: Future[object] = Future()
        self._questions.append((question, answer))
        return answer

    def run(self) -> None:
        """Consume until a stop is asked for: what is under way is finished, state written, offsets committed.

        Raises:
            TocsinError: what a person must see to; everything before it is committed or will be read again.
        """
        try:
            self._consumer.subscribe(self.stream.scored, self._assigned, self._revoked, self._lost)
            with suppress(StopAsked):  # in the midst of a restore
                while not self._s.stopping.asked():
                    self._turn()
            self._consumer.close()  # revokes, and so settles, snapshots and commits
        except BaseException:
            self._failed = True  # what was under way is neither sent nor committed: it will be read again
            raise
        finally:
            self._consumer.close()
            self._side.close()
            self._outbox.close()

    def _turn(self) -> None:
        self._s.beat()
        now = self._s.clocks.monotonic()
        if now - self._controlled_at >= CONTROL_S or self._applier.waiting:
            self._controlled_at = now
            self._hear_changes()
            if not self._act_changes():
                return
        with self._s.ledger.stage("consume"):
            batch = self._consumer.consume(BATCH, self._patience())
        self._note_events()
        if batch:
            self._take(batch)
        while self._flights and (len(self._flights) >= UNDER_WAY or not batch or self._landed()):
            self._land()
        self._s.ledger.acknowledged(self._outbox.acknowledged())
        now = self._s.clocks.monotonic()
        if self._commit_due(now):
            self._checkpoint(now)
        while self._questions:
            self._drain()
            question, answer = self._questions.popleft()
            try:
                answer.set_result(question())
            except Exception as fault:  # it belongs to whoever asked
                answer.set_exception(fault)

    def _patience(self) -> float:
        """Seconds to wait for a record: not at all while a batch is under way, hardly while alerts are."""
        if self._flights:
            return 0.0
        return ALERT_POLL_S if self._outbox.expecting else POLL_S

    def _landed(self) -> bool:
        outcome = self._flights[0].outcome
        return outcome is None or outcome.done()

    # -- batches ---------------------------------------------------------------------------------

    def _take(self, batch: Batch) -> None:
        """Start a batch, cut where a change of an earlier owner is to act."""
        if not any(owned.pending for owned in self.owned.values()):
            self._start(batch)
            return
        first = 0
        for row, (topic, partition, offset) in enumerate(
            zip(batch.topic, batch.partition, batch.offset, strict=True)
        ):
            owned = self.owned[topic, partition]
            if owned.pending and offset >= owned.pending[0].first_offset:
                if row > first:
                    self._start(batch.rows(first, row))
                first = row
                self._drain()
                self._applier.act_pending(owned, offset)
        self._start(batch.rows(first, batch.size))

    def _start(self, batch: Batch) -> None:
        if len(self.state.idle) >= BATCH:
            self._drain()  # lest a record on its way bear a slot that is another's by then
            self.state.release()
        with self._s.ledger.stage("decode"):
            read = self._s.reader.read(batch)
        for (topic, partition), offset in read.next_offsets.items():
            owned = self.owned[topic, partition]
            owned.next_offset = offset
        for part, size in read.sizes.items():
            self.owned[part].bytes_in += size
        outcome = None
        if read.rows:
            outcome = self._s.worker.submit(self._through, read)
        self._flights.append(Flight(batch, read, outcome))

    def _through(self, read: Read) -> Outcome:
        """Take a decoded batch through the chain: in the worker's thread."""
        with self._s.ledger.stage("chain"):
            outcome = self._s.chain.process(read.records, read.admitted)
            slot = outcome.records.slot[outcome.row]
            trace.follow(self.state.trace, slot, outcome.score, outcome.threshold)
            return outcome

    def _land(self) -> None:
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
        said = announcements(outcome, self._names, now_us, int(self.stream.late_after))
        records = flight.read.records

        def seconds_of(one: Said) -> float:
            row = np.flatnonzero((records.part == one.part) & (records.offset == one.offset))[0]
            return max(flight.batch.timestamp_ms[int(flight.read.message[row])], 0) / 1e3

        self._s.ledger.alerts(self._outbox.say(said, seconds_of))
        for one in said:
            if isinstance(one.message, Decision):
                self._s.ledger.decision(self.state.parts[one.part], one.message)
        if self.stream.scores is not None:
            self._outbox.scores(score_records(outcome, self._names))
        check_torn(self.stream.name, self.state.table.torn, len(self.state.table))

    def _drain(self) -> None:
        """Let everything under way land."""
        while self._flights:
            self._land()

    def _note_events(self) -> None:
        events = self._consumer.events()
        self._s.ledger.consumer_events(events)
        for loss in events.losses:
            log.error(
                "records were deleted by the broker before they were read",
                extra={"topic": loss.topic, "partition": loss.partition, "lost": loss.lost},
            )

    # -- changes ---------------------------------------------------------------------------------

    def _hear_changes(self) -> None:
        """Take in what came on the control topic."""
        for arrived in self._s.control.arrived():
            self._s.ledger.change(arrived)

    def _act_changes(self) -> bool:
        """Let it act in every partition from its next record on; False where no record may be read before it does."""
        behind = self._applier.behind(self.owned.values())
        if not behind:
            return True
        self._drain()
        return self._applier.act(behind)

    # -- checkpoints -----------------------------------------------------------------------------

    def _commit_due(self, now: float) -> bool:
        return now - self._committed_at >= self._s.commit_every_s

    def _checkpoint(self, now: float) -> None:
        """Acknowledge alerts, then state where it is due, then commit offsets: in this order."""
        self._committed_at = now
        owned = list(self.owned.values())
        due = [one for one in owned if one.snapshot_due(now, self._s.snapshot_every_s, SNAPSHOT_SHARE)]
        if not due or self._preserved(due, now):
            self._checkpoints.commit(owned, self._under_way())
        self._checkpoints.lag(owned)

    def _preserved(self, due: list[Owned], now: float) -> bool:
        """Write snapshots, unless what they contain was not acknowledged in time."""
        self._drain()
        if not self._outbox.settle(SETTLE_S):
            return False
        self._checkpoints.snapshot(due, now)
        return True

    def _under_way(self) -> dict[Part, int]:
        """The first offset of each partition that is not through the chain yet."""
        first: dict[Part, int] = {}
        for flight in self._flights:
            for part, offset in flight.read.first_offsets.items():
                first.setdefault(part, offset)
        return first

    # -- partitions that come and go -------------------------------------------------------------

    def _assigned(self, parts: list[Part]) -> dict[Part, int]:
        self.restoring = True
        self._drain()
        self._hear_changes()
        begun = self._s.clocks.monotonic()
        taken, replayed = self._takeover.take(parts)
        self.owned.update(taken)
        self.restoring = False
        self._s.ledger.assigned(parts, self._s.clocks.monotonic() - begun, replayed)
        starts = {part: one.next_offset for part, one in taken.items()}
        log.info("partitions assigned", extra={"parts": [f"{t}/{p}@{o}" for (t, p), o in starts.items()]})
        return starts

    def _still_on(self) -> None:
        """Show that a restore goes on, unless a stop was asked for."""
        self._s.beat()
        self._s.stopping.check()

    def _start_of(self, part: Part) -> int:
        """Where a partition begins of which nothing is known: behind the training, else by the start policy."""
        if part in self._s.starts:
            return self._s.starts[part]
        ask = self._side.begin_offsets if self.stream.start == "earliest" else self._side.end_offsets
        return ask([part])[part]

    def _revoked(self, parts: list[Part]) -> None:
        """The last chance to write state and commit: then the partitions are another's."""
        if self._failed:
            self._forget(parts)
            return
        self._drain()
        mine = [self.owned[part] for part in parts if part in self.owned]
        if self._outbox.settle(SETTLE_S):
            stale = [one for one in mine if one.snapshot_offset != one.next_offset]
            self._checkpoints.snapshot(stale, self._s.clocks.monotonic())
            self._checkpoints.commit(mine, {})
        self._s.ledger.gone(parts, "revoked")
        self._forget(parts)

    def _lost(self, parts: list[Part]) -> None:
        """Another member may own them already: commit nothing, write nothing."""
        if not self._failed:
            self._drain()
        self._s.ledger.gone(parts, "lost")
        self._forget(parts)

    def _forget(self, parts: list[Part]) -> None:
        for part in parts:
            owned = self.owned.pop(part, None)
            if owned is not None:
                self.state.drop(owned.index)
