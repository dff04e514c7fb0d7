"""The last scores of every entity and their thresholds, for people to look at: nothing is decided by them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .ahead import AHEAD, ask_for
from .beside import side_by_side
from .jit import kernel

KEPT = 32


class TraceState(NamedTuple):
    """[N, KEPT] rings of half precision, NaN where nothing was scored yet, and where the next one goes."""

    score: NDArray[np.float16]
    threshold: NDArray[np.float16]
    head: NDArray[np.uint8]


def init(slots: int) -> TraceState:
    """Nothing scored yet."""
    ring = (np.float16, (KEPT,))
    state = TraceState(**side_by_side(slots, score=ring, threshold=ring, head=(np.uint8, ())))
    state.score[:] = state.threshold[:] = np.nan
    return state


def follow(
    state: TraceState, slot: NDArray[np.int32], score: NDArray[np.float64], threshold: NDArray[np.float64]
) -> None:
    """Take in scored records [n], in order; writes into the rings."""
    _follow(_bits(state.score), _bits(state.threshold), state.head, slot, _bits(score), _bits(threshold))


def _bits(values: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Half precision as what numba knows; a view where it is that already."""
    return values.astype(np.float16, copy=False).view(np.uint16)


@kernel
def _follow(
    scores: NDArray[np.uint16],
    thresholds: NDArray[np.uint16],
    head: NDArray[np.uint8],
    slot: NDArray[np.int32],
    score: NDArray[np.uint16],
    threshold: NDArray[np.uint16],
) -> None:
    for i in range(len(slot)):
        if i + AHEAD < len(slot):
            ask_for(scores, slot[i + AHEAD])
            ask_for(thresholds, slot[i + AHEAD])
        place = head[slot[i]]
        scores[slot[i], place] = score[i]
        thresholds[slot[i], place] = threshold[i]
        head[slot[i]] = (place + 1) % KEPT


def of(state: TraceState, slot: int) -> tuple[list[float], list[float]]:
    """One entity's scores and thresholds, oldest first."""
    order = (int(state.head[slot]) + np.arange(KEPT)) % KEPT
    held = order[~np.isnan(state.score[slot, order])]
    return state.score[slot, held].astype(float).tolist(), state.threshold[slot, held].astype(float).tolist()
