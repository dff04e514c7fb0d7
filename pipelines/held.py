"""The records that rings already hold, as the scorer's rows: what a new model starts warm from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..thresholds.jit import making_kernel
from .windows import TREND_HALF_LIFE, WindowState

_GAIN = 1.0 - 2.0 ** (-1.0 / TREND_HALF_LIFE)


class Held(NamedTuple):
    """r rows, the entities one after another, each oldest first."""

    owner: NDArray[np.int64]
    """[r] index into the slots asked for."""
    time_us: NDArray[np.int64]
    window: NDArray[np.float32]
    """[r, L, F]"""
    jump: NDArray[np.float32]
    """[r, F] less the trend of the records held before: the ring does not know older ones."""


def held_rows(state: WindowState, slots: NDArray[np.int32], lags: int) -> Held:
    """Every window of `lags` records that the rings of `slots` hold and whose newest record has a feature present."""
    length, features = state.values.shape[1:]
    most = len(slots) * max(length - lags + 1, 0)
    held = Held(
        np.empty(most, np.int64),
        np.empty(most, np.int64),
        np.empty((most, lags, features), np.float32),
        np.empty((most, features), np.float32),
    )
    found = _held(state, np.require(slots, np.int32, ["C", "W"]), *held)
    owner, time_us, window, jump = held
    return Held(owner[:found], time_us[:found], window[:found], jump[:found])


@making_kernel
def _held(
    state: WindowState,
    slots: NDArray[np.int32],
    owner: NDArray[np.int64],
    times: NDArray[np.int64],
    window: NDArray[np.float32],
    jump: NDArray[np.float32],
) -> int:
    length, features = state.values.shape[1], state.values.shape[2]
    lags = window.shape[1]
    r = np.empty(features)
    found = 0
    for index in range(len(slots)):
        slot = slots[index]
        held = state.held[slot]
        trend = np.full(features, np.nan)
        for k in range(held):
            at = (state.head[slot] - held + k) % length
            present = 0
            for j in range(features):
                x = np.float64(state.values[slot, at, j])
                r[j] = x - trend[j]
                if not np.isnan(x):
                    present += 1
                    trend[j] = x if np.isnan(trend[j]) else trend[j] + _GAIN * (x - trend[j])
            if k < lags - 1 or present == 0:
                continue
            owner[found] = index
            times[found] = state.times[slot, at]
            jump[found] = r
            for lag in range(lags):
                window[found, lag] = state.values[slot, (at - lags + 1 + lag) % length]
            found += 1
    return found
