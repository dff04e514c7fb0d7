"""Which records are excused: those in which no feature responsible deviates in a way that counts.

A feature counts where it lies further from what was expected than its dead-band, in a direction that matters. A
feature is responsible where its share is at least half of the record's largest. Of an entity at rest an excused
record that would be anomalous is passed over, as if it had held no value: see `advance`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .constants import SLOW_SHARE
from .jit import making_kernel
from .machine import lowered
from .smoothing import score_row

RESPONSIBLE = 0.5
"""Of the largest share."""


class Bands(NamedTuple):
    """Per feature, in the units of the records."""

    rise: NDArray[np.float64]
    """[F] observed less expected above this counts; -inf: any does, inf: none."""
    fall: NDArray[np.float64]
    """[F] the same for expected less observed."""


def excused(
    bands: Bands, observed: NDArray[np.float32], expected: NDArray[np.float32], shares: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """[n] whether no feature responsible counts; never where nothing tells features apart. Arguments are [n, F]."""
    off = observed.astype(np.float64) - expected
    counts = (off > bands.rise) | (-off > bands.fall)
    largest = shares.max(axis=1, keepdims=True, initial=0.0)
    found: NDArray[np.bool_] = (largest[:, 0] > 0.0) & ~(counts & (shares >= RESPONSIBLE * largest)).any(
        axis=1
    )
    return found


@making_kernel
def would_count(
    core: Any,
    member: NDArray[np.float32],
    fast: NDArray[np.float64],
    slow: NDArray[np.float64],
    median: NDArray[np.float64],
    floor: NDArray[np.float64],
) -> bool:
    """Whether one record [M] of an entity at rest would be anomalous; changes nothing."""
    score = score_row(member, fast.copy(), slow.copy(), median, floor)
    average = core.S + core.pace * (score - core.S)
    return bool(score - SLOW_SHARE * average - lowered(core.lift, average) > core.level)
