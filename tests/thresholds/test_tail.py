import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.thresholds.constants import BIN_WIDTH, BINS, LOWEST
from tocsin.thresholds.histogram import count
from tocsin.thresholds.tail import beyond, fit, moments, survival


@pytest.mark.parametrize(
    ("a0", "a1", "sigma", "gamma"),
    [
        (2.0, 0.5, 2.0, 0.0),  # exponential: E[y] = sigma, E[y(1-F)] = sigma / 4
        (4 / 3, 4 / (3.5 * 2) / 2, 1.0, 0.25),  # GPD(1, 1/4): sigma/(1-g), sigma/(2(2-g))
        (0.8, 1 / 4.5, 1.0, -0.25),
        (0.5, 1 / 6, 0.75, -0.5),  # uniform has gamma = -1: held at the bound, sigma from the mean
    ],
)
def test_moments_of_known_distributions(a0, a1, sigma, gamma):
    assert moments(a0, a1) == pytest.approx((sigma, gamma))


@pytest.mark.parametrize("gamma", [-0.3, 0.0, 0.3])
def test_the_fit_finds_the_tail_it_was_drawn_from(gamma):
    u = (np.arange(200_000) + 0.5) / 200_000
    excess = -0.4 * np.log(u) if gamma == 0 else 0.4 * (u**-gamma - 1) / gamma
    counts = count(np.concatenate([np.full(9_800_000, -1.0), 1.0 + excess[excess < 10]]))
    start, sigma, found, top = fit(counts, float(counts.sum()))
    assert start == pytest.approx(1.0)
    assert found == pytest.approx(gamma, abs=0.03)
    assert sigma == pytest.approx(0.4, rel=0.03)
    assert top >= 1.0 + excess[excess < 10].max()


def test_few_excesses_are_exponential():
    counts = count(np.concatenate([np.zeros(490), np.linspace(1, 2, 10)]))
    _, sigma, gamma, _ = fit(counts, 500.0)
    assert gamma == 0.0
    assert sigma == pytest.approx(0.5, abs=BIN_WIDTH)


@pytest.mark.parametrize("total", [40, 120, 1200])
def test_the_tail_of_few_records_begins_low_enough_to_have_a_scale(total):
    x = -0.5 * np.log((np.arange(total) + 0.5) / total)
    start, sigma, gamma, _ = fit(count(x), float(total))
    assert abs(gamma) < 0.1
    assert sigma == pytest.approx(0.5, rel=0.15)
    held = min(30, total // 4)
    assert start == pytest.approx(-0.5 * math.log(held / total), abs=2 * BIN_WIDTH)


def test_an_end_point_below_what_was_seen_is_not_believed():
    counts = np.zeros(BINS, np.float32)
    counts[64] = 98_000
    counts[100:110] = 199.9  # flat, then one far away
    counts[160] = 1
    start, sigma, gamma, top = fit(counts, float(counts.sum()))
    assert survival(top, start, sigma, gamma) > 0.0


def test_an_empty_histogram_has_a_tail_too():
    assert fit(np.zeros(BINS, np.float32), 0.0) == (0.0, 1.0, 0.0, LOWEST)


@settings(deadline=None)
@given(
    x=st.floats(-2, 8),
    ratio=st.floats(1e-6, 1.0),
    sigma=st.floats(0.05, 2),
    gamma=st.floats(-0.5, 0.5),
)
def test_beyond_is_where_survival_has_fallen_to_the_ratio(x, ratio, sigma, gamma):
    if 1 + gamma * max(x - 1.0, 0.0) / sigma < 0.1:
        return
    there = beyond(x, ratio, 1.0, sigma, gamma)
    assert there >= max(x, 1.0) - 1e-9
    expected = ratio * survival(x, 1.0, sigma, gamma)
    assert survival(there, 1.0, sigma, gamma) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_survival_by_hand():
    assert survival(0.5, 1.0, 0.5, 0.0) == 1.0
    assert survival(2.0, 1.0, 0.5, 0.0) == pytest.approx(math.exp(-2))
    assert survival(2.0, 1.0, 0.5, 0.5) == pytest.approx(2.0**-2)
    assert survival(2.0, 1.0, 0.5, -0.5) == 0.0
