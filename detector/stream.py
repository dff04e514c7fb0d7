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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import BrokerUnavailable, StateError
from ..pipelines.brokers.base import Batch, Broker, CommitRefused, Part
from ..pipelines.windows import Verdict
from . import deadletters
from .acting import act
from .chain import Chain, Outcome
from .changelog import Applied, encode_applied
from .clocks import Clocks
from .control_feed import ControlFeed
from .ledger import Ledger
from .outbox import Outbox
from .owned import Owned
from .publish import Names, Said, announcements, closures, score_records
from .reading import Read, Reader
from .recovery import Recovery
from .restore import cut, read_changelog, recovered, write_snapshot
from .rulings import Rulings
from .settings import Decode, Stream

log = logging.getLogger(__name__)

BATCH = 4096
UNDER_WAY = 2
"""Batches decoded but not yet through the chain: one being scored and one ready."""
POLL_S = 0.2
COMMIT_S = 1.0
CONTROL_S = 0.2
SETTLE_S = 10.0
SNAPSHOT_SHARE = 0.1
TORN_SHARE = 0.01
TORN_LEAST = 5
FAR_AHEAD = "its event time is far ahead of its entity's newest, and the records after it do not agree"


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
    snapshot_every_s: float
    writer: int
    """A number drawn once per process."""
    beat: Callable[[], None]
    starts: Mapping[Part, int]
    """Where partitions of a new group begin, if not by the start policy: behind what was trained on."""


