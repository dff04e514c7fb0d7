"""Taking a partition over: its snapshot, then a silent replay to the committed offset, through every written change."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import NamedTuple

from ..errors import StateError
from ..pipelines.brokers.base import Batch, Consumer, Part
from .acting import act
from .chain import Chain
from .flights import BATCH
from .outcome import Outcome
from .owned import Owned
from .reading import Read, Reader
from .restore import Recovered, between
from .rulings import Rulings

log = logging.getLogger(__name__)


class Recovery(NamedTuple):
    """What a partition is recovered with."""

    chain: Chain
    reader: Reader
    rulings: Rulings
    stream: str
    side: Consumer
    """A consumer outside the group, for the silent replay."""
    starts: Callable[[Part], int]
    """Where a partition begins of which nothing is known."""
    beat: Callable[[], None]
    """Called while it goes on; what it raises ends the replay."""
    worker: Executor
    """Takes records through the chain while the next are read."""

    def make_room(self, entities: Sequence[int]) -> None:
        """Room for the entities of partitions that are to be recovered, at once: arrays that grow are copied."""
        most = self.chain.state.limits.entities
        self.chain.state.reserve(sum(min(count, most) for count in entities))

    def recover(
        self, part: Part, found: Recovered, committed: int | None, *, anew: bool = False
    ) -> tuple[Owned, int]:
        """Bring a partition to the offset at which it goes on; returns it and the records replayed.

        With `anew` what was found is not of this log, or of an end that it lost: no change is past by its offset.

        Raises:
            StateError: the snapshot does not fit, or was made under changes that the control topic does not hold.
        """
        index = self.chain.state.part(*part)
        if found.snapshot is None:
            begin = self.starts(part) if committed is None else committed
            self.chain.state.drop(index)
            self.chain.state.rulings[index] = self.rulings.ruling()
            return Owned(part, index, begin, begin, None), 0
        version = int(found.snapshot.note["change"])
        if version > self.rulings.newest:
            raise StateError(
                f"The state of {part[0]}/{part[1]} was made under change {version} of the control topic, which ends at "
                f"{self.rulings.newest}. Was that topic deleted? Start a stream with a new name, or restore the topic."
            )
        ruling = self.rulings.ruling(version)
        if given_way := self.chain.restore(index, found.snapshot, ruling):
            log.warning(
                "more entities were held than [state] max_entities allows now",
                extra={"part": f"{part[0]}/{part[1]}", "evicted": given_way},
            )
        begin = found.snapshot.next_offset
        target = begin if committed is None else max(committed, begin)
        owned = Owned(part, index, begin, committed or begin, found.marker, deque(found.applied))
        owned.snapshot_offset, owned.snapshot_bytes = begin, found.snapshot_bytes
        if ruling.model.name != found.snapshot.note["model"]:
            log.warning(
                "a model that could not be loaded before acts now", extra={"model": ruling.model.name}
            )
            self.chain.promote(index, ruling)
        replayed = self._replay(owned, target)
        if not anew:
            self._act_due(owned, target - 1)
        # What acts at the very offset where it goes on stays pending where its alerts may not have been sent.
        while owned.pending and owned.pending[0].told and (anew or owned.pending[0].first_offset == target):
            self._act_next(owned)
        owned.next_offset = target
        return owned, replayed

    def _replay(self, owned: Owned, target: int) -> int:
        replayed, lane = 0, _Lane(self.chain, self.worker)
        try:
            for batch in between(self.side, owned.part, owned.next_offset, target, self.beat):
                if batch.offset[0] > owned.next_offset and replayed == 0:
                    log.error(
                        "input was deleted that the state had not seen; it goes on without",
                        extra={
                            "part": f"{owned.part[0]}/{owned.part[1]}",
                            "from": owned.next_offset,
                            "to": batch.offset[0],
                        },
                    )
                first = 0
                for row, offset in enumerate(batch.offset):
                    if not owned.pending:
                        break
                    if offset >= owned.pending[0].first_offset:
                        self._process(owned, batch.rows(first, row), lane)
                        lane.wait()
                        first = row
                        self._act_due(owned, offset)
                self._process(owned, batch.rows(first, batch.size), lane)
                replayed += batch.size
        finally:
            self.side.assign([])  # left alone with a partition it fetches ahead until it holds some 60 MB
            lane.wait()
        return replayed

    def _process(self, owned: Owned, batch: Batch, lane: _Lane) -> None:
        if batch:
            if len(self.chain.state.idle) >= BATCH:
                lane.wait()  # lest a record on its way bear a slot that is another's by then
                self.chain.state.release()
            read = self.reader.read(batch)
            owned.bytes_in += read.sizes.get(owned.part, 0)
            if read.rows:
                lane.start(read)

    def _act_due(self, owned: Owned, offset: int) -> None:
        while owned.pending and owned.pending[0].first_offset <= offset:
            self._act_next(owned)

    def _act_next(self, owned: Owned) -> None:
        applied = owned.pending.popleft()
        if applied.version > self.chain.state.rulings[owned.index].change:
            act(self.chain, self.rulings, self.stream, owned.index, applied.version, applied.first_offset)


class _Lane:
    """One batch at a time on its way through the chain, in the worker's thread."""

    def __init__(self, chain: Chain, worker: Executor) -> None:
        self._chain, self._worker = chain, worker
        self._under_way: Future[Outcome] | None = None

    def start(self, read: Read) -> None:
        self.wait()
        self._under_way = self._worker.submit(self._chain.process, read.records, read.admitted)

    def wait(self) -> None:
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            under_way.result()
