"""What a decision means, and that each is named once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tocsin.thresholds import drift
from tocsin.thresholds.policy import Action, Around, Finding, What, many_shifted, of_signal
from tocsin.thresholds.state import BLOCK_MEANS

CALM = Around(entities=30, firing=0, shifted=0, frozen=False, score_moved=False)
REFERENCE = {"score": np.array([0.0, 1.0]), "level": np.array([0.0, 1.0]), "missing": np.array([0.1, 0.01])}
STEP = 60


@pytest.mark.parametrize(
    ("signal", "rose", "around", "found"),
    [
        ("level", True, CALM, (What.COVARIATE, Action.REFRESH)),
        ("level", False, CALM, (What.COVARIATE, Action.REFRESH)),
        ("level", True, CALM._replace(score_moved=True), (What.STALE, Action.PROPOSE)),
        ("score", True, CALM, (What.STALE, Action.PROPOSE)),
        ("score", False, CALM, (What.COVARIATE, Action.REFRESH)),
        ("score", True, CALM._replace(shifted=10), (What.RELEASE, Action.PROPOSE)),
        ("late", True, CALM, (What.LATENESS, Action.REFRESH)),
        ("missing", True, CALM, (What.RELEASE, Action.PROPOSE)),
        ("score", True, CALM._replace(firing=4), (What.INCIDENT, Action.HOLD)),
        ("score", True, CALM._replace(firing=3), (What.STALE, Action.PROPOSE)),
        ("missing", True, CALM._replace(firing=20, frozen=True), (What.OUTAGE, Action.FREEZE)),
    ],
)
def test_the_table(signal: str, rose: bool, around: Around, found: Finding) -> None:
    assert of_signal(signal, rose, around) == found


def test_two_entities_are_not_many() -> None:
    assert not many_shifted(CALM._replace(entities=2, shifted=2))
    assert many_shifted(CALM._replace(entities=3, shifted=3))
    assert not many_shifted(CALM._replace(entities=30, shifted=9))


def run(state: Any, n: int = 2 * STEP, **steps: float) -> list[drift.Flag]:
    """Blocks of which the named columns step at STEP."""
    rng = np.random.default_rng(11)
    many = np.zeros(n, BLOCK_MEANS)
    many["row"], many["entities"] = np.arange(n), 30
    many["score"], many["level"] = rng.normal(0, 1, n), rng.normal(0, 1, n)
    many["missing"] = 0.1 + 0.01 * rng.normal(0, 1, n)
    for name, by in steps.items():
        many[name][STEP:] += np.array(by).astype(many.dtype[name])
    return [flag for block in many for flag in drift.take(state, block, REFERENCE)]


def said(flags: list[drift.Flag]) -> list[tuple[str, str, str]]:
    return [(flag.signal, *map(str, flag.found)) for flag in flags]


def test_each_scenario_is_one_decision_with_its_name() -> None:
    for steps, expected in (
        ({"level": 3.0}, ("level", "covariate_drift", "refresh")),
        ({"score": 3.0}, ("score", "model_stale", "propose_training")),
        ({"score": -3.0}, ("score", "covariate_drift", "refresh")),
        ({"late": 0.2}, ("late", "lateness", "refresh")),
        ({"missing": 0.1}, ("missing", "release_step", "propose_training")),
        ({"score": 3.0, "firing": 12}, ("score", "incident", "hold")),
        ({"score": 3.0, "firing": 25, "frozen": True}, ("score", "outage", "freeze")),
    ):
        state = drift.init(1)
        assert said(run(state, **steps)) == [expected]
        assert bool(state.proposed[0]) == (expected[2] == "propose_training")
        drift.restart(state, 0)
        assert not state.proposed[0]
        assert not state.held[0].any()


def test_many_that_shift_at_once_are_one_release_step() -> None:
    state = drift.init(1)
    flags = run(state, shifted=12)
    assert said(flags) == [("entities", "release_step", "propose_training")]
    assert (flags[0].row, flags[0].before, flags[0].after) == (STEP, 0.0, 12 / 30)


def test_a_level_that_moves_with_the_score_is_named_with_it() -> None:
    found = said(run(drift.init(1), score=3.0, level=3.0))
    assert len(found) == 2
    assert {what for _, what, _ in found} == {"model_stale"}
