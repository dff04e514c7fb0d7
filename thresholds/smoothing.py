"""Members to score: two EWMAs each, their log, its distance from ordinary, the mean of all."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .constants import FAST_PACE, MEMBER_LIMIT, SLOW_PACE
from .jit import kernel, making_kernel


@kernel
def smooth_row(member: NDArray[np.float32], fast: NDArray[np.float64], slow: NDArray[np.float64]) -> None:
    """Advance one entity's EWMAs by one record; every argument is [M].

    A member that is not a number leaves its EWMAs where they are.
    """
    for j in range(len(member)):
        if not math.isnan(member[j]):
            value = min(max(float(member[j]), 0.0), MEMBER_LIMIT)
            fast[j] += FAST_PACE * (value - fast[j])
            slow[j] += SLOW_PACE * (value - slow[j])


@kernel
def score_row(
    member: NDArray[np.float32],
    fast: NDArray[np.float64],
    slow: NDArray[np.float64],
    median: NDArray[np.float64],
    floor: NDArray[np.float64],
) -> float:
    """Advance one entity's EWMAs by one record and return its score; every argument is [M].

    score = mean over members of ln(max(fast + slow, floor)) - median.
    """
    smooth_row(member, fast, slow)
    total = 0.0
    for j in range(len(member)):
        total += math.log(max(fast[j] + slow[j], floor[j])) - median[j]
    return total / len(member)


@making_kernel
def smooth(
    members: NDArray[np.float32], fast: NDArray[np.float64], slow: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The smoothed members s = fast + slow [n, M] of one entity's records in order, advancing both EWMAs [M].

    Training takes medians and floors from these.
    """
    out = np.empty(members.shape, np.float64)
    for i in range(members.shape[0]):
        smooth_row(members[i], fast, slow)
        for j in range(members.shape[1]):
            out[i, j] = fast[j] + slow[j]
    return out


@making_kernel
def score_rows(
    members: NDArray[np.float32],
    median: NDArray[np.float64],
    floor: NDArray[np.float64],
    fast: NDArray[np.float64],
    slow: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Scores [n] of one entity's records in order; median and floor are [n, M] too, fast and slow [M]."""
    out = np.empty(members.shape[0], np.float64)
    for i in range(members.shape[0]):
        out[i] = score_row(members[i], fast, slow, median[i], floor[i])
    return out
