"""What chance does between two windows of records: pairs of windows drawn from the reference, and a bound on them.

Records depend on those before them and on those of other entities at the same time, so whole stretches of time are
drawn, all entities together, and never single records.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCKS: Final = 20
"""Stretches that the smaller window is thought to be made of: so long that they hardly depend on each other."""
MOST_BLOCKS: Final = 4000
ROUNDS: Final = 400
CONFIDENCE: Final = 0.95
UNSURE: Final = 1.2
"""Bounds are raised by this, because so few blocks tell only roughly how they spread. Measured on pairs of AR(1)
samples without drift: what keeps 95 % of them below is 0.8 at phi 0, 0.9 at .8 (2,000 records), 1.1 at .95 (5,000)."""

Floats = NDArray[np.float64]


class Draws(NamedTuple):
    """How often each block of the reference is drawn, in each round, for each of a pair of windows."""

    reference: Floats
    present: Floats
    """[R, blocks]"""


def block_counts(reference: int, present: int) -> tuple[int, int]:
    """Blocks that windows of so many records are made of: `BLOCKS` for the smaller, as long ones for the other."""
    if present >= reference:
        return BLOCKS, round(BLOCKS * present / reference)
    ours = min(round(BLOCKS * reference / present), MOST_BLOCKS)
    return ours, max(round(ours * present / reference), 1)


def blocks_of(time_us: NDArray[np.int64], blocks: int) -> NDArray[np.int64]:
    """[n] the block of each record: stretches of time with equally many records of all entities together."""
    order = np.argsort(time_us, kind="stable")
    block = np.empty(len(order), np.int64)
    block[order] = np.arange(len(order)) * blocks // max(len(order), 1)
    return block


def draws(rng: np.random.Generator, reference: int, present: int, rounds: int) -> Draws:
    """Draw `rounds` pairs of windows from the blocks of the reference, with replacement.

    Künsch, Annals of Statistics 17 (1989) 1217, with blocks that do not overlap (Carlstein 1986).
    """
    even = np.full(reference, 1.0 / reference)
    pair = (rng.multinomial(size, even, rounds).astype(np.float64) for size in (reference, present))
    return Draws(*pair)


def longer(deviations: Floats) -> float:
    """How much more the mean of a window varies than blocks drawn one by one say; deviations [blocks, c] in time order.

    The long-run variance by Bartlett's weights over as many lags as the root of the blocks (Newey and West,
    Econometrica 55 (1987) 703), as a multiple of the blocks' own; at least 1. It is for dependence that outlasts a
    block.
    """
    blocks = len(deviations)
    lags = round(blocks**0.5)
    own = float((deviations * deviations).sum())
    if own <= 0.0 or lags >= blocks:
        return 1.0
    lagged = (
        float((deviations[:-k] * deviations[k:]).sum()) * (1 - k / (lags + 1)) for k in range(1, lags + 1)
    )
    return float(max(1.0 + 2.0 * sum(lagged) / own, 1.0) * blocks / (blocks - lags))


def bounds(null: Floats) -> Floats:
    """[S] what S statistics stay below, all of them at once, in 95 % of the rounds [R, S].

    Each at its own 95 % point, all raised by one factor (Westfall and Young 1993), which is 1 for a single one: of
    many features some would else be beyond their points by chance. `UNSURE` comes on top.
    """
    own = np.quantile(null, CONFIDENCE, axis=0)
    ratio = np.divide(null, own, out=np.zeros_like(null), where=own > 0.0)
    factor = float(np.quantile(ratio.max(axis=1, initial=0.0), CONFIDENCE))
    return np.asarray(UNSURE * own * max(factor, 1.0))
