"""Many at once: while most of a partition's entities are in incidents, or most values missing, nothing is learned.

What befalls most of them is an outage or a broken pipeline, and the few that look ordinary may only be late. The
partition's entities are counted after every so many of its records, so this is a function of its records alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .constants import LEAST_COUNT, NO_TIME, Freeze
from .jit import kernel
from .machine import FIRING
from .state import DecisionState, PartState, Rules

FREEZES: Final = 0.5
"""Learning freezes while more than this share of the entities is in incidents, or of the usual values missing,"""
THAWS: Final = 0.25
"""until no more than this share is."""
LEAST_ENTITIES: Final = 10
"""Fewer in incidents are not many: each holds its own learning, and what an entity learns would depend on whom it
shares a partition with."""
LEAST_MISSING: Final = 0.1
RECORDS_EACH: Final = 2
"""Records of the partition between two counts: so many for each entity, LEAST_COUNT at least."""
FEW_BLOCKS: Final = 8
"""A shift is recent for so many blocks of its entity."""

NONE, FROZEN, OUTLASTED = int(Freeze.NONE), int(Freeze.FROZEN), int(Freeze.OUTLASTED)


@kernel
def census(
    state: DecisionState, owner: NDArray[np.int32], part: int, mark: int, gone_after: int
) -> tuple[int, int, int]:
    """Entities of a partition that are not gone; of them in incidents; and with a recent shift of their score."""
    alive, firing, shifted = 0, 0, 0
    for slot in range(len(owner)):
        if owner[slot] != part:
            continue
        core = state.core[slot]
        if core.seen_us == NO_TIME or mark - core.seen_us > gone_after:
            continue
        alive += 1
        if core.phase == FIRING:
            firing += 1
        if core.shifted and core.means < FEW_BLOCKS:
            shifted += 1
    return alive, firing, shifted


@kernel
def beyond(share: float, firing: int, alive: int, missing: float, usual: float) -> bool:
    """Whether more than a share of the entities is in incidents, or of the usually present values missing."""
    many = firing >= LEAST_ENTITIES and firing > share * alive
    return many or missing - usual > max(share * (1.0 - usual), LEAST_MISSING)


@kernel
def watch(
    state: DecisionState,
    parts: PartState,
    owner: NDArray[np.int32],
    part: int,
    mark: int,
    rules: Rules,
) -> bool:
    """See to a partition of which `count_at` records are counted; whether it froze or thawed (`parts.freeze`).

    What outlasts `level_change_us` is the new ordinary, as for a single entity: learning goes on.
    """
    absent = parts.absent[part] / parts.counted[part]
    usual = parts.usual_missing[part]
    parts.counted[part] = 0
    parts.absent[part] = 0.0
    before = parts.freeze[part]
    alive, firing = 0, 0
    if parts.opened[part] or before != NONE:  # else no more can be in incidents than at the last count
        alive, firing, _ = census(state, owner, part, mark, rules.gone_after_us)
        parts.count_at[part] = max(RECORDS_EACH * alive, LEAST_COUNT)
        parts.opened[part] = False
    if before == NONE:
        if beyond(FREEZES, firing, alive, absent, usual):
            parts.freeze[part] = FROZEN
            parts.frozen_us[part] = mark
    elif not beyond(THAWS, firing, alive, absent, usual):
        parts.freeze[part] = NONE
    elif before == FROZEN and mark - parts.frozen_us[part] >= rules.level_change_us:
        parts.freeze[part] = OUTLASTED
    return bool((before == FROZEN) != (parts.freeze[part] == FROZEN))
