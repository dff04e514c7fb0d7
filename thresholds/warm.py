"""Records held at a promotion, run through the new model's smoothing: they warm it and decide nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .jit import kernel
from .machine import follow
from .smoothing import score_row
from .state import DecisionState


def warm(
    state: DecisionState,
    slot: NDArray[np.int32],
    time_us: NDArray[np.int64],
    members: NDArray[np.float32],
) -> None:
    """Advance smoothing and the slow average by n rows in order, in place; calibration and incidents stay.

    Args:
        state: per slot.
        slot: [n] the rows' entities.
        time_us: [n] event times, increasing within an entity.
        members: [n, M] the scorer's members.
    """
    _warm(
        state,
        np.require(slot, np.int32, ["C", "W"]),
        np.require(time_us, np.int64, ["C", "W"]),
        np.require(members, np.float32, ["C", "W"]),
    )


@kernel
def _warm(
    state: DecisionState,
    slots: NDArray[np.int32],
    times: NDArray[np.int64],
    members: NDArray[np.float32],
) -> None:
    for row in range(len(slots)):
        slot = slots[row]
        core = state.core[slot]
        score = score_row(
            members[row], state.fast[slot], state.slow[slot], state.median[slot], state.floor[slot]
        )
        follow(core, score)
        core.last_us = times[row]
