"""What to do about two windows that differ: nothing, recalibrate, train anew, or look at the input.

    missing moved in a feature                           look at the input
    the latent moved, or many features did, and not
    only because features moved by their level           train anew
    the score moved                                      recalibrate
    else                                                 nothing

The first line that holds decides: while values are missing, whatever else moved may come from that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from .compare import Comparison, Feature

MANY: Final = 1 / 3
"""More than this share of the features is many."""


class Action(StrEnum):
    """What there is to do."""

    NOTHING = "nothing"
    RECALIBRATE = "recalibrate"
    TRAIN = "train anew"
    LOOK = "look at the input"


class Advice(NamedTuple):
    """What to do, and why in one sentence."""

    action: Action
    why: str


def moved(found: Comparison) -> list[Feature]:
    """The features that moved, those furthest first."""
    return sorted((one for one in found.features if one.moved), key=lambda one: -one.psi)


def lost(found: Comparison) -> list[Feature]:
    """The features whose share missing moved, those furthest first."""
    gone = (one for one in found.features if one.lost)
    return sorted(gone, key=lambda one: -abs(one.missing[1] - one.missing[0]))


def advise(found: Comparison) -> Advice:
    """What to do about a comparison."""
    changed, count = moved(found), sum(math.isfinite(one.psi) for one in found.features)
    shaped = [one for one in changed if not one.level]
    if gone := lost(found):
        return Advice(
            Action.LOOK,
            f"{_features(len(gone))} missing more or less often than before: what else moved may come from that",
        )
    if found.latent is not None and found.latent.moved and not found.latent.level:
        return Advice(Action.TRAIN, "the records stand elsewhere in the model's latent space")
    if shaped and len(changed) > MANY * count:
        return Advice(Action.TRAIN, f"{len(changed)} of {count} features moved, not only in their level")
    if found.score.moved and changed:
        how = "few features" if len(changed) <= MANY * count else "features only in their level"
        return Advice(Action.RECALIBRATE, f"the score moved, and {how}")
    if found.score.moved:
        return Advice(Action.RECALIBRATE, "the score moved, and no feature")
    if changed:
        return Advice(
            Action.NOTHING, f"{_features(len(changed))} moved, but not the score: the thresholds hold"
        )
    return Advice(Action.NOTHING, "neither the score nor a feature moved")


def remarks(feature: Mapping[str, Any]) -> list[str]:
    """What there is to say of a feature in a few words; it is given as a mapping."""
    told = {
        "moved": feature["moved"] and not feature["level"],
        "level moved": feature["level"],
        "missing moved": feature["lost"],
        "constant": feature["constant"],
        "too few values": math.isnan(feature["psi"]),
    }
    return [name for name, holds in told.items() if holds]


def _features(count: int) -> str:
    return f"{count} feature" if count == 1 else f"{count} features"
