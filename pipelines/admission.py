"""Which entities a partition holds, and which give way: a limit, a time to forget after, a bound on new ones.

The rule for each record, by the records of its partition alone:

    its entity is held                        it is let in
    fewer entities than the limit are held    it is let in, and its entity is held from here on
    as many are held                          those give way that were seen least recently, of equally recent ones
                                              those whose names sort first; never one with an open alert
    none can give way                         turned away, FULL
    too many new ones came just before        turned away, TOO_MANY; entities that the model knows do not count

Besides, an entity that was not seen for `forget_us` is forgotten, unless an alert of it is open.

An entity was seen at its partition's watermark as of its last record. The watermark is the newest event time of the
records that are not refused, less the first one of each entity: a clock that is wrong once does not move it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..thresholds.jit import kernel
from .records import NO_TIME, Points, Records

SHARE: Final = 16
"""One in so many of the limit gives way at once, so that many new entities share one look at all that are held."""
PAUSE: Final = 256
"""Records of the partition before it is asked again whether an entity can give way, where not enough could."""
AMONG: Final = 1000
"""Records of the partition over which new entities are counted."""
STEPS: Final = 64
"""It is looked for entities to forget at most so often in the time that they are forgotten after."""
EARLIER: Final = NO_TIME + 1
"""Seen before there was a watermark."""


class Turned(IntEnum):
    """Why a record of a new entity was turned away."""

    FULL = 1
    TOO_MANY = 2

    @property
    def reason(self) -> str:
        """The word for it, in metrics and headers."""
        return {Turned.FULL: "entities_full", Turned.TOO_MANY: "too_many_new"}[self]


_FULL, _TOO_MANY = int(Turned.FULL), int(Turned.TOO_MANY)


class Limits(NamedTuple):
    """Of each partition."""

    entities: int = 2**31 - 1
    """Most that are held."""
    forget_us: int = 0
    """Event time; 0: none is forgotten."""
    newcomers: int = 0
    """Most new ones, unknown to the model, among each AMONG records; 0: any number."""

    @property
    def places(self) -> int:
        """How many entities give way at once."""
        return max(1, self.entities // SHARE)


NO_LIMITS: Final = Limits()


class Recency(NamedTuple):
    """Per slot."""

    seen: NDArray[np.int64]
    """[N] the watermark at the entity's last record, EARLIER where there was none; NO_TIME before the first."""


class Admission(NamedTuple):
    """Per (topic, partition)."""

    watermark: NDArray[np.int64]
    """[P] NO_TIME until an entity has sent a second record."""
    leapt: NDArray[np.int64]
    """[P] the watermark after it last leapt: what was seen before counts as seen then, for all was silent."""
    sweep_us: NDArray[np.int64]
    """[P] nothing is to be forgotten before this watermark."""
    entities: NDArray[np.int32]
    """[P] entities held."""
    pause: NDArray[np.int32]
    """[P] records for which no entity gives way."""
    counted: NDArray[np.int32]
    """[P] records of the present AMONG,"""
    newcomers: NDArray[np.int32]
    """[P] and entities let in during them that the model does not know."""


class Planned(NamedTuple):
    """How far a batch can go at once, and what must happen then."""

    end: int
    """The row behind the last that can."""
    new: NDArray[np.int32]
    """Slots that are held from one of these rows on."""
    full: int
    """The part in which entities must give way before the row `end` is planned; -1: none."""


def init(slots: int) -> Recency:
    """`slots` entities that were never seen."""
    return Recency(np.full(slots, NO_TIME))


def init_parts(parts: int) -> Admission:
    """`parts` partitions that hold nothing."""
    times = [np.full(parts, NO_TIME) for _ in range(3)]
    return Admission(*times, *(np.zeros(parts, np.int32) for _ in range(4)))


def plan(
    admission: Admission,
    owner: NDArray[np.int32],
    given: Records | Points,
    start: int,
    strange: NDArray[np.bool_],
    fate: NDArray[np.uint8],
    limits: Limits,
) -> Planned:
    """Let rows from `start` on in or turn them away, up to where something must happen first.

    Changes `admission` and `owner` in place and writes a `Turned` into `fate`, [B], for each row turned away.

    Args:
        admission: per part.
        owner: [N] the part that holds each slot, -1 for none.
        given: the batch, whose slots are all below N.
        start: the first row.
        strange: [B - start] rows whose entity the model does not know; only read where newcomers are limited.
        fate: 0 for a row that is let in.
        limits: the rules.
    """
    new = np.empty(len(given.slot) - start, np.int32)
    end, found, full = _plan(
        admission,
        owner,
        given.slot,
        given.part,
        given.time_us,
        start,
        strange,
        fate,
        new,
        limits.entities,
        limits.forget_us,
        limits.newcomers,
    )
    return Planned(end, new[:found], full)


