"""What the rest of Tocsin may ask of a broker: protocols and plain data, no client library.

Two implementations are held to one contract suite: `kafka.KafkaBroker` for any cluster and
`embedded.EmbeddedBroker`, a cluster inside this process. What only one can do is declared in `Capabilities`.

Offsets follow Kafka's convention: a committed offset and a position name the *next* record. Times are
milliseconds since the epoch, as Kafka stores them. A consumer belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

from ...errors import BrokerError, DeliveryFailed
from .administration import Admin

Part: TypeAlias = tuple[str, int]
"""A topic and one of its partitions."""

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]

Start: TypeAlias = Literal["earliest", "latest", "error"]
"""Where a group without a committed offset begins; `error` refuses to begin."""

OnAssign: TypeAlias = Callable[[list[Part]], Mapping[Part, int] | None]
"""Called with the partitions that are *added*; may return where to begin in some of them."""

OnRevoke: TypeAlias = Callable[[list[Part]], None]
"""Called with the partitions that are *taken away*."""

BEGINNING = -2
"""In `Consumer.assign`: the oldest record that is still held."""
END = -1
"""In `Consumer.assign`: only what is appended from now on."""


class CommitRefused(BrokerError):
    """The group has moved on: the partitions of a commit belong, or will belong, to another member."""


class TransactionFailed(BrokerError):
    """A transaction was aborted, or nobody knows: only the group's committed offsets tell how far it came."""

    def __init__(self, text: str, *, fenced: bool = False) -> None:
        super().__init__(text)
        self.fenced = fenced
        """Another producer of the same id has taken over, or the broker's time limit for a transaction had passed."""


class StillWaiting(DeliveryFailed):
    """Records are neither acknowledged nor refused yet; they stay queued and may still be delivered."""


class Capabilities(NamedTuple):
    """What a broker can do beyond consuming, producing, groups and creating topics."""

    admin: bool
    """Topic settings can be given and read."""
    search_by_time: bool
    """`offsets_for_time` finds the first record at or after a time."""
    compaction: bool
    """Compacted topics keep the newest value of each key."""
    transactions: bool
    """Transactional offsets are stored and aborted records hidden."""
    durable: bool
    """Records survive a restart of the broker."""
    topic_ids: bool
    """Each topic has an id that no other of its name has before or after it."""
    security: bool
    """TLS, SASL and access rights."""
    steady_groups: bool
    """A group settles in one round; without it a busy machine makes members time out and join again."""


class Batch(NamedTuple):
    """The records of one `consume`, column by column; within a partition in the order of their offsets."""

    topic: list[str]
    partition: list[int]
    offset: list[int]
    timestamp_ms: list[int]
    """The broker's or the producer's time; -1 where there is none."""
    key: list[bytes | None]
    value: list[bytes | None]
    """None is a tombstone."""
    headers: list[Headers | None] | None
    """None as a whole where the consumer was opened with `headers=False`."""

    def __bool__(self) -> bool:
        return bool(self.offset)

    @property
    def size(self) -> int:
        """How many records there are (`len` of a named tuple is its number of columns)."""
        return len(self.offset)

    def rows(self, first: int, last: int) -> Batch:
        """The records from `first` up to before `last`, by their place in the batch."""
        chosen = slice(first, last)
        return Batch(
            self.topic[chosen],
            self.partition[chosen],
            self.offset[chosen],
            self.timestamp_ms[chosen],
            self.key[chosen],
            self.value[chosen],
            None if self.headers is None else self.headers[chosen],
        )


class DataLoss(NamedTuple):
    """Records that the broker dropped before they were read, and where reading goes on."""

    topic: str
    partition: int
    wanted: int
    """The offset that was to be read next."""
    resumed: int
    """The offset where reading goes on: the oldest one held."""

    @property
    def lost(self) -> int:
        """How many offsets were skipped; 0 when the topic was recreated and begins before `wanted`."""
        return max(0, self.resumed - self.wanted)


class Events(NamedTuple):
    """What happened to a client since it was last asked."""

    losses: list[DataLoss]
    errors: dict[str, int]
    """Transient errors by librdkafka's name; the client goes on by itself."""
    evictions: int
    """How often the group threw this member out for not polling in time; it joins again by itself."""


