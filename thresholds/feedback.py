"""What an operator says of an incident, in the accounts of the budget: what counts, and the level that follows.

An incident counts once at every fixed level up to the highest at which it has opened (`height`), or not at all.
Whatever is said moves it from the one to the other, and sets the level by the rule at once.
"""

from __future__ import annotations

import numpy as np

from .constants import Mark
from .jit import kernel
from .level import counts, set_level
from .state import DecisionState

KEPT = int(Mark.STRONG | Mark.EXPECTED)
"""The marks that are no operator's word on this incident."""


@kernel
def weigh(state: DecisionState, slot: int, height: int, by: int) -> None:
    """Count an incident once more (1), once less (-1) or as it is (0) at the `height` lowest fixed levels, in place.

    The slot's level follows by the rule.
    """
    openings = state.openings[slot]
    for j in range(height):
        openings[j] = max(openings[j] + np.float32(by), np.float32(0.0))
    set_level(state.core[slot], openings)


@kernel
def mark(state: DecisionState, slot: int, said: int) -> None:
    """Give the slot's open incident a `Mark` in the place of what was said of it before (0: nothing is), in place.

    It counts, or does not, from its opening to its end.
    """
    core = state.core[slot]
    before = counts(core.strong)
    core.strong = (core.strong & KEPT) | said
    weigh(state, slot, core.height, int(counts(core.strong)) - int(before))
