"""Which alerts were handed out, which are done, and how far the group's offsets may therefore move. No I/O.

A message is open from when its alert is handed out until that is acknowledged; a copy of an open alert is open
with it. Offsets move up to the oldest open message of each partition, and never past it. What is known of a
partition goes with it: who owns it next is handed what was open.

Every method may be called from any thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

import msgspec

from ..pipelines.brokers.base import Part


class _Progress(msgspec.Struct):
    """One owned partition."""

    next_offset: int
    committed: int | None
    open: OrderedDict[int, str]
    """Offset to key, oldest first."""


class Acknowledgements:
    """The messages of the owned partitions, by what makes two of them the same (their key).

    `remember` bounds the memory: so many keys that are done are recognised when they come again, the
    latest ones. Open keys are all known, so whoever hands out has to bound them (`open`).
    """

    def __init__(self, remember: int) -> None:
        self._remember = remember
        self._lock = threading.Lock()
        self._parts: dict[Part, _Progress] = {}
        self._open: dict[str, set[tuple[Part, int]]] = {}
        self._done: OrderedDict[str, None] = OrderedDict()

    @property
    def open(self) -> int:
        """How many keys were handed out and are not acknowledged."""
        return len(self._open)

    def begin(self, part: Part, next_offset: int, committed: int | None) -> None:
        """A partition is owned from here on, read from `next_offset`."""
        with self._lock:
            self._parts[part] = _Progress(next_offset, committed, OrderedDict())

    def drop(self, parts: Iterable[Part]) -> None:
        """Partitions have gone to another member, which is handed what is open in them."""
        with self._lock:
            for part in parts:
                if part in self._parts:
                    self._release(part)
                    del self._parts[part]

    def anchored(self, part: Part) -> bool:
        """Whether the group has an offset there, so that a crash comes back to what was handed out."""
        with self._lock:
            return self._parts[part].committed is not None

    def offer(self, part: Part, offset: int, key: str) -> bool:
        """A message was read. Whether it is to be handed out (and is open now); False for a repeat."""
        with self._lock:
            progress = self._reached(part, offset)
            if key in self._done:
                self._done.move_to_end(key)
                return False
            known = key in self._open
            self._open.setdefault(key, set()).add((part, offset))
            progress.open[offset] = key
            return not known

    def passed(self, part: Part, offset: int) -> None:
        """A message was read that nobody has to acknowledge."""
        with self._lock:
            self._reached(part, offset)

    def acknowledge(self, key: str) -> bool:
        """The key is done, here and wherever it comes again. Whether it was open."""
        with self._lock:
            places = self._open.pop(key, None)
            for part, offset in places or ():
                del self._parts[part].open[offset]
            self._done[key] = None
            self._done.move_to_end(key)
            if len(self._done) > self._remember:
                self._done.popitem(last=False)
            return places is not None

    def due(self) -> dict[Part, int]:
        """The next offsets that may be committed and are not yet."""
        with self._lock:
            reach = {part: next(iter(one.open), one.next_offset) for part, one in self._parts.items()}
            return {part: at for part, at in reach.items() if at != self._parts[part].committed}

    def committed(self, offsets: Mapping[Part, int]) -> None:
        """These are the group's offsets now."""
        with self._lock:
            for part, at in offsets.items():
                if part in self._parts:
                    self._parts[part].committed = at

    def _reached(self, part: Part, offset: int) -> _Progress:
        progress = self._parts[part]
        if offset < progress.next_offset:  # the topic was made anew: what was open in it is no more
            self._release(part)
        progress.next_offset = offset + 1
        return progress

    def _release(self, part: Part) -> None:
        """Forget what is open in a partition, and the keys that are open nowhere else."""
        progress = self._parts[part]
        for offset, key in progress.open.items():
            self._open[key].discard((part, offset))
            if not self._open[key]:
                del self._open[key]
        progress.open.clear()
