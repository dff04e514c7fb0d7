"""State and offsets to the broker, in the order that loses nothing: what was sent, then state, then offsets."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from ..errors import BrokerError, BrokerUnavailable
from ..pipelines.brokers.base import CommitRefused, Consumer, Part
from .changelog import encode_snapshot
from .clocks import Clocks
from .ledger import Ledger
from .outbox import Outbox
from .owned import Owned, Unsent
from .state import StreamState

log = logging.getLogger(__name__)

SETTLE_S = 10.0
"""How long the broker may take to acknowledge before the attempt is given up and made again later."""
TURN_S = 0.1
"""After so long no further snapshot is begun until the next turn: nothing is scored meanwhile."""
PIECES = 4
"""So many messages of a snapshot are handed over in a turn: 2 MB, which the producer sends while records are scored."""


class Checkpoints:
    """Writes snapshots and commits offsets of one stream. Belongs to the loop's thread."""

    def __init__(
        self,
        consumer: Consumer,
        side: Consumer,
        outbox: Outbox,
        state: StreamState,
        ledger: Ledger,
        writer: int,
        clocks: Clocks,
    ) -> None:
        self._consumer = consumer
        self._side = side
        self._outbox = outbox
        self._state = state
        self._ledger = ledger
        self._writer = writer
        self._clocks = clocks
        self._rest_until = -math.inf

    def due(self, owned: Sequence[Owned], now: float, every_s: float, bytes_share: float) -> list[Owned]:
        """The partitions of which a snapshot is to be written, those that wait longest first.

        One is due once `bytes_share` of the input makes up for it. None is while one is under way, or until as much
        time has passed as makes up for the last ones (`begin`).
        """
        if now < self._rest_until or any(one.unsent for one in owned):
            return []
        due = (one for one in owned if one.snapshot_due(now, every_s, bytes_share))
        return sorted(due, key=lambda one: one.snapshot_at)

    def begin(self, due: Sequence[Owned], time_share: float) -> None:
        """Take snapshots of as many partitions as a turn has time for, and hand over what a turn may of them.

        Then none is due until `time_share` of the time makes up for what they took. Nothing may be under way in the
        chain.
        """
        begun = self._clocks.monotonic()
        with self._ledger.stage("snapshot"):
            self._retained(due)
            for one in due:
                self._take(one)
                if not self._send(one, PIECES) or self._clocks.monotonic() - begun >= TURN_S:
                    break
        self._rest_until = begun + (self._clocks.monotonic() - begun) / time_share

    def go_on(self, owned: Iterable[Owned], time_share: float) -> None:
        """Hand over the next pieces of the snapshot that is under way, if one is."""
        one = next((one for one in owned if one.unsent), None)
        if one is None:
            return
        begun = self._clocks.monotonic()
        with self._ledger.stage("snapshot"):
            self._send(one, PIECES)
        self._rest_until += (self._clocks.monotonic() - begun) / time_share

    def snapshot(self, owned: Sequence[Owned]) -> None:
        """Hand the whole state of partitions to the producer. Nothing may be under way in the chain."""
        if not owned:
            return
        with self._ledger.stage("snapshot"):
            self._retained(owned)
            for one in owned:
                self._take(one)
                self._send(one)

    def _take(self, one: Owned) -> None:
        """Pack the state of a partition; what is not sent yet of an earlier snapshot is given up."""
        one.unsent = None
        one.snapshot_at, one.bytes_in = self._clocks.monotonic(), 0
        snapshot = self._state.snapshot(one.index, one.next_offset, one.topic_id)
        pairs, marker = encode_snapshot(*one.part, snapshot, one.marker, self._writer, one.term)
        one.unsent = Unsent(pairs, marker, marker.pieces + 1)

    def _send(self, one: Owned, most: int | None = None) -> bool:
        """Hand over so many messages of the snapshot that was taken; whether that was all of it."""
        unsent = one.unsent
        assert unsent is not None
        for pair in islice(unsent.pairs, most):
            self._outbox.record(one.part, pair)
            unsent.size += len(pair[1] or b"")
            unsent.messages -= 1
        if unsent.messages:
            return False
        one.marker, one.snapshot_offset, one.snapshot_bytes = (
            unsent.marker,
            unsent.marker.next_offset,
            unsent.size,
        )
        one.unsent = None
        for key in one.superseded:
            self._outbox.record(one.part, (key, None))
        one.superseded = ()
        self._ledger.snapshot(unsent.size)
        return True

    def _retained(self, owned: Sequence[Owned]) -> None:
        """Tell how much a crash now would replay, the most until the next snapshot, and whether the input holds it."""
        if self._consumer.broker_down:
            return  # a request would wait for its time limit
        try:
            oldest = self._side.begin_offsets([one.part for one in owned])
        except BrokerError as fault:
            log.info("what the input still holds is not known", extra={"why": str(fault)})
            return
        for one in owned:
            if records := one.next_offset - one.snapshot_offset:
                held = one.next_offset - oldest[one.part]
                self._ledger.replay(one.part, records, held / records if oldest[one.part] else math.inf)

    def commit(self, owned: Sequence[Owned], under_way: Mapping[Part, int]) -> None:
        """Commit what is through the chain once all that was sent is acknowledged.

        `under_way` names the first offset of each partition that is not through. What the broker does not take now
        is tried again with the next commit. In transactions `owned` has to be all partitions: what was sent is of all.

        Raises:
            TransactionFailed: nothing may be taken for committed.
        """
        offsets = {one.part: under_way.get(one.part, one.next_offset) for one in owned}
        if self._outbox.transactional:
            self._transact(owned, offsets)
            return
        offsets = {one.part: offsets[one.part] for one in owned if offsets[one.part] > one.committed}
        # Also where no offset is left to commit: a snapshot that was handed over at the end would go with the producer.
        if not self._outbox.settle(SETTLE_S) or not offsets:
            return
        self._ledger.acknowledged(self._outbox.acknowledged())
        try:
            with self._ledger.stage("commit"):
                self._consumer.commit(offsets)
        except (CommitRefused, BrokerUnavailable) as fault:
            log.warning("offsets were not committed and will be again", extra={"why": str(fault)})
            return
        for one in owned:
            one.committed = offsets.get(one.part, one.committed)
        self._ledger.committed()

    def _transact(self, owned: Sequence[Owned], offsets: Mapping[Part, int]) -> None:
        if not self._outbox.sent and all(offsets[one.part] == one.committed for one in owned):
            return
        with self._ledger.stage("commit"):
            self._outbox.commit(offsets, self._consumer)
        self._ledger.acknowledged(self._outbox.acknowledged())
        for one in owned:
            one.committed = offsets[one.part]
        self._ledger.committed()

    def lag(self, owned: Sequence[Owned]) -> None:
        """Tell how far what is committed lies behind the ends, whether or not anything could be committed."""
        if not owned or self._consumer.broker_down:
            return  # a request would wait for its time limit
        committed = {one.part: one.committed for one in owned}
        try:
            self._ledger.lag(self._side.end_offsets(committed), committed)
        except BrokerError as fault:
            log.info("the lag is not known", extra={"why": str(fault)})
