"""What a decision means and what is done about it: one table, from a partition's records alone.

| what           | how it shows                                                  | what is done                     |
| an incident    | entities in incidents when a signal moves                     | hold: nothing of them is learned |
| a level change | an incident outlasts level_change_after                       | that entity is re-based          |
| a shift        | the entity's CUSUM, without an incident                       | the rolling threshold follows    |
| benign drift   | the input level moves and the score does not; the score falls | the rolling refresh follows      |
| lateness       | more or fewer records come behind others of their entity      | the same                         |
| a stale model  | the score of all together rises without incidents             | a training is proposed           |
| a release step | many entities shift at once; the share of missing values moves | a training is proposed          |
| an outage      | most entities in incidents, or most values missing            | all learning is frozen           |
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class What(StrEnum):
    """What happened."""

    INCIDENT = "incident"
    LEVEL_CHANGE = "level_change"
    SHIFT = "shift"
    COVARIATE = "covariate_drift"
    STALE = "model_stale"
    RELEASE = "release_step"
    LATENESS = "lateness"
    OUTAGE = "outage"


class Action(StrEnum):
    """What is done about it."""

    HOLD = "hold"
    REBASE = "rebase"
    REFRESH = "refresh"
    PROPOSE = "propose_training"
    FREEZE = "freeze"
    THAW = "thaw"


class Finding(NamedTuple):
    """What happened, and what is done."""

    what: What
    action: Action


class Around(NamedTuple):
    """How a partition stands when one of its blocks closes."""

    entities: int
    """That are not gone."""
    firing: int
    """Of them in incidents."""
    shifted: int
    """Of them with a recent shift of their score."""
    frozen: bool
    score_moved: bool
    """The score of all together has moved up within the last RECENT blocks."""


HELD_SHARE: Final = 0.1
"""More of the entities than this in incidents, and a signal's move is theirs."""
MANY_SHARE: Final = 1 / 3
LEAST_MANY: Final = 3
RECENT: Final = 16
"""Blocks of the partition, which ADWIN may need to see what another signal has shown."""


def many_shifted(around: Around) -> bool:
    """Whether so many entities have shifted lately that it was one step of all."""
    return around.shifted >= max(LEAST_MANY, MANY_SHARE * around.entities)


def of_signal(signal: str, rose: bool, around: Around) -> Finding:
    """What a signal's drift means: "score", "level", "missing" or "late"."""
    if around.frozen:
        return Finding(What.OUTAGE, Action.FREEZE)
    if around.firing > HELD_SHARE * around.entities:
        return Finding(What.INCIDENT, Action.HOLD)
    if signal == "late":
        return Finding(What.LATENESS, Action.REFRESH)
    if signal == "missing" or many_shifted(around):
        return Finding(What.RELEASE, Action.PROPOSE)
    if (signal == "score" and rose) or (signal == "level" and around.score_moved):
        return Finding(What.STALE, Action.PROPOSE)
    return Finding(What.COVARIATE, Action.REFRESH)
