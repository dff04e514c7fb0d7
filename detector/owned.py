"""What the daemon remembers of each input partition that it owns."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from ..errors import StateError
from ..pipelines.brokers.base import Part
from .changelog import Applied, Marker, Pair

TORN_SHARE = 0.01


def too_torn(torn: int, entities: int) -> bool:
    """Whether more entities were seen in several partitions than a stray record explains: above one in a hundred."""
    return torn > TORN_SHARE * entities


def torn_apart(stream: str, torn: int, entities: int) -> StateError:
    """The error that names the fix."""
    return StateError(
        f"stream {stream}: {torn} of {entities} entities were seen in more than one partition, so their state is "
        "torn apart. Set [stream] rekey = true; or produce with the entity as the message key, so that each entity "
        "stays in one partition, and start a stream with a new name."
    )


@dataclass
class Unsent:
    """A snapshot of which not all is handed over: until its marker is, it counts for nothing."""

    pairs: Iterator[Pair]
    marker: Marker
    messages: int
    """How many are still to come, the marker among them."""
    size: int = 0
    """Bytes handed over."""


@dataclass
class Owned:
    """One input partition, from assignment to revocation."""

    part: Part
    index: int
    """Its place in the stream's state."""
    next_offset: int
    """The first offset that the chain has not taken in."""
    committed: int
    """The offset that the group has stored."""
    marker: Marker | None
    """The last snapshot written."""
    pending: deque[Applied] = field(default_factory=deque)
    """Changes that an earlier owner wrote to act at offsets still to come."""
    unsent: Unsent | None = None
    """The snapshot that is under way."""
    bytes_in: int = 0
    """Input since the last snapshot was taken."""
    snapshot_bytes: int = 0
    """Size of the last snapshot, an earlier owner's too."""
    snapshot_at: float = 0.0
    """When one was last taken or restored, by the monotonic clock."""
    snapshot_offset: int = -1
    """The offset that the last snapshot written stands at."""
    topic_id: str = ""
    """What the cluster calls the topic and no other of its name; empty if not known."""
    term: int = 0
    """Which time it is that somebody owns the partition; see `changelog`."""
    superseded: Sequence[bytes] = ()
    """Keys of snapshots of earlier terms, to be struck out with the first one of this."""

    def begin_anew(self, offset: int, topic_id: str) -> None:
        """Go on in another topic of the same name, with what is known: no offset of the one before means anything."""
        self.next_offset = self.committed = offset
        self.topic_id = topic_id
        self.snapshot_at, self.snapshot_offset, self.snapshot_bytes = -math.inf, -1, 0
        self.unsent = None
        in_order = sorted(self.pending, key=lambda one: one.version)
        self.pending = deque(replace(one, first_offset=offset) for one in in_order)

    def snapshot_due(self, now: float, every_s: float, bytes_share: float) -> bool:
        """Whether to write a snapshot: after `every_s`, once `bytes_share` of the input since the last makes up for it.

        So all snapshots but the last are within `bytes_share` of the input's bytes, also across restarts.
        """
        if self.next_offset == self.snapshot_offset or now - self.snapshot_at < every_s:
            return False
        return self.snapshot_bytes <= bytes_share * self.bytes_in
