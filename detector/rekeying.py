"""The stage before scoring, with `[stream] rekey`: the input's messages, split by entity, sent on keyed by entity.

    input, any keys -> merged by time -> split by entity -> NAME.rekeyed -> the stream's loop

One daemon of the stream rekeys all partitions of the input: whoever holds the first one in the group `GROUP.rekey`.
So an entity's records come in the order in which they were sent, although they lie scattered. Offsets are committed
after what they stand for is acknowledged: a crash in between sends some messages again, which the chain drops as
duplicates. What cannot be read goes on under its own key, for the chain to refuse.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

from ..errors import BrokerError, BrokerUnavailable
from ..pipelines import formats
from ..pipelines.brokers.base import END, Broker, CommitRefused, Part
from ..pipelines.decoding import Refused, Share
from ..pipelines.merging import Merged, Message
from .checkpoints import SETTLE_S
from .clocks import Clocks
from .http import Heartbeat
from .ledger import Ledger
from .outbox import settle
from .reading import how_of
from .settings import Decode, Stream
from .stopping import STOP_S, Stopping

log = logging.getLogger(__name__)

POLL_S = 0.05
IDLE_S = 0.5
MOST_WAITING = 50_000
"""Messages that were sent and not acknowledged, at which no more are read: half of what the producer holds."""
LOOK_S = 60.0
"""How often it is looked whether the input has more partitions than before."""


class Rekeyer:
    """Rekeys one stream in a thread of its own. Only `fault`, `report` and `heart` are for others to read."""

    def __init__(
        self,
        broker: Broker,
        stream: Stream,
        decode: Decode,
        ledger: Ledger,
        clocks: Clocks,
        stopping: Stopping,
        commit_every_s: float,
    ) -> None:
        self.fault: BaseException | None = None
        self.heart = Heartbeat(clocks.monotonic)
        self._broker = broker
        self._stream = stream
        self._shares = formats.of(stream.format).shares
        self._how = how_of(stream, decode)
        self._ledger = ledger
        self._clocks = clocks
        self._stopping = stopping
        self._commit_every_s = commit_every_s
        self._first: Part = (stream.topics[0], 0)
        self._seat = broker.consumer(stream.rekey_group, headers=False)
        self._fresh: list[Part] = []
        self._producer = broker.producer()
        self._input: Merged | None = None
        self._committed: dict[Part, int] = {}
        self._behind = 0
        self._over = False
        self._committed_at = self._looked_at = clocks.monotonic()
        self.thread = threading.Thread(target=self._guarded, name=f"rekey-{stream.name}", daemon=True)

    def report(self) -> dict[str, Any]:
        """What it does, for status."""
        reading = self._input is not None
        return {
            "topic": self._stream.rekeyed,
            "reading": reading,
            "behind": self._behind if reading else None,
        }

    def check(self) -> None:
        """Raises what it has failed with."""
        if self.fault is not None:
            raise self.fault

    def stop(self) -> None:
        """End it, also where the whole process was not asked to stop, and wait within the deadline of a stop."""
        self._over = True
        self.thread.join(min(self._stopping.left(STOP_S), STOP_S))

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as fault:  # handed to the stream's thread, which ends the process
            self.fault = fault
        finally:
            self._drop()  # after a failure something that was read may not have been sent: nothing more is committed
            self._seat.close()
            self._producer.close()

    def _run(self) -> None:
        self._seat.subscribe(self._stream.topics, self._assigned, self._revoked, self._lost)
        while not (self._over or self._stopping.asked()):
            self._turn()
        self._seat.close()  # revokes, and so settles and commits

    def _turn(self) -> None:
        self.heart.beat()
        self._seat.consume(1, IDLE_S if self._input is None else 0)
        if self._fresh:  # the seat only says who reads
            self._seat.pause(part for part in self._fresh if part in self._seat.assignment)
            self._fresh = []
        if self._first not in self._seat.assignment:
            return
        if self._input is None:
            self._open()
            return
        if self._producer.waiting < MOST_WAITING:
            for message in self._input.read(POLL_S):
                self._send(message)
        else:
            self._producer.poll(POLL_S)
        now = self._clocks.monotonic()
        if now - self._committed_at >= self._commit_every_s:
            self._committed_at = now
            self._checkpoint(self._input)
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look(self._input)

    def _send(self, message: Message) -> None:
        sent = 0
        for key, value in self._keyed(message):
            stamp = message.timestamp_ms if message.timestamp_ms > 0 else None
            self._producer.produce(
                self._stream.rekeyed, value, key, headers=message.headers, timestamp_ms=stamp
            )
            sent += 1
        self._ledger.rekeyed(sent)

    def _keyed(self, message: Message) -> Iterator[tuple[bytes | None, bytes | None]]:
        try:
            shares = self._shares(message.value or b"", self._how)
        except Refused:
            yield message.key, message.value
            return
        for share in shares:
            yield _key(share) or message.key, share.value

    # -- who reads, and from where ---------------------------------------------------------------

    def _assigned(self, parts: list[Part]) -> dict[Part, int]:
        self._fresh += parts
        return dict.fromkeys(parts, END)

    def _revoked(self, parts: list[Part]) -> None:
        if self._first in parts and self._input is not None:
            self._checkpoint(self._input)
            self._drop()

    def _lost(self, parts: list[Part]) -> None:
        if self._first in parts:
            self._drop()

    def _open(self) -> None:
        consumer = self._broker.consumer()
        try:
            parts = self._parts()
            stored = self._seat.committed(parts)
            begins, ends = consumer.begin_offsets(parts), consumer.end_offsets(parts)
        except BrokerUnavailable as fault:
            consumer.close()
            log.warning("rekeying waits for the broker", extra={"why": str(fault)})
            return
        known = {part[0] for part, offset in stored.items() if offset is not None}
        starts: dict[Part, int] = {}
        for part, offset in stored.items():
            # A partition that was added later begins with its first message, whatever a new group would do.
            fresh = begins[part] if self._stream.start == "earliest" or part[0] in known else ends[part]
            starts[part] = fresh if offset is None else offset
        self._committed = {part: offset for part, offset in stored.items() if offset is not None}
        self._input = Merged(consumer, starts, self._clocks.monotonic)
        log.info(
            "rekeying",
            extra={"to": self._stream.rekeyed, "parts": [f"{t}/{p}@{o}" for (t, p), o in starts.items()]},
        )

    def _parts(self) -> list[Part]:
        admin = self._broker.admin()
        try:
            topics = admin.topics()
            held = [topic for topic in self._stream.topics if topic in topics]
            return [(topic, number) for topic in held for number in range(topics[topic].partitions)]
        finally:
            admin.close()

    def _look(self, merged: Merged) -> None:
        try:
            changed = set(self._parts()) != set(merged.next_offsets)
        except BrokerUnavailable:
            return
        if changed:
            self._checkpoint(merged)
            self._drop()  # opened anew, with all of them

    def _drop(self) -> None:
        if self._input is not None:
            self._ledger.gone_input(list(self._input.next_offsets))
            self._input.close()
            self._input = None

    # -- offsets ---------------------------------------------------------------------------------

    def _checkpoint(self, merged: Merged) -> None:
        """Wait until all that was sent is acknowledged, then commit; what is not taken now will be with the next."""
        self._ledger.consumer_events(merged.events())
        offsets = dict(merged.next_offsets)
        if offsets != self._committed:
            if not settle(self._producer, self._clocks.monotonic, self._stopping, SETTLE_S):
                return
            try:
                self._seat.commit(offsets)
                self._committed = offsets
            except (CommitRefused, BrokerUnavailable) as fault:
                log.warning("offsets were not committed and will be again", extra={"why": str(fault)})
                return
        try:
            ends = merged.ends()
        except BrokerError as fault:
            log.info("the lag is not known", extra={"why": str(fault)})
            return
        self._ledger.lag(ends, self._committed)
        self._behind = sum(ends[part] - offset for part, offset in self._committed.items())


def _key(share: Share) -> bytes | None:
    """The entity as a key; None for one that the message's key names, and for a name that nothing can be."""
    if share.entity is None or not str(share.entity).strip():
        return None
    try:
        return str(share.entity).encode()
    except UnicodeEncodeError:
        return None
