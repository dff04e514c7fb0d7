"""Scores that warm an entity's state and decide nothing: of its training range, or of records held at a promotion."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .constants import SLOW_SHARE
from .jit import kernel
from .smoothing import score_row
from .state import DecisionState


class Warmed(NamedTuple):
    """One entry per row."""

    score: NDArray[np.float64]
    threshold: NDArray[np.float64]


def warm(
    state: DecisionState,
    slot: NDArray[np.int32],
    time_us: NDArray[np.int64],
    members: NDArray[np.float32],
) -> Warmed:
    """Advance smoothing and the slow average by n rows in order, in place; calibration and incidents stay.

    Args:
        state: per slot.
        slot: [n] the rows' entities.
        time_us: [n] event times, increasing within an entity.
        members: [n, M] the scorer's members.
    """
    out = Warmed(np.empty(len(slot)), np.empty(len(slot)))
    _warm(
        state,
        np.require(slot, np.int32, ["C", "W"]),
        np.require(time_us, np.int64, ["C", "W"]),
        np.require(members, np.float32, ["C", "W"]),
        out.score,
        out.threshold,
    )
    return out


@kernel
def _warm(
    state: DecisionState,
    slots: NDArray[np.int32],
    times: NDArray[np.int64],
    members: NDArray[np.float32],
    scores: NDArray[np.float64],
    thresholds: NDArray[np.float64],
) -> None:
    for row in range(len(slots)):
        slot = slots[row]
        core = state.core[slot]
        score = score_row(
            members[row], state.fast[slot], state.slow[slot], state.median[slot], state.floor[slot]
        )
        core.S += core.pace * (score - core.S)
        core.last_us = times[row]
        scores[row] = score
        thresholds[row] = core.level + SLOW_SHARE * core.S
