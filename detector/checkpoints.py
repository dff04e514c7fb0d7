"""State and offsets to the broker, in the order that loses nothing: what was sent, then state, then offsets."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

from ..errors import BrokerError, BrokerUnavailable
from ..pipelines.brokers.base import CommitRefused, Consumer, Part
from .changelog import encode_snapshot
from .clocks import Clocks
from .ledger import Ledger
from .outbox import Outbox
from .owned import Owned
from .state import StreamState

log = logging.getLogger(__name__)

SETTLE_S = 10.0
"""How long the broker may take to acknowledge before the attempt is given up and made again later."""
TURN_S = 0.1
"""After so long no further snapshot is begun until the next turn: nothing is scored meanwhile."""


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

    def due(self, owned: Sequence[Owned], now: float, every_s: float, share: float) -> list[Owned]:
        """The partitions of which a snapshot is to be written, those that wait longest first.

        None while `share` of the time since the last ones does not make up for what they took.
        """
        if now < self._rest_until:
            return []
        due = (one for one in owned if one.snapshot_due(now, every_s, share))
        return sorted(due, key=lambda one: one.snapshot_at)

    def snapshot_in_turn(self, due: Sequence[Owned], share: float) -> None:
        """Like `snapshot`, for as many as a turn has time for; then none until `share` of the time makes up for it."""
        begun = self._clocks.monotonic()
        self.snapshot(due, begun, TURN_S)
        self._rest_until = begun + (self._clocks.monotonic() - begun) / share

    def snapshot(self, owned: Sequence[Owned], now: float, most_s: float = math.inf) -> None:
        """Hand the state of partitions to the producer, no further one after `most_s`.

        Nothing may be under way in the chain.
        """
        if not owned:
            return
        with self._ledger.stage("snapshot"):
            self._retained(owned)
            for one in owned:
                snapshot = self._state.snapshot(one.index, one.next_offset, one.topic_id)
                pairs, one.marker = encode_snapshot(*one.part, snapshot, one.marker, self._writer)
                size = 0
                for key, value in pairs:
                    self._outbox.record(one.part, (key, value))
                    size += len(value or b"")
                one.snapshot_bytes, one.bytes_in, one.snapshot_at = size, 0, now
                one.snapshot_offset = one.next_offset
                self._ledger.snapshot(size)
                if self._clocks.monotonic() - now >= most_s:
                    break

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