class Consumer(Protocol):
    """Reads records, as a member of a group (`subscribe`) or on its own (`assign`)."""

    @property
    def broker_down(self) -> bool:
        """Whether no broker could be reached when last polled; consuming goes on when one returns."""

    @property
    def assignment(self) -> list[Part]:
        """The partitions that are being read, sorted."""

    def subscribe(
        self,
        topics: Sequence[str],
        on_assign: OnAssign | None = None,
        on_revoke: OnRevoke | None = None,
        on_lost: OnRevoke | None = None,
    ) -> None:
        """Join the group for `topics`; callbacks run inside `consume` and `close`, with deltas.

        Where `on_assign` names no offset, reading begins at the committed one, else by the start policy.
        `on_revoke` is the last chance to commit. After `on_lost` (by default `on_revoke`) another member may
        already own the partitions: drop their state, commit nothing.

        Raises:
            UnknownTopic: a topic does not exist.
            BrokerUnavailable: nobody answers.
            BrokerError: the client may not read a topic.
        """

    def assign(self, offsets: Iterable[tuple[str, int, int]]) -> None:
        """Read exactly these (topic, partition, next offset), outside any group, and nothing else."""

    def seek(self, offsets: Mapping[Part, int]) -> None:
        """Go on reading assigned partitions at other offsets; what was fetched ahead is dropped."""

    def pause(self, parts: Iterable[Part]) -> None:
        """Fetch no more from these partitions until `resume`; keep calling `consume`."""

    def resume(self, parts: Iterable[Part]) -> None:
        """Fetch again from paused partitions."""

    def consume(self, max_records: int, timeout_s: float) -> Batch:
        """Wait up to `timeout_s` for a first record, then take what is there, at most `max_records`.

        An outage of the broker gives empty batches and shows in `broker_down`. Records that the broker no
        longer holds are skipped and reported by `events`.

        Raises:
            UnknownTopic: a topic that is read has been deleted.
            BrokerError: the client may not read, or has failed for good.
        """

    def events(self) -> Events:
        """What happened since the last call; each thing is reported once."""

    def commit(self, offsets: Mapping[Part, int]) -> None:
        """Store next offsets for the group and wait for the broker's word.

        Raises:
            CommitRefused: the partitions are no longer this member's.
            BrokerUnavailable: nobody answers; nothing is known to be committed.
        """

    def committed(self, parts: Iterable[Part]) -> dict[Part, int | None]:
        """The group's next offset of each partition, None where there is none."""

    def position(self) -> dict[Part, int]:
        """The next offset of each assigned partition from which something was consumed."""

    def begin_offsets(self, parts: Iterable[Part]) -> dict[Part, int]:
        """The oldest offset that is held, of each partition."""

    def end_offsets(self, parts: Iterable[Part]) -> dict[Part, int]:
        """The offset that comes next at the end of each partition (after the last committed transaction)."""

    def offsets_for_time(self, parts: Iterable[Part], time_ms: int) -> dict[Part, int]:
        """The first offset at or after a time, of each partition; its end where there is none.

        Raises:
            BrokerError: the broker cannot search by time.
        """

    def membership(self) -> object:
        """What shows a transaction's broker that this member may still commit for the group."""

    def close(self) -> None:
        """Leave the group (`on_revoke` is called) and release everything; a second call does nothing."""


class Producer(Protocol):
    """Appends records; idempotent, acknowledged by all in-sync replicas."""

    @property
    def broker_down(self) -> bool:
        """Whether no broker could be reached when last polled."""

    @property
    def delivered(self) -> int:
        """How many records were acknowledged so far."""

    @property
    def waiting(self) -> int:
        """How many records are neither acknowledged nor failed."""

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        """Hand over one record; waits while the queue is full.

        Raises:
            DeliveryFailed: the record is too large, or the queue stayed full.
        """

    def poll(self, timeout_s: float = 0) -> None:
        """Serve delivery reports and errors; call it now and then between produces.

        Raises:
            DeliveryFailed: the producer has failed for good, for instance because it may not produce at all.
        """

    def flush(self, timeout_s: float) -> None:
        """Wait until everything handed over is acknowledged.

        Raises:
            StillWaiting: something is neither acknowledged nor refused at the end of `timeout_s`.
            DeliveryFailed: something was refused since the last flush; names topic and reason.
        """

    def close(self) -> None:
        """Release everything; what is still waiting is dropped, so `flush` first."""


class Transactions(Producer, Protocol):
    """A producer whose records become visible with the offsets that they were made from, or not at all.

    The first record handed over begins a transaction. After a TransactionFailed, from whatever method, it can only be
    closed; a new one of the same id aborts what it left open. `delivered` counts what was committed.
    """

    @property
    def open(self) -> bool:
        """Whether records were handed over that are not committed."""

    def commit(self, offsets: Mapping[Part, int], consumer: Consumer) -> None:
        """Make visible what was handed over, and store next offsets of the consumer's group with it.

        Raises:
            TransactionFailed: the broker did not say that it is done, or another member owns the partitions.
            DeliveryFailed: a record was refused for good.
        """


class Broker(Protocol):
    """A cluster that can be consumed from and produced to."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    @property
    def bootstrap(self) -> str:
        """The address that any Kafka client can use."""

    def consumer(
        self,
        group: str | None = None,
        *,
        start: Start = "error",
        headers: bool = True,
        uncommitted: bool = False,
    ) -> Consumer:
        """A new consumer; without `group` only for `assign` and for asking about offsets.

        It sees what is committed; with `uncommitted` all that was appended, and where that ends.
        """

    def committed(self, group: str, parts: Iterable[Part]) -> dict[Part, int | None]:
        """A group's next offsets, without joining it; what a transaction holds up is not waited for.

        Raises:
            BrokerUnavailable: nobody answers.
        """

    def producer(self) -> Producer:
        """A new producer."""

    def transactions(self, transactional_id: str) -> Transactions:
        """A new producer of transactions; it fences any other of that id.

        Raises:
            TransactionFailed: nobody answers.
        """

    def admin(self) -> Admin:
        """A new admin client."""

    def close(self) -> None:
        """Close what was opened here and is still open, then the rest."""
