"""A lasting shift of one entity's score that opens no incident: a two-sided CUSUM over standardised block means.

A block is `core.block` records of the entity outside incidents: so many, by the dependence measured in its
history, that block means hardly depend on each other. Each mean is measured against those before it, since the
last decision or the epoch's start: with the spread estimated, its distance is Student's t, made normal (Wallace
1959), so a short history gives no more decisions than a long one (a self-starting CUSUM, Hawkins 1987). It is the
score that is watched and not x: the slow average follows a lasting shift, and x would lose sight of it.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .jit import kernel

REFERENCE: Final = 1.0
"""k: half of the shift that is found soonest, in standard deviations of block means."""
BOUND: Final = 4.5
"""h: the decision's bound. Of independent means one in some 20,000 to 30,000 decides by chance."""
LEAST_BLOCK: Final = 64
MOST_BLOCK: Final = 4096
TIMES: Final = 6.0
"""Records of a block, in integrated autocorrelation times of the score."""
LEAST_MEANS: Final = 16
"""Where a history is too short for so many blocks of that length, they are shorter."""
LEAST_SD: Final = 0.01
"""Block means that hardly varied are taken to vary this much."""
CLIP: Final = 3.0
CLIPPED: Final = 8
"""Degrees of freedom from which the spread is known well enough to clip by."""
MOST_MEANS: Final = 256
"""Block means that the reference remembers: older ones fade."""


@kernel
def forget(core: Any) -> None:
    """Forget the open block: an opening does, for the newest of its records led to the incident."""
    core.block_sum = 0.0
    core.block_fill = 0


@kernel
def restart(core: Any) -> None:
    """Measure what follows against itself: the mean is learned anew, the spread stays."""
    forget(core)
    core.up = 0.0
    core.down = 0.0
    core.means = 0


@kernel
def begin(core: Any, measured: NDArray[np.float64], known: bool) -> None:
    """Start from what `measure` gave [4]; where its means are not the entity's own (`known`), only its length."""
    restart(core)
    core.block = int(measured[0]) if measured[0] > 0.0 else LEAST_BLOCK
    core.means = int(measured[1]) if known else 0
    core.freedom = max(int(core.means) - 1, 0)
    core.usual = measured[2]
    core.spread = core.freedom * measured[3] ** 2
    core.shifted = 0


@kernel
def deviation(core: Any) -> float:
    """The standard deviation of block means."""
    return max(math.sqrt(core.spread / core.freedom), LEAST_SD)


@kernel
def standard(core: Any, mean: float) -> float:
    """How far a block mean lies from those before it: standard normal while nothing changes."""
    freedom = np.float64(core.freedom)
    t = (mean - core.usual) / (deviation(core) * math.sqrt(1.0 + 1.0 / core.means))
    z = math.sqrt(freedom * math.log1p(t * t / freedom)) * (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0)
    return math.copysign(z, t)


@kernel
def remember(core: Any, mean: float) -> None:
    """Let a block mean enter the reference, not further off than CLIP deviations, lest a few change it at once."""
    if core.means == 0:
        core.means = 1
        core.usual = mean
        return
    off = mean - core.usual
    if core.freedom >= CLIPPED:
        most = CLIP * deviation(core)
        off = min(max(off, -most), most)
    if core.freedom < MOST_MEANS:
        core.freedom += 1
    else:
        core.spread -= core.spread / core.freedom
    core.means = min(core.means + 1, MOST_MEANS)
    core.usual += off / core.means
    core.spread += off * off * (1.0 - 1.0 / core.means)


@kernel
def take(core: Any, mean: float) -> int:
    """Take one block mean; 1 or -1 where the score has moved up or down for good, else 0. A decision restarts."""
    if core.means > 0 and core.freedom > 0:
        z = standard(core, mean)
        core.up = max(core.up + z - REFERENCE, 0.0)
        core.down = max(core.down - z - REFERENCE, 0.0)
        if core.up > BOUND or core.down > BOUND:
            moved = 1 if core.up > core.down else -1
            restart(core)
            core.shifted = 1
            return moved
    remember(core, mean)
    return 0


@kernel
def enter(core: Any, score: float, closes: bool) -> tuple[int, float, float]:
    """Take one record outside incidents; a full block closes where the entity is normal (`closes`).

    So what led to an opening is always in the open block, which the opening forgets.

    Returns:
        1 or -1 where the score has moved up or down for good, else 0; the mean before, and that of the block.
    """
    core.block_sum += score
    core.block_fill += 1
    if not closes or core.block_fill < core.block:
        return 0, 0.0, 0.0
    usual, mean = core.usual, core.block_sum / core.block_fill
    forget(core)
    return take(core, mean), usual, mean


def dependence(score: NDArray[np.float64]) -> float:
    """Integrated autocorrelation time of a series [n], in records: n / it is worth so many independent ones.

    The sum ends at the first lag of five times what it has come to (Sokal 1997).
    """
    n = len(score)
    centred = score - score.mean() if n else score
    if n < 2 or not centred.any():
        return 1.0
    size = 1 << (2 * n - 1).bit_length()
    power = np.abs(np.fft.rfft(centred, size)) ** 2
    covariance = np.fft.irfft(power, size)[: n // 2 + 1]
    times = 2.0 * np.cumsum(covariance / covariance[0]) - 1.0
    ended = np.flatnonzero(np.arange(len(times)) >= 5.0 * times)
    return max(float(times[ended[0] if len(ended) else -1]), 1.0)


def measure(score: NDArray[np.float64], block: int | None = None) -> NDArray[np.float64]:
    """What `begin` starts from [4]: a block's records, how many means of such blocks, their mean and sd.

    Args:
        score: [n] one entity's scores outside incidents, in order.
        block: the length; by default from their dependence on each other.
    """
    n = len(score)
    if block is None:
        most = min(MOST_BLOCK, max(n // LEAST_MEANS, LEAST_BLOCK))
        block = min(max(math.ceil(TIMES * dependence(score)), LEAST_BLOCK), most)
    means = score[: n // block * block].reshape(-1, block).mean(axis=1)
    if len(means) < 2:
        return np.array([block, 0.0, 0.0, 0.0])
    return np.array([block, min(len(means), MOST_MEANS), means.mean(), means.std(ddof=1)])
