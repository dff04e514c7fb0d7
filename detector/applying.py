"""Changes as a running stream applies them: written to the changelog first, then in force from that very offset.

In a transaction what they close goes out with the word that they act, or neither does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .acting import act
from .announcing import Names, closures
from .chain import Chain
from .changelog import Applied, encode_applied
from .checkpoints import SETTLE_S
from .ledger import Ledger
from .outbox import Outbox
from .owned import Owned
from .rulings import Rulings


@dataclass
class Applier:
    """Lets changes act. Belongs to the loop's thread; nothing may be under way in the chain."""

    chain: Chain
    rulings: Rulings
    outbox: Outbox
    ledger: Ledger
    names: Names
    wall: Callable[[], float]
    late_after_us: int
    config_hash: str
    waiting: list[tuple[Owned, int]] = field(default_factory=list)
    """Versions that were written for a partition's next record and are not known to be acknowledged."""

    def behind(self, owned: Iterable[Owned]) -> list[Owned]:
        """The partitions that have not seen the newest change, and wait for no offset of an earlier one."""
        rulings = self.chain.state.rulings
        return [one for one in owned if not one.pending and rulings[one.index].change < self.rulings.newest]

    def act(self, owned: Sequence[Owned]) -> bool:
        """Let every new change act in these partitions from their next record on.

        False where the broker does not acknowledge now that they will. What was written may be on the topic all the
        same, and then a restart acts at that offset; so no record may enter the chain before the next call says True,
        which waits for the same messages and writes none again.
        """
        if not self.waiting:
            self.waiting = [(one, version) for one in owned for version in self._new(one)]
            for one, version in self.waiting:
                self.write(one, version)
        if not self.outbox.transactional and not self.outbox.settle(SETTLE_S):
            return False
        for one, version in self.waiting:
            self._act(one, version, one.next_offset)
        self.waiting = []
        return True

    def act_pending(self, owned: Owned, offset: int) -> None:
        """Let the changes act that an earlier owner wrote down for up to `offset`."""
        while owned.pending and owned.pending[0].first_offset <= offset:
            applied = owned.pending.popleft()
            if applied.version > self.chain.state.rulings[owned.index].change:
                self._act(owned, applied.version, applied.first_offset)

    def write(self, owned: Owned, version: int) -> None:
        """Write to the changelog that a change acts from the partition's next record on."""
        applied = Applied(
            partition=owned.part[1],
            first_offset=owned.next_offset,
            version=version,
            config_hash=self.config_hash,
            writer=self.outbox.writer,
            told=self.outbox.transactional,
        )
        self.outbox.record(owned.part, encode_applied(owned.part[0], applied))

    def _new(self, owned: Owned) -> list[int]:
        now = self.chain.state.rulings[owned.index].change
        return [version for version in self.rulings.known() if version > now]

    def _act(self, owned: Owned, version: int, offset: int) -> None:
        events = act(self.chain, self.rulings, self.names.stream, owned.index, version, offset)
        now = self.wall()
        label = self.chain.state.rulings[owned.index].label
        said = closures(events, self.names, label, int(now * 1e6), self.late_after_us)
        self.ledger.alerts(self.outbox.say(said, lambda _: now))
