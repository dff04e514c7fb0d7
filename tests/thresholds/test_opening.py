import numpy as np
import pytest
from tocsin.thresholds.constants import DAY_US, HIGHEST_LEVEL, LEVEL_STEP, Caution, Kind
from tocsin.thresholds.opening import opening_level, openings_at, row, scores
from tocsin.thresholds.state import Rows, Rules

MINUTE = 60_000_000
RULES = Rules(k=3, m=5, exit_k=3)


def autocorrelated(seed, n, keep=0.9, sd=0.5):
    rng = np.random.default_rng(seed)
    out, now = np.empty(n), 0.0
    for i, step in enumerate(rng.normal(0, sd * np.sqrt(1 - keep**2), n)):
        now = keep * now + step
        out[i] = now
    return out


@pytest.fixture(scope="module")
def month():
    return autocorrelated(0, 30 * 1440), np.arange(30 * 1440) * MINUTE


@pytest.mark.parametrize("share", [10.0, 1.0, 1 / 7])
def test_the_level_keeps_the_budget_and_a_little_lower_does_not(month, share):
    found = opening_level(*month, half_life=1000.0, share=share, rules=RULES)
    allowed = share * found.span_us / DAY_US
    assert found.caution == Caution.NONE
    assert openings_at(found.level, *month, half_life=1000.0, rules=RULES)[0] <= allowed
    grid = LEVEL_STEP * (1 + np.flatnonzero(found.openings > allowed).max())
    lower = max(found.level - LEVEL_STEP / 256 - 1e-9, grid)
    assert openings_at(lower, *month, half_life=1000.0, rules=RULES)[0] > allowed
    assert found.counts.sum() == len(month[0])


def test_a_level_found_in_one_month_keeps_its_budget_in_the_next(month):
    found = opening_level(*month, half_life=1000.0, share=1.0, rules=RULES)
    rates = []
    for seed in range(1, 11):
        opened, span, _ = openings_at(
            found.level, autocorrelated(seed, 30 * 1440), month[1], half_life=1000.0, rules=RULES
        )
        rates.append(opened / (span / DAY_US))
    assert 0.6 < np.mean(rates) < 1.4


def test_less_than_one_opening_allowed_is_no_opening_and_a_margin_by_the_tail(month):
    score, times = month[0][:720], month[1][:720]
    found = opening_level(score, times, half_life=1000.0, share=1.0, rules=RULES)
    assert found.caution == Caution.SHORT_HISTORY
    assert openings_at(found.level, score, times, half_life=1000.0, rules=RULES)[0] == 0
    stricter = opening_level(score, times, half_life=1000.0, share=0.1, rules=RULES)
    assert stricter.level > found.level > 0.5
    rate = openings_at(found.level, *month, half_life=1000.0, rules=RULES)[0] / 30
    assert rate <= 1.5


def test_levels_stay_within_their_range():
    times = np.arange(2000) * MINUTE
    calm = opening_level(np.zeros(2000), times, half_life=100.0, share=1.0, rules=RULES)
    assert calm.level == LEVEL_STEP
    wild = np.where(np.arange(2000) % 20 < 5, 40.0, 0.0)
    assert opening_level(wild, times, half_life=np.inf, share=1.0, rules=RULES).level == HIGHEST_LEVEL


def test_between_the_highest_fixed_level_and_the_end_it_is_searched_too():
    times = np.arange(2000) * MINUTE
    wild = np.where(np.arange(2000) % 20 < 5, 10.0, 0.0)
    found = opening_level(wild, times, half_life=np.inf, share=1.0, rules=RULES)
    assert found.level == pytest.approx(10.0, abs=0.01)


def test_without_a_score_there_is_no_level():
    with pytest.raises(ValueError, match="at least one score"):
        opening_level(np.zeros(0), np.zeros(0, np.int64), half_life=1.0, share=1.0, rules=RULES)


def test_the_search_runs_the_very_machine_of_the_kernel(bench):
    """Members through the kernel open as often as their scores did in the search, at the same fixed level."""
    n = 5000
    times = np.arange(n) * MINUTE
    members = np.exp(autocorrelated(3, n)[:, None] + np.random.default_rng(1).normal(0, 0.2, (n, 2)))
    members = members.astype(np.float32)
    median, floor = np.array([0.8, 0.7]), np.full(2, 0.01)
    score = scores(members, median, floor)
    found = opening_level(score, times, half_life=300.0, share=5.0, rules=RULES)
    pinned = row(found, median, floor, 300.0)
    fine = LEVEL_STEP * (1 + np.arange(32)) < found.level  # no count will ever ask for another cell
    pinned.openings[0] = np.where(fine, 1e7, 0.0)
    pinned.span_us[:] = 100_000 * DAY_US
    one = bench(pinned)
    zeros = np.zeros(n)
    decided, events, _ = one.advance(Rows(zeros, zeros, np.arange(n), times, members, zeros, zeros, zeros))
    np.testing.assert_array_equal(decided.score, score)
    assert one.core("level") == found.level
    opened, _, x = openings_at(found.level, score, times, half_life=300.0, rules=RULES)
    assert (events["kind"] == Kind.OPENED).sum() == opened > 5
    np.testing.assert_array_equal(decided.anomalous, x > found.level)


def test_rows_of_the_kernel_and_of_the_search_count_the_same_span(bench, calibrated):
    times = np.cumsum([MINUTE, 5 * MINUTE, 3 * DAY_US, MINUTE])
    one = bench(calibrated(days=0.0, level=5.0))
    zeros = np.zeros(4)
    one.advance(Rows(zeros, zeros, np.arange(4), times, np.full((4, 1), np.nan), zeros, zeros, zeros))
    _, span, _ = openings_at(5.0, zeros, times, half_life=np.inf, rules=RULES)
    assert one.core("span_us") == span == 6 * MINUTE + DAY_US
