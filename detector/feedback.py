"""What operators say of incidents, in one partition: heeded from exactly one record on, and taken back likewise.

Nothing is remembered of past incidents. What a change says is the fold's (`changes.Given`), what the incident was
comes with the change, and only the entity's newest incident is known better by its state.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..thresholds.constants import LEVEL_STEP, NO_TIME, TOP_LEVEL, Mark, Phase, Reason
from ..thresholds.events import resolve
from ..thresholds.feedback import mark, weigh
from ..thresholds.state import EVENT, DecisionState
from .alerts import Kind, alert_id
from .changes import Feedback, Given, Word, words
from .wire import microseconds

MARKS = {"false": Mark.DENIED, "true": Mark.CONFIRMED, "expected": Mark.CONFIRMED}


class Standing(Enum):
    """How an incident stands to what is known of its entity."""

    OPEN = "open"
    NEWEST = "newest"
    """It is over, and the entity has left the normal state no more since."""
    PAST = "past"
    FOREIGN = "foreign"
    """It was counted in another epoch of the entity's calibration."""


class Expectation(NamedTuple):
    """Up to which event time an entity's incidents are expected, and by which change; by default not at all."""

    until_us: int = NO_TIME
    by: int = 0


def is_of(about: Feedback, stream: str) -> bool:
    """Whether the incident that the feedback names is one of that stream and entity."""
    onset_us = microseconds(about.starts_at)
    return alert_id(stream, about.entity, Kind.ANOMALY, onset_us) == about.alert_id


def standing(core: np.void, about: Feedback) -> Standing:
    """How the incident stands to its entity's state, one of thresholds' CORE."""
    newest = int(core["onset"]) == microseconds(about.starts_at)
    if newest and core["phase"] == Phase.FIRING:
        return Standing.OPEN
    if int(core["epoch"]) != about.epoch:
        return Standing.FOREIGN
    return Standing.NEWEST if newest else Standing.PAST


def counted(word: Word | None, about: Feedback) -> bool:
    """Whether an incident that is over counts against the budget under that word."""
    return about.counted if word is None else word.said.verdict == "false"


def expectation(given: Given) -> Expectation:
    """Up to when the incidents of the entity are expected, by all that is said of them now: the latest time said."""
    about, found = given.about, Expectation()
    decided = set()
    for one in words(given):
        name = one.about.alert_id
        word = None if name in decided else one.now
        decided.add(name)
        if word is not None and word.said.until is not None and _entity(word.said) == _entity(about):
            found = max(found, Expectation(microseconds(word.said.until), word.version))
    return found


def _entity(said: Feedback) -> tuple[str, int, str]:
    return said.topic, said.partition, said.entity


def heed(decision: DecisionState, slot: int, part: int, given: Given, offset: int) -> NDArray[np.void]:
    """Let what is said of an incident act on its entity, in place; what was said of it before is taken back first.

    Returns the events of an incident that ends by it, with row -1.
    """
    core = decision.core[slot]
    stands = standing(core, given.about)
    if stands is Standing.OPEN:
        mark(decision, slot, int(MARKS[given.now.said.verdict]) if given.now else 0)
    elif stands is not Standing.FOREIGN:
        by = int(counted(given.now, given.about)) - int(counted(given.before, given.about))
        weigh(decision, slot, height(core, stands, given.about), by)
    expected = expectation(given)
    last_us = int(core["last_us"])
    events = np.zeros(0, EVENT)
    if core["phase"] == Phase.FIRING:
        holds = expected.until_us > last_us
        as_expected = bool(core["strong"] & Mark.EXPECTED)
        # What was told as expected is so no more, or what was told as not expected is: it opens anew as what it is.
        turns = stands is Standing.OPEN and given.now is not None and given.now.said.until is not None
        if as_expected != holds and (as_expected or turns):
            events = resolve(decision, slot, part, last_us, offset, Reason.OPERATOR)
    core["expected_us"], core["expected_by"] = expected
    return events


def height(core: np.void, stands: Standing, about: Feedback) -> int:
    """How many fixed levels lie up to the highest at which the incident opened."""
    if stands in (Standing.OPEN, Standing.NEWEST):
        return int(core["height"])
    return round(min(max(about.reach or 0.0, 0.0), TOP_LEVEL) / LEVEL_STEP)
