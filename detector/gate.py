"""The gate before the chain: entities that are new get a place, others give way, and some are turned away.

A batch goes through in pieces. One ends before a record for which entities must give way, and behind one that may let
others be forgotten: who gives way hangs on all earlier records, down to whose incident they have ended. So it is the
same however batches are cut.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..pipelines import admission
from ..pipelines.admission import Limits
from ..pipelines.records import Points, Records, take_rows
from ..thresholds.events import open_alerts
from .outcome import Evicted, Outcome, merged
from .state import StreamState


class Passed(NamedTuple):
    """A piece of a batch that is through the chain."""

    rows: NDArray[np.int64]
    """Its rows in the batch."""
    outcome: Outcome


def enter(
    state: StreamState, given: Records | Points, through: Callable[[Records | Points], Outcome]
) -> Outcome:
    """Take a batch through the chain, piece by piece, and return what came out as one."""
    count = len(given.slot)
    fate = np.zeros(count, np.uint8)
    passed: list[Passed] = []
    start = by_limit = by_time = 0
    while start < count:
        planned = admission.plan(
            state.admission,
            state.assigned.owner,
            given,
            start,
            _strangers(state, given.slot[start:]),
            fate,
            state.limits,
        )
        state.admit(planned.new)
        rows = start + np.flatnonzero(fate[start : planned.end] == 0)
        if len(rows):
            piece = given if len(rows) == count else take_rows(given, rows)
            passed.append(Passed(rows, through(piece)))
            admission.observe(state.recency, state.admission, piece, passed[-1].outcome.refused, state.limits)
            if state.limits.forget_us:
                by_time += sum(_sweep(state, part) for part in np.unique(piece.part).tolist())
        if planned.full >= 0:
            by_limit += make_room(state, planned.full, state.limits.places)
        start = planned.end
    turned = np.flatnonzero(fate)
    if len(passed) == 1 and not len(turned):
        outcome = passed[0].outcome
    elif not passed:
        outcome = _joined(given, [Passed(turned[:0], through(take_rows(given, turned[:0])))])
    else:
        outcome = _joined(given, passed)
    return outcome._replace(turned=turned, why=fate[turned], evicted=Evicted(by_limit, by_time))


def make_room(state: StreamState, part: int, places: int) -> int:
    """Let the least recently seen entities of a part give way until so many are free; returns how many did.

    Where not enough can, for alerts of the others are open, no one is asked again for some records.
    """
    wanted = int(state.admission.entities[part]) - state.limits.entities + places
    slots = state.slots_of(part)
    slots = slots[~open_alerts(state.decision, slots)]
    gone = admission.oldest(state.recency.seen[slots], slots, wanted, state.table.names)
    state.evict(gone)
    if len(gone) < wanted:
        state.admission.pause[part] = admission.PAUSE
    return len(gone)


def fit(state: StreamState, part: int) -> int:
    """Hold a part that was restored to the limits, which may be others than when it was written.

    Returns how many entities gave way.
    """
    limits, doors = state.limits, state.admission
    if doors.sweep_us[part] > doors.watermark[part] + limits.forget_us:
        doors.sweep_us[part] = doors.watermark[part] + limits.forget_us
    return make_room(state, part, 0) if doors.entities[part] > limits.entities else 0


def said_of(limits: Limits) -> str:
    """The limits in words."""
    said = (
        f"at most {limits.entities} entities a partition; then the least recently seen without an open alert "
        "give way"
    )
    if limits.forget_us:
        said += f"; forgotten once not seen for {limits.forget_us / 1e6:g} s"
    if limits.newcomers:
        said += f"; at most {limits.newcomers} new ones among {admission.AMONG} records"
    return said


def _sweep(state: StreamState, part: int) -> int:
    """Forget the entities of a part that were not seen for so long; returns how many."""
    limits, doors = state.limits, state.admission
    if not admission.is_due(doors, part, limits):
        return 0
    slots = state.slots_of(part)
    expired = admission.expired(doors, part, state.recency.seen[slots], limits)
    expired[expired] = ~open_alerts(state.decision, slots[expired])
    state.evict(slots[expired])
    admission.schedule(doors, part, state.recency.seen[slots[~expired]], limits)
    return int(expired.sum())


def _strangers(state: StreamState, slots: NDArray[np.int32]) -> NDArray[np.bool_]:
    """[n] which of `slots` are held by no entity, and given out to one that the model in force does not know; where
    newcomers are not limited, none."""
    strange = np.zeros(len(slots), np.bool_)
    if state.limits.newcomers:
        new = state.assigned.owner[slots] < 0
        met, of = np.unique(slots[new], return_inverse=True)
        strange[new] = np.array([_is_strange(state, slot) for slot in met.tolist()], np.bool_)[of]
    return strange


def _is_strange(state: StreamState, slot: int) -> bool:
    version = state.rulings[state.table.part(slot)].model.version
    return version.entity_row(state.table.name(slot)) >= len(version.entities)


def _joined(given: Records | Points, passed: list[Passed]) -> Outcome:
    """One outcome of several pieces, in the order of the batch."""
    outcomes = [one.outcome for one in passed]
    rows = [one.rows for one in passed]
    if isinstance(given, Records):
        whole = merged(given, outcomes, rows)
    else:  # the records that the measurements have become, one piece after the other
        records = Records._make(
            map(np.concatenate, zip(*(outcome.records for outcome in outcomes), strict=True))
        )
        ends = np.cumsum([0] + [len(outcome.records.slot) for outcome in outcomes])
        whole = merged(records, outcomes, [np.arange(a, b) for a, b in pairwise(ends.tolist())])
    return whole._replace(
        refused=np.concatenate([mine[one.refused] for one, mine in zip(outcomes, rows, strict=True)]),
        late_points=sum(outcome.late_points for outcome in outcomes),
    )
