"""The histogram of x = score - SLOW_SHARE * S - lift: bins, frozen survival, p-values.

Two histograms merge by adding their counts. The p-value of x among n counted records is
(1 + #{records >= x}) / (n + 1), the bin that holds x counted in proportion: for exchangeable records
P(p <= q) <= q up to that interpolation, for every q >= 1/(n+1); where only blocks of records are
exchangeable, b of them, P(p <= q) <= q + 1/(b+1). Above all that was ever counted, where this would stand at
1/(n+1), the fitted tail continues it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .constants import (
    BIN_WIDTH,
    BINS,
    BLOCK,
    BLOCKS,
    HIGHEST,
    LEAST_P,
    LEVELS,
    LOWEST,
    MOST_RECORDS,
    PRIOR_WEIGHT,
    Basis,
)
from .jit import kernel, making_kernel
from .tail import fit, survival

EMPIRICAL, EXTRAPOLATED, PRIOR = int(Basis.EMPIRICAL), int(Basis.EXTRAPOLATED), int(Basis.PRIOR)


@kernel
def bin_of(x: float) -> int:
    """The bin of x; the outermost bins take what lies beyond."""
    if x >= HIGHEST:
        return BINS - 1
    if not x > LOWEST:
        return 0
    return int((x - LOWEST) / BIN_WIDTH)


@making_kernel
def count(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """Counts [BINS] of the values x."""
    out = np.zeros(BINS, np.float32)
    for value in x:
        out[bin_of(value)] += 1.0
    return out


@kernel
def freeze(core: Any, counts: NDArray[np.float32], above: NDArray[np.float64]) -> None:
    """Derive one entity's survival table and tail from its counts [BINS]."""
    suffix = 0.0
    for block in range(BLOCKS - 1, -1, -1):
        above[block] = suffix
        for j in range((block + 1) * BLOCK - 1, block * BLOCK - 1, -1):
            suffix += np.float64(counts[j])
    core.total = suffix
    start, sigma, gamma, top = fit(counts, suffix)
    core.tail_start = start
    core.tail_sigma = sigma
    core.tail_gamma = gamma
    core.tail_top = top


@kernel
def fold(
    core: Any, counts: NDArray[np.float32], recent: NDArray[np.uint8], openings: NDArray[np.float32]
) -> None:
    """Take one entity's accepted records into its counts; halve everything when it grows too long."""
    total = 0.0
    for j in range(core.fill):
        counts[recent[j]] += np.float32(1.0)
    core.fill = 0
    for j in range(BINS):
        total += np.float64(counts[j])
    if total > MOST_RECORDS:
        for j in range(BINS):
            counts[j] *= np.float32(0.5)
        for j in range(LEVELS):
            openings[j] *= np.float32(0.5)
        core.span_us //= 2


@kernel
def basis_of(core: Any, x: float) -> int:
    """What the p-value of x stands on (`Basis`)."""
    if core.borrowed and core.accepted < PRIOR_WEIGHT:
        return PRIOR
    return EXTRAPOLATED if x >= core.tail_top else EMPIRICAL


@kernel
def p_value(core: Any, counts: NDArray[np.float32], above: NDArray[np.float64], x: float) -> float:
    """Chance that a normal record of the entity has at least this x, by its frozen calibration."""
    if x >= core.tail_top:
        if core.tail_top >= HIGHEST:  # how far beyond the grid its last records lie is not known
            return float((1.0 + counts[BINS - 1]) / (core.total + 1.0))
        beyond = survival(x, core.tail_start, core.tail_sigma, core.tail_gamma)
        at_top = survival(core.tail_top, core.tail_start, core.tail_sigma, core.tail_gamma)
        return float(max(beyond / at_top / (core.total + 1.0), LEAST_P))
    j = bin_of(x)
    block = j // BLOCK
    over = above[block]
    for other in range(j + 1, (block + 1) * BLOCK):
        over += np.float64(counts[other])
    part = min((LOWEST + (j + 1) * BIN_WIDTH - x) / BIN_WIDTH, 1.0)
    return float((1.0 + over + part * counts[j]) / (core.total + 1.0))
