"""What score, input level and missing rate are like in training: the measure of drift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..thresholds.drift import LEAST_SD, TRAINED, block_records
from .sequences import Series

LEAST_BLOCKS = 8
"""Where the history is too short for so many blocks of their size, they are smaller."""


def reference(
    series: Sequence[Series],
    scores: Sequence[NDArray[np.float64]],
    levels: Sequence[NDArray[np.float32]],
    features: int,
) -> dict[str, NDArray[np.float64]]:
    """Mean [3] and sd [3] of the block means of score, level and missing share over train.

    Blocks are taken over the records of all entities in the order of time, as one partition would see them.

    Args:
        series: of C columns.
        scores: cross-fitted, one array per series.
        levels: input level, one array per series.
        features: F of the stream; those that the model does not use count as missing, as in the chain.
    """
    order = np.argsort(np.concatenate([one.time_us for one in series]), kind="stable")
    missing = [1.0 - np.isfinite(one.rows).sum(axis=1) / features for one in series]
    signals = [np.concatenate(columns)[order].astype(np.float64) for columns in (scores, levels, missing)]
    size = max(1, min(block_records(len(series)), len(order) // LEAST_BLOCKS))
    blocks = np.stack(
        [signal[: len(order) // size * size].reshape(-1, size).mean(axis=1) for signal in signals]
    )
    return {"mean": blocks.mean(axis=1), "sd": np.maximum(blocks.std(axis=1), LEAST_SD[: len(TRAINED)])}