class StreamLoop:
    """The loop of one stream. All methods but `stop` and `ask` belong to the thread that calls `run`."""

    def __init__(self, setup: Setup) -> None:
        self._s = setup
        self.stream = setup.stream
        self.state = setup.chain.state
        self.lags = setup.chain.lags
        self._consumer = setup.broker.consumer(setup.stream.group_id, start=setup.stream.start)
        self._side = setup.broker.consumer()
        self._outbox = Outbox(
            setup.broker.producer(), setup.stream, self.state.parts.__getitem__, setup.clocks.wall
        )
        self._names = Names(
            setup.stream.name, self.state.schema.names, self.state.table.name, self.state.parts
        )
        self._recovery = Recovery(
            setup.chain,
            setup.reader,
            setup.rulings,
            setup.stream.name,
            self._side,
            self._start_of,
            setup.beat,
        )
        self.owned: dict[Part, Owned] = {}
        self._breakers: dict[Part, deadletters.Breaker] = {}
        self._bad: dict[str, int] = {}
        self._flights: deque[Flight] = deque()
        self._questions: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._stopping = False
        self._committed_at = self._controlled_at = setup.clocks.monotonic()

    def stop(self) -> None:
        """Ask the loop to end: what is under way is finished, state written, offsets committed."""
        self._stopping = True

    def ask(self, question: Callable[[], object]) -> Future[object]:
        """Have `question` answered between two batches, where the state stands still."""
        answer: Future[object] = Future()
        self._questions.append((question, answer))
        return answer

    def run(self) -> None:
        """Consume until `stop`.

        Raises:
            TocsinError: what a person must see to; everything before it is committed or will be read again.
        """
        try:
            self._consumer.subscribe(self.stream.topics, self._assigned, self._revoked, self._lost)
            while not self._stopping:
                self._turn()
            self._consumer.close()  # revokes, and so settles, snapshots and commits
        finally:
            self._consumer.close()
            self._side.close()
            self._outbox.close()

    def _turn(self) -> None:
        self._s.beat()
        now = self._s.clocks.monotonic()
        if now - self._controlled_at >= CONTROL_S:
            self._controlled_at = now
            self._take_changes()
        with self._s.ledger.stage("consume"):
            batch = self._consumer.consume(BATCH, 0.0 if self._flights else POLL_S)
        self._note_events()
        if batch:
            self._take(batch)
        while self._flights and (len(self._flights) >= UNDER_WAY or not batch or self._landed()):
            self._land()
        self._s.ledger.acknowledged(self._outbox.acknowledged())
        now = self._s.clocks.monotonic()
        if now - self._committed_at >= COMMIT_S:
            self._checkpoint(now)
        while self._questions:
            self._drain()
            question, answer = self._questions.popleft()
            try:
                answer.set_result(question())
            except Exception as fault:  # it belongs to whoever asked
                answer.set_exception(fault)

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
                    self._start(cut(batch, first, row))
                first = row
                self._drain()
                self._act_pending(owned, offset)
        self._start(cut(batch, first, batch.size))

    def _start(self, batch: Batch) -> None:
        with self._s.ledger.stage("decode"):
            read = self._s.reader.read(batch)
        for (topic, partition), offset in read.next_offsets.items():
            owned = self.owned[topic, partition]
            owned.next_offset = offset
        for part, size in read.sizes.items():
            self.owned[part].bytes_in += size
        outcome = None
        if read.rows:
            outcome = self._s.worker.submit(self._s.chain.process, read.records, read.admitted)
        self._flights.append(Flight(batch, read, outcome))

    def _land(self) -> None:
        """Wait for the oldest batch under way and send what came out of it."""
        flight = self._flights.popleft()
        outcome = None if flight.outcome is None else flight.outcome.result()
        with self._s.ledger.stage("publish"):
            self._refuse(flight, outcome)
            if outcome is not None:
                self._publish(flight, outcome)
            self._s.ledger.batch(flight.batch, flight.read, outcome)

    def _publish(self, flight: Flight, outcome: Outcome) -> None:
        now_us = int(self._s.clocks.wall() * 1e6)
        said = announcements(outcome, self._names, now_us, int(self.stream.late_after))
        stamps = (
            dict(
                zip(
                    zip(flight.batch.topic, flight.batch.partition, flight.batch.offset, strict=True),
                    flight.batch.timestamp_ms,
                    strict=True,
                )
            )
            if said
            else {}
        )

        def seconds_of(one: Said) -> float:
            part = self.state.parts[one.part]
            return max(stamps[(*part, one.offset)], 0) / 1e3

        self._s.ledger.alerts(self._outbox.say(said, seconds_of))
        for flag in outcome.drifts:
            part = self.state.parts[flag.part]
            at = int(outcome.row[flag.row])
            offset, time_us = int(outcome.records.offset[at]), int(outcome.records.time_us[at])
            decision = self._s.ledger.drift(flag, part, offset, time_us)
            self._outbox.decide(part, decision)
        if self.stream.scores is not None:
            self._outbox.scores(score_records(outcome, self._names))
        self._check_torn()

    def _refuse(self, flight: Flight, outcome: Outcome | None) -> None:
        """Send what cannot be used to the dead letters, and stop where that is most of a partition."""
        bad: list[tuple[int, str, str]] = [
            (r.message, r.reason.value, r.detail) for r in flight.read.rejected
        ]
        if outcome is not None:
            far = flight.read.message[outcome.verdict == Verdict.FAR_AHEAD]
            bad += [(int(message), "time_far_ahead", FAR_AHEAD) for message in far]
        batch = flight.batch
        for message, reason, detail in bad:
            sent = self._outbox.refuse(batch, message, reason, detail)
            self._s.ledger.refused(reason, sent)
            self._bad[reason] = self._bad.get(reason, 0) + 1
        unusable = np.zeros(batch.size, np.bool_)
        unusable[[message for message, _, _ in bad]] = True
        self._judge(batch, unusable)

    def _judge(self, batch: Batch, unusable: NDArray[np.bool_]) -> None:
        by_part: dict[Part, list[int]] = {}
        if not unusable.any() and not self._bad:
            return
        for row, part in enumerate(zip(batch.topic, batch.partition, strict=True)):
            by_part.setdefault(part, []).append(row)
        for part, rows in by_part.items():
            breaker = self._breakers.get(part) or deadletters.closed(self._s.decode.breaker_records)
            self._breakers[part], tripped = deadletters.update(
                breaker, unusable[rows], self._s.decode.breaker_share
            )
            if tripped is not None:
                raise deadletters.unreadable(
                    *part, batch.offset[rows[tripped]], self._breakers[part], self._bad
                )

    def _drain(self) -> None:
        """Let everything under way land."""
        while self._flights:
            self._land()

    def _check_torn(self) -> None:
        table = self.state.table
        if table.torn > max(TORN_LEAST, TORN_SHARE * len(table)):
            raise StateError(
                f"stream {self.stream.name}: {table.torn} of {len(table)} entities were seen in more than one "
                "partition, so their state is torn apart. Produce with the entity as the message key, so that each "
                "entity stays in one partition, and start a stream with a new name."
            )

    def _note_events(self) -> None:
        events = self._consumer.events()
        self._s.ledger.consumer_events(events)
        for loss in events.losses:
            log.error(
                "records were deleted by the broker before they were read",
                extra={"topic": loss.topic, "partition": loss.partition, "lost": loss.lost},
            )

    # -- changes ---------------------------------------------------------------------------------

    def _take_changes(self) -> None:
        """Take in what came on the control topic, and let it act in every partition from its next record on."""
        rulings = self._s.rulings
        for arrived in self._s.control.arrived():
            self._s.ledger.change(arrived)
        behind = [
            owned
            for owned in self.owned.values()
            if not owned.pending and self.state.rulings[owned.index].change < rulings.newest
        ]
        if not behind:
            return
        self._drain()
        for owned in behind:
            for version in rulings.known():
                if version > self.state.rulings[owned.index].change:
                    self._write_applied(owned, version)
        if not self._outbox.settle(SETTLE_S):
            return  # the broker is away: nothing acts before it is written
        for owned in behind:
            for version in rulings.known():
                if version > self.state.rulings[owned.index].change:
                    self._act(owned, version, owned.next_offset)

    def _write_applied(self, owned: Owned, version: int) -> None:
        applied = Applied(
            partition=owned.part[1],
            first_offset=owned.next_offset,
            version=version,
            config_hash=self._s.config_hash,
        )
        self._outbox.record(owned.part, encode_applied(owned.part[0], applied))

    def _act_pending(self, owned: Owned, offset: int) -> None:
        while owned.pending and owned.pending[0].first_offset <= offset:
            applied = owned.pending.popleft()
            self._act(owned, applied.version, applied.first_offset)

    def _act(self, owned: Owned, version: int, offset: int) -> None:
        """Let a change act in a partition, before the record at `offset`."""
        events = act(self._s.chain, self._s.rulings, self.stream.name, owned.index, version, offset)
        now = self._s.clocks.wall()
        label = self.state.rulings[owned.index].label
        said = closures(events, self._names, label, int(now * 1e6), int(self.stream.late_after))
        self._s.ledger.alerts(self._outbox.say(said, lambda _: now))

    # -- checkpoints -----------------------------------------------------------------------------

    def _checkpoint(self, now: float) -> None:
        """Acknowledge alerts, then state where it is due, then commit offsets: in this order."""
        self._committed_at = now
        due = [
            o for o in self.owned.values() if o.snapshot_due(now, self._s.snapshot_every_s, SNAPSHOT_SHARE)
        ]
        if due:
            self._drain()
            if not self._outbox.settle(SETTLE_S):
                return
            self._snapshot(due, now)
        self._commit(list(self.owned.values()))

    def _snapshot(self, owned: list[Owned], now: float) -> None:
        with self._s.ledger.stage("snapshot"):
            for one in owned:
                snapshot = self.state.snapshot(one.index, one.next_offset)
                one.marker, size = write_snapshot(
                    self._outbox, one.part, snapshot, one.marker, self._s.writer
                )
                one.snapshot_bytes, one.bytes_in, one.snapshot_at = size, 0, now
                one.snapshot_offset = one.next_offset
                self._s.ledger.snapshot(size)

    def _commit(self, owned: list[Owned]) -> None:
        """Commit what has landed and was acknowledged."""
        under_way: dict[Part, int] = {}
        for flight in self._flights:
            for topic, partition, offset in zip(
                flight.batch.topic, flight.batch.partition, flight.batch.offset, strict=True
            ):
                under_way.setdefault((topic, partition), offset)
        ready = {o.part: under_way.get(o.part, o.next_offset) for o in owned}
        offsets = {o.part: ready[o.part] for o in owned if ready[o.part] > o.committed}
        if not offsets or not self._outbox.settle(SETTLE_S):
            return
        self._s.ledger.acknowledged(self._outbox.acknowledged())
        try:
            with self._s.ledger.stage("commit"):
                self._consumer.commit(offsets)
        except (CommitRefused, BrokerUnavailable) as fault:
            log.warning("offsets were not committed and will be again", extra={"why": str(fault)})
            return
        for part, offset in offsets.items():
            self.owned[part].committed = offset
        self._s.ledger.committed(self._side, offsets)

    # -- partitions that come and go -------------------------------------------------------------

    def _assigned(self, parts: list[Part]) -> dict[Part, int]:
        self._drain()
        self._take_changes()
        begun = self._s.clocks.monotonic()
        restored = read_changelog(self._s.broker, self.stream.changelog, parts)
        stored = self._consumer.committed(parts)
        fresh = []
        replayed = 0
        for part in parts:
            self.owned[part], count = self._recovery.recover(part, recovered(restored[part]), stored[part])
            replayed += count
            if restored[part].snapshot is None:
                fresh.append(self.owned[part])
        self._begin(fresh)
        self._s.ledger.assigned(parts, self._s.clocks.monotonic() - begun, replayed)
        starts = {part: self.owned[part].next_offset for part in parts}
        log.info("partitions assigned", extra={"parts": [f"{t}/{p}@{o}" for (t, p), o in starts.items()]})
        return starts

    def _begin(self, fresh: list[Owned]) -> None:
        """Write where partitions begin of which nothing was known, before their first record is read."""
        for owned in fresh:
            self._write_applied(owned, self.state.rulings[owned.index].change)
        self._snapshot(fresh, self._s.clocks.monotonic())
        if fresh and not self._outbox.settle(SETTLE_S):
            raise BrokerUnavailable(
                f"The changelog {self.stream.changelog} does not acknowledge where new partitions begin. Check that "
                f"the brokers at {self._s.broker.bootstrap} which lead it are up."
            )

    def _start_of(self, part: Part) -> int:
        """Where a partition begins of which nothing is known: behind the training, else by the start policy."""
        if part in self._s.starts:
            return self._s.starts[part]
        ask = self._side.begin_offsets if self.stream.start == "earliest" else self._side.end_offsets
        return ask([part])[part]

    def _revoked(self, parts: list[Part]) -> None:
        """The last chance to write state and commit: then the partitions are another's."""
        self._drain()
        mine = [self.owned[part] for part in parts if part in self.owned]
        if self._outbox.settle(SETTLE_S):
            self._snapshot(
                [o for o in mine if o.snapshot_offset != o.next_offset], self._s.clocks.monotonic()
            )
            self._commit(mine)
        self._s.ledger.gone(parts, "revoked")
        self._forget(parts)

    def _lost(self, parts: list[Part]) -> None:
        """Another member may own them already: commit nothing, write nothing."""
        self._drain()
        self._s.ledger.gone(parts, "lost")
        self._forget(parts)

    def _forget(self, parts: list[Part]) -> None:
        for part in parts:
            owned = self.owned.pop(part, None)
            if owned is not None:
                self.state.drop(owned.index)
