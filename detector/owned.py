"""What the daemon remembers of each input partition that it owns."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ..errors import StateError
from ..pipelines.brokers.base import Part
from .changelog import Applied, Marker

TORN_SHARE = 0.01


def too_torn(torn: int, entities: int) -> bool:
    """Whether more entities were seen in several partitions than a stray record explains: above one in a hundred."""
    return torn > TORN_SHARE * entities


def check_torn(stream: str, torn: int, entities: int) -> None:
    """Refuse to go on where too many are.

    Raises:
        StateError: names the fix.
    """
    if too_torn(torn, entities):
        raise StateError(
            f"stream {stream}: {torn} of {entities} entities were seen in more than one partition, so their state is "
            "torn apart. Set [stream] rekey = true; or produce with the entity as the message key, so that each entity "
            "stays in one partition, and start a stream with a new name."
        )


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
    """Size of the last snapshot, an earlier owner's too."""
    snapshot_at: float = 0.0
    """When it was made or restored, by the monotonic clock."""
    snapshot_offset: int = -1
    """The offset that it stands at."""

    def snapshot_due(self, now: float, every_s: float, share: float) -> bool:
        """Whether to write a snapshot: after `every_s`, once `share` of the input since the last one makes up for it.

        So all snapshots but the last are within `share` of the input's bytes, also across restarts.
        """
        if self.next_offset == self.snapshot_offset or now - self.snapshot_at < every_s:
            return False
        return self.snapshot_bytes <= share * self.bytes_in
