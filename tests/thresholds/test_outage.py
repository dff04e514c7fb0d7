"""Many at once: when a partition learns nothing, and when it does again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tocsin.thresholds.constants import LEAST_COUNT, LEVEL_STEP, LEVELS, Freeze, Kind
from tocsin.thresholds.state import Rows, Rules

MINUTE = 60_000_000
ENTITIES = 18
RULES = Rules(level_change_us=600 * MINUTE)
OFTEN = np.where(LEVEL_STEP * np.arange(1, LEVELS + 1) < 1.0, 1000, 0).astype(np.float32)
"""Openings by which the level stays at 1."""


@pytest.fixture
def many(bench: Any, calibrated: Any) -> Any:
    """Eighteen entities of one partition and one of another, calm so far."""
    one = bench(calibrated(level=1.0, openings=OFTEN, half_life=100.0), RULES, owner=[0] * ENTITIES + [1])
    rounds(one, 0, 30)
    return one


def rounds(one: Any, first: int, last: int, strange: int = 0) -> list[dict[str, Any]]:
    """A record of each entity a minute, the first `strange` of them far above their level."""
    return [
        one.push(2.2 if slot < strange else 0.1, minute * MINUTE, slot)
        for minute in range(first, last)
        for slot in range(ENTITIES + 1)
    ]


def kinds(one: Any) -> list[int]:
    return [int(event["kind"]) for event in one.events if event["kind"] in (Kind.FREEZE, Kind.THAW)]


def learned(one: Any, slot: int) -> tuple[Any, ...]:
    """All that an entity learns."""
    names = ("S", "accepted", "span_us", "means", "block_fill", "usual", "waiting")
    return tuple(one.core(name, slot) for name in names)


def test_while_most_are_in_incidents_nobody_learns(many: Any) -> None:
    rounds(many, 30, 60, strange=12)
    assert kinds(many) == [Kind.FREEZE]
    assert many.parts.freeze.tolist() == [Freeze.FROZEN, Freeze.NONE]
    before, other = [learned(many, slot) for slot in range(ENTITIES)], learned(many, ENTITIES)
    decided = rounds(many, 60, 120, strange=12)
    assert [learned(many, slot) for slot in range(ENTITIES)] == before
    assert learned(many, ENTITIES) != other  # another partition is not concerned
    calm = [one for i, one in enumerate(decided) if i % (ENTITIES + 1) == 17]
    assert not any(one["clean"] for one in calm)
    rounds(many, 120, 180)
    assert kinds(many) == [Kind.FREEZE, Kind.THAW]
    assert many.parts.freeze.tolist() == [Freeze.NONE, Freeze.NONE]
    assert many.core("accepted", 17) > before[17][1]


def test_few_in_incidents_hold_their_own_learning_only(many: Any) -> None:
    rounds(many, 30, 90, strange=9)
    assert kinds(many) == []
    assert many.core("accepted", 17) > many.core("accepted", 0)


def test_what_outlasts_a_level_change_is_the_new_ordinary(many: Any) -> None:
    rounds(many, 30, 2000, strange=12)
    assert kinds(many) == [Kind.FREEZE, Kind.THAW]
    assert Kind.LEVEL_CHANGE in {int(event["kind"]) for event in many.events}
    assert many.parts.freeze[0] == Freeze.NONE


@pytest.mark.parametrize(
    ("missing", "usual", "frozen"), [(0.7, 0.0, 1), (0.4, 0.0, 0), (0.7, 0.6, 0), (0.9, 0.6, 1)]
)
def test_values_that_are_usually_there_and_are_missing_freeze_it_too(
    bench: Any, calibrated: Any, missing: float, usual: float, frozen: int
) -> None:
    one = bench(calibrated(level=1.0), RULES)
    one.parts.usual_missing[0] = usual

    def feed(share: float, first: int, last: int) -> None:
        n = last - first
        zeros = np.zeros(n)
        times = np.arange(first, last) * MINUTE
        members = np.full((n, 1), 0.4)
        one.advance(Rows(zeros, zeros, np.arange(first, last), times, members, zeros + share, zeros, zeros))

    feed(missing, 0, LEAST_COUNT)
    assert one.parts.freeze[0] == frozen
    feed(usual, LEAST_COUNT, 2 * LEAST_COUNT)
    assert one.parts.freeze[0] == Freeze.NONE
    # where it goes on for longer than a level change would take, it is ordinary
    feed(missing, 2 * LEAST_COUNT, 2 * LEAST_COUNT + 800)
    assert one.parts.freeze[0] == (Freeze.OUTLASTED if frozen else Freeze.NONE)
