import numpy as np
import pytest
from tocsin.thresholds.calibration import begin_medians, install, level_by_rule, pool, reopen, stack, take
from tocsin.thresholds.constants import (
    DAY_US,
    LEVEL_STEP,
    LEVELS,
    PRIOR_WEIGHT,
    TOP_LEVEL,
    Caution,
    Learning,
    Phase,
)
from tocsin.thresholds.state import init


def table(calibrated, rows=3):
    rng = np.random.default_rng(0)
    parts = [
        calibrated(rng.normal(0, 0.5, 4000), level=1.0 + i, members=2, half_life=100.0 * (i + 1), days=4.0)
        for i in range(rows)
    ]
    for i, part in enumerate(parts):
        part.openings[0, :8] = np.arange(8, 0, -1) * (i + 1)
        part.median[:] = i
    return stack(parts)


def test_install_gives_each_slot_its_row(calibrated):
    given = table(calibrated)
    state = init(5, 2)
    install(state, np.array([4, 1], np.int32), given, np.array([2, 0]), epoch=7, share=0.25)
    np.testing.assert_array_equal(state.counts[4], given.counts[2])
    np.testing.assert_array_equal(state.openings[1], given.openings[0])
    assert state.core["level"][[4, 1]].tolist() == [3.0, 1.0]
    assert state.median[4].tolist() == [2.0, 2.0]
    assert (1 - state.core["pace"][4]) ** 300 == pytest.approx(0.5)
    assert state.core["epoch"].tolist() == [0, 7, 0, 0, 7]
    assert state.core["share"][4] == 0.25
    assert state.core["total"][4] == 4000
    assert state.core["level"][0] == np.inf  # untouched


def test_a_cold_entity_weighs_the_prior_at_500_records(calibrated):
    given = table(calibrated, rows=1)
    state = init(1, 2)
    install(state, np.zeros(1, np.int32), given, np.zeros(1, int), epoch=1, share=1.0, weight=PRIOR_WEIGHT)
    assert state.core["total"][0] == pytest.approx(500)
    np.testing.assert_allclose(state.openings[0], given.openings[0] / 8, rtol=1e-6)
    assert state.core["span_us"][0] == DAY_US // 2
    assert state.core["level"][0] == 1.0
    assert state.core["borrowed"][0] == 1


def test_a_prior_of_less_than_500_records_is_not_blown_up(calibrated):
    given = calibrated(np.zeros(80), members=2)
    state = init(1, 2)
    install(state, np.zeros(1, np.int32), given, np.zeros(1, int), epoch=1, share=1.0, weight=PRIOR_WEIGHT)
    assert state.core["total"][0] == 80


def test_a_new_epoch_keeps_the_open_incident_and_the_slow_average(bench, calibrated):
    one = bench(calibrated(np.zeros(100), level=1.0))
    for i in range(3):
        one.push(2.0, i)
    one.state.core["S"] = 0.3
    reopen(one.state, np.zeros(1, np.int32), calibrated(np.ones(50), level=1.5), np.zeros(1, int))
    assert one.core("phase") == Phase.FIRING
    assert one.core("S") == 0.3
    assert one.core("epoch") == 2
    assert one.core("level") == 1.5
    assert one.core("total") == 50
    assert one.push(0.0, 10)["epoch"] == 2


def test_own_location_opens_an_epoch_from_the_prior(bench, calibrated):
    given = calibrated(np.zeros(1000), level=1.0)
    one = bench(given, learning=Learning.LOCATION)
    for i in range(40):
        one.push(0.1, i)
    assert one.core("accepted") == 35
    begin_medians(one.state, np.zeros(1, np.int32), given)
    assert one.core("learning") == Learning.MEDIANS
    assert one.core("epoch") == 2
    assert one.core("accepted") == one.core("waiting") == one.core("fill") == 0
    assert one.core("total") == pytest.approx(500)


def test_the_prior_is_the_sum_and_keeps_the_budget_of_all(calibrated):
    given = table(calibrated)
    prior = pool(given, 1.0, np.array([5.0, 6.0]), np.array([0.1, 0.2]))
    assert prior.counts.sum() == 12000
    np.testing.assert_array_equal(prior.openings[0], given.openings.sum(0))
    assert prior.span_us.tolist() == [12 * DAY_US]
    assert prior.level.tolist() == [7 * LEVEL_STEP]  # 12 allowed: openings 48, 42, ..., 12, 6
    assert prior.half_life.tolist() == [200.0]
    assert prior.median.tolist() == [[5.0, 6.0]]
    few = pool(given, 0.01, np.zeros(2), np.zeros(2))
    assert few.level[0] >= np.median(given.level)


def test_rows_are_taken_and_stacked(calibrated):
    given = table(calibrated)
    again = stack([take(given, [2]), take(given, [0, 1])])
    assert again.level.tolist() == [3.0, 1.0, 2.0]


def test_another_budget_moves_the_level_by_the_openings_counted(calibrated):
    given = calibrated(np.zeros(1000), level=0.4, days=10)
    given.openings[0, :4] = [90, 40, 20, 10]
    assert level_by_rule(given, 0, 1.0) == (0.4, Caution.NONE)
    assert level_by_rule(given, 0, 4.0) == (2 * LEVEL_STEP, Caution.NONE)
    assert level_by_rule(given, 0, 0.01) == (5 * LEVEL_STEP, Caution.SHORT_HISTORY)
    given.openings[0] = np.full(LEVELS, 100)
    assert level_by_rule(given, 0, 1.0)[0] > TOP_LEVEL
