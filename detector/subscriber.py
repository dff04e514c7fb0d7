"""`AlertSubscriber`: alerts for other Python services, each handed out until it is acknowledged.

    with AlertSubscriber("localhost:9092", "web.alerts", "ticket-desk") as alerts:
        for alert in alerts:
            open_ticket(alert)
            alerts.acknowledge(alert)

At least once: offsets are committed up to the oldest unacknowledged alert of each partition and never past it, so
whoever is killed between reading and acknowledging is handed the alert again. Commits follow acknowledgements:
at the next step of the reader, at most once a second while there is more to hand out, when a partition goes to
another member, and at the close.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self, Unpack

from ..errors import BrokerError, BrokerUnavailable, DataError, NewerSchema, SettingsError, TocsinError
from ..pipelines.brokers import open_broker
from ..pipelines.brokers.base import CommitRefused, Part
from ..pipelines.brokers.config import Table
from .acknowledgements import Acknowledgements
from .alerts import SCHEMA_VERSION, Alert, decode, event_id, is_newer
from .subscriber_options import Counts, Options, Unreadable, check

LOG: Final = logging.getLogger("tocsin.subscriber")
BATCH = 100
"""Messages that are fetched at a time, and no more until they are handed out."""
WAIT_S = 0.2
"""How soon `stop` is heard."""
COMMIT_S = 1.0
"""How seldom offsets are committed while there is more to hand out."""


class _Read(NamedTuple):
    part: Part
    offset: int
    key: bytes | None
    value: bytes | None


class AlertSubscriber:
    """Hands out the alerts of one or more alert topics, as a member of a consumer group.

    bootstrap: the brokers, "host:port,host:port".
    topics: the alert topic, or several.
    group: the consumer group. Members of a group share the work; each other group is handed everything. A
        group goes on where it stopped, whichever process it was.
    librdkafka: client properties, for instance `security.protocol`, `sasl.password`, `ssl.ca.location`.
    start: where a group begins that has never committed: "earliest" (all that the topic holds) or "latest".
    timeout: seconds without an alert after which iteration ends; None waits for ever.
    on_unreadable: is called with each message that cannot be read, which is done when it returns. Without
        it, what is no alert is logged, counted and passed over; what a newer version wrote raises NewerSchema.
    remember: how many acknowledged alerts are recognised when they come again, the latest ones.
    max_unacknowledged: nothing more is handed out while so many are unacknowledged.

    Repeats are dropped and counted: messages whose alert_id and status (and for digests the number held) are
    those of one that this object has handed out or seen acknowledged.

    Threads: one thread at a time reads, iterates and closes; a second one is refused with TocsinError.
    `acknowledge`, `stop` and `counts` may be used from any thread, `stop` from a signal handler as well.
    Whoever takes longer than `max.poll.interval.ms` (5 minutes) between two reads loses its partitions to
    other members for that while; nothing is lost, but alerts may be handed out again.

    Raises:
        UnknownTopic: a topic does not exist.
        BrokerUnavailable: nobody answers.
        BrokerError: the login is refused, or the client may not read the topic.
        SettingsError: an argument or a client property cannot be used.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: str | Sequence[str],
        group: str,
        *,
        librdkafka: Table | None = None,
        start: Literal["earliest", "latest"] = "earliest",
        timeout: float | None = None,
        on_unreadable: Callable[[Unreadable], None] | None = None,
        remember: int = 100_000,
        max_unacknowledged: int = 10_000,
    ) -> None:
        self._topics = [topics] if isinstance(topics, str) else list(topics)
        check(bootstrap, self._topics, group, start, remember, max_unacknowledged)
        self._group, self._start, self._timeout = group, start, timeout
        self._on_unreadable, self._max_open = on_unreadable, max_unacknowledged
        self._acknowledgements = Acknowledgements(remember)
        self._fetched: deque[_Read] = deque()
        self._counting = threading.Lock()
        self._counts = Counts(0, 0, 0, 0, 0)
        self._reading = threading.Lock()
        self._stopped = self._closed = self._full = self._paused = False
        self._fault: BrokerError | None = None
        self._committed_at = -math.inf
        self._broker = open_broker(bootstrap, librdkafka)
        try:
            self._consumer = self._broker.consumer(group, headers=False)
            self._consumer.subscribe(self._topics, self._assigned, self._revoked, self._lost)
        except BaseException:
            self._broker.close()
            raise

    @classmethod
    def from_config(
        cls, path: str | Path, group: str, *, stream: str | None = None, **options: Unpack[Options]
    ) -> Self:
        """A subscriber to the alerts of a `tocsin.toml`: of one stream, or of all that it names.

        Broker, client properties and topics are those of the file and of `TOCSIN__…` in the environment.

        Raises:
            SettingsError: the file cannot be used, or `group` is the one that a daemon reads its input with.
        """
        from . import settings

        found = settings.load(Path(path))
        chosen = found.streams if stream is None else [found.stream(stream)]
        if group in [one.group_id for one in found.streams]:
            raise SettingsError(
                f"Group {group!r} is the one that the daemon of {path} reads its input with; its offsets are "
                "not to be shared. Choose another name for this service's group."
            )
        topics = sorted({one.alerts for one in chosen})
        return cls(found.kafka.bootstrap, topics, group, librdkafka=found.kafka.librdkafka, **options)

    def __repr__(self) -> str:
        return f"AlertSubscriber({self._broker.bootstrap!r}, {self._topics!r}, {self._group!r})"

    @property
    def counts(self) -> Counts:
        """What has been seen so far."""
        return self._counts

    # -- reading -------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Alert]:
        return self

    def __next__(self) -> Alert:
        alert = None if self._closed else self.receive(self._timeout)
        if alert is None:
            raise StopIteration
        return alert

    def receive(self, timeout: float | None = None) -> Alert | None:
        """The next alert; None when `timeout` seconds have passed without one, or after `stop`.

        A broker that is away is waited for. With a timeout of 0 only what was fetched already is looked at; a
        commit that the broker does not answer may hold any call longer.

        Raises:
            NewerSchema: a newer version wrote the message. The next call goes on behind it, but it is not
                committed: after an upgrade of this package the group is handed it.
            UnknownTopic: a topic has been deleted.
            BrokerError: the client may not read or commit, has failed for good, or nobody answered while
                partitions were taken over: close, and make a new one.
            TocsinError: the subscriber is closed, or another thread is reading.
        """
        with self._alone():
            if self._closed:
                raise TocsinError("This AlertSubscriber is closed. Make a new one: its group goes on.")
            give_up = math.inf if timeout is None else time.monotonic() + timeout
            last = False
            while not self._stopped:
                if not self._fetched or time.monotonic() - self._committed_at > COMMIT_S:
                    self._commit()
                alert = self._take()
                if alert is not None or last:
                    return alert
                left = give_up - time.monotonic()
                last = left <= 0
                self._fetch(min(WAIT_S, max(left, 0.0)))
            return None

    def _fetch(self, wait_s: float) -> None:
        if self._fault is not None:
            raise self._fault
        try:
            # The group throws out who does not poll, so polling goes on where nothing more is wanted.
            if self._fetched:
                self._consumer.pause(self._consumer.assignment)
                self._paused = True
            elif self._paused:
                self._consumer.resume(self._consumer.assignment)
                self._paused = False
            batch = self._consumer.consume(BATCH, wait_s)
        except BrokerError as fault:
            self._fault = fault
            raise
        self._fetched.extend(
            _Read((topic, partition), offset, key, value)
            for topic, partition, offset, key, value in zip(
                batch.topic, batch.partition, batch.offset, batch.key, batch.value, strict=True
            )
        )
        self._count(lost=sum(loss.lost for loss in self._consumer.events().losses))

    def _take(self) -> Alert | None:
        """The next alert among what was fetched, if one may be handed out."""
        while self._fetched and self._acknowledgements.anchored(self._fetched[0].part):
            if self._acknowledgements.open >= self._max_open:
                if not self._full:
                    LOG.warning("%d alerts are unacknowledged, waiting for one that is", self._max_open)
                self._full = True
                return None
            self._full = False
            alert = self._read(self._fetched.popleft())
            if alert is not None:
                return alert
        return None

    def _read(self, message: _Read) -> Alert | None:
        if message.value is None:
            self._acknowledgements.passed(message.part, message.offset)
            return None
        place = f"{message.part[0]}[{message.part[1]}] at offset {message.offset}"
        try:
            alert = decode(message.value, f"the alert {place}")
        except DataError as fault:
            self._cannot_read(message, message.value, place, str(fault))
            return None
        if not self._acknowledgements.offer(message.part, message.offset, event_id(alert)):
            self._count(duplicates=1)
            return None
        self._count(delivered=1)
        return alert

    def _cannot_read(self, message: _Read, value: bytes, place: str, reason: str) -> None:
        newer = is_newer(value)
        if self._on_unreadable is None and not newer:
            self._acknowledgements.passed(message.part, message.offset)
            self._count(unreadable=1)
            LOG.error("passed over: %s", reason)
            return
        if not self._acknowledgements.offer(message.part, message.offset, place):
            return  # it came before and has been dealt with
        self._count(unreadable=1)  # and open, whatever is raised from here on
        if self._on_unreadable is None:
            raise NewerSchema(
                f"{reason} This program knows schema_version {SCHEMA_VERSION}. Nothing from this message on "
                f"is committed for group {self._group!r}; upgrade tocsin here, and it goes on with it."
            )
        self._on_unreadable(Unreadable(*message.part, message.offset, message.key, value, reason, newer))
        self._acknowledgements.acknowledge(place)

    # -- acknowledging -------------------------------------------------------------------------

    def acknowledge(self, alert: Alert) -> bool:
        """The alert is done: its offset may be committed and a repeat of it is dropped.

        Returns whether it was waiting for that. False where it was acknowledged before, or where its
        partition has gone to another member meanwhile, which is handed the alert again.
        """
        known = self._acknowledgements.acknowledge(event_id(alert))
        self._count(acknowledged=int(known))
        return known

    def _commit(self) -> None:
        due = self._acknowledgements.due()
        if not due or self._consumer.broker_down:
            return
        self._committed_at = time.monotonic()
        try:
            self._consumer.commit(due)
        except (CommitRefused, BrokerUnavailable) as fault:
            LOG.info("offsets not committed yet, alerts may be handed out again: %s", fault)
        else:
            self._acknowledgements.committed(due)

    def _assigned(self, parts: list[Part]) -> dict[Part, int]:
        stored = self._consumer.committed(parts)
        fresh = [part for part, at in stored.items() if at is None]
        ends = self._consumer.end_offsets if self._start == "latest" else self._consumer.begin_offsets
        begin = {part: at for part, at in stored.items() if at is not None} | ends(fresh)
        for part, at in begin.items():
            self._acknowledgements.begin(part, at, stored[part])
        self._committed_at = -math.inf  # where a new group begins is committed before anything is handed out
        return begin

    def _revoked(self, parts: list[Part]) -> None:
        self._commit()
        self._lost(parts)

    def _lost(self, parts: list[Part]) -> None:
        self._fetched = deque(message for message in self._fetched if message.part not in parts)
        self._acknowledgements.drop(parts)

    # -- ending --------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the iteration, within a fifth of a second; `receive` gives None from now on."""
        self._stopped = True  # no lock: a signal may have come in the midst of anything

    def close(self) -> None:
        """Commit what is acknowledged, leave the group, release everything; a second call does nothing.

        Raises:
            TocsinError: another thread is reading. `stop` it first.
        """
        with self._alone():
            if self._closed:
                return
            self._closed = True
            self.stop()
            try:
                self._commit()
                self._consumer.close()
            finally:
                self._broker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._reading.acquire(blocking=False):
            raise TocsinError(
                "This AlertSubscriber is being read by another thread. Read in one thread and hand the alerts "
                "on; acknowledge() and stop() may be called from any."
            )
        try:
            yield
        finally:
            self._reading.release()

    def _count(self, **more: int) -> None:
        with self._counting:
            counts = self._counts._asdict()
            self._counts = Counts(**{name: count + more.get(name, 0) for name, count in counts.items()})
