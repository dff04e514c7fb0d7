"""Location and scale of each channel, and the soft logarithmic clip.

A *location* is float32 [4, F] with the rows `MEAN`, `SD`, `JUMP_MEAN`, `JUMP_SD`: mean and floored standard
deviation of the values, and of the jumps (value less the running mean of its past). Fitting is float64 in
numpy and ignores missing values (NaN); transforming is jax and puts 0 where a value is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

MEAN, SD, JUMP_MEAN, JUMP_SD = range(4)
JUMP_HALF_LIFE_RECORDS = 10.0
JUMP_GAIN = 1.0 - 2.0 ** (-1.0 / JUMP_HALF_LIFE_RECORDS)
DEAD_SHARE = 1e-4  # a channel whose sd is below this share of its largest value is dead ...
FLOOR_SHARE = 0.03  # ... and gets this share of it as sd, so that units do not matter
KNEE_SD = 3.0
DAY_US = 86_400_000_000


def phase_of_day(time_us: NDArray[np.int64]) -> NDArray[np.float32]:
    """The share of its day (UTC) that has passed at each time [n], from 0 to 1."""
    return (time_us % DAY_US / DAY_US).astype(np.float32)


def floored_sd(sd: NDArray[np.float64], largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """`sd`; of dead channels `FLOOR_SHARE` of `largest` = max|x|, or `FLOOR_SHARE` itself where that is 0.

    Any shapes that broadcast. There is no absolute floor: rescaling a channel rescales its floor.
    """
    floor = np.where(largest > 0, FLOOR_SHARE * largest, FLOOR_SHARE)
    return np.where(sd <= DEAD_SHARE * largest, floor, sd)


def jump_residuals(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Each value less the running mean of the past of its channel.

    `values` [n, F] in time order, NaN = missing. Returns float64 [n, F]: r_t = x_t - trend_{t-1}, with
    trend_t = trend_{t-1} + g r_t, g from a half-life of 10 present values, trend = the first present value to
    begin with (whose r is 0). A missing value has r = NaN and leaves the trend where it is.
    """
    out = np.full(values.shape, np.nan)
    trend = np.full(values.shape[1:], np.nan)
    for t, x in enumerate(np.asarray(values, np.float64)):
        trend = np.where(np.isnan(trend), x, trend)
        out[t] = x - trend
        trend = np.where(np.isnan(x), trend, trend + JUMP_GAIN * out[t])
    return out


def fit_location(segments: Sequence[NDArray[np.floating[Any]]]) -> NDArray[np.float32]:
    """Location of one entity from contiguous runs of its records, each [n, F] in time order, NaN = missing.

    Returns float32 [4, F]. The running mean of the jumps starts anew in every segment. A channel that is
    missing throughout gets mean 0 and the sd of a dead channel.
    """
    values = np.concatenate([np.asarray(s, np.float64) for s in segments])
    jumps = np.concatenate([jump_residuals(s) for s in segments])
    largest = np.max(np.abs(values), axis=0, initial=0.0, where=np.isfinite(values))
    mean, sd = _moments(values)
    jump_mean, jump_sd = _moments(jumps)
    rows = (mean, floored_sd(sd, largest), jump_mean, floored_sd(jump_sd, largest))
    return np.stack(rows).astype(np.float32)


def _moments(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    present = np.isfinite(values)
    count = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, values, 0.0).sum(axis=0) / count
    spread = np.where(present, values - mean, 0.0)
    return mean, np.sqrt((spread * spread).sum(axis=0) / count)


def soft_clip(z: Any, xp: ModuleType = jnp) -> Any:
    """Identity up to 3, then sign(z) (3 + 2 ln(1 + (|z| - 3) / 2)); of any shape, in numpy or jax.numpy."""
    size = xp.abs(z)
    beyond = KNEE_SD + 2.0 * xp.log1p(xp.maximum(size - KNEE_SD, 0.0) / 2.0)
    return xp.where(size <= KNEE_SD, z, xp.sign(z) * beyond)


def soft_unclip(clipped: jax.Array) -> jax.Array:
    """The inverse of `soft_clip`, of any shape; held to about 5e7 so that it stays finite in float32."""
    size = jnp.abs(clipped)
    beyond = KNEE_SD + 2.0 * jnp.expm1((jnp.clip(size, KNEE_SD, KNEE_SD + 34.0) - KNEE_SD) / 2.0)
    return jnp.where(size <= KNEE_SD, clipped, jnp.sign(clipped) * beyond)


def scale(values: Any, mean: Any, sd: Any, xp: ModuleType = jnp) -> Any:
    """soft_clip((values - mean) / sd), and 0 where a value is missing; all of one rank."""
    z = soft_clip((values - mean) / sd, xp)
    return xp.where(xp.isfinite(values), z, xp.zeros_like(z))


def lag_windows(rows: NDArray[np.float32], lags: int) -> NDArray[np.float32]:
    """The last `lags` rows at each time, oldest first, [n, lags, F]; the first row stands in for its past."""
    index = np.arange(len(rows))[:, None] + np.arange(1 - lags, 1)
    windows: NDArray[np.float32] = rows[np.maximum(index, 0)]
    return windows


def evenly(n: int, limit: int) -> NDArray[np.intp]:
    """At most `limit` evenly strided indices into `n` rows."""
    return np.arange(n) if n <= limit else np.arange(limit) * n // limit
