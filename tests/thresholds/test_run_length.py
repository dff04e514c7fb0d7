"""The third guarantee: what is said of the mean time between false incidents holds for an entity that goes on so."""

import numpy as np
import pytest
from tocsin.thresholds.constants import DAY_US, Caution
from tocsin.thresholds.cusum import measure
from tocsin.thresholds.opening import opening_level, openings_at, scores
from tocsin.thresholds.run_length import (
    DRAWS,
    LEAST_DRAWS,
    REPLAYED,
    draws_within,
    mean_run_length,
    poisson_limits,
)
from tocsin.thresholds.state import Rules

PERIOD = 300_000_000
PER_DAY = DAY_US // PERIOD
RULES = Rules(k=3, m=5, exit_k=3)
HALF_LIFE = 250.0
MEDIAN, FLOOR = np.full(2, 0.8), np.full(2, 0.02)
WEEKS = 4
REPEATS = 200
TIMES = np.arange(WEEKS * 7 * PER_DAY) * PERIOD


def telemetry(seed, entities, n, keep=0.9):
    """Scores [n] of entities where nothing happens: autocorrelated, skewed, each member with noise of its own."""
    rng = np.random.default_rng(seed)
    common, now = np.empty((n, entities)), rng.normal(0, 0.5, entities)
    for i, step in enumerate(rng.normal(0, 0.5 * np.sqrt(1 - keep**2), (n, entities))):
        now = keep * now + step
        common[i] = now
    for own in common.T:
        yield scores(np.exp(own[:, None] + rng.normal(0, 0.5, (n, 2))).astype(np.float32), MEDIAN, FLOOR)


def run_length(score, level, times=TIMES, *, block=None, draws=50, seed=0):
    return mean_run_length(
        score,
        times[: len(score)],
        half_life=HALF_LIFE,
        rules=RULES,
        level=level,
        start=float(np.median(score)) if len(score) else 0.0,
        block=block or int(measure(score)[0]),
        draws=draws,
        rng=np.random.default_rng(seed),
    )


@pytest.fixture(scope="module")
def histories():
    return list(telemetry(1, REPEATS, len(TIMES)))


@pytest.fixture(scope="module")
def truth():
    """Openings a day at a level, and the level for so many: by interpolation of what twenty years of it show."""
    days = 365
    long, times = list(telemetry(2, 20, days * PER_DAY)), np.arange(days * PER_DAY) * PERIOD
    levels = np.arange(0.6, 2.4, 0.1)
    rates = []
    for level in levels:
        ran = [openings_at(level, score, times, half_life=HALF_LIFE, rules=RULES)[:2] for score in long]
        opened, span = np.sum(ran, axis=0)
        rates.append(max(opened, 0.5) / (span / DAY_US))
    logs = np.log(rates)
    return (
        lambda level: float(np.exp(np.interp(level, levels, logs))),
        lambda rate: float(np.interp(-np.log(rate), -logs, levels)),
    )


def enough(covered):
    """Whether intervals of 95 % may cover so few of REPEATS: by chance one in 1,000 of such tests would fail."""
    return covered >= 0.95 * REPEATS - 3.1 * np.sqrt(0.95 * 0.05 * REPEATS)


@pytest.mark.parametrize(("rate", "width"), [(1.0, 3.0), (1 / 7, 30.0)])
def test_the_interval_covers_the_mean_time_of_a_very_long_run(truth, histories, rate, width):
    rate_at, level_of = truth
    level = level_of(rate)
    assert rate_at(level) == pytest.approx(rate)
    told = np.array([run_length(score, level) for score in histories])
    mean, low, high = told.T
    assert enough(((low <= 1 / rate) & (1 / rate <= high)).sum())
    assert np.median(high / low) < width  # and not by saying nothing
    # Rates are averaged: the mean of times that may be infinite is none.
    assert np.mean(1 / mean) == pytest.approx(rate, rel=0.1 if rate == 1.0 else 0.15)


