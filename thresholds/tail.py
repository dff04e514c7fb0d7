"""The tail of x beyond its 98 % point: a generalised Pareto distribution by probability-weighted moments.

Two in a hundred of few records say nothing of a scale: there the tail begins lower, at the 75 % point at the lowest,
to hold TAIL_LEAST of them.

Hosking and Wallis, Technometrics 29 (1987) 339: with a0 = E[y], a1 = E[y (1 - F(y))] of the excesses y,
sigma = 2 a0 a1 / (a0 - 2 a1) and gamma = 2 - a0 / (a0 - 2 a1). gamma is held within TAIL_BOUND and sigma then
follows from the mean, as where gamma is raised to keep the end point beyond what was seen; few excesses
get an exponential (gamma = 0).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .constants import BIN_WIDTH, BINS, LOWEST, TAIL_BOUND, TAIL_LEAST, TAIL_MOST, TAIL_SHARE
from .jit import kernel

INSIDE = 0.95
"""What was seen lies within this share of the way to a tail's end point."""


@kernel
def moments(a0: float, a1: float) -> tuple[float, float]:
    """(sigma, gamma) of the distribution whose first two probability-weighted moments are a0 and a1."""
    gap = a0 - 2.0 * a1
    gamma = 2.0 - a0 / gap if gap > 0.0 else TAIL_BOUND
    gamma = min(max(gamma, -TAIL_BOUND), TAIL_BOUND)
    return a0 * (1.0 - gamma), gamma


@kernel
def fit(counts: NDArray[np.float32], total: float) -> tuple[float, float, float, float]:
    """(start, sigma, gamma, top) of a histogram [BINS]; top is the upper edge of its highest used bin.

    Excesses sit at the middle of their bins. An empty histogram has its tail at 0 with sigma 1.
    """
    if not total > 0.0:
        return 0.0, 1.0, 0.0, LOWEST
    most = max(TAIL_SHARE * total, min(TAIL_LEAST, TAIL_MOST * total))
    last = BINS - 1
    while counts[last] <= 0.0:
        last -= 1
    first, mass = last, np.float64(counts[last])
    for j in range(last - 1, -1, -1):
        if mass + np.float64(counts[j]) > most:
            break
        if counts[j] > 0.0:  # an empty stretch below belongs to no excess
            first = j
            mass += np.float64(counts[j])
    start = LOWEST + first * BIN_WIDTH
    a0, a1, over = 0.0, 0.0, 0.0
    for j in range(last, first - 1, -1):
        weight = np.float64(counts[j])
        excess = (j - first + 0.5) * BIN_WIDTH
        a0 += weight * excess
        a1 += weight * excess * (over + 0.5 * weight)
        over += weight
    a0 /= mass
    a1 /= mass * mass
    top = LOWEST + (last + 1) * BIN_WIDTH
    if mass < TAIL_LEAST:
        return start, a0, 0.0, top
    sigma, gamma = moments(a0, a1)
    reach = top - start - INSIDE * a0
    if reach > 0.0 and gamma < -INSIDE * a0 / reach:  # else the tail would end before `top`
        gamma = -INSIDE * a0 / reach
        sigma = a0 * (1.0 - gamma)
    return start, sigma, gamma, top


@kernel
def survival(x: float, start: float, sigma: float, gamma: float) -> float:
    """Share of the excesses beyond x; 1 at `start` and below."""
    y = (x - start) / sigma
    if y <= 0.0:
        return 1.0
    if abs(gamma) < 1e-9:
        return math.exp(-y)
    inner = 1.0 + gamma * y
    return math.exp(-math.log(inner) / gamma) if inner > 0.0 else 0.0


@kernel
def beyond(x: float, ratio: float, start: float, sigma: float, gamma: float) -> float:
    """The point above x where the tail has fallen to `ratio` (0 to 1) of its height at x.

    Below the start of the tail x counts as its start. A tail with an end point answers no further than that.
    """
    x = max(x, start)
    ratio = max(ratio, 1e-300)
    scale = max(sigma + gamma * (x - start), 1e-9)  # excesses over x have this scale and the same gamma
    if abs(gamma) < 1e-9:
        return x - scale * math.log(ratio)
    return x + scale / gamma * (math.exp(-gamma * math.log(ratio)) - 1.0)
