"""Detectors to compare with: causal, untuned, fitted on all of train. Each scores the test records, larger is stranger.

    score(train [n, F], test [m, F]) -> (of train [n], of test [m])

They run where `requirements.txt` is installed, apart from the product, which none of them belongs to.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pair = tuple[Floats, Floats]
LAGS, CLIP, VARIANCE, RIDGE, HALF_LIFE = 10, 10.0, 0.9, 0.003, 10.0
WINDOW = 5
TREES, DEPTH, PAST = 10, 6, 250
SUBSET = 20_000
"""Records of train that the slow ones are fitted on, evenly strided."""


def scaled(train: Floats, test: Floats) -> Pair:
    """z-scores by train, clipped; a dead channel that wakes up stands at the clip."""
    mean, sd = np.nanmean(train, axis=0), np.nanstd(train, axis=0) + 1e-6
    one, two = (np.nan_to_num(np.clip((x - mean) / sd, -CLIP, CLIP)) for x in (train, test))
    return one, two


def lagged(x: Floats, before: Floats, lags: int) -> Floats:
    """[n, lags * F] the last records up to each, with those of `before` ahead of the first."""
    head = (
        before[len(before) - (lags - 1) :] if len(before) >= lags - 1 else np.repeat(x[:1], lags - 1, axis=0)
    )
    whole = np.concatenate([head, x])
    return np.concatenate([whole[i : i + len(x)] for i in range(lags)], axis=1)


def pca_error(train: Floats, test: Floats) -> Pair:
    """Squared error of reconstruction from the components that hold VARIANCE of train."""
    mean = train.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(train - mean, rowvar=False).reshape(train.shape[1], -1))
    order = np.argsort(-values)
    kept = 1 + int(np.searchsorted(np.cumsum(values[order]) / max(values.sum(), 1e-12), VARIANCE))
    basis = vectors[:, order[:kept]]

    def error(x: Floats) -> Floats:
        centred = x - mean
        return np.asarray(((centred - centred @ basis @ basis.T) ** 2).sum(axis=1))

    return error(train), error(test)


def lag_pca(train: Floats, test: Floats) -> Pair:
    """PCA over windows of LAGS records."""
    a, b = scaled(train, test)
    return pca_error(lagged(a, a[:0], LAGS), lagged(b, a, LAGS))


def windowed_pca(train: Floats, test: Floats) -> Pair:
    """PCA over records, its error averaged over the last LAGS."""
    a, b = pca_error(*scaled(train, test))
    whole = np.convolve(np.r_[np.full(LAGS - 1, a[0]), a, b], np.full(LAGS, 1 / LAGS), "valid")
    return whole[: len(a)], whole[len(a) :]


def mahalanobis(train: Floats, test: Floats) -> Pair:
    """Whitened distance of windows of WINDOW records, with a ridge."""
    a, b = scaled(train, test)
    a, b = lagged(a, a[:0], WINDOW), lagged(b, a, WINDOW)
    mean = a.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(a - mean, rowvar=False).reshape(a.shape[1], -1))
    basis = vectors / np.sqrt(np.maximum(values, 0) + RIDGE)
    near, far = (((x - mean) @ basis) ** 2 for x in (a, b))
    return near.sum(axis=1), far.sum(axis=1)


def ewma_residual(train: Floats, test: Floats) -> Pair:
    """Largest z-score of a record's difference from the average of those before it."""
    keep = 0.5 ** (1 / HALF_LIFE)
    whole = np.concatenate([train, test])
    residual = np.zeros_like(whole)
    mean = np.nan_to_num(whole[0])
    for i, x in enumerate(np.nan_to_num(whole)):
        residual[i] = x - mean
        mean = keep * mean + (1 - keep) * x
    sd = residual[: len(train)].std(axis=0)
    z = np.abs(residual) / np.where(sd > 1e-8, sd, 1.0)
    return z[: len(train)].max(axis=1), z[len(train) :].max(axis=1)


def half_space_trees(train: Floats, test: Floats) -> Pair:
    """river's, learning on as it goes; its features have to lie in [0, 1]."""
    from river.anomaly import HalfSpaceTrees

    low, high = np.nanmin(train, axis=0), np.nanmax(train, axis=0)
    span = np.where(high > low, high - low, 1.0)
    a, b = (np.clip(np.nan_to_num((x - low) / span), 0, 1) for x in (train[-SUBSET:], test))
    model = HalfSpaceTrees(n_trees=TREES, height=DEPTH, window_size=PAST, seed=0)
    told = []
    for row in np.concatenate([a, b]):
        record = dict(enumerate(row.tolist()))
        told.append(model.score_one(record))
        model.learn_one(record)
    return np.array(told[: len(a)]), np.array(told[len(a) :])


def pyod_ecod(train: Floats, test: Floats) -> Pair:
    """PyOD's ECOD, the detector without a parameter that its authors recommend to begin with."""
    from pyod.models.ecod import ECOD

    a, b = scaled(train, test)
    model = ECOD().fit(a[:: max(1, len(a) // SUBSET)])
    return model.decision_function(a), model.decision_function(b)


def pyod_iforest(train: Floats, test: Floats) -> Pair:
    """PyOD's isolation forest."""
    from pyod.models.iforest import IForest

    a, b = scaled(train, test)
    model = IForest(random_state=0).fit(a[:: max(1, len(a) // SUBSET)])
    return model.decision_function(a), model.decision_function(b)


TABLE: dict[str, Callable[[Floats, Floats], Pair]] = {
    "lag-PCA": lag_pca,
    "windowed PCA": windowed_pca,
    "Mahalanobis": mahalanobis,
    "EWMA residual": ewma_residual,
    "HalfSpaceTrees (river)": half_space_trees,
    "ECOD (PyOD)": pyod_ecod,
    "IForest (PyOD)": pyod_iforest,
}
