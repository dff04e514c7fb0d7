"""Two windows compared: what is zero, what is symmetric, what chance does, and what is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tocsin.thresholds import chance, compare
from tocsin.thresholds.compare import Comparison, Gaussian, Window

ROUNDS = 200


def window(values: NDArray[np.float64], score: NDArray[np.float64] | None = None) -> Window:
    """Records of one entity, one a second; the latent is the features."""
    held = values.astype(np.float32)
    times = np.arange(len(held)) * 1_000_000
    return Window(
        len(held), 0.0, times, held[:, 0].astype(float) if score is None else score, held, times, held
    )


def compared(reference: Window, present: Window) -> Comparison:
    """With each feature moved back by its median, and the latent with it where it is the features."""
    moved = medians(present.values) - medians(reference.values)
    latent = present.latent - moved if present.latent is present.values else present.latent
    levelled = present._replace(values=present.values - moved, latent=latent)
    return compare.compare(reference, present, levelled, rounds=ROUNDS)


def medians(values: NDArray[np.float32]) -> NDArray[np.float32]:
    there = [column[np.isfinite(column)] for column in values.T]
    return np.array([np.median(one) if len(one) else 0.0 for one in there], np.float32)


def autoregressive(rng: np.random.Generator, n: int, features: int, phi: float) -> NDArray[np.float64]:
    """Columns of unit variance whose neighbours correlate by phi."""
    x = rng.normal(size=(n, features))
    for row in range(1, n):
        x[row] = phi * x[row - 1] + np.sqrt(1 - phi**2) * x[row]
    return x


def counts(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    return compare.counted(values, edges, np.zeros(len(values), np.int64), 1)[0][0]


def test_a_window_is_not_apart_from_itself() -> None:
    one = window(autoregressive(np.random.default_rng(1), 900, 4, 0.5))
    found = compared(one, one)
    assert found.score.psi == found.score.wasserstein == 0.0
    assert found.score.reference == found.score.present
    assert [(f.psi, f.wasserstein, f.moved, f.lost) for f in found.features] == [(0.0, 0.0, False, False)] * 4
    assert found.latent.share < 1e-9
    assert (found.latent.moved, found.score.moved) == (False, False)


def test_the_same_windows_give_the_same_bounds() -> None:
    rng = np.random.default_rng(2)
    one, two = (window(autoregressive(rng, 500, 3, 0.5)) for _ in range(2))
    assert compared(one, two) == compared(one, two)


@given(st.integers(0, 10_000))
def test_distances_are_symmetric(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(60, 3)), 0.3 + 1.5 * rng.normal(size=(80, 3))
    assert compare.wasserstein(a[:, 0], b[:, 0]) == pytest.approx(compare.wasserstein(b[:, 0], a[:, 0]))
    p, q = compare.gaussian(a), compare.gaussian(b)
    assert compare.frechet(p, q) == pytest.approx(compare.frechet(q, p), rel=1e-6)
    edges = compare.edges_of(a[:, 0])
    e, n = counts(a[:, 0], edges), counts(b[:, 0], edges)
    assert compare.population_stability(e, n) == pytest.approx(compare.population_stability(n, e))


def test_the_formulas_give_what_can_be_done_by_hand() -> None:
    # (.25 - .5) ln(.25 / .5) + (.75 - .5) ln(.75 / .5)
    expected = 0.25 * np.log(2.0) + 0.25 * np.log(1.5)
    assert compare.population_stability(np.array([50.0, 50.0]), np.array([25.0, 75.0])) == pytest.approx(
        expected
    )
    assert np.isfinite(compare.population_stability(np.array([50.0, 50.0]), np.array([0.0, 100.0])))
    assert compare.wasserstein(np.array([0.0, 1.0, 3.0]), np.array([5.0, 6.0, 8.0])) == pytest.approx(5.0)
    assert compare.wasserstein(np.array([0.0, 2.0]), np.array([0.0, 1.0, 1.0, 2.0])) == pytest.approx(0.5)
    one = Gaussian(np.array([0.0, 1.0]), np.diag([4.0, 9.0]))
    two = Gaussian(np.array([3.0, 1.0]), np.diag([1.0, 16.0]))
    # 3^2 + (2 - 1)^2 + (3 - 4)^2, for covariances that share their axes
    assert compare.frechet(one, two) == pytest.approx(11.0)
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    turned = [Gaussian(turn @ g.mean, turn @ g.covariance @ turn.T) for g in (one, two)]
    assert compare.frechet(*turned) == pytest.approx(11.0)


@pytest.mark.parametrize(("phi", "most"), [(0.0, 1.0), (0.8, 0.99), (0.9, 0.99)])
def test_the_bound_covers_halves_of_one_dependent_sample(phi: float, most: float) -> None:
    """Some 95 % of pairs without drift lie below, more where records are independent and the caution not needed."""
    rng = np.random.default_rng(3)
    pairs = 4000
    below = []
    for _ in range(150):
        x = autoregressive(rng, pairs, 1, phi)
        first, second = window(x[: pairs // 2]), window(x[pairs // 2 :])
        (feature,) = compared(first, second).features
        below.append(feature.psi <= feature.psi_bound)
    assert 0.9 <= np.mean(below) <= most


def test_exactly_the_two_features_that_were_shifted_are_named() -> None:
    """The eight others all stay below their bounds in 95 % of cases: so one failure of ten is let pass."""
    rng = np.random.default_rng(4)
    exact = 0
    for _ in range(10):
        x = autoregressive(rng, 4000, 10, 0.8)
        x[2000:, [3, 7]] += 1.5
        found = compared(window(x[:2000]), window(x[2000:]))
        named = {f.feature: f for f in found.features if f.moved}
        assert {3, 7} <= named.keys()
        assert [named[f].level for f in (3, 7)] == [True, True]
        assert [named[f].wasserstein for f in (3, 7)] == pytest.approx([1.5, 1.5], abs=0.4)
        exact += len(named) == 2
    assert exact >= 9


def test_another_spread_is_more_than_another_level() -> None:
    rng = np.random.default_rng(5)
    x = autoregressive(rng, 4000, 3, 0.5)
    x[2000:, 1] = 3.0 * x[2000:, 1] + 1.0
    (wide,) = [f for f in compared(window(x[:2000]), window(x[2000:])).features if f.moved]
    assert (wide.feature, wide.level) == (1, False)


def test_a_latent_that_shifts_or_spreads_has_moved() -> None:
    rng = np.random.default_rng(6)
    x = autoregressive(rng, 4000, 8, 0.5)
    assert not compared(window(x[:2000]), window(x[2000:])).latent.moved
    shifted, spread = x.copy(), x.copy()
    shifted[2000:] += 0.6
    spread[2000:] *= 2.0
    for changed, level in ((shifted, True), (spread, False)):
        latent = compared(window(changed[:2000]), window(changed[2000:])).latent
        assert (latent.moved, latent.level) == (True, level)
        assert latent.share > max(latent.bound, compare.LEAST_LATENT)


def test_a_heavier_tail_of_the_score_has_moved_though_its_deciles_have_not() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(8000, 2))
    score = x[:, 0].copy()
    score[4000 + rng.choice(4000, 400, replace=False)] += 6.0
    found = compared(window(x[:4000], score[:4000]), window(x[4000:], score[4000:])).score
    assert found.psi < compare.LEAST_PSI
    assert found.tail == pytest.approx(0.145, abs=0.01)
    assert found.moved


def test_scores_of_records_that_were_trained_on_move_only_by_much() -> None:
    """Beside a reference that the model knows, the scores of others always stand somewhat higher."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(8000, 2))
    for higher, much in ((0.4, False), (0.8, True)):
        score = x[:, 0] + np.where(np.arange(8000) < 4000, 0.0, higher)
        reference, present = window(x[:4000], score[:4000]), window(x[4000:], score[4000:])
        assert compared(reference, present).score.moved
        assert compared(reference._replace(trained=1.0), present).score.moved is much


