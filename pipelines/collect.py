"""What the input topics still hold, read to an end fixed beforehand, outside any consumer group.

Training reads this way: nothing is committed, no other member notices, and the same decoders are used as in
the chain.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from ..errors import BrokerUnavailable, DataError, UnknownTopic
from . import alignment, decoding, slots
from .alignment import Alignment
from .brokers.base import Batch, Broker, Consumer, Part
from .decoding import Decoded, Format, How
from .merging import Merged
from .records import Messages, Points, Records
from .schema import FeatureSchema
from .slots import SlotTable

BATCH_RECORDS = 16_384
WAIT_S = 0.5
PATIENCE_S = 30.0
"""How long nothing may come while the ends are not reached."""
LATEST_MS = 2**62
SAMPLE_MESSAGES = 2000


class Span(NamedTuple):
    """Offsets `first` up to before `last` of one partition."""

    part: Part
    first: int
    last: int


Reader = Callable[[Consumer, Sequence[Span], int | None, int | None], Iterator[Batch]]
"""`read` or `read_in_line`."""


def spans(
    broker: Broker, topics: Sequence[str], since_ms: int | None = None, until_ms: int | None = None
) -> list[Span]:
    """What is held of every partition, narrowed to two times where the broker can search by time.

    Raises:
        UnknownTopic: a topic does not exist.
        BrokerUnavailable: nobody answers.
    """
    admin, consumer = broker.admin(), broker.consumer(headers=False)
    try:
        known = admin.topics()
        missing = [topic for topic in topics if topic not in known]
        if missing:
            raise UnknownTopic(
                f"the input topic {missing[0]!r} does not exist at {broker.bootstrap}; produce to it first, "
                f"or create it with `tocsin check --connect --create-topics`"
            )
        parts = [(topic, number) for topic in topics for number in range(known[topic].partitions)]
        first, last = consumer.begin_offsets(parts), consumer.end_offsets(parts)
        if broker.capabilities.search_by_time:
            first |= consumer.offsets_for_time(parts, since_ms) if since_ms is not None else {}
            last |= consumer.offsets_for_time(parts, until_ms) if until_ms is not None else {}
    finally:
        consumer.close()
        admin.close()
    return [Span(part, first[part], last[part]) for part in parts if first[part] < last[part]]


def held(spans: Sequence[Span], now: Sequence[Span]) -> bool:
    """Whether all of `spans` lies within what is held `now`."""
    there = {span.part: span for span in now}
    return all(
        span.part in there and there[span.part].first <= span.first and span.last <= there[span.part].last
        for span in spans
    )


def read(
    consumer: Consumer, wanted: Sequence[Span], since_ms: int | None = None, until_ms: int | None = None
) -> Iterator[Batch]:
    """The records of all spans, in batches; each partition in the order of its offsets.

    `since_ms` and `until_ms` leave out records with an earlier or later broker timestamp. Marks of transactions
    and records that are no longer held never show; the consumer's position says that they were passed.

    Raises:
        BrokerUnavailable: nothing came for `PATIENCE_S` although an end was not reached.
    """
    end = {span.part: span.last for span in wanted}
    earliest = -1 if since_ms is None else since_ms
    latest = LATEST_MS if until_ms is None else until_ms
    open_parts = set(end)
    consumer.assign([(*span.part, span.first) for span in wanted])
    quiet_since: float | None = None
    while open_parts:
        batch = consumer.consume(BATCH_RECORDS, WAIT_S)
        if not batch:
            at = consumer.position()
            passed = {part for part in open_parts if at.get(part, -1) >= end[part]}
            open_parts -= passed
            consumer.pause(passed)  # what is appended from now on is not waited for
            now = time.monotonic()
            quiet_since = now if quiet_since is None else quiet_since
            if open_parts and now - quiet_since >= PATIENCE_S:
                raise BrokerUnavailable(_cut_short(wanted, at, open_parts))
            continue
        quiet_since = None
        keep = []
        for row, part in enumerate(zip(batch.topic, batch.partition, strict=True)):
            offset = batch.offset[row]
            if offset < end[part] and earliest <= batch.timestamp_ms[row] < latest:
                keep.append(row)
            if offset >= end[part] - 1 and part in open_parts:
                open_parts.remove(part)
                consumer.pause([part])
        if keep:
            yield batch if len(keep) == batch.size else _rows(batch, keep)


def read_in_line(
    consumer: Consumer, wanted: Sequence[Span], since_ms: int | None = None, until_ms: int | None = None
) -> Iterator[Batch]:
    """The same records as one line, the oldest timestamp first, as if they all lay in one partition.

    So an entity's records come in the order in which they were sent, however they are scattered.

    Raises:
        BrokerUnavailable: nothing came for `PATIENCE_S` although an end was not reached.
    """
    ends = {span.part: span.last for span in wanted}
    earliest = -1 if since_ms is None else since_ms
    latest = LATEST_MS if until_ms is None else until_ms
    line = Merged(consumer, {span.part: span.first for span in wanted}, time.monotonic)
    quiet_since = time.monotonic()
    count = 0
    while not line.is_past(ends):
        messages = line.read(WAIT_S)
        if messages:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since >= PATIENCE_S:
            behind = {part for part, end in ends.items() if line.next_offsets[part] < end}
            raise BrokerUnavailable(_cut_short(wanted, line.next_offsets, behind))
        kept = [
            one for one in messages if one.offset < ends[one.part] and earliest <= one.timestamp_ms < latest
        ]
        if kept:
            topic, partition = wanted[0].part
            yield Batch(
                topic=[topic] * len(kept),
                partition=[partition] * len(kept),
                offset=list(range(count, count + len(kept))),
                timestamp_ms=[one.timestamp_ms for one in kept],
                key=[one.key for one in kept],
                value=[one.value for one in kept],
                headers=None,
            )
            count += len(kept)


def _cut_short(wanted: Sequence[Span], at: Mapping[Part, int], open_parts: set[Part]) -> str:
    listed = ", ".join(
        f"{part[0]}[{part[1]}] is at offset {at.get(part, first)} of {last}"
        for part, first, last in wanted
        if part in open_parts
    )
    return (
        f"Reading stopped short: nothing came for {PATIENCE_S:.0f} s, but {listed}. Check that the brokers which "
        "lead these partitions are up, and run it again."
    )


class Decoding(NamedTuple):
    """How a stream's messages become records: by an alignment where their format is long."""

    format: Format
    how: How
    alignment: Alignment | None = None


