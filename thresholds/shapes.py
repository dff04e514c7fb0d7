"""Two windows beside each other as small arrays, to be drawn: histograms, how many lie above, moments of the latent.

found = compare(reference, present, levelled)
shapes(reference, present, found)               # -> `Shapes`, some kilobytes however long the windows are
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .chance import Floats
from .compare import TAIL, Comparison, Feature, Window

BINS: Final = 50
REACH: Final = 0.001
"""Share of a window, at most, that lies beyond the bins at either end; the outermost bins count it."""
STILL: Final = 0.01
"""What varies by less is drawn as a constant."""
ABOVE: Final = 10.0 ** np.linspace(0.0, -4.0, 41)
"""Shares of a window whose scores lie above a point, from all of it down."""
DRAWN: Final = 20
"""Features that have a histogram, the foremost."""


class Histogram(NamedTuple):
    """A figure's distribution in both windows, in the same bins of one width."""

    edges: Floats
    """[BINS + 1]"""
    share: Floats
    """[2, BINS] of the values there are in the reference and in the present; 0 throughout where there is none."""


class Shapes(NamedTuple):
    """What a picture of two windows needs."""

    score: Histogram
    high: float
    """The reference's 95 % point of the score."""
    above: Floats
    """[2, len(ABOVE)] the scores that such a share of a window exceeds; NaN where that is less than one record."""
    features: dict[int, Histogram]
    """In standard deviations of the entities, by feature, the foremost `DRAWN`."""
    latent: Floats | None
    """[2, 2, K] mean and standard deviation of each unit in both windows; None without a VAE."""


def foremost(found: Comparison) -> list[Feature]:
    """All features: those that moved first, in value or in their share missing, then by PSI from above."""
    return sorted(
        found.features,
        key=lambda one: (not (one.moved or one.lost), -one.psi if math.isfinite(one.psi) else 0.0),
    )


def shapes(reference: Window, present: Window, found: Comparison) -> Shapes:
    """The arrays to draw of two windows and of what was found between them."""
    both = (reference, present)
    before, now = (one.score[np.isfinite(one.score)] for one in both)
    drawn = [one.feature for one in foremost(found)[:DRAWN]]
    return Shapes(
        histogram(before, now),
        float(np.quantile(before, TAIL)),
        np.stack([exceeded(one) for one in (before, now)]),
        {f: histogram(*(one.values[~np.isnan(one.values[:, f]), f] for one in both)) for f in drawn},
        None if found.latent is None else np.stack([_moments(one.latent) for one in both]),
    )


def histogram(before: NDArray[np.floating], now: NDArray[np.floating]) -> Histogram:
    """Of two samples without NaN, either of which may be empty."""
    ends = [np.quantile(one.astype(np.float64), (REACH, 1.0 - REACH)) for one in (before, now) if len(one)]
    low, high = (min(one[0] for one in ends), max(one[1] for one in ends)) if ends else (0.0, 0.0)
    room = 0.04 * (high - low) if high - low > STILL else 0.5
    edges = np.linspace(low - room, high + room, BINS + 1)
    return Histogram(edges, np.stack([_shares(one.astype(np.float64), edges) for one in (before, now)]))


def exceeded(scores: NDArray[np.float64]) -> Floats:
    """[len(ABOVE)] the points above which such shares of a sample lie."""
    points = np.quantile(scores, 1.0 - ABOVE)
    return np.where(ABOVE * len(scores) >= 1.0, points, np.nan)


def _shares(values: Floats, edges: Floats) -> Floats:
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, BINS - 1)
    return np.bincount(place, minlength=BINS) / max(len(values), 1)


def _moments(latent: NDArray[np.float32]) -> Floats:
    """[2, K] means and standard deviations of rows [m, K]."""
    wide = latent.astype(np.float64)
    return np.stack([wide.mean(axis=0), wide.std(axis=0)])
