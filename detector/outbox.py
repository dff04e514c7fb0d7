"""What a stream sends: alerts, scores, decisions, dead letters; and when each alert was acknowledged.

With `guarantee = "exactly_once"` all of it goes out in transactions, and acknowledged means committed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from .. import __version__
from ..pipelines.brokers.base import (
    Batch,
    Broker,
    Consumer,
    Headers,
    Part,
    Producer,
    StillWaiting,
    Transactions,
)
from .alerts import Alert
from .alerts import message_of as alert_message
from .announcing import Said
from .changelog import Decision, Pair, encode_decision
from .clocks import Clocks
from .deadletters import Failed, dead_letter, looping
from .scores import ScoreRecord
from .scores import message_of as score_message
from .settings import Stream
from .stopping import Stopping

log = logging.getLogger(__name__)

DECISIONS = 4096
"""So many of a partition the changelog keeps, the newest: a record of them for people, not state."""
LOOK_S = 0.5
"""How long a wait for the broker goes on before it looks whether a stop was asked for."""


class Sent(NamedTuple):
    """An alert on its way: acknowledged once `sequence` messages are."""

    sequence: int
    severity: str
    status: str
    seconds_of: float
    """Wall-clock seconds of the record that completed it, as its broker or sender stamped it."""


class Acknowledged(NamedTuple):
    """An alert that its topic holds."""

    severity: str
    status: str
    latency_s: float


def settle(producer: Producer, monotonic: Callable[[], float], stopping: Stopping, timeout_s: float) -> bool:
    """Wait until everything that was handed to a producer is acknowledged; see `Outbox.settle`."""
    begun = monotonic()
    while True:
        left = min(begun + timeout_s - monotonic(), stopping.left())
        try:
            producer.flush(min(max(left, 0.0), LOOK_S))
        except StillWaiting as owed:
            if left > LOOK_S:
                continue
            log.warning(
                "nothing is committed before it is acknowledged",
                extra={"waited_s": round(monotonic() - begun, 1), "why": str(owed)},
            )
            return False
        return True


class Outbox:
    """The producer of one stream. Belongs to the thread that consumes."""

    def __init__(
        self,
        broker: Broker,
        stream: Stream,
        parts: Callable[[int], Part],
        clocks: Clocks,
        stopping: Stopping,
        writer: int,
    ) -> None:
        self._broker = broker
        self._stream = stream
        self.writer = writer
        self._transactions: Transactions | None = None
        self._producer: Producer
        self._open()
        self._part = parts
        self._clocks = clocks
        self._stopping = stopping
        self._handed = 0
        self._waiting: deque[Sent] = deque()
        self._decided: dict[Part, dict[bytes, None]] = {}

    @property
    def transactional(self) -> bool:
        """Whether what is sent waits for `commit` to be seen."""
        return self._transactions is not None

    def commit(self, offsets: Mapping[Part, int], consumer: Consumer) -> None:
        """Make what was sent visible together with the next offsets of all owned partitions.

        All of them, moved or not: it is by them that the broker refuses a member which does not know yet that the
        partitions are another's.

        Raises:
            TransactionFailed: nothing may be taken for sent; `restart`, and go on from the committed offsets.
            DeliveryFailed: something was refused for good.
        """
        assert self._transactions is not None
        self._transactions.commit(offsets, consumer)

    def restart(self) -> None:
        """Give up what was sent and not committed, with a new producer.

        Raises:
            TransactionFailed: nobody answers; try again.
        """
        self._producer.close()
        self._handed = 0
        self._waiting.clear()
        self._open()

    def _open(self) -> None:
        if self._stream.guarantee == "at_least_once":
            self._producer = self._broker.producer()
            return
        name = self._stream.transactional_id or f"{self._stream.group_id}.{self.writer:08x}"
        self._producer = self._transactions = self._broker.transactions(name)

    def say(self, said: Iterable[Said], seconds_of: Callable[[Said], float]) -> list[Alert]:
        """Send alerts and decisions in order; returns the alerts."""
        alerts = []
        for one in said:
            if isinstance(one.message, Decision):
                self.decide(self._part(one.part), one.message)
                continue
            message = alert_message(one.message)
            self._send(self._stream.alerts, message.value, message.key, message.headers)
            labels = one.message.labels
            self._waiting.append(
                Sent(self._handed, labels.severity.value, one.message.status.value, seconds_of(one))
            )
            alerts.append(one.message)
        return alerts

    def decide(self, part: Part, decision: Decision) -> None:
        """Write a decision to the partition's changelog, and strike out the oldest where that is one too many."""
        key, value = encode_decision(part[0], decision)
        self.record(part, (key, value))
        self._keep(part, [key])

    def decided(self, part: Part, decisions: Iterable[Decision]) -> None:
        """Take over what the changelog of a partition holds of them, the oldest first."""
        self._decided[part] = {}
        self._keep(part, (encode_decision(part[0], one)[0] for one in decisions))

    def _keep(self, part: Part, keys: Iterable[bytes]) -> None:
        held = self._decided.setdefault(part, {})
        held.update(dict.fromkeys(keys))
        for key in list(islice(held, max(0, len(held) - DECISIONS))):
            del held[key]
            self.record(part, (key, None))

    def record(self, part: Part, pair: Pair) -> None:
        """Write one message to the partition's changelog."""
        key, value = pair
        self._handed += 1
        self._producer.produce(self._stream.changelog, value, key, partition=part[1])

    def scores(self, records: Iterable[ScoreRecord]) -> None:
        """Send one message per record to the scores topic."""
        assert self._stream.scores is not None
        for record in records:
            message = score_message(record)
            self._send(self._stream.scores, message.value, message.key, None)

    def refuse(self, batch: Batch, message: int, reason: str, detail: str) -> bool:
        """Send a message to the dead letters; False where it has come back too often and is only counted."""
        headers = None if batch.headers is None else batch.headers[message]
        if looping(headers):
            return False
        failed = Failed(
            batch.topic[message],
            batch.partition[message],
            batch.offset[message],
            batch.timestamp_ms[message],
            batch.key[message],
            batch.value[message],
            headers,
        )
        letter = dead_letter(failed, reason, detail, self._stream.name, __version__)
        self._send(self._stream.dead_letter, letter.value, letter.key, letter.headers)
        return True

    @property
    def sent(self) -> bool:
        """Whether a transaction holds something that is not committed."""
        return self._transactions is not None and self._transactions.open

    @property
    def expecting(self) -> bool:
        """Whether alerts are on their way."""
        return bool(self._waiting)

    def acknowledged(self) -> list[Acknowledged]:
        """The alerts that were acknowledged since the last call."""
        self._producer.poll(0)
        now, done = self._clocks.wall(), []
        while self._waiting and self._waiting[0].sequence <= self._producer.delivered:
            sent = self._waiting.popleft()
            done.append(Acknowledged(sent.severity, sent.status, max(now - sent.seconds_of, 0.0)))
        return done

    def settle(self, timeout_s: float) -> bool:
        """Wait until everything sent is acknowledged; False while the broker still owes answers.

        A stop that is asked for meanwhile shortens the wait.

        Raises:
            DeliveryFailed: something was refused for good: nothing after it may be committed.
        """
        return settle(self._producer, self._clocks.monotonic, self._stopping, timeout_s)

    def close(self) -> None:
        """Release the producer."""
        self._producer.close()

    def _send(self, topic: str, value: bytes | None, key: bytes | None, headers: Headers | None) -> None:
        self._handed += 1
        self._producer.produce(topic, value, key, headers=headers)