class Collector:
    """Batches of messages to records, with the entities of all partitions in one table."""

    def __init__(self, schema: FeatureSchema, how: Decoding) -> None:
        """Raises SettingsError for paths that cannot be read together."""
        self.table = SlotTable()
        self.rejected: Counter[str] = Counter()
        """Messages that could not be used, by reason."""
        self.messages = 0
        self._schema = schema
        self._parts: dict[Part, int] = {}
        self._decoder = how.format.decoder(schema, how.how)
        self._align = _no_points if how.alignment is None else _aligner(schema, how.alignment, self.table)

    def records(self, batches: Iterable[Batch]) -> Iterator[Records]:
        """Decode; messages that cannot be used are counted."""
        for batch in batches:
            self.messages += batch.size
            decoded = self._decoder.decode(self._messages(batch), self.table)
            self.rejected.update(str(rejection.reason) for rejection in decoded.rejected)
            yield decoded.records if isinstance(decoded, Decoded) else self._align(decoded.points)

    def _messages(self, batch: Batch) -> Messages:
        numbers = [
            self._parts.setdefault(part, len(self._parts))
            for part in zip(batch.topic, batch.partition, strict=True)
        ]
        return Messages(
            np.array(numbers, np.int32),
            np.array(batch.offset, np.int64),
            np.array(batch.timestamp_ms, np.int64),
            batch.key,
            batch.value,
        )


def discover(batches: Iterable[Batch], how: Decoding, counters: Sequence[str] = ()) -> FeatureSchema:
    """The features that a sample of messages shows, sorted by name: every number, or every metric.

    Raises:
        DataError: there is none.
    """
    found: set[str] = set()
    for value in _sample(batches):
        with suppress(decoding.Refused):
            found.update(how.format.features(value, how.how))
    if not found:
        raise DataError(
            "the records to learn from show no numbers to watch. Is [stream] format right? [stream] features "
            "can name what to watch"
        )
    return FeatureSchema(tuple(sorted(found)), tuple(counters))


def _sample(batches: Iterable[Batch]) -> Iterator[bytes]:
    seen = 0
    for batch in batches:
        for value in batch.value:
            if seen >= SAMPLE_MESSAGES:
                return
            seen += 1
            if value:
                yield value


def _no_points(points: Points) -> Records:
    raise AssertionError("a long format needs an alignment")


def _aligner(schema: FeatureSchema, given: Alignment, table: SlotTable) -> Callable[[Points], Records]:
    rule = alignment.check(given)
    fresh = alignment.init(1, rule, len(schema))
    state = alignment.init(0, rule, len(schema))

    def align(points: Points) -> Records:
        nonlocal state
        state = slots.grow(state, fresh, table.size)
        return alignment.align(state, points, rule, schema.counter_index).records

    return align


def _rows(batch: Batch, keep: Sequence[int]) -> Batch:
    return Batch._make(None if column is None else [column[row] for row in keep] for column in batch)
