import numpy as np
import pytest
from tocsin.thresholds.opening import scores
from tocsin.thresholds.smoothing import score_rows, smooth
from tocsin.thresholds.state import init, pace, restart


def ewma(values, half_life, start):
    """The closed form of the recursion: every record's weight halves in `half_life` records."""
    n = len(values)
    keep = 0.5 ** (1.0 / half_life)
    out = []
    for t in range(n):
        age = t - np.arange(t + 1)
        out.append(keep ** (t + 1) * start + ((1 - keep) * keep**age * values[: t + 1]).sum())
    return np.array(out)


@pytest.fixture
def members():
    return np.exp(np.random.default_rng(0).normal(0, 1, (200, 3))).astype(np.float32)


def test_smoothing_is_the_sum_of_two_ewmas(members):
    smoothed = smooth(members, np.full(3, 0.7), np.full(3, 0.7))
    for j in range(3):
        wide = members[:, j].astype(np.float64)
        np.testing.assert_allclose(smoothed[:, j], ewma(wide, 1, 0.7) + ewma(wide, 12, 0.7), rtol=1e-12)


def test_the_score_is_the_mean_log_distance_from_ordinary(members):
    median, floor = np.array([0.3, -1.0, 2.0]), np.full(3, 1e-6)
    start = 0.5 * np.exp(median)
    smoothed = smooth(members, start.copy(), start.copy())
    np.testing.assert_allclose(
        scores(members, median, floor), (np.log(smoothed) - median).mean(axis=1), rtol=1e-12
    )


def test_smoothing_starts_at_ordinary():
    median = np.array([0.4, -3.0])
    nothing = np.full((1, 2), np.nan, np.float32)
    np.testing.assert_allclose(scores(nothing, median, np.full(2, 1e-9)), 0.0, atol=1e-15)


def test_a_member_at_its_minimum_does_not_silence_the_others():
    members = np.zeros((400, 2), np.float32)
    members[:, 0] = 3.0
    score = scores(members, np.zeros(2), np.array([1e-6, 0.01]))
    assert score[-1] == pytest.approx((np.log(6.0) + np.log(0.01)) / 2)


def test_a_member_that_is_no_number_stands_still(members):
    holes = members.copy()
    holes[50:60, 1] = np.nan
    fast, slow = np.full(3, 0.5), np.full(3, 0.5)
    smoothed = smooth(holes, fast, slow)
    assert (smoothed[50:60, 1] == smoothed[49, 1]).all()
    np.testing.assert_array_equal(smoothed[:, 0], smooth(members, np.full(3, 0.5), np.full(3, 0.5))[:, 0])


def test_infinite_and_negative_members_are_held_within_limits():
    wild = np.array([[np.inf], [-5.0]], np.float32)
    assert np.isfinite(scores(wild, np.zeros(1), np.full(1, 0.01))).all()


def test_each_fold_of_a_cross_fit_has_its_own_ordinary(members):
    medians = np.repeat([[0.0] * 3, [1.0] * 3], 100, axis=0)
    floors = np.full((200, 3), 1e-6)
    one = score_rows(members, medians, floors, np.full(3, 0.5), np.full(3, 0.5))
    np.testing.assert_array_equal(one, scores(members, medians, floors))
    np.testing.assert_allclose(one[100:], scores(members, np.zeros(3), floors[0])[100:] - 1.0)


def test_half_lives_are_in_records():
    assert (1 - pace(100.0)) ** 100 == pytest.approx(0.5)
    assert pace(np.inf) == 0.0


def test_restart_puts_every_smoothed_member_at_its_median():
    state = init(3, 2)
    state.median[:] = [[0.5, 1.0]] * 3
    state.core["S"] = 1.0
    restart(state, np.array([0, 2], np.int32))
    np.testing.assert_allclose((state.fast + state.slow)[[0, 2]], np.exp([[0.5, 1.0]] * 2))
    assert state.core["S"].tolist() == [0.0, 1.0, 0.0]
