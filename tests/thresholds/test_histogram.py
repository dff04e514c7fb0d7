"""Counts and p-values, and the first guarantee: P(p <= q) <= q for normal records."""

import numpy as np
import pytest
from tocsin.thresholds.constants import BIN_WIDTH, BINS, BLOCKS, HIGHEST, LEVELS, LOWEST, MOST_RECORDS
from tocsin.thresholds.histogram import bin_of, count, fold, freeze, p_value
from tocsin.thresholds.state import CORE


class Frozen:
    def __init__(self, counts):
        self.core, self.counts = np.zeros(1, CORE), np.asarray(counts, np.float32)
        self.above = np.zeros(BLOCKS)
        freeze(self.core[0], self.counts, self.above)

    def p(self, x):
        return p_value(self.core[0], self.counts, self.above, float(x))


def test_bins():
    assert [bin_of(x) for x in (-np.inf, -9.0, LOWEST, np.nan)] == [0] * 4
    assert [bin_of(x) for x in (HIGHEST, 50.0, np.inf)] == [BINS - 1] * 3
    for j in range(BINS):
        assert bin_of(LOWEST + j * BIN_WIDTH) == j
        assert bin_of(LOWEST + (j + 1) * BIN_WIDTH - 1e-12) == j


def test_histograms_merge_by_adding():
    x = np.random.default_rng(0).normal(0, 2, 3000)
    np.testing.assert_array_equal(count(x), count(x[:1000]) + count(x[1000:]))
    assert count(x).sum() == 3000


def test_p_values_are_the_conformal_ones_up_to_a_bin():
    x = np.random.default_rng(1).normal(0, 1, 5000)
    frozen = Frozen(count(x))
    for value in np.linspace(-3.5, x.max(), 200):
        sharp = (1 + (x >= value).sum()) / 5001
        slack = ((x >= value - BIN_WIDTH) & (x < value + BIN_WIDTH)).sum() / 5001
        assert frozen.p(value) == pytest.approx(sharp, abs=slack + 1e-12)


def test_p_values_fall_everywhere_and_go_on_beyond_what_was_seen():
    x = np.random.default_rng(2).normal(0, 0.5, 2000)
    frozen = Frozen(count(x))
    p = np.array([frozen.p(value) for value in np.linspace(-5, 11, 4000)])
    assert (np.diff(p) <= 1e-15).all()
    top = frozen.core["tail_top"][0]
    assert frozen.p(top) == pytest.approx(1 / 2001)
    assert frozen.p(top + 1.0) < 0.2 / 2001
    assert p.min() > 0


def test_beyond_the_grid_no_p_value_is_made_up():
    frozen = Frozen(count(np.array([0.0] * 97 + [13.0, 14.0, 40.0])))
    assert frozen.p(15.0) == frozen.p(500.0) == 4 / 101


def test_knowing_nothing_everything_is_ordinary():
    assert Frozen(np.zeros(BINS)).p(-4.0) == 1.0
    assert Frozen(np.zeros(BINS)).p(-9.0) == 1.0


def test_a_long_history_is_halved_with_its_openings_and_span():
    core = np.zeros(1, CORE)
    core["fill"], core["span_us"] = 2, 1000
    counts, openings = np.zeros(BINS, np.float32), np.full(LEVELS, 6, np.float32)
    counts[70] = MOST_RECORDS - 2
    fold(core[0], counts, np.full(256, 71, np.uint8), openings)
    assert counts[71] == 2  # 2^22 records exactly: not yet
    core["fill"] = 1
    fold(core[0], counts, np.full(256, 71, np.uint8), openings)
    assert counts[71] == 1.5
    assert counts[70] == MOST_RECORDS / 2 - 1
    assert core["span_us"] == 500
    assert openings[0] == 3


def draw(rng, kind, n):
    if kind == "normal":
        return rng.normal(0, 0.5, n)
    if kind == "skewed":
        return np.log(rng.exponential(1, n) + rng.exponential(1, n)) / 2
    if kind == "heavy":
        return rng.standard_t(3, n) * 0.3
    return np.repeat(rng.normal(0, 0.5, n // BLOCK), BLOCK) + rng.normal(0, 0.1, n)


BLOCK = 20
"""Records that belong together in the "blocks" case: only whole blocks can be swapped."""


@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy", "blocks"])
@pytest.mark.parametrize("n", [300, 2000])
def test_the_chance_of_a_small_p_value_is_at_most_its_value(kind, n):
    rng = np.random.default_rng(11)
    repeats, fresh = 300, 200
    q = np.array([1 / (n + 1), 2 / (n + 1), 0.01, 0.02, 0.05, 0.2])
    rates = np.empty((repeats, len(q)))
    for i in range(repeats):
        x = draw(rng, kind, n)
        frozen = Frozen(count(x))
        # one new record per repeat would do; more of them, independent of each other, sharpen the estimate
        new = draw(rng, kind, fresh * BLOCK)[::BLOCK]
        p = np.array([frozen.p(value) for value in new])
        rates[i] = (p[:, None] <= q).mean(axis=0)
    standard_error = rates.std(axis=0) / np.sqrt(repeats)
    most = q + 1 / (n / BLOCK + 1) if kind == "blocks" else 1.1 * q
    assert (rates.mean(axis=0) - 2.6 * standard_error <= most).all()
    assert (rates.mean(axis=0)[2:] >= 0.6 * q[2:]).all()  # and not by never saying anything
