"""Own medians and floors of the members, for an entity that its model version does not know.

After its own location has taken over, an entity counts LEARN_RECORDS clean records of each member's log in a
histogram around the group's median; at exactly the last of them its own medians and floors take over.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .constants import FLOOR_SHARE, LEARN_BINS, LEARN_REACH, LEARN_RECORDS, LEARN_WIDTH
from .jit import kernel


@kernel
def observe(
    learn: NDArray[np.uint16],
    fast: NDArray[np.float64],
    slow: NDArray[np.float64],
    median: NDArray[np.float64],
    floor: NDArray[np.float64],
) -> None:
    """Count one clean record; `learn` is [M, LEARN_BINS], the others [M]."""
    for j in range(len(fast)):
        at = math.log(max(fast[j] + slow[j], floor[j])) - median[j] + LEARN_REACH
        learn[j, min(max(int(at / LEARN_WIDTH), 0), LEARN_BINS - 1)] += np.uint16(1)


@kernel
def take_over(
    core: Any, learn: NDArray[np.uint16], median: NDArray[np.float64], floor: NDArray[np.float64]
) -> None:
    """Replace medians and floors by the histogram's, and empty it.

    S moves with the score's new zero, so that neither the threshold nor x jumps by the change of units.
    """
    moved = 0.0
    for j in range(len(median)):
        half, below, mean, own = 0.5 * LEARN_RECORDS, 0.0, 0.0, 0.0
        for at in range(LEARN_BINS):
            here = np.float64(learn[j, at])
            left = at * LEARN_WIDTH - LEARN_REACH
            if below < half <= below + here:
                own = left + LEARN_WIDTH * (half - below) / here
            below += here
            mean += here * math.exp(median[j] + left + 0.5 * LEARN_WIDTH)
            learn[j, at] = 0
        floor[j] = FLOOR_SHARE * mean / LEARN_RECORDS
        median[j] += own
        moved += own
    core.S -= moved / len(median)
