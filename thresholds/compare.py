"""Two windows of records compared: how far the score, each feature and the latent have moved, beyond chance.

    found = compare(reference, present, levelled)   # `Window`s -> `Comparison`
    population_stability(expected, actual)          # counts by bin -> PSI
    wasserstein(a, b)                               # two samples -> mean distance between equal ranks
    frechet(one, two)                               # two Gaussians -> squared distance

What chance does is asked of the reference (`chance`): the bound is the 95 % point of what is seen between pairs of
windows of these sizes that are drawn from it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .chance import CONFIDENCE, ROUNDS, UNSURE, Draws, Floats, block_counts, blocks_of, bounds, draws, longer

DECILES: Final = np.arange(0.1, 0.95, 0.1)
QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)
TAIL: Final = 0.95
"""The reference's point beyond which the tail begins. Further out lie a day's few excursions, which come and go."""
LEAST_PSI: Final = 0.1
LEAST_TAIL: Final = 0.1
LEAST_MISSING: Final = 0.05
LEAST_LATENT: Final = 0.1
"""Below these nothing has moved, however sure it is."""
FLATTERED: Final = 0.05
"""A window with more than this share of records that the model was trained on has lower scores than others have."""
LEAST_FLATTERED: Final = 0.25
"""The PSI that counts for the score then; its tail does not."""
LEAST_VARIANCE: Final = 0.01
"""A latent that hardly varied is taken to vary this much; its prior varies by 1 in each unit."""
FEWEST: Final = 100
"""Values of a feature that each window needs to be compared."""


class Window(NamedTuple):
    """One window's records, a sample of at most some 200,000; features already scaled by their entity's location."""

    records: int
    """How many there were before the sample was taken."""
    trained: float
    """Share of the scored ones that the model was trained on."""
    time_us: NDArray[np.int64]
    """[n] event times."""
    score: NDArray[np.float64]
    """[n] NaN where a record was not scored."""
    values: NDArray[np.float32]
    """[n, F] NaN is missing."""
    latent_us: NDArray[np.int64]
    """[m] event times of the rows of `latent`."""
    latent: NDArray[np.float32]
    """[m, K] posterior means; K is 0 for a model without a VAE."""


class Score(NamedTuple):
    """The score's distribution in both windows. A bound is what chance does, a limit what has to be exceeded."""

    reference: list[float]
    present: list[float]
    """At `QUANTILES`."""
    psi: float
    psi_bound: float
    psi_limit: float
    wasserstein: float
    tail: float
    """Share of the present scores beyond the reference's 95 % point."""
    tail_bound: float
    tail_limit: float
    moved: bool


class Feature(NamedTuple):
    """One feature in both windows. PSI and distance are NaN where a window has too few values."""

    feature: int
    psi: float
    psi_bound: float
    psi_limit: float
    wasserstein: float
    """In standard deviations of the entities."""
    missing: tuple[float, float]
    """Share of records without it: reference, present."""
    missing_bound: float
    missing_limit: float
    """Of the difference of the two."""
    moved: bool
    level: bool
    """It moved, but only by its level: moved back by its median it would not have."""
    lost: bool
    """The share missing moved, up or down."""
    constant: bool
    """Nearly all its values in the reference are the same."""


class Latent(NamedTuple):
    """The posterior means of both windows, as Gaussians."""

    frechet: float
    """Squared distance."""
    share: float
    """Of the reference's variance."""
    bound: float
    limit: float
    """Of that share."""
    moved: bool
    level: bool
    """It moved, but with the features moved back by their medians it would not have."""


class Comparison(NamedTuple):
    """All that two windows say of each other."""

    score: Score
    features: list[Feature]
    latent: Latent | None
    """None for a model without a VAE."""


class Gaussian(NamedTuple):
    """Mean [..., K] and (population) covariance [..., K, K]."""

    mean: Floats
    covariance: Floats


def compare(
    reference: Window, present: Window, levelled: Window, *, rounds: int = ROUNDS, seed: int = 0
) -> Comparison:
    """What moved between two windows. The same windows give the same answer: chance is seeded.

    `levelled` is the present with each feature moved back to the reference's median.
    """
    sizes = block_counts(reference.records, present.records)
    pairs = draws(np.random.default_rng(seed), *sizes, rounds)
    block = blocks_of(reference.time_us, sizes[0])
    return Comparison(
        _score(reference, present, block, pairs),
        _features(reference.values, present.values, levelled.values, block, pairs),
        _latent(reference, present, levelled, pairs) if reference.latent.shape[1] else None,
    )


