"""One stream's loop: one thread consumes, sends and commits; the chain works elsewhere, outside the GIL.

    consume -> decode -> [worker: chain] -> alerts, scores, dead letters -> acknowledged -> state -> offsets

While the worker scores one batch the next is consumed and decoded. What must see a still chain (a change, a
snapshot, a partition that comes or goes) first waits until nothing is under way.

With `guarantee = "exactly_once"` what is sent, state and offsets share a transaction. Where one fails, all since the
last commit is given up, and every partition is taken over again from what is committed.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from ..errors import BrokerError, BrokerUnavailable
from ..pipelines.brokers.base import END, Batch, DataLoss, Part, TransactionFailed
from .announcing import Names
from .applying import Applier
from .checkpoints import SETTLE_S, Checkpoints
from .flights import BATCH, Flights
from .outbox import Outbox
from .owned import Owned
from .recovery import Recovery
from .refusals import Refusals
from .stopping import StopAsked
from .stream_setup import Setup
from .takeover import Takeover

log = logging.getLogger(__name__)

UNDER_WAY = 2
"""Batches decoded but not yet through the chain: one being scored and one ready."""
POLL_S, SENDING_POLL_S, CONTROL_S = 0.2, 0.005, 0.2
GATHER_S = 0.015
"""A batch costs milliseconds however few records it holds: so long passes between two that are not full,"""
FEW, FEW_S = 256, 0.03
"""and so long after one of fewer records than that: half as many, each of which costs more than what is in it."""
SNAPSHOT_BYTES, SNAPSHOT_TIME = 0.1, 0.05
"""Of the input's bytes, and of this thread's time, that snapshots may take: they are as much work again for others."""
VISIBLE_S, VISIBLE_BEHIND_S = 0.05, 0.1
"""With transactions: an alert is committed this soon, at once where nothing is under way, later while behind."""
OPEN_S = 5.0
"""With transactions: none stays open for longer, well within the brokers' time limit."""
FENCES, FENCES_S = 3, 60.0
"""So many times fenced in so many seconds is no accident."""


