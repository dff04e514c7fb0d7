"""What the daemon remembers of each input partition that it owns."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ..pipelines.brokers.base import Part
from .changelog import Applied, Marker

TORN_SHARE = 0.01
TORN_LEAST = 5


def too_torn(torn: int, entities: int) -> bool:
    """Whether more entities were seen in several partitions than a stray record explains."""
    return torn > max(TORN_LEAST, TORN_SHARE * entities)


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
    bytes_in: int = 0
    """Input since the last snapshot."""
    snapshot_bytes: int = 0
    """Size of the last snapshot."""
    snapshot_at: float = 0.0
    """When it was made, by the monotonic clock."""
    snapshot_offset: int = -1
    """The offset that it stands at."""

    def snapshot_due(self, now: float, every_s: float, share: float) -> bool:
        """Whether to write a snapshot: after `every_s`, if it then stays within `share` of the input's bytes."""
        if self.next_offset == self.snapshot_offset or now - self.snapshot_at < every_s:
            return False
        return self.snapshot_bytes <= share * self.bytes_in