def edges_of(values: NDArray[np.floating]) -> Floats:
    """The deciles of a sample without NaN; a value that spans several of them gets a bin of its own."""
    deciles = np.quantile(values.astype(np.float64), DECILES)
    tied = deciles[1:][deciles[1:] == deciles[:-1]]
    return np.unique(np.concatenate([deciles, np.nextafter(tied, -np.inf)]))


def counted(
    values: NDArray[np.floating], edges: Floats, block: NDArray[np.int64], blocks: int
) -> tuple[Floats, Floats]:
    """Values by block and bin [blocks, bins], and the missing ones by block [blocks]."""
    bins = len(edges) + 1
    place = np.searchsorted(edges, values.astype(np.float64), side="left")
    place[np.isnan(values)] = bins
    both = np.bincount(block * (bins + 1) + place, minlength=blocks * (bins + 1))
    table = both.reshape(blocks, bins + 1).astype(np.float64)
    return table[:, :bins], table[:, bins]


def population_stability(expected: Floats, actual: Floats) -> Floats:
    """PSI = sum of (a - e) ln(a / e) over the shares of bins, of counts [..., bins].

    Siddiqi, Credit Risk Scorecards, 2006: below .1 little has changed, above .25 much. An empty bin counts half a
    record, so that one value more does not make it infinite.
    """
    e, a = (
        np.maximum(counts, 0.5) / np.maximum(counts.sum(axis=-1, keepdims=True), 1.0)
        for counts in (expected, actual)
    )
    total: Floats = ((a - e) * np.log(a / e)).sum(axis=-1)
    return total


