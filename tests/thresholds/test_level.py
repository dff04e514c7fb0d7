import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.thresholds.constants import DAY_US, LEVEL_STEP, LEVELS, TOP_LEVEL, Caution
from tocsin.thresholds.level import lowest_level, set_level, shadow_row
from tocsin.thresholds.opening import openings_at
from tocsin.thresholds.state import CORE, Rules

MINUTE = 60_000_000


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-4, 44), min_size=1, max_size=150), st.integers(1, 5), st.integers(1, 4))
def test_every_shadow_is_the_machine_at_its_level(eighths, k, exit_k):
    x = np.array(eighths) * 0.24
    rules = Rules(k=k, m=5, exit_k=exit_k, level_change_us=10**18)
    shadow, openings = np.zeros(LEVELS, np.uint8), np.zeros(LEVELS, np.float32)
    active = 0
    margins = rules.exit_margin, rules.fast_margin
    for value in x:
        active = shadow_row(value, active, shadow, openings, k, 31, exit_k, *margins, True)
    times = np.arange(len(x)) * MINUTE
    levels = LEVEL_STEP * np.arange(1, LEVELS + 1)
    whole = [openings_at(level, x, times, half_life=np.inf, rules=rules)[0] for level in levels]
    assert openings.tolist() == whole
    assert not shadow[active:].any()


def test_the_lowest_level_is_sought_from_above():
    openings = np.zeros(LEVELS, np.float32)
    openings[:6] = [1, 0, 5, 9, 3, 2]  # very low levels never close
    assert lowest_level(openings, 2.0) == 5
    assert lowest_level(openings, 3.0) == 4
    assert lowest_level(openings, 100.0) == 0
    openings[:] = 4
    assert lowest_level(openings, 3.0) == LEVELS


def levelled(openings, *, days, share, anchor, sigma=0.5):
    core = np.zeros(1, CORE)
    core["span_us"], core["share"], core["anchor"], core["tail_sigma"] = days * DAY_US, share, anchor, sigma
    counted = np.zeros(LEVELS, np.float32)
    counted[: len(openings)] = openings
    set_level(core[0], counted)
    return float(core["level"][0]), Caution(int(core["caution"][0]))


def test_the_fine_level_stands_while_the_rule_picks_its_cell():
    openings = [90, 30, 12, 9, 4]
    assert levelled(openings, days=10, share=1.0, anchor=0.42) == (0.42, Caution.NONE)
    assert levelled(openings, days=10, share=1.0, anchor=0.37) == (0.5, Caution.NONE)
    assert levelled(openings, days=10, share=1.0, anchor=0.51) == (0.5, Caution.NONE)
    assert levelled(openings, days=4.5, share=1.0, anchor=0.42) == (0.625, Caution.NONE)


def test_with_little_history_the_level_only_rises():
    assert levelled([5, 3], days=0.5, share=1.0, anchor=2.2) == (2.2, Caution.SHORT_HISTORY)
    assert levelled([9] * 12, days=0.5, share=1.0, anchor=1.1) == (13 * LEVEL_STEP, Caution.SHORT_HISTORY)


def test_beyond_the_highest_level_the_tail_tells():
    level, _ = levelled([40] * LEVELS, days=10, share=1.0, anchor=1.0, sigma=0.5)
    assert level == pytest.approx(TOP_LEVEL + 0.5 * np.log(4))
    assert levelled([40] * LEVELS, days=10, share=1.0, anchor=9.5)[0] == 9.5
    assert levelled([4e6] * LEVELS, days=10, share=1.0, anchor=1.0, sigma=2.0)[0] == 16.0
