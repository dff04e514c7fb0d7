"""A partition's state out of the changelog, and the silent replay that brings it to the committed offset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..pipelines.brokers.base import Batch, Broker, Consumer, Part
from .changelog import Applied, Marker, Snapshot
from .changelog_fold import Restored, Restorer
from .control import read_to_end
from .wire import corrupt

STABLE_S = 60.0
"""Brokers abort what a crashed producer left open after its time limit, and look for such every ten seconds."""


class Recovered(NamedTuple):
    """Where a partition stands when it is taken over, and what its changelog said."""

    snapshot: Snapshot | None
    marker: Marker | None
    applied: list[Applied]
    """Changes that act at or after the snapshot's offset, in order."""
    snapshot_bytes: int

    def of_another(self, topic_id: str) -> bool:
        """Whether the snapshot is known to be of another topic of the same name than the one that bears this id."""
        before = "" if self.snapshot is None else self.snapshot.note.get("topic_id", "")
        return bool(before and topic_id) and before != topic_id


def read_changelog(broker: Broker, topic: str, parts: list[Part], beat: Callable[[], None]) -> Restorer:
    """The changelog of input partitions, read to its ends as they are now. `beat` is called meanwhile.

    The ends are those of all that was appended: brokers say that a transaction is committed before its records can be
    read, and what an earlier owner committed has to be waited for.

    Raises:
        StateError: a value is corrupt or of a newer format.
    """
    consumer, whole = broker.consumer(headers=False), broker.consumer(uncommitted=True)
    try:
        restorer = Restorer()
        mine = {(topic, partition) for _, partition in parts}
        for batch in read_to_end(consumer, mine, stall_s=STABLE_S, ends=whole.end_offsets(mine)):
            beat()
            for key, value, offset in zip(batch.key, batch.value, batch.offset, strict=True):
                restorer.feed(key, value, offset)
        return restorer
    finally:
        consumer.close()
        whole.close()


def recovered(restored: Restored) -> Recovered:
    """What is left to do of a partition's changelog: its newest snapshot, and the changes after it.

    Raises:
        StateError: the snapshot does not say under which change and model it was made.
    """
    snapshot = restored.snapshot
    after, model = (-1, "") if snapshot is None else map(snapshot.note.get, ("change", "model"))
    if type(after) is not int or not isinstance(model, str):
        raise corrupt("the newest snapshot", "it does not say under which change and model it was made")
    left = [a for a in restored.applied if a.version > after]
    return Recovered(snapshot, restored.marker, left, restored.size)


def between(
    consumer: Consumer, part: Part, begin: int, end: int, beat: Callable[[], None]
) -> Iterator[Batch]:
    """The records of a partition from `begin` up to before `end`. `beat` is called while it goes on.

    Fewer where the log does not reach so far any more. The consumer is one of its own, outside any group.
    """
    consumer.assign([(*part, begin)])
    while consumer.position().get(part, begin) < end:
        beat()
        batch = consumer.consume(4096, 0.5)
        if not batch:
            if consumer.begin_offsets([part])[part] >= end or consumer.end_offsets([part])[part] < end:
                return
            continue
        if batch.offset[-1] >= end:
            keep = sum(offset < end for offset in batch.offset)
            yield batch.rows(0, keep)
            return
        yield batch
