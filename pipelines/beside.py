"""The plain detectors that are fitted beside the panel, on the same records, for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.baselines import TABLE
from ..models.fitting import Examples
from ..models.packing import flatten
from ..models.scaling import evenly
from .sequences import Series

SAMPLE_RECORDS = 8192


def fit_beside(series: Sequence[Series]) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """Fit every baseline of the table on an even sample of all series, as one group.

    Returns their arrays by name (`baselines.lag_pca.axes`), and for the manifest what their scores are like
    on these records: the median and the 99th percentile.
    """
    most = max(1, SAMPLE_RECORDS // len(series))
    tensors: dict[str, NDArray[np.float32]] = {}
    summary: dict[str, Any] = {}
    for name, baseline in TABLE.items():
        group = [_examples(one, baseline.lags or one.lags, most) for one in series]
        params = baseline.fit(group)
        score = np.concatenate([baseline.score(params, examples) for examples in group])
        summary[name] = {
            "lags": group[0].windows.shape[1],
            "records": len(score),
            "median": float(np.median(score)),
            "p99": float(np.quantile(score, 0.99)),
        }
        if params is not None:
            arrays = flatten(f"baselines.{name}", params)
            tensors |= {key: np.asarray(array, np.float32) for key, array in arrays.items()}
    return tensors, summary


def _examples(series: Series, lags: int, most: int) -> Examples:
    """An even sample of a series in windows of `lags`, which may be longer than the panel's."""
    rows = np.arange(series.records)
    location = series.location(rows)
    rows = rows[evenly(len(rows), most)]
    past = rows[:, None] + np.arange(series.lags - lags, series.lags)
    return Examples(series.values[np.maximum(past, 0)], series.jump[rows], location, series.phase(rows))