@kernel
def _plan(
    admission: Admission,
    owner: NDArray[np.int32],
    slots: NDArray[np.int32],
    parts: NDArray[np.int32],
    times: NDArray[np.int64],
    start: int,
    strange: NDArray[np.bool_],
    fate: NDArray[np.uint8],
    new: NDArray[np.int32],
    most: int,
    forget_us: int,
    most_new: int,
) -> tuple[int, int, int]:
    found = 0
    for row in range(start, len(slots)):
        slot, part = slots[row], parts[row]
        is_new = owner[slot] < 0
        is_strange = is_new and most_new > 0 and strange[row - start]
        turned = 0
        if is_strange and admission.counted[part] < AMONG and admission.newcomers[part] >= most_new:
            turned = _TOO_MANY
        elif is_new and admission.entities[part] >= most:
            if admission.pause[part] == 0:
                return row, found, part
            turned = _FULL
        if admission.counted[part] == AMONG:
            admission.counted[part] = 0
            admission.newcomers[part] = 0
        admission.counted[part] += 1
        if admission.pause[part] > 0:
            admission.pause[part] -= 1
        fate[row] = turned
        if turned != 0:
            continue
        if is_new:
            owner[slot] = part
            admission.entities[part] += 1
            new[found] = slot
            found += 1
            if is_strange:
                admission.newcomers[part] += 1
            continue  # the first record of an entity moves no watermark
        if forget_us > 0 and times[row] >= admission.sweep_us[part]:
            return row + 1, found, -1
    return len(slots), found, -1


def observe(
    recency: Recency,
    admission: Admission,
    given: Records | Points,
    refused: NDArray[np.int64],
    limits: Limits,
) -> None:
    """Note what was seen of rows that were let in, but for those `refused` (indices): their time is not believed."""
    believed = np.ones(len(given.slot), np.bool_)
    believed[refused] = False
    _observe(recency, admission, given.slot, given.part, given.time_us, believed, limits.forget_us)


@kernel
def _observe(
    recency: Recency,
    admission: Admission,
    slots: NDArray[np.int32],
    parts: NDArray[np.int32],
    times: NDArray[np.int64],
    believed: NDArray[np.bool_],
    forget_us: int,
) -> None:
    for row in range(len(slots)):
        if not believed[row]:
            continue
        slot, part, time = slots[row], parts[row], times[row]
        mark = admission.watermark[part]
        if recency.seen[slot] != NO_TIME and time > mark:
            if mark == NO_TIME or 0 < forget_us < time - mark:
                admission.leapt[part] = time
            mark = time
            admission.watermark[part] = mark
        recency.seen[slot] = max(mark, EARLIER)


def oldest(
    seen: NDArray[np.int64],
    slots: NDArray[np.int32],
    count: int,
    names: Callable[[Iterable[int]], list[str]],
) -> NDArray[np.int32]:
    """Those `count` of `slots` [n] that were `seen` [n] least recently, ties by name; all where they are fewer."""
    if count >= len(slots):
        return slots
    edge = np.partition(seen, count - 1)[count - 1]
    surely, tied = slots[seen < edge], slots[seen == edge]
    by_name = sorted(range(len(tied)), key=names(tied.tolist()).__getitem__)
    return np.concatenate([surely, tied[np.array(by_name[: count - len(surely)], np.intp)]])


def is_due(admission: Admission, part: int, limits: Limits) -> bool:
    """Whether a part must be looked through for entities to forget."""
    mark = int(admission.watermark[part])
    return limits.forget_us > 0 and mark != NO_TIME and mark >= int(admission.sweep_us[part])


def expired(admission: Admission, part: int, seen: NDArray[np.int64], limits: Limits) -> NDArray[np.bool_]:
    """[n] whether entities of a part, last seen then, are to be forgotten."""
    last = np.maximum(seen, admission.leapt[part])
    return np.asarray(last + limits.forget_us <= admission.watermark[part])


def schedule(admission: Admission, part: int, seen: NDArray[np.int64], limits: Limits) -> None:
    """Set when a part that holds entities last seen then is looked through next."""
    mark = int(admission.watermark[part])
    last = max(int(seen.min(initial=mark)), int(admission.leapt[part]))
    admission.sweep_us[part] = max(last + limits.forget_us, mark + max(limits.forget_us // STEPS, 1))
