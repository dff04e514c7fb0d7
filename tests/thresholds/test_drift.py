import numpy as np
import pytest
from tocsin.thresholds.drift import HELD, SIGNALS, decide, init, split, take
from tocsin.thresholds.state import BLOCK_MEANS

REFERENCE = {"score": np.array([0.5, 0.1]), "level": np.array([0.0, 2.0]), "missing": np.array([0.0, 0.0])}


def blocks(score, part=0):
    out = np.zeros(len(score), BLOCK_MEANS)
    out["score"], out["part"], out["row"] = score, part, np.arange(len(score))
    return out


def taken(state, many):
    return [flag for block in many for flag in take(state, block, REFERENCE)]


def test_adwin_flags_at_known_indices():
    """Golden: river's ADWIN(delta .01, clock 1) over a fixed series."""
    rng = np.random.default_rng(42)
    means = rng.normal(0, 1, 200)
    means[120:] += 2.0
    assert decide(means[:120])[0] == -1
    first, estimate = decide(means)
    assert first == 130
    assert estimate == pytest.approx(2.0, abs=0.3)
    assert split(means) == 121  # one off: the first after the step is low by chance


def test_a_step_is_one_decision_and_empties_the_array():
    rng = np.random.default_rng(42)
    score = 0.5 + 0.1 * rng.normal(0, 1, 200)
    score[120:] += 0.2
    state = init(2)
    flags = taken(state, blocks(score, part=1))
    assert [(flag.signal, flag.part) for flag in flags] == [("score", 1)]
    flag = flags[0]
    assert flag.row == flag.blocks - 1 == 130
    assert flag.before == pytest.approx(score[:121].mean())
    assert flag.after == pytest.approx(score[121:131].mean())
    assert state.held[1].tolist() == [200 - 131, 200, 200, 200]
    assert state.decisions[1].tolist() == [1, 0, 0, 0]
    assert state.held[0].tolist() == [0, 0, 0, 0]


def test_a_decision_can_be_resumed_from_the_array_alone():
    rng = np.random.default_rng(3)
    score = 0.5 + 0.1 * np.concatenate([rng.normal(m, 1, 90) for m in (0, 2, 0, 3, 1)])
    whole = taken(init(1), blocks(score))
    assert len(whole) >= 3
    state, resumed = init(1), []
    for block in blocks(score):
        state = type(state)(*(array.copy() for array in state))
        resumed += take(state, block, REFERENCE)
    assert resumed == whole


def test_only_the_newest_blocks_are_held():
    state = init(1)
    score = 0.5 + 0.1 * np.random.default_rng(0).normal(0, 1, HELD + 7)
    assert not taken(state, blocks(score))
    assert state.held[0].tolist() == [HELD] * len(SIGNALS)
    np.testing.assert_allclose(state.means[0, 0], (score[7:] - 0.5) / 0.1)


def test_a_signal_that_never_varied_is_no_division_by_zero():
    state = init(1)
    many = blocks(np.full(60, 0.5))
    many["missing"][30:] = 0.5
    flags = taken(state, many)
    assert {flag.signal for flag in flags} == {"missing"}


def test_a_block_without_a_value_is_passed_over():
    state = init(1)
    assert not taken(state, blocks(np.array([np.nan, 0.5])))
    assert state.held[0].tolist() == [1, 2, 2, 2]