class StreamLoop:
    """The loop of one stream. All methods but `ask` belong to the thread that calls `run`."""

    def __init__(self, setup: Setup) -> None:
        self._s = setup
        self.stream = setup.stream
        self.state = setup.chain.state
        self.lags = setup.chain.lags
        self._consumer = setup.broker.consumer(setup.stream.group_id, start=setup.stream.start)
        self._side = setup.broker.consumer()
        self._outbox = Outbox(
            setup.broker,
            setup.stream,
            self.state.parts.__getitem__,
            setup.clocks,
            setup.stopping,
            setup.writer,
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
        refusals = Refusals(self._outbox, setup.ledger, setup.decode)
        self._flights = Flights(setup, self._outbox, refusals, self._names, self.owned)
        self._checkpoints = Checkpoints(
            self._consumer, self._side, self._outbox, self.state, setup.ledger, setup.writer, setup.clocks
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
                setup.worker,
            ),
            self._applier,
            self._checkpoints,
            self._outbox,
            setup.clocks,
            setup.stopping,
            setup.same_layout,
        )
        self._questions: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._failed = False
        self._undone: TransactionFailed | BrokerUnavailable | None = None
        """Why all since the last commit is to be given up and taken over again, as soon as the loop comes to it."""
        self._fenced_at: deque[float] = deque(maxlen=FENCES)
        self._gathered_at = 0.0
        self._committed_at = self._controlled_at = self._lagged_at = setup.clocks.monotonic()

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
                    try:
                        self._turn()
                    except TransactionFailed as fault:
                        self._undone = fault
                    if self._undone is not None:
                        self._roll_back()
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
        self._gather()
        with self._s.ledger.stage("consume"):
            batch = self._consumer.consume(BATCH, self._patience())
        rest = FEW_S if batch.size < FEW else GATHER_S
        self._gathered_at = self._s.clocks.monotonic() + rest if 0 < batch.size < BATCH else 0.0
        events = self._consumer.events()
        self._s.ledger.consumer_events(events)
        if self._undone is not None:
            return
        if batch:
            self._take(batch)
        self._begin_anew([loss for loss in events.losses if loss.resumed < loss.wanted])
        while self._flights and (len(self._flights) >= UNDER_WAY or not batch or self._flights.landed()):
            self._flights.land()
        self._checkpoints.go_on(self.owned.values(), SNAPSHOT_TIME)
        self._s.ledger.acknowledged(self._outbox.acknowledged())
        now = self._s.clocks.monotonic()
        if self._commit_due(now):
            self._checkpoint(now)
        while self._questions:
            self._flights.drain()
            question, answer = self._questions.popleft()
            try:
                answer.set_result(question())
            except Exception as fault:  # it belongs to whoever asked
                answer.set_exception(fault)

    def _gather(self) -> None:
        """After a thin batch leave the topic time to bring more, and send meanwhile what comes of it."""
        left = self._gathered_at - self._s.clocks.monotonic()
        if left > 0 and self._flights and self._flights.landed(left):
            self._flights.land()
            left = self._gathered_at - self._s.clocks.monotonic()
        if left > 0 and not self._flights:
            time.sleep(left)

    def _patience(self) -> float:
        """Seconds to wait for a record: not at all while a batch is under way, hardly while something is sent."""
        if self._flights:
            return 0.0
        sending = self._outbox.expecting or any(one.unsent for one in self.owned.values())
        return SENDING_POLL_S if sending else POLL_S

    # -- batches ---------------------------------------------------------------------------------

    def _take(self, batch: Batch) -> None:
        """Start a batch, cut where a change of an earlier owner is to act."""
        if not any(owned.pending for owned in self.owned.values()):
            self._flights.start(batch)
            return
        first = 0
        for row, (topic, partition, offset) in enumerate(
            zip(batch.topic, batch.partition, batch.offset, strict=True)
        ):
            owned = self.owned[topic, partition]
            if owned.pending and offset >= owned.pending[0].first_offset:
                if row > first:
                    self._flights.start(batch.rows(first, row))
                first = row
                self._flights.drain()
                self._applier.act_pending(owned, offset)
        self._flights.start(batch.rows(first, batch.size))

    def _begin_anew(self, losses: list[DataLoss]) -> None:
        """Go on in partitions that end before what was to be read: their topic was made anew."""
        for loss in losses:
            self._flights.drain()
            if (owned := self.owned.get((loss.topic, loss.partition))) is not None:
                try:
                    self._takeover.begin_anew(owned, loss.resumed)
                except BrokerUnavailable as fault:
                    self._undone = fault  # taken over with all others

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
        self._flights.drain()
        return self._applier.act(behind)

    # -- checkpoints -----------------------------------------------------------------------------

    def _commit_due(self, now: float) -> bool:
        passed = now - self._committed_at
        if not self._outbox.transactional:
            return passed >= self._s.commit_every_s
        soon = VISIBLE_S if self._gathered_at else VISIBLE_BEHIND_S
        if self._outbox.expecting and (passed >= soon or not self._flights):
            return True  # nobody sees an alert before
        return passed >= min(self._s.commit_every_s, OPEN_S)

    def _checkpoint(self, now: float) -> None:
        """Acknowledge alerts, then state where it is due, then commit offsets: in this order."""
        self._committed_at = now
        owned = list(self.owned.values())
        due = self._checkpoints.due(owned, now, self._s.snapshot_every_s, SNAPSHOT_BYTES)
        if not due or self._preserved(due):
            self._checkpoints.commit(owned, self._flights.under_way())
        if now - self._lagged_at >= self._s.commit_every_s:
            self._lagged_at = now
            self._checkpoints.lag(owned)

    def _preserved(self, due: list[Owned]) -> bool:
        """Write snapshots, unless what they contain was not acknowledged in time."""
        self._flights.drain()
        if settled := self._outbox.settle(SETTLE_S):
            self._checkpoints.begin(due, SNAPSHOT_TIME)
        return settled

    # -- partitions that come and go -------------------------------------------------------------

    def _assigned(self, parts: list[Part]) -> dict[Part, int]:
        if self._undone is not None:
            return dict.fromkeys(parts, END)  # they are taken over with all others
        self.restoring = True
        try:
            self._flights.drain()
            if self._outbox.transactional:  # no transaction stays open for as long as a restore takes
                self._checkpoints.commit(list(self.owned.values()), {})
            begun = self._s.clocks.monotonic()
            starts, replayed = self._take_over(parts)
        except (TransactionFailed, BrokerUnavailable) as fault:
            self._undone = fault
            return dict.fromkeys(parts, END)
        self.restoring = False
        self._s.ledger.assigned(parts, self._s.clocks.monotonic() - begun, replayed)
        return starts

    def _take_over(self, parts: list[Part]) -> tuple[dict[Part, int], int]:
        """Where partitions go on once their state is there, and how many records were replayed for it."""
        self._hear_changes()
        taken, replayed = self._takeover.take(parts)
        self.owned.update(taken)
        if self._outbox.transactional:  # where they begin must not hang on a transaction that may fail yet
            self._checkpoints.commit(list(self.owned.values()), {})
        starts = {part: one.next_offset for part, one in taken.items()}
        log.info("partitions assigned", extra={"parts": [f"{t}/{p}@{o}" for (t, p), o in starts.items()]})
        return starts, replayed

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
        if self._undone is None:
            try:
                self._hand_over([self.owned[part] for part in parts if part in self.owned])
            except TransactionFailed as fault:
                self._undone = fault
        self._s.ledger.gone(parts, "revoked")
        self._forget(parts)

    def _hand_over(self, mine: list[Owned]) -> None:
        self._flights.drain()
        if self._outbox.settle(SETTLE_S):
            stale = [one for one in mine if one.snapshot_offset != one.next_offset]
            self._checkpoints.snapshot(stale)
            self._checkpoints.commit(list(self.owned.values()) if self._outbox.transactional else mine, {})
        elif self._outbox.transactional:
            raise TransactionFailed("Partitions went before what was sent of them was acknowledged.")

    def _lost(self, parts: list[Part]) -> None:
        """Another member may own them already: commit nothing, write nothing."""
        if self._outbox.transactional:
            self._undone = self._undone or TransactionFailed(
                "Partitions were lost that a transaction speaks of."
            )
        elif not self._failed:
            self._flights.drain()
        self._s.ledger.gone(parts, "lost")
        self._flights.abandon()
        self._forget(parts)

    def _roll_back(self) -> None:
        """Give up all since the last commit and take over all again: as a restart would, but for the process.

        Raises:
            BrokerError: another process goes by the same transactional id.
        """
        assert self._undone is not None
        if self._outbox.transactional:
            self._s.ledger.rolled_back()
        self.restoring = True
        self._flights.abandon()
        self._forget(list(self.owned))
        self._applier.waiting = []
        while self._undone is not None:
            log.warning("going back to what is committed", extra={"why": str(self._undone)})
            if isinstance(self._undone, TransactionFailed) and self._undone.fenced:
                self._fenced()
            self._still_on()
            try:
                self._outbox.restart()
                starts, _ = self._take_over(self._consumer.assignment)
                self._consumer.seek(starts)
                self._undone = None
            except (TransactionFailed, BrokerUnavailable) as fault:
                self._undone = fault
                self._consumer.consume(1, POLL_S)  # stays a member; what comes is read again
        self.restoring = False
        self._committed_at = self._s.clocks.monotonic()

    def _fenced(self) -> None:
        self._fenced_at.append(self._s.clocks.monotonic())
        if len(self._fenced_at) == FENCES and self._fenced_at[-1] - self._fenced_at[0] < FENCES_S:
            raise BrokerError(
                f"stream {self.stream.name}: another process uses the transactional id "
                f"{self.stream.transactional_id!r} and fenced this one {FENCES} times within {FENCES_S:.0f} s. Give "
                "each daemon of the group a [stream] transactional_id of its own, or leave it empty."
            )

    def _forget(self, parts: list[Part]) -> None:
        for part in parts:
            owned = self.owned.pop(part, None)
            if owned is not None:
                self.state.drop(owned.index)
