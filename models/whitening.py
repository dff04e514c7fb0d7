"""Full whitening of a short lag window: the rotation onto its principal axes and their spreads."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

RIDGE = 0.003  # flat between .001 and .01; keeps minor axes from being blown up
SAMPLE_WINDOWS = 8000
FULL_UP_TO = 512  # values per window; above, only the leading components are kept


class Moments(NamedTuple):
    """Mean [D] and covariance [D, D] of flattened windows, float64."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


class Whitening(NamedTuple):
    """w = (G - mean) basis / spread, for a flattened window G of D = lags x channels values.

    mean [D], basis [D, K] (orthonormal columns, K = min(D, 512), leading first), spread [K] = sqrt(e + .003)
    with the eigenvalues e; float32.
    """

    mean: jax.Array
    basis: jax.Array
    spread: jax.Array


def moments(windows: NDArray[np.float32]) -> Moments:
    """Mean and (population) covariance of windows [n, D]; the caller has thinned them to `SAMPLE_WINDOWS`."""
    sample = windows.astype(np.float64)
    mean = sample.mean(axis=0)
    sample -= mean
    return Moments(mean, sample.T @ sample / len(sample))


def fit(given: Moments) -> Whitening:
    """The whitening of these moments; each axis points where its largest coordinate is positive."""
    e, axes = np.linalg.eigh(given.covariance)
    keep = min(len(e), FULL_UP_TO)
    e, axes = e[::-1][:keep], axes[:, ::-1][:, :keep]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(keep)]
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    spread = np.sqrt(np.maximum(e, 0.0) + RIDGE)
    return Whitening(*(jnp.asarray(a, jnp.float32) for a in (given.mean, axes, spread)))


def apply(whitening: Whitening, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whitened windows [n, K] of windows [n, D], in numpy; the scorer has its own in `panel`."""
    centred = windows - np.asarray(whitening.mean)[None, :]
    return np.asarray(
        centred @ np.asarray(whitening.basis) / np.asarray(whitening.spread)[None, :], np.float32
    )
