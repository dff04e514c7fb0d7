"""What to do about two windows: each rule, and which goes first."""

from __future__ import annotations

import pytest
from tocsin.thresholds.advice import Action, advise, lost, moved
from tocsin.thresholds.compare import Comparison, Feature, Latent, Score

QUIET = Feature(0, 0.02, 0.05, 0.1, 0.1, (0.0, 0.0), 0.01, 0.05, False, False, False, False)
SHAPE = QUIET._replace(psi=0.9, moved=True)
LEVEL = SHAPE._replace(level=True)
GONE = QUIET._replace(psi=float("nan"), missing=(0.0, 1.0), lost=True)


def found(
    features: list[Feature], *, score: bool = False, latent: bool = False, level: bool = False
) -> Comparison:
    return Comparison(
        Score([0.0] * 4, [0.0] * 4, 0.0, 0.0, 0.1, 0.0, 0.01, 0.02, 0.02, score),
        [one._replace(feature=i) for i, one in enumerate(features)],
        Latent(0.0, 0.0, 0.0, 0.1, latent or level, level),
    )


@pytest.mark.parametrize(
    ("features", "score", "latent", "action", "why"),
    [
        ([QUIET] * 6, False, False, Action.NOTHING, "neither the score nor a feature"),
        ([QUIET] * 5 + [SHAPE], False, False, Action.NOTHING, "1 feature moved, but not the score"),
        ([QUIET] * 6, True, False, Action.RECALIBRATE, "and no feature"),
        ([QUIET] * 4 + [SHAPE] * 2, True, False, Action.RECALIBRATE, "and few features"),
        ([LEVEL] * 6, True, False, Action.RECALIBRATE, "only in their level"),
        ([QUIET] * 3 + [SHAPE] * 3, True, False, Action.TRAIN, "3 of 6 features"),
        ([QUIET] * 3 + [SHAPE] * 3, False, False, Action.TRAIN, "3 of 6 features"),
        ([QUIET] * 6, False, True, Action.TRAIN, "latent"),
        ([QUIET] * 5 + [GONE], True, True, Action.LOOK, "1 feature missing"),
        ([GONE] * 6, True, False, Action.LOOK, "6 features missing"),
    ],
)
def test_each_rule_and_the_first_that_holds(
    features: list[Feature], score: bool, latent: bool, action: Action, why: str
) -> None:
    advice = advise(found(features, score=score, latent=latent))
    assert advice.action is action
    assert why in advice.why


def test_a_latent_that_followed_the_features_level_calls_for_no_training() -> None:
    assert advise(found([LEVEL, QUIET, QUIET, QUIET], score=True, level=True)).action is Action.RECALIBRATE
    assert advise(found([LEVEL, QUIET, QUIET, QUIET], score=True, latent=True)).action is Action.TRAIN


def test_what_moved_furthest_comes_first() -> None:
    given = found([SHAPE, QUIET, SHAPE._replace(psi=2.0), GONE, GONE._replace(missing=(0.9, 0.0))])
    assert [one.feature for one in moved(given)] == [2, 0]
    assert [one.feature for one in lost(given)] == [3, 4]
