import numpy as np
import pytest
from tocsin.thresholds.calibration import stack
from tocsin.thresholds.constants import DAY_US, LEVEL_STEP, Caution
from tocsin.thresholds.recalibrate import History, recalibrate
from tocsin.thresholds.state import Rules

MINUTE = 60_000_000
RULES = Rules()


def history(name, row, n, seed, offset=0.0, opened=3):
    rng = np.random.default_rng(seed)
    now, score = 0.0, np.empty(n)
    for i, step in enumerate(rng.normal(0, 0.2, n)):
        now = 0.9 * now + step
        score[i] = now + offset
    return History(name, row, np.arange(n) * MINUTE, score, opened)


@pytest.fixture
def current(calibrated):
    return stack([calibrated(np.zeros(100), level=2.0 + i, half_life=500.0, days=30) for i in range(3)])


def test_the_table_says_what_changes(current):
    histories = [history("b", 1, 10 * 1440, 1), history("a", 0, 10 * 1440, 2, opened=7)]
    rows, changes = recalibrate(histories, current, 2.0, RULES)
    assert [change.entity for change in changes] == ["b", "a"]
    assert [change.level_before for change in changes] == [3.0, 2.0]
    assert rows.level.tolist() == [change.level_after for change in changes]
    for change in changes:
        assert change.level_after < change.level_before
        assert change.expected_before < 0.2
        assert 1.0 < change.expected_after <= 2.0
        assert change.caution == Caution.NONE
        mean, low, high = change.run_length
        assert low < mean < high < np.inf
        assert 1 / mean == pytest.approx(change.expected_after, rel=0.25)
        assert low < 1 / change.expected_after < high
    assert changes[1].observed == pytest.approx(0.7, rel=0.05)
    assert rows.half_life.tolist() == [500.0] * 2
    assert (rows.counts.sum(axis=1) == 14400).all()


def test_an_entity_that_lives_on_another_level_is_judged_by_its_slow_average(current):
    _, (plain,) = recalibrate([history("a", 0, 5 * 1440, 5)], current, 2.0, RULES)
    _, (moved,) = recalibrate([history("a", 0, 5 * 1440, 5, offset=1.0)], current, 2.0, RULES)
    assert moved.level_after == pytest.approx(plain.level_after + 0.4, abs=0.05)


def test_a_short_history_is_said(current):
    _, (change,) = recalibrate([history("a", 0, 400, 3)], current, 1.0, RULES)
    assert change.caution == Caution.SHORT_HISTORY
    assert change.expected_after == 1.0
    assert 0.2 * 400 * MINUTE / DAY_US < change.run_length.low < change.run_length.high == np.inf


def test_what_is_said_of_an_entity_depends_on_no_other(current):
    histories = [history("b", 1, 3 * 1440, 1), history("a", 0, 5 * 1440, 2)]
    _, both = recalibrate(histories, current, 2.0, RULES)
    _, (alone,) = recalibrate(histories[1:], current, 2.0, RULES)
    assert both[1] == alone


def test_with_hardly_any_history_there_is_no_row_and_the_line_shows_what_the_budget_asks_for(current):
    current.openings[2, :16] = np.arange(160, 0, -10)
    few, enough = history("c", 2, 255, 4), history("a", 0, 256, 4)
    rows, (change, other) = recalibrate([few, enough], current, 2.0, RULES)
    assert rows.level.tolist() == [other.level_after]
    assert change.level_after == LEVEL_STEP * 11  # 60 allowed in 30 days
    assert np.isnan([change.expected_after, *change.run_length]).all()
    assert change.records == 255


def test_nothing_to_recalibrate_is_an_empty_table(current):
    rows, changes = recalibrate([], current, 1.0, RULES)
    assert len(rows.level) == len(changes) == 0
    assert rows.counts.shape == (0, current.counts.shape[1])


def test_the_new_rows_can_be_installed(bench, current):
    rows, _ = recalibrate([history("a", 0, 3 * 1440, 6)], current, 24.0, RULES)
    one = bench(rows, share=24.0)
    assert one.push(0.0, DAY_US)["threshold"] == pytest.approx(rows.level[0])