def test_what_is_missing_more_often_is_lost_and_what_is_gone_is_not_compared() -> None:
    rng = np.random.default_rng(8)
    x = autoregressive(rng, 2000, 4, 0.5)
    x[rng.random(x.shape) < 0.02] = np.nan
    x[1000:, 0] = np.nan
    x[1000:, 1] = np.where(rng.random(1000) < 0.3, np.nan, x[1000:, 1])
    score = np.nan_to_num(x[:, 3])
    first, second = window(x[:1000], score[:1000]), window(x[1000:], score[1000:])
    still = np.zeros((1000, 2), np.float32)
    gone, thinner, *usual = compared(first._replace(latent=still), second._replace(latent=still)).features
    assert (gone.lost, gone.moved, gone.missing[1]) == (True, False, 1.0)
    assert np.isnan([gone.psi, gone.psi_bound, gone.wasserstein]).all()
    assert (thinner.lost, thinner.moved) == (True, False)
    assert not any(f.lost or f.moved for f in usual)


@pytest.mark.parametrize("left", [-0.5, 0.5])
def test_a_constant_feature_has_moved_only_if_it_leaves_its_value(left: float) -> None:
    rng = np.random.default_rng(9)
    x = autoregressive(rng, 2000, 2, 0.5)
    x[:, 1] = 0.25
    still = compared(window(x[:1000]), window(x[1000:])).features[1]
    assert (still.psi, still.moved, still.constant) == (0.0, False, True)
    x[1000:, 1] += left
    gone = compared(window(x[:1000]), window(x[1000:])).features[1]
    assert (gone.moved, gone.constant) == (True, True)


