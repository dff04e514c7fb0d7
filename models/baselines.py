"""Plain detectors that are fitted beside the panel, to say what it is worth on the same records.

One contract: `fit` on the examples of a group of entities, `score` the examples of one of them: one number
per record, larger is stranger. Nothing is smoothed here. They run in numpy, offline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import whitening
from .fitting import Examples, prepare
from .scaling import JUMP_MEAN, JUMP_SD, MEAN, SD, evenly, scale

PCA_VARIANCE = 0.9
PCA_CLIP_SD = 10.0
PCA_LAGS = 10
BLOCK_ROWS = 4096


class Baseline(NamedTuple):
    """One plain detector."""

    name: str
    lags: int | None
    """records its windows should hold; None where the panel's own will do"""
    fit: Callable[[Sequence[Examples]], Any]
    score: Callable[[Any, Examples], NDArray[np.float64]]
    """[n]"""


class PcaParams(NamedTuple):
    """mean [D] and leading axes [D, k] of clipped z-scored windows, float64."""

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]


def fit_mahalanobis(group: Sequence[Examples]) -> whitening.Whitening:
    """The panel's own whitening of the scaled windows."""
    return prepare(group)[0].whitening


def score_mahalanobis(params: whitening.Whitening, examples: Examples) -> NDArray[np.float64]:
    """Squared length of the whitened window."""

    def block(windows: NDArray[np.float64]) -> NDArray[np.float64]:
        at = examples.location.astype(np.float64)[:, None, None, :]
        z = scale(windows, at[MEAN], at[SD], np).astype(np.float32)
        w = whitening.apply(params, z.reshape(len(z), -1))
        square: NDArray[np.float64] = np.square(w.astype(np.float64)).sum(axis=1)
        return square

    return _by_block(block, examples.windows)


def fit_lag_pca(group: Sequence[Examples]) -> PcaParams:
    """Leading axes that hold 90 % of the variance of z-scored windows, clipped at 10 sd."""
    share = max(1, whitening.SAMPLE_WINDOWS // len(group))
    z = np.concatenate([_clipped(e.windows[evenly(len(e.windows), share)], e.location) for e in group])
    mean = z.mean(axis=0)
    e, axes = np.linalg.eigh(np.cov(z, rowvar=False, bias=True).reshape(z.shape[1], -1))
    share_kept = np.cumsum(e[::-1]) / max(float(e.sum()), 1e-300)
    kept = int(np.searchsorted(share_kept, PCA_VARIANCE)) + 1
    return PcaParams(mean, axes[:, ::-1][:, :kept])


def score_lag_pca(params: PcaParams, examples: Examples) -> NDArray[np.float64]:
    """Squared length of what the leading axes leave of the window."""

    def block(windows: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = _clipped(windows, examples.location) - params.mean
        left = centred - centred @ params.axes @ params.axes.T
        square: NDArray[np.float64] = np.square(left).sum(axis=1)
        return square

    return _by_block(block, examples.windows)


def fit_ewma_residual(group: Sequence[Examples]) -> None:
    """Nothing of its own: the scale of jumps is part of an entity's location."""


def score_ewma_residual(params: None, examples: Examples) -> NDArray[np.float64]:
    """Mean over the channels present of the squared scaled jump from the running mean (half-life 10)."""
    at = examples.location.astype(np.float64)[:, None, :]
    r = scale(examples.jump.astype(np.float64), at[JUMP_MEAN], at[JUMP_SD], np)
    mean: NDArray[np.float64] = (r * r).sum(axis=1) / np.maximum(np.isfinite(examples.jump).sum(axis=1), 1)
    return mean


TABLE: dict[str, Baseline] = {
    "mahalanobis": Baseline("mahalanobis", None, fit_mahalanobis, score_mahalanobis),
    "lag_pca": Baseline("lag_pca", PCA_LAGS, fit_lag_pca, score_lag_pca),
    "ewma_residual": Baseline("ewma_residual", None, fit_ewma_residual, score_ewma_residual),
}


def _clipped(windows: NDArray[Any], location: NDArray[np.float32]) -> NDArray[np.float64]:
    at = location.astype(np.float64)
    z = np.clip((windows - at[MEAN]) / at[SD], -PCA_CLIP_SD, PCA_CLIP_SD).reshape(len(windows), -1)
    return np.where(np.isfinite(z), z, 0.0)


def _by_block(
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]], windows: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Scores of windows given as a strided view, a block at a time so that it is never copied whole."""
    parts = [
        score(windows[first : first + BLOCK_ROWS].astype(np.float64))
        for first in range(0, len(windows), BLOCK_ROWS)
    ]
    return np.concatenate(parts) if parts else np.empty(0)
