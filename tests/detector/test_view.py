"""What the state shows of the budget: over how many entities it is split, and when that count is twice off."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from tocsin.detector import metric_defs as defs
from tocsin.detector import view
from tocsin.detector.clocks import Clocks
from tocsin.detector.ledger import Ledger
from tocsin.detector.metrics import Metrics
from tocsin.thresholds import trace
from tocsin.thresholds.budget import parse_budget
from tocsin.thresholds.constants import DAY_US, LEVEL_STEP, LEVELS
from versions import TOPIC, Stand


@pytest.mark.parametrize(
    ("known", "whole", "said"),
    [
        (20, True, None),
        (21, True, "more"),
        (21, False, "more"),
        (5, True, None),
        (4, True, "fewer"),
        (4, False, None),
    ],
)
def test_a_count_twice_off_is_seen_as_far_as_it_can_be(known: int, whole: bool, said: str | None) -> None:
    assert view.split_off(known, 10, whole) == said


def test_the_count_is_exported_where_the_budget_is_split(shared_stand: Stand) -> None:
    state = shared_stand.chain().state
    part = state.part(TOPIC, 0)
    ruling = shared_stand.rulings().ruling()
    assert ruling.entities == 40
    metrics = Metrics(CollectorRegistry())
    ledger = Ledger(metrics, "fleet", Clocks())

    def shown(budget: str, entities: int) -> view.Gauges:
        state.rulings[part] = ruling._replace(budget=parse_budget(budget))
        state.table.intern_all(part, [f"host-{number}" for number in range(entities)])
        state.admit(state.table.take_new())
        found = view.gauges(state, {(TOPIC, 0): part}, 5, whole=True)
        ledger.gauges(found)
        return found

    assert shown("20/day", 19).split_off == "fewer"
    assert metrics.value(defs.BUDGET_ENTITIES, "fleet") == 40
    assert shown("20/day", 80).split_off is None
    assert shown("20/day", 81).split_off == "more"
    own = shown("1/day per entity", 81)
    assert (own.split_over, own.split_off) == (None, None)
    page = metrics.registry.get_sample_value(defs.BUDGET_ENTITIES.name, {"stream": "fleet"})
    assert page is None


def test_an_entitys_last_scores_are_shown_and_end_with_its_slot(shared_stand: Stand) -> None:
    state = shared_stand.chain().state
    part = state.part(TOPIC, 0)
    state.rulings[part] = shared_stand.rulings().ruling()
    (slot,) = state.table.intern_all(part, ["host-0"])
    state.admit(state.table.take_new())
    trace.follow(state.trace, np.array([slot, slot]), np.array([0.5, 2.0]), np.array([1.0, 1.0]))
    (shown,) = view.entities(state, {(TOPIC, 0): part}, 5, 10, "")
    assert (shown["scores"], shown["thresholds"]) == ([0.5, 2.0], [1.0, 1.0])
    state.table.release([slot])
    assert state.table.intern_all(part, ["host-1"]) == [slot]
    state.admit(state.table.take_new())
    (shown,) = view.entities(state, {(TOPIC, 0): part}, 5, 10, "")
    assert (shown["entity"], shown["scores"]) == ("host-1", [])


def test_what_counts_against_the_budget_is_exported_beside_it(shared_stand: Stand) -> None:
    """At each entity's own level, over the time counted: three in two days, and one in one day by two at a level
    between the fixed ones; so four of two entities in three days."""
    state = shared_stand.chain().state
    part = state.part(TOPIC, 0)
    state.rulings[part] = shared_stand.rulings().ruling()
    assert view.gauges(state, {(TOPIC, 0): part}, 5).counted_per_day == 0.0
    slots = state.table.intern_all(part, ["host-0", "host-1"])
    state.admit(state.table.take_new())
    core, openings = state.decision.core, state.decision.openings
    core["level"][slots] = 6 * LEVEL_STEP, 6.4 * LEVEL_STEP
    core["span_us"][slots] = 2 * DAY_US, DAY_US
    openings[slots] = np.arange(LEVELS, 0, -1)
    openings[slots[0], 5], openings[slots[1], 6] = 3, 1
    shown = view.gauges(state, {(TOPIC, 0): part}, 5)
    assert shown.counted_per_day == pytest.approx(4 / 3 * 2)
    metrics = Metrics(CollectorRegistry())
    Ledger(metrics, "fleet", Clocks()).gauges(shown)
    assert metrics.value(defs.COUNTED, "fleet") == shown.counted_per_day
    core["level"][slots] = np.inf  # beyond all fixed levels
    assert view.gauges(state, {(TOPIC, 0): part}, 5).counted_per_day == pytest.approx(2 / 3 * 2)
