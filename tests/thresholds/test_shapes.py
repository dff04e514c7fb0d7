"""Two windows as small arrays: nothing of them is lost, both stand in the same bins, and what moved comes first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.thresholds import shapes
from tocsin.thresholds.compare import Comparison, Feature, Window, compare
from tocsin.thresholds.shapes import ABOVE, BINS, DRAWN, REACH, exceeded, foremost, histogram


def feature(number: int, psi: float, *, moved: bool = False, lost: bool = False) -> Feature:
    return Feature(number, psi, 0.1, 0.1, 0.0, (0.0, 0.0), 0.0, 0.05, moved, False, lost, False)


def window(values: np.ndarray, score: np.ndarray, latent: np.ndarray) -> Window:
    times = np.arange(len(values)) * 1_000_000
    return Window(len(values), 0.0, times, score, values.astype(np.float32), times, latent.astype(np.float32))


@given(st.integers(0, 10_000), st.integers(1, 3000), st.integers(1, 3000))
def test_a_histogram_holds_every_value_of_both_windows(seed: int, before: int, now: int) -> None:
    rng = np.random.default_rng(seed)
    made = histogram(rng.normal(size=before), rng.normal(2.0, 3.0, now))
    assert made.share.shape == (2, BINS)
    assert made.share.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert np.diff(made.edges) == pytest.approx([made.edges[1] - made.edges[0]] * BINS)


def test_its_bins_are_counted_as_by_hand() -> None:
    made = histogram(np.linspace(0.0, 10.0, 2001), np.r_[np.full(300, 2.5), np.full(100, 7.5)])
    place = np.searchsorted(made.edges, [2.5, 7.5]) - 1
    assert made.share[1, place].tolist() == [0.75, 0.25]
    assert made.share[0, 2:-2] == pytest.approx((made.edges[1] - made.edges[0]) / 10.0, abs=0.0006)
    assert (made.edges[0], made.edges[-1]) == pytest.approx((-0.4, 10.4), abs=0.02)


def test_what_lies_far_out_is_counted_in_the_outermost_bin_and_stretches_nothing() -> None:
    rng = np.random.default_rng(1)
    now = np.r_[rng.normal(size=9_995), np.full(5, 1e6)]
    made = histogram(rng.normal(size=10_000), now)
    assert made.edges[-1] < 10.0
    assert 5 / 10_000 <= made.share[1, -1] <= 2 * REACH


@pytest.mark.parametrize("value", [0.0, -7.25])
def test_a_constant_is_one_bar(value: float) -> None:
    made = histogram(np.full(500, value), np.full(300, value))
    assert made.edges[-1] - made.edges[0] == pytest.approx(1.0)
    assert np.count_nonzero(made.share) == 2
    assert made.share.max() == 1.0


def test_a_window_without_values_has_no_bars() -> None:
    nothing = np.zeros(0, np.float32)
    gone = histogram(np.arange(9.0), nothing)
    assert gone.share.sum(axis=1).tolist() == [pytest.approx(1.0), 0.0]
    assert not histogram(nothing, nothing).share.any()


def test_such_shares_of_a_sample_lie_above_the_points() -> None:
    scores = np.random.default_rng(2).permutation(np.arange(1000.0))
    points = exceeded(scores)
    known = np.isfinite(points)
    assert ABOVE[known].min() >= 1e-3 > ABOVE[~known].max()
    above = np.array([(scores > point).mean() for point in points[known]])
    assert above == pytest.approx(ABOVE[known], abs=0.0011)


def test_what_moved_comes_first_however_small_its_psi() -> None:
    given = [feature(0, 0.3), feature(1, np.nan), feature(2, 0.2, moved=True), feature(3, np.nan, lost=True)]
    given += [feature(4, 0.01), feature(5, 0.9, moved=True)]
    assert [one.feature for one in foremost(Comparison(None, given, None))] == [5, 2, 3, 0, 4, 1]


def test_the_arrays_of_two_windows() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2000, DRAWN + 5))
    x[1000:, 23] += 3.0
    x[:400, 7] = np.nan
    score = x[:, 0].copy()
    score[::10] = np.nan
    z = rng.normal(size=(2000, 3)) * [1.0, 2.0, 0.5]
    z[1000:, 1] += 4.0
    one, two = (window(x[at], score[at], z[at]) for at in (slice(0, 1000), slice(1000, 2000)))
    found = compare(one, two, two, rounds=50)
    made = shapes.shapes(one, two, found)
    assert next(iter(made.features)) == 23
    assert len(made.features) == DRAWN
    assert all(each.share.sum(axis=1) == pytest.approx([1.0, 1.0]) for each in made.features.values())
    before = score[:1000][np.isfinite(score[:1000])]
    assert (before > made.high).mean() == pytest.approx(0.05, abs=0.002)
    assert made.score.share.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert made.latent is not None
    assert made.latent[:, 0] == pytest.approx(np.array([[0.0, 0.0, 0.0], [0.0, 4.0, 0.0]]), abs=0.25)
    assert made.latent[:, 1] == pytest.approx(np.array([[1.0, 2.0, 0.5]] * 2), rel=0.1)
    none = (each._replace(latent=np.zeros((1000, 0), np.float32)) for each in (one, two))
    assert shapes.shapes(*none, found._replace(latent=None)).latent is None