def wasserstein(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """W1 of two samples, the integral of |F - G| (Vallender, Theory of Probability 18 (1974) 784)."""
    a, b = np.sort(a).astype(np.float64), np.sort(b).astype(np.float64)
    both = np.sort(np.concatenate([a, b]))
    below = (np.searchsorted(one, both[:-1], side="right") / len(one) for one in (a, b))
    return float(np.sum(np.abs(np.subtract(*below)) * np.diff(both)))


def gaussian(z: NDArray[np.floating]) -> Gaussian:
    """The moments of rows [n, K]."""
    wide = z.astype(np.float64)
    return Gaussian(wide.mean(axis=0), np.cov(wide.T, bias=True).reshape(z.shape[1], z.shape[1]))


def frechet(one: Gaussian, two: Gaussian) -> Floats:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of Gaussians [...].

    Dowson and Landau, Journal of Multivariate Analysis 12 (1982) 450. The trace of the root is that of the symmetric
    C1^(1/2) C2 C1^(1/2).
    """
    values, axes = np.linalg.eigh(one.covariance)
    root = (axes * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.swapaxes(axes, -1, -2)
    inner = np.linalg.eigvalsh(root @ two.covariance @ root)
    apart = one.mean - two.mean
    traces = np.trace(one.covariance + two.covariance, axis1=-2, axis2=-1)
    whole = (apart * apart).sum(axis=-1) + traces - 2.0 * np.sqrt(np.maximum(inner, 0.0)).sum(axis=-1)
    return np.asarray(np.maximum(whole, 0.0))


def _score(reference: Window, present: Window, block: NDArray[np.int64], pairs: Draws) -> Score:
    known = np.isfinite(reference.score)
    before, now = reference.score[known], present.score[np.isfinite(present.score)]
    here, blocks = block[known], pairs.reference.shape[1]
    psi, null, _ = _stability(before, now, here, pairs)
    high = np.quantile(before, [TAIL])
    beyond, _ = counted(before, high, here, blocks)
    ours, theirs = (drawn @ beyond for drawn in pairs)
    usual = float((before > high).mean())
    rise = theirs[:, 1] / theirs.sum(axis=1) - ours[:, 1] / ours.sum(axis=1)
    spread = UNSURE * longer(beyond[:, 1:] - usual * beyond.sum(axis=1, keepdims=True)) ** 0.5
    tail, tail_bound = float((now > high).mean()), usual + spread * float(np.quantile(rise, CONFIDENCE))
    psi_bound = float(bounds(null[:, None])[0])
    flattered = max(reference.trained, present.trained) > FLATTERED
    psi_limit = max(psi_bound, LEAST_FLATTERED if flattered else LEAST_PSI)
    tail_limit = 1.0 if flattered else max(tail_bound, LEAST_TAIL)
    return Score(
        np.quantile(before, QUANTILES).tolist(),
        np.quantile(now, QUANTILES).tolist(),
        psi,
        psi_bound,
        psi_limit,
        wasserstein(before, now),
        tail,
        tail_bound,
        tail_limit,
        psi > psi_limit or tail > tail_limit,
    )


def _stability(
    before: NDArray[np.floating], now: NDArray[np.floating], block: NDArray[np.int64], pairs: Draws
) -> tuple[float, Floats, Floats]:
    """PSI of two samples without NaN, what chance makes of it [R], and the edges of its bins."""
    edges = edges_of(before)
    table, _ = counted(before, edges, block, pairs.reference.shape[1])
    actual, _ = counted(now, edges, np.zeros(len(now), np.int64), 1)
    psi = float(population_stability(table.sum(axis=0), actual[0]))
    null = population_stability(pairs.reference @ table, pairs.present @ table)
    share = np.maximum(table.sum(axis=0), 0.5) / len(before)
    apart = (table - table.sum(axis=1, keepdims=True) * share) / np.sqrt(share)
    return psi, longer(apart) * null, edges


def _features(
    reference: NDArray[np.float32],
    present: NDArray[np.float32],
    levelled: NDArray[np.float32],
    block: NDArray[np.int64],
    pairs: Draws,
) -> list[Feature]:
    count, blocks = reference.shape[1], pairs.reference.shape[1]
    null, gone = np.zeros((len(pairs.reference), count)), np.zeros((len(pairs.reference), count))
    psi = np.full(count, np.nan)
    edges: list[Floats] = [np.zeros(0)] * count
    missing = np.stack([np.isnan(one).mean(axis=0) for one in (reference, present)], axis=1)
    whole = np.bincount(block, minlength=blocks).astype(np.float64)
    for f in range(count):
        there = ~np.isnan(reference[:, f])
        before, now = reference[there, f], present[~np.isnan(present[:, f]), f]
        lost = np.bincount(block[~there], minlength=blocks).astype(np.float64)
        ours, theirs = ((drawn @ lost) / (drawn @ whole) for drawn in pairs)
        spread = longer((lost - missing[f, 0] * whole)[:, None]) ** 0.5
        gone[:, f] = spread * np.abs(theirs - ours)
        if min(len(before), len(now)) >= FEWEST:
            psi[f], null[:, f], edges[f] = _stability(before, now, block[there], pairs)
    psi_bound, missing_bound = bounds(null), bounds(gone)
    found = []
    for f in range(count):
        before, now, back = (one[~np.isnan(one[:, f]), f] for one in (reference, present, levelled))
        compared = bool(np.isfinite(psi[f]))
        limit = max(float(psi_bound[f]), LEAST_PSI)
        missing_limit = max(float(missing_bound[f]), LEAST_MISSING)
        moved = compared and float(psi[f]) > limit
        found.append(
            Feature(
                f,
                float(psi[f]),
                float(psi_bound[f]) if compared else float("nan"),
                limit if compared else float("nan"),
                wasserstein(before, now) if compared else float("nan"),
                (float(missing[f, 0]), float(missing[f, 1])),
                float(missing_bound[f]),
                missing_limit,
                moved,
                moved and _stable(before, back, edges[f]) <= limit,
                abs(float(missing[f, 1] - missing[f, 0])) > missing_limit,
                compared and len(edges[f]) <= 2,
            )
        )
    return found


def _stable(before: NDArray[np.float32], now: NDArray[np.float32], edges: Floats) -> float:
    tables = (counted(one, edges, np.zeros(len(one), np.int64), 1)[0][0] for one in (before, now))
    return float(population_stability(*tables))


def _latent(reference: Window, present: Window, levelled: Window, pairs: Draws) -> Latent:
    blocks, size = pairs.reference.shape[1], reference.latent.shape[1]
    before = gaussian(reference.latent)
    distance, level = (float(frechet(before, gaussian(one.latent))) for one in (present, levelled))
    variance = max(float(np.trace(before.covariance)), LEAST_VARIANCE)
    z = reference.latent.astype(np.float64) - before.mean
    block = blocks_of(reference.latent_us, blocks)
    held = np.bincount(block, minlength=blocks).astype(np.float64)
    sums, squares = np.zeros((blocks, size)), np.zeros((blocks, size, size))
    np.add.at(sums, block, z)
    np.add.at(squares, block, z[:, :, None] * z[:, None, :])
    null = frechet(*(_drawn(weight, held, sums, squares) for weight in pairs)) / variance
    bound = float(bounds(longer(sums) * null[:, None])[0])
    limit = max(bound, LEAST_LATENT)
    moved = distance / variance > limit
    return Latent(distance, distance / variance, bound, limit, moved, moved and level / variance <= limit)


def _drawn(weight: Floats, held: Floats, sums: Floats, squares: Floats) -> Gaussian:
    """The Gaussians of drawn blocks, from each block's count, sums and sums of products."""
    n = np.maximum(weight @ held, 1.0)
    mean = (weight @ sums) / n[:, None]
    second = np.tensordot(weight, squares, axes=1) / n[:, None, None]
    return Gaussian(mean, second - mean[:, :, None] * mean[:, None, :])
