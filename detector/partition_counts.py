"""The partition counts that a stream's state was made for: written at a first start, compared at every later one.

With another count the same entity may hash to another partition, where nothing is known of it, while what was known
of it lies in the old one. So a daemon refuses, and `tocsin check --accept-partitions` forgets the state of the topics
that have changed: their entities begin anew from the version's calibration, at the offsets that were committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..errors import StateError
from ..pipelines.brokers.base import Broker, Part
from .changelog import Layout, Pair, encode_layout
from .changelog_fold import Restorer, forget
from .control import read_to_end
from .owned import too_torn
from .settings import Stream
from .topics import Finding

FLUSH_S = 30.0


class Difference(NamedTuple):
    """A topic that has another number of partitions than its state was made for."""

    topic: str
    before: int
    now: int


def settle(broker: Broker, stream: Stream) -> dict[str, int]:
    """Write the partition counts of topics that have none written yet; refuse where one has changed.

    Returns the counts by input topic.

    Raises:
        StateError: a count has changed since the state was made; the text names the command that accepts it.
    """
    known = _known(broker, {(stream.changelog, 0)}).layouts
    counts = same(broker, stream, _counts(known))
    fresh = [Layout(topic=topic, partitions=counts[topic]) for topic in counts if topic not in known]
    _write(broker, stream.changelog, [(0, encode_layout(layout)) for layout in fresh])
    return counts


def same(broker: Broker, stream: Stream, known: Mapping[str, int]) -> dict[str, int]:
    """The partition counts of the input topics, where they are those that are known.

    Raises:
        StateError: a count has changed since the state was made; the text names the command that accepts it.
    """
    counts = partitions(broker, stream)
    if changed := differences(known, counts):
        listed = ", ".join(f"{one.topic} had {one.before} and has {one.now}" for one in changed)
        raise StateError(
            f"stream {stream.name}: the number of partitions has changed: {listed}. Entities may now come in other "
            "partitions than those that hold their state. Stop all daemons of the stream and run `tocsin check "
            "--accept-partitions`: their state is forgotten, they begin anew from the model's calibration, and no "
            "record is skipped."
        )
    return counts


def accept(broker: Broker, stream: Stream) -> list[Difference]:
    """Forget the state of topics whose partition count has changed, and write the counts of now.

    The changelog gets more partitions where the input has more. Daemons of the stream must not run.

    Raises:
        BrokerError: the broker cannot give the changelog more partitions.
        StateError: the changelog is corrupt.
    """
    counts = partitions(broker, stream)
    admin = broker.admin()
    try:
        held = admin.topics()[stream.changelog].partitions
        if held < max(counts.values()):
            admin.grow(stream.changelog, max(counts.values()))
    finally:
        admin.close()
    restorer = _known(broker, {(stream.changelog, number) for number in range(held)})
    changed = differences(_counts(restorer.layouts), counts)
    topics = {one.topic for one in changed}
    pairs: list[tuple[int, Pair]] = []
    for topic, partition in restorer.parts():
        if topic in topics:
            gone = forget(topic, partition, restorer.restored(topic, partition))
            pairs += [(partition, pair) for pair in gone]
    # The counts last: a reset that breaks off half-way leaves the daemon refusing.
    _write(broker, stream.changelog, pairs)
    _write(
        broker,
        stream.changelog,
        [(0, encode_layout(Layout(topic=one.topic, partitions=one.now))) for one in changed],
    )
    _begin_at_the_beginning(broker, stream, changed)
    return changed


def look(broker: Broker, stream: Stream) -> list[Finding]:
    """What the changelog says against a start: changed partition counts, entities torn between partitions.

    Raises:
        StateError: the changelog is corrupt.
    """
    counts = partitions(broker, stream)
    admin = broker.admin()
    try:
        held = admin.topics()[stream.changelog].partitions
    finally:
        admin.close()
    restorer = _known(broker, {(stream.changelog, number) for number in range(held)})
    found = [
        Finding(
            stream.name,
            f"input topic {one.topic}",
            f"has {one.now} partitions where its state was made for {one.before}",
            "stop all daemons of the stream and run `tocsin check --accept-partitions`, which forgets that state",
        )
        for one in differences(_counts(restorer.layouts), counts)
    ]
    seen: dict[str, int] = {}
    for part in (one for one in restorer.parts() if one[0] in stream.scored):
        snapshot = restorer.restored(*part).snapshot
        for entity in snapshot.entities if snapshot else ():
            seen[entity] = seen.get(entity, 0) + 1
    torn = sum(times > 1 for times in seen.values())
    if too_torn(torn, len(seen)):
        problem = (
            f"holds {torn} of {len(seen)} entities in more than one partition, so their state is torn apart"
        )
        fix = (
            "set [stream] rekey = true, or produce with the entity as the message key and start a stream with a new "
            "name"
        )
        found.append(Finding(stream.name, f"changelog topic {stream.changelog}", problem, fix))
    return found


def partitions(broker: Broker, stream: Stream) -> dict[str, int]:
    """How many partitions each input topic has now; one that is gone has none."""
    admin = broker.admin()
    try:
        found = admin.topics()
        return {topic: found[topic].partitions for topic in stream.scored if topic in found}
    finally:
        admin.close()


def differences(known: Mapping[str, int], counts: Mapping[str, int]) -> list[Difference]:
    """The topics whose count is not what was known."""
    return [
        Difference(topic, known[topic], count)
        for topic, count in counts.items()
        if known.get(topic, count) != count
    ]


def _counts(layouts: Mapping[str, Layout]) -> dict[str, int]:
    return {topic: one.partitions for topic, one in layouts.items()}


def _begin_at_the_beginning(broker: Broker, stream: Stream, changed: list[Difference]) -> None:
    """New partitions of a known group begin with their first record, whatever a new group would do."""
    parts = [(one.topic, number) for one in changed for number in range(one.before, one.now)]
    consumer = broker.consumer(stream.group_id)
    try:
        stored = consumer.committed(parts)
        begins = consumer.begin_offsets(parts)
        consumer.commit({part: begins[part] for part in parts if stored[part] is None})
    finally:
        consumer.close()


def _known(broker: Broker, parts: set[Part]) -> Restorer:
    restorer = Restorer()
    consumer = broker.consumer(headers=False)
    try:
        for batch in read_to_end(consumer, parts):
            for key, value in zip(batch.key, batch.value, strict=True):
                restorer.feed(key, value)
    finally:
        consumer.close()
    return restorer


def _write(broker: Broker, changelog: str, pairs: list[tuple[int, Pair]]) -> None:
    if not pairs:
        return
    producer = broker.producer()
    try:
        for partition, (key, value) in pairs:
            producer.produce(changelog, value, key, partition=partition)
        producer.flush(FLUSH_S)
    finally:
        producer.close()
