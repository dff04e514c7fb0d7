"""What the file intends, against what the control topic says: after a start and a SIGHUP nothing decides unsaid."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tocsin.detector.changes import (
    DEFAULT_BUDGET,
    DEFAULT_CAP,
    BudgetChange,
    Change,
    InForce,
    Versioned,
    decode,
    encode,
    fold,
)
from tocsin.detector.intended import differences, first_changes, reloaded
from tocsin.detector.rulings import Rulings
from tocsin.detector.settings import Incidents, Settings, Stream, Thresholds
from tocsin.thresholds.budget import default_budget, parse_budget

REGISTRY: Any = SimpleNamespace(current=lambda: "v1")
MODEL: Any = SimpleNamespace(name="v1", version=SimpleNamespace(trained_entities=30, name="v1"))


def settings(budget: str | None = None, most: int | None = None, **incidents: Any) -> Settings:
    return Settings(
        streams=(Stream(name="s", topics=("t",)),),
        thresholds=Thresholds(budget=budget, max_incidents=most),
        incidents=Incidents(**incidents),
    )


def published(*rounds: Iterable[Change]) -> list[Versioned]:
    """Changes as they travel, in order."""
    changes = [change for one in rounds for change in one]
    return [Versioned(i, decode(encode(change), "x")) for i, change in enumerate(changes)]  # type: ignore[arg-type]


def decided(file: Settings, changes: list[Versioned]) -> tuple[str, int]:
    """The budget and the cap that a daemon with this file decides by."""
    rulings = Rulings(file, lambda name: MODEL)
    for change in changes:
        assert rulings.take(change) == ""
    ruling = rulings.ruling()
    return ruling.budget.text, ruling.rules.cap


FILES = [settings(), settings("9/day"), settings(most=3), settings("9/day", 3, k=3)]


@pytest.mark.parametrize("first", FILES)
@pytest.mark.parametrize("later", FILES)
def test_after_the_first_start_another_file_decides_nothing_until_it_is_published(
    first: Settings, later: Settings
) -> None:
    begun = published(first_changes(InForce(), first, REGISTRY))
    now = fold(begun).in_force
    assert first_changes(now, later, REGISTRY) == []
    assert decided(later, begun) == decided(first, begun)
    text = first.thresholds.budget or default_budget(30).text
    most = first.thresholds.max_incidents or max(5, round(parse_budget(text).share(30) * 10))
    assert decided(first, begun) == (text, most)
    # SIGHUP: what the file says is published, down to a budget or a cap that it says for the first time or no more.
    after = published(first_changes(InForce(), first, REGISTRY), reloaded(now, later))
    assert decided(first, after) == decided(later, published(first_changes(InForce(), later, REGISTRY)))
    assert bool(reloaded(now, later)) == (first is not later) == bool(differences(now, later))
    assert reloaded(fold(after).in_force, later) == []
    assert differences(fold(after).in_force, later) == {}


def test_differences_name_what_the_file_says_and_what_is_in_force() -> None:
    now = fold(published(first_changes(InForce(), settings(most=3), REGISTRY))).in_force
    assert differences(now, settings("9/day", k=3)) == {
        "incidents.k": (3, 2),
        "thresholds.budget": ("9/day", "the default"),
        "thresholds.max_incidents": ("the default", 3),
    }


def test_a_start_says_what_earlier_versions_have_left_to_the_file() -> None:
    """Topics that an earlier version began hold no cap, and not every rule."""
    now = InForce(budget="2/day", model="v1", settings={"incidents.k": 3})
    said = fold([Versioned(0, change) for change in first_changes(now, settings("9/day", 7), REGISTRY)])
    assert (said.in_force.budget, said.in_force.max_incidents) == ("2/day", 7)
    assert "incidents.k" not in said.in_force.settings
    assert set(said.in_force.settings) == {f"incidents.{f}" for f in Incidents.__struct_fields__} - {
        "incidents.k"
    }


def test_a_change_of_the_budget_alone_leaves_the_cap() -> None:
    stamp = {"id": "1", "author": "a", "reason": "r", "created_at": "x"}
    old = msgspec.json.encode(
        {"kind": "budget", "schema_version": "1.0", "budget": "1/day", "max_incidents": None, **stamp}
    )
    both = [
        Versioned(0, BudgetChange(budget=DEFAULT_BUDGET, max_incidents=DEFAULT_CAP, **stamp)),
        Versioned(1, BudgetChange(budget="2/day", max_incidents=4, **stamp)),
        Versioned(2, decode(old, "x")),  # type: ignore[arg-type]
    ]
    assert [fold(both[: i + 1]).in_force.max_incidents for i in range(3)] == [0, 4, 4]