@pytest.mark.parametrize("share", [1.0, 1 / 7, 1 / 60])
def test_it_covers_at_the_level_that_was_found_on_the_same_history(truth, histories, share):
    rate_at, _ = truth
    covered = unbounded = 0
    for score in histories:
        found = opening_level(
            score, TIMES, half_life=HALF_LIFE, share=share, rules=RULES, start=float(np.median(score))
        )
        _, low, high = run_length(score, found.level)
        covered += low <= 1 / rate_at(found.level) <= high
        unbounded += high == np.inf
        assert found.caution == (Caution.SHORT_HISTORY if share * WEEKS * 7 < 1 else Caution.NONE)
        assert low < 0.28 * WEEKS * 7  # no history shows more than that
    assert enough(covered)
    assert unbounded >= 0.95 * REPEATS if share * WEEKS * 7 < 1 else unbounded == 0


def test_one_seed_gives_one_answer(histories):
    score = histories[0]
    first, second, other = (run_length(score, 0.7, seed=seed) for seed in (3, 3, 4))
    assert first == second != other
    assert other.mean == pytest.approx(first.mean, rel=0.1)


def test_where_nothing_opens_only_the_lower_end_is_known():
    mean, low, high = run_length(np.zeros(3 * PER_DAY), 1.0)
    assert mean == high == np.inf
    assert low == pytest.approx(3 / 3.7, rel=0.02)  # e^-3.7 = 2.5 %


def test_an_opening_that_the_cap_would_hold_and_damping_would_spare_counts():
    """Ten strange records of every fifty: more than any cap allows, each soon after the one before."""
    score = np.where(np.arange(2000) % 50 < 10, 5.0, 0.0)
    times = np.arange(2000) * 60_000_000
    told = [
        mean_run_length(
            score,
            times,
            half_life=np.inf,
            rules=rules,
            level=1.0,
            block=500,
            draws=20,
            rng=np.random.default_rng(0),
        )
        for rules in (RULES, RULES._replace(cap=0, flap_after=1), RULES._replace(cap=1000, flap_after=0))
    ]
    assert told[0] == told[1] == told[2]
    assert told[0].mean == pytest.approx(38 / 1440, rel=0.05)  # minutes outside incidents


@pytest.mark.parametrize("n", [1, 2, 3, 30])
def test_few_records_say_little(n):
    mean, low, high = run_length(np.zeros(n), 1.0)
    assert mean == high == np.inf
    assert low == pytest.approx((n - 1) * PERIOD / DAY_US / 3.7, rel=0.02)


def test_a_block_is_never_longer_than_a_quarter_of_the_history_nor_shorter_than_incidents_ask_for(histories):
    score = histories[0][: 14 * PER_DAY]
    assert run_length(score, 1.0, block=10**9) == run_length(score, 1.0, block=len(score) // 4)
    level = 0.7
    assert openings_at(level, score, TIMES[: len(score)], half_life=HALF_LIFE, rules=RULES)[0] > 10
    assert run_length(score, level, block=1) == run_length(score, level, block=2)


def test_time_that_nobody_sent_in_counts_as_much_as_elsewhere():
    times = np.cumsum([PERIOD] * 50 + [10 * DAY_US] + [PERIOD] * 49)
    _, span, _ = openings_at(1.0, np.zeros(100), times, half_life=np.inf, rules=RULES)
    assert run_length(np.zeros(100), 1.0, times).low == pytest.approx(span / DAY_US / 3.7, rel=0.02)


def test_without_a_score_or_draws_there_is_no_run_length():
    for n, draws in ((0, 10), (10, 1)):
        with pytest.raises(ValueError, match=f"a score and two draws, and there are {n} and {draws}"):
            run_length(np.zeros(n), 1.0, block=8, draws=draws)


def test_the_limits_are_those_of_a_poisson_mean():
    """Garwood's, as tables have them; none below where less than one was seen."""
    for count, low, high in ((0, 0.0, 3.689), (1, 0.0253, 5.572), (4, 1.090, 10.24), (30, 20.24, 42.83)):
        found = poisson_limits(count)
        assert found[0] == pytest.approx(low, abs=0.02)
        assert found[1] == pytest.approx(high, rel=0.01)
    assert poisson_limits(0.99)[0] == 0.0


def test_what_all_histories_take_together_is_bounded():
    assert draws_within(0) == draws_within(1000 * 256) == DRAWS
    assert draws_within(REPLAYED // 100) == 100
    assert draws_within(1000 * 30_000) == LEAST_DRAWS