def test_a_value_that_spans_deciles_has_a_bin_of_its_own() -> None:
    mostly = np.r_[np.zeros(700), np.linspace(1.0, 2.0, 300)]
    edges = compare.edges_of(mostly)
    below = np.r_[np.full(700, -1.0), np.linspace(1.0, 2.0, 300)]
    assert compare.population_stability(counts(mostly, edges), counts(below, edges)) > 1.0


@pytest.mark.parametrize(
    ("reference", "present", "blocks"),
    [
        (5000, 5000, (20, 20)),
        (50_000, 5000, (200, 20)),
        (5000, 50_000, (20, 200)),
        (200_000_000, 200, (4000, 1)),
    ],
)
def test_a_longer_window_is_drawn_of_more_blocks_as_long(
    reference: int, present: int, blocks: tuple[int, int]
) -> None:
    assert chance.block_counts(reference, present) == blocks


def test_blocks_are_stretches_of_time_of_all_entities_together() -> None:
    times = np.array([5, 1, 3, 5, 1, 3, 2, 2])
    assert chance.blocks_of(times, 4).tolist() == [3, 0, 2, 3, 0, 2, 1, 1]


def test_dependence_that_outlasts_a_block_widens_the_bound() -> None:
    rng = np.random.default_rng(12)
    quick, slow = (autoregressive(rng, 400, 30, phi).mean(axis=1, keepdims=True) for phi in (0.0, 0.9))
    assert chance.longer(quick - quick.mean()) < 2.0
    assert chance.longer(slow - slow.mean()) > 3.0
    assert chance.longer(np.zeros((20, 3))) == 1.0


def test_a_short_window_has_wider_bounds_than_a_long_one() -> None:
    rng = np.random.default_rng(10)
    x = autoregressive(rng, 8000, 1, 0.8)
    reference = window(x[:4000])
    short, long = (compared(reference, window(x[4000 : 4000 + n])) for n in (250, 4000))
    assert short.features[0].psi_bound > 2 * long.features[0].psi_bound
