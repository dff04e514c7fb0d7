"""Entities as slots in arrays: the table of names, and what every per-slot state shares.

A state is a NamedTuple of arrays whose axis 0 is the slot. `fresh` is a state with exactly one row: how a
slot that nobody has used begins. A slot belongs to one (topic, partition), here `part`; dropping a part frees
its slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..thresholds.beside import longer

State = TypeVar("State", bound=NamedTuple)
NO_SLOT = -1


def capacity(state: NamedTuple) -> int:
    """The number of slots that the arrays of `state` hold."""
    return len(cast(tuple[NDArray[Any], ...], state)[0])


def grow(state: State, fresh: State, slots: int) -> State:
    """`state` with room for `slots` slots; new rows are copies of `fresh`. It never shrinks."""
    if slots <= capacity(state):
        return state
    grown = state._make(longer(cast(tuple[NDArray[Any], ...], state), slots))
    for column, row in zip(grown, fresh, strict=True):
        if any(row.tobytes()):
            column[capacity(state) :] = row
    return grown


def take(state: State, slots: NDArray[np.int32]) -> State:
    """Copies of the rows of `slots`, in that order."""
    return state._make(column[slots] for column in cast(tuple[NDArray[Any], ...], state))


def put(state: State, slots: NDArray[np.int32], rows: State) -> None:
    """Write `rows` over the rows of `slots`, in place."""
    for column, row in zip(cast(tuple[NDArray[Any], ...], state), rows, strict=True):
        column[slots] = row


def reset(state: State, slots: NDArray[np.int32], fresh: State) -> None:
    """Let `slots` begin anew, in place."""
    put(state, slots, fresh)


class SlotTable:
    """Names to slots. One dictionary entry per entity; nothing else is kept as a Python object."""

    def __init__(self) -> None:
        self.torn = 0
        """Names that were met in a part while another part held them: their state is torn."""
        self._slots: dict[int, dict[str, int]] = {}
        self._names: list[str] = []
        self._part: list[int] = []
        self._free: list[int] = []
        self._new: list[int] = []
        self._torn: set[int] = set()

    def __len__(self) -> int:
        """Entities that hold a slot."""
        return len(self._names) - len(self._free)

    @property
    def size(self) -> int:
        """One more than the highest slot ever given out: the capacity that states need."""
        return len(self._names)

    def lookup(self, part: int) -> dict[str, int]:
        """The part's dictionary from name to slot, for hot loops. Read it, never write it."""
        return self._slots.setdefault(part, {})

    def intern(self, part: int, name: str) -> int:
        """The slot of (part, name), given out now if it is new."""
        mine = self._slots.setdefault(part, {})
        slot = mine.get(name)
        return self._give(part, name, mine) if slot is None else slot

    def intern_all(self, part: int, names: Sequence[str]) -> NDArray[np.int32]:
        """The slots of many names of one part, given out now where they are new."""
        mine = self._slots.setdefault(part, {})
        slots = (mine[name] if name in mine else self._give(part, name, mine) for name in names)
        return np.fromiter(slots, np.int32, len(names))

    def _give(self, part: int, name: str, mine: dict[str, int]) -> int:
        if self._free:
            slot = self._free.pop()
            self._names[slot], self._part[slot] = name, part
        else:
            slot = len(self._names)
            self._names.append(name)
            self._part.append(part)
        for held in self._slots.values():
            if name in held:  # not yet in `mine`
                self.torn += 1
                self._torn.add(slot)
                break
        mine[name] = slot
        self._new.append(slot)
        return slot

    def take_new(self) -> NDArray[np.int32]:
        """The slots given out since the last call, new or used again: reset and fill their rows."""
        new = np.array(list(dict.fromkeys(self._new)), np.int32)
        self._new.clear()
        return new

    def name(self, slot: int) -> str:
        """The entity that holds `slot`."""
        return self._names[slot]

    def names(self, slots: Iterable[int]) -> list[str]:
        """The entities that hold `slots`, in that order."""
        return list(map(self._names.__getitem__, slots))

    def parts_of(self, slots: Iterable[int]) -> list[int]:
        """The parts that `slots` belong to, in that order."""
        return list(map(self._part.__getitem__, slots))

    def part(self, slot: int) -> int:
        """The part that `slot` belongs to."""
        return self._part[slot]

    def slots_of(self, part: int) -> NDArray[np.int32]:
        """The slots of a part, ascending."""
        held = self._slots.get(part, {})
        return np.sort(np.fromiter(held.values(), np.int32, len(held)))

    def parts(self) -> list[int]:
        """The parts that hold at least one slot, ascending."""
        return sorted(part for part, names in self._slots.items() if names)

    def release(self, slots: Iterable[int]) -> None:
        """Free single slots (an entity that is gone). A name that was met as torn is counted no more."""
        for slot in map(int, slots):
            self.torn -= slot in self._torn
            del self._slots[self._part[slot]][self._names[slot]]
            self._forget(slot)

    def drop(self, part: int) -> NDArray[np.int32]:
        """Free all slots of a part and return them, ascending."""
        slots = self.slots_of(part)
        self._slots.pop(part, None)
        for slot in slots[::-1].tolist():
            self._forget(slot)
        return slots

    def _forget(self, slot: int) -> None:
        self._names[slot], self._part[slot] = "", -1
        self._torn.discard(slot)
        self._free.append(slot)
