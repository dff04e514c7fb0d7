"""The state of a stream: every array that belongs to an entity or to a partition, and how it comes and goes.

An entity is a slot in arrays that grow; a partition owns its slots. What a slot begins with is decided here
(`admit`), as are the three ways in which a whole partition changes: a new ruling, a snapshot taken or restored,
and being dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import StateError
from ..pipelines import admission, location, windows
from ..pipelines import alignment as aligning
from ..pipelines.admission import NO_LIMITS, Admission, Limits, Recency
from ..pipelines.alignment import Alignment
from ..pipelines.brokers.base import Part
from ..pipelines.schema import FeatureSchema
from ..pipelines.slots import SlotTable, capacity, grow, put, reset, take
from ..thresholds import calibration, drift, trace
from ..thresholds import state as decisions
from ..thresholds.constants import PRIOR_WEIGHT, Learning
from .changelog import BLOCK, Snapshot
from .ruling import Ruling
from .snapshot_rows import Taken, plain, typed

FORMAT = 3
"""1 had nothing of `thresholds.cusum`, of how records come, nor of what is expected; 2 nothing of when entities were
seen (`pipelines.admission`), and wider fields."""
_FIRST_SLOTS = 64


class Assigned(NamedTuple):
    """What the model version in force says of each slot."""

    owner: NDArray[np.int32]
    """[N] the part that holds the slot, -1 for a free one."""
    row: NDArray[np.int32]
    """[N] the entity's row in the arrays of its part's model version."""


def _assigned(slots: int) -> Assigned:
    return Assigned(np.full(slots, -1, np.int32), np.zeros(slots, np.int32))


class StreamState:
    """Slots, partitions and their arrays. Owned by the thread that runs the chain; only `table` is also interned
    into by the thread that decodes.

    The table gives a slot to every name that is decoded. Whether an entity holds it, `assigned.owner` says: who is let
    in, and who gives way, is decided by the chain alone, when it comes to the record (`gate`).
    """

    def __init__(
        self,
        schema: FeatureSchema,
        window: int,
        members: int,
        alignment: Alignment | None = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.schema = schema
        self.limits = limits
        self.table = SlotTable()
        self.idle: set[int] = set()
        """Slots that are given out and that no entity holds. Records decoded already may bear them."""
        self.parts: list[Part] = []
        self.rulings: dict[int, Ruling] = {}
        counters = len(schema.counters)
        self._fresh: dict[str, Any] = {
            "window": windows.init(1, window, len(schema.names), counters),
            "location": location.init(1, len(schema.names)),
            "decision": decisions.init(1, members),
            "assigned": _assigned(1),
            "recency": admission.init(1),
        }
        if alignment is not None:
            self._fresh["aligning"] = aligning.init(1, alignment, len(schema.names))
        self._slots: dict[str, Any] = {
            name: grow(fresh, fresh, _FIRST_SLOTS) for name, fresh in self._fresh.items()
        }
        self.trace = trace.init(_FIRST_SLOTS)
        """The last scores, [N, …], written by who runs the chain. It is no part of a snapshot."""
        self._fresh_part: dict[str, Any] = {
            "progress": decisions.init_parts(1),
            "drift": drift.init(1),
            "admission": admission.init_parts(1),
        }
        self._part: dict[str, Any] = {
            name: take(fresh, np.zeros(0, np.int32)) for name, fresh in self._fresh_part.items()
        }

    @property
    def window(self) -> windows.WindowState:
        """Ring buffers, [N, …]."""
        return cast(windows.WindowState, self._slots["window"])

    @property
    def location(self) -> location.LocationState:
        """Location and scale, [N, …]."""
        return cast(location.LocationState, self._slots["location"])

    @property
    def decision(self) -> decisions.DecisionState:
        """Smoothing, calibration and incidents, [N, …]."""
        return cast(decisions.DecisionState, self._slots["decision"])

    @property
    def assigned(self) -> Assigned:
        """What the model says of each slot, [N]."""
        return cast(Assigned, self._slots["assigned"])

    @property
    def aligning(self) -> aligning.AlignState:
        """Open periods of the long format, [N, …]."""
        return cast(aligning.AlignState, self._slots["aligning"])

    @property
    def recency(self) -> Recency:
        """When entities were seen, [N]."""
        return cast(Recency, self._slots["recency"])

    @property
    def progress(self) -> decisions.PartState:
        """Watermarks and open drift blocks, [P, …]."""
        return cast(decisions.PartState, self._part["progress"])

    @property
    def drift(self) -> drift.DriftState:
        """Block means since the last drift decision, [P, …]."""
        return cast(drift.DriftState, self._part["drift"])

    @property
    def admission(self) -> Admission:
        """How many entities are held, and what decides who gives way, [P]."""
        return cast(Admission, self._part["admission"])

    def part(self, topic: str, partition: int) -> int:
        """The index of (topic, partition), made at the first call. Indices are never used for another."""
        name = (topic, partition)
        if name not in self.parts:
            self.parts.append(name)
            self._part = {
                key: grow(state, self._fresh_part[key], len(self.parts)) for key, state in self._part.items()
            }
        return self.parts.index(name)

    def reserve(self, more: int = 0) -> None:
        """Make room for every slot that has been given out, and so many more entities, who take free ones first."""
        needed = max(self.table.size, len(self.table) + more)
        held = capacity(self.window)
        if needed > held:
            room = max(needed, held + held // 2)
            self._slots = {name: grow(state, self._fresh[name], room) for name, state in self._slots.items()}
            self.trace = grow(self.trace, trace.init(1), room)

    def admit(self, new: NDArray[np.int32]) -> None:
        """Let the entities hold their slots from now on: from the version where it knows them, else from their group.

        Of an entity that held its slot before nothing is left.
        """
        self.reserve()
        if len(new) == 0:
            return
        self.idle.difference_update(new.tolist())
        for name, state in self._slots.items():
            reset(state, new, self._fresh[name])
        reset(self.trace, new, trace.init(1))
        owner = np.array(self.table.parts_of(new.tolist()), np.int32)
        self.assigned.owner[new] = owner
        for part in np.unique(owner).tolist():
            self.install(self.rulings[part], new[owner == part])

    def install(self, ruling: Ruling, slots: NDArray[np.int32]) -> None:
        """Give slots all that the ruling's model and calibration say of them; smoothing starts at "ordinary"."""
        version = ruling.model.version
        names = self.table.names(slots.tolist())
        rows, own = _rows(version.entities, names), _rows(ruling.rows, names)
        known = rows < len(version.entities)
        pooled = own == len(ruling.rows)
        wide = ruling.model.location[rows]
        location.install(self.location, slots, wide, learning=~known)
        self.assigned.row[slots] = rows
        for mine, learning, weight in (
            (known, Learning.CALIBRATED, 0.0),
            (~known & ~pooled, Learning.LOCATION, 0.0),
            (~known & pooled, Learning.LOCATION, PRIOR_WEIGHT),
        ):
            if mine.any():
                calibration.install(
                    self.decision,
                    slots[mine],
                    ruling.calibration,
                    own[mine],
                    epoch=self.decision.core["epoch"][slots[mine]] + 1,
                    share=ruling.share,
                    learning=learning,
                    weight=weight,
                )
        decisions.restart(self.decision, slots)

    def recalibrate(self, before: Ruling, after: Ruling, slots: NDArray[np.int32]) -> None:
        """Let another calibration of the same model, or another budget, act in slots.

        A new epoch opens where an entity's row is another than before, from that row; where it has none any more,
        from the prior. All others keep what they have learned, and a new budget acts at their next refresh.
        """
        self.decision.core["share"][slots] = after.share
        if before.recalibrated is after.recalibrated:
            return
        names = self.table.names(slots.tolist())
        altered = np.flatnonzero(before.origins(names) != after.origins(names))
        prior = len(after.rows)
        rows = np.array([after.rows.get(names[i], prior) for i in altered.tolist()], np.int64)
        for mine, weight in ((rows < prior, 0.0), (rows == prior, PRIOR_WEIGHT)):
            if mine.any():
                calibration.reopen(
                    self.decision, slots[altered[mine]], after.calibration, rows[mine], weight=weight
                )

    def slots_of(self, part: int) -> NDArray[np.int32]:
        """The slots that the entities of a part hold, ascending."""
        return np.flatnonzero(self.assigned.owner == part).astype(np.int32)

    def slot_of(self, part: int, name: str) -> int | None:
        """The slot of an entity; None where it holds none."""
        slot = self.table.lookup(part).get(name)
        owner = self.assigned.owner
        return slot if slot is not None and slot < len(owner) and owner[slot] == part else None

    def evict(self, slots: NDArray[np.int32]) -> None:
        """Let the entities that hold these slots go, with all that is known of them."""
        owner = self.assigned.owner
        np.subtract.at(self.admission.entities, owner[slots], 1)
        owner[slots] = -1
        self.idle.update(slots.tolist())

    def release(self) -> None:
        """Free the slots that no entity holds for others. No record that was decoded may still be on its way."""
        self.table.release(sorted(self.idle))
        self.idle.clear()

    def snapshot(self, part: int, next_offset: int, topic_id: str = "") -> Snapshot:
        """All that belongs to a part, as of just before `next_offset` of the topic that bears this id.

        What it says of the entities is taken as it is gone through: do that before the state goes on.
        """
        slots = self.slots_of(part)
        order = sorted(slots.tolist(), key=self.table.name)
        of_part = {
            f"{name}.{field}": column[part : part + 1].copy()
            for name, state in self._part.items()
            for field, column in zip(state._fields, state, strict=True)
        }
        ruling = self.rulings[part].note()
        note = {"format": FORMAT, "schema": self.schema.hash, "topic_id": topic_id, **ruling}
        return Snapshot(
            next_offset,
            [self.table.name(s) for s in order],
            Taken(self._slots, np.array(order, np.int32)),
            plain(of_part),
            note,
        )

    def restore(self, part: int, snapshot: Snapshot, ruling: Ruling) -> None:
        """Put a snapshot in the place of whatever the part held.

        Raises:
            StateError: the snapshot is of another feature schema or format.
        """
        topic, partition = self.parts[part]
        _refuse_another_format(snapshot, topic, partition)
        if snapshot.note.get("schema") != self.schema.hash:
            raise StateError(
                f"The state of {topic}/{partition} was made for other features or another window. Set the features "
                "as they were, or start a stream with a new name: windows of one kind cannot be read as another."
            )
        self.drop(part)
        slots = self.table.intern_all(part, snapshot.entities)
        self.table.take_new()
        self.reserve()
        at = 0
        for block in snapshot.blocks:
            mine = slots[at : at + BLOCK]
            for name, state in self._slots.items():
                put(state, mine, typed(self._fresh[name], name, block, len(mine), topic, partition))
            at += len(mine)
        for name, state in self._part.items():
            put(
                state,
                np.array([part], np.int32),
                typed(self._fresh_part[name], name, snapshot.part, 1, topic, partition),
            )
        reset(self.trace, slots, trace.init(1))
        self.assigned.owner[slots] = part
        self.rulings[part] = ruling

    def drop(self, part: int) -> None:
        """Forget a part: its slots are free for others."""
        slots = self.table.drop(part)
        self.idle.difference_update(slots.tolist())
        self.assigned.owner[slots[slots < len(self.assigned.owner)]] = -1
        for name, state in self._part.items():
            reset(state, np.array([part], np.int32), self._fresh_part[name])
        self.rulings.pop(part, None)

    def bytes_by_field(self) -> dict[str, int]:
        """Bytes that one entity takes in each array, by `state.field`; its name and its entry in a dictionary aside."""
        return {
            f"{name}.{field}": int(column.dtype.itemsize * np.prod(column.shape[1:]))
            for name, state in {**self._fresh, "trace": self.trace}.items()
            for field, column in zip(state._fields, state, strict=True)
        }

    def bytes_per_entity(self) -> int:
        """Bytes of state that one entity takes in memory, its name and its entry in a dictionary aside."""
        return sum(self.bytes_by_field().values())


def _rows(of: Mapping[str, int], names: Sequence[str]) -> NDArray[np.int64]:
    """[n] the row of each name; of one that has none, the row after all."""
    return np.fromiter(map(of.get, names, repeat(len(of))), np.int64, len(names))


def decision_of(snapshot: Snapshot, part: Part, entity: str) -> decisions.DecisionState | None:
    """A copy of what a snapshot of `part` holds of one entity's decisions, as slot 0; None where it holds nothing.

    Raises:
        StateError: the snapshot is of another format.
    """
    _refuse_another_format(snapshot, *part)
    if entity not in snapshot.entities:
        return None
    mine = snapshot.row(snapshot.entities.index(entity))
    members = mine.get("decision.fast", np.zeros((1, 0))).shape[-1]
    fresh = decisions.init(1, members)
    found: decisions.DecisionState = typed(fresh, "decision", mine, 1, *part)
    return found


def _refuse_another_format(snapshot: Snapshot, topic: str, partition: int) -> None:
    written = snapshot.note.get("format")
    if written != FORMAT:
        raise StateError(
            f"The state of {topic}/{partition} has the format {written}; this program reads {FORMAT}. Go back to the "
            "version of tocsin that wrote it, or start a stream with a new name."
        )
