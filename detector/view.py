"""What a stream's state shows to people: gauges, entities one by one. Called where the state stands still."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..pipelines import location, windows
from ..pipelines.brokers.base import Part
from ..pipelines.records import NO_TIME
from ..thresholds import trace
from ..thresholds.constants import (
    DAY_US,
    LEARN_RECORDS,
    LEVEL_STEP,
    LEVELS,
    SLOW_SHARE,
    Caution,
    Freeze,
    Learning,
    Phase,
)
from ..thresholds.drift import SIGNALS
from .ruling import Ruling
from .state import StreamState
from .wire import rfc3339


class PartGauges(NamedTuple):
    """One partition's."""

    watermark_s: float | None
    drift: dict[str, tuple[float, float]]
    """Signal -> standardised last block mean, ADWIN's estimate."""
    frozen: bool
    """It learns nothing: most of its entities are in incidents, or most values missing."""
    proposed: bool
    """A decision has proposed a training since the model came into force."""


class Gauges(NamedTuple):
    """A stream's gauges at one moment."""

    entities: int
    warming: int
    torn: int
    pending: int
    firing: int
    opened_today: int
    """Incidents opened by the entities owned, in the newest event-time day of each."""
    budget_per_day: float
    counted_per_day: float
    """What counted against it at the levels in force, on the average of the epochs' time."""
    split_over: int | None
    """Entities that the budget is split over; None where each has a budget of its own."""
    split_off: Literal["more", "fewer"] | None
    """The entities known are more than twice as many, or fewer than half."""
    change: int
    calibration: int
    model: tuple[str, str] | None
    compilations: int
    top: dict[tuple[str, ...], float]
    parts: dict[Part, PartGauges]


def gauges(
    state: StreamState, parts: dict[Part, int], lags: int, top_k: int = 0, *, whole: bool = False
) -> Gauges:
    """The gauges of the partitions `parts` (name -> index in the state); `whole` says that these are all."""
    slots = np.concatenate([state.slots_of(index) for index in parts.values()] or [np.zeros(0, np.int32)])
    slots = slots[slots < len(state.decision.core)]
    core = state.decision.core  # field by field: a copy of whole rows takes a second of a million entities
    phase = core["phase"][slots]
    rulings = [state.rulings[index] for index in parts.values() if index in state.rulings]
    newest = min(rulings, key=lambda ruling: ruling.change) if rulings else None
    split_over = newest.entities if newest and not newest.budget.per_entity else None
    return Gauges(
        entities=len(slots),
        warming=int(np.count_nonzero(state.window.held[slots] < lags)),
        torn=state.table.torn,
        pending=int(np.count_nonzero(phase == Phase.PENDING)),
        firing=int(np.count_nonzero(phase == Phase.FIRING)),
        opened_today=int(core["day_count"][slots].sum()),
        budget_per_day=newest.share * len(slots) if newest else 0.0,
        counted_per_day=_counted_per_day(state, slots),
        split_over=split_over,
        split_off=None if split_over is None else split_off(len(slots), split_over, whole),
        change=newest.change if newest else -1,
        calibration=newest.recalibrated.version if newest and newest.recalibrated else 0,
        model=(newest.model.name, newest.model.version.profile) if newest else None,
        compilations=newest.model.scorer.compilations if newest else 0,
        top=_top(state, slots, top_k),
        parts={part: _part(state, index) for part, index in parts.items()},
    )


def _counted_per_day(state: StreamState, slots: NDArray[np.int32]) -> float:
    """Openings at the fixed level of each entity, or the next above it, over the time counted, times the entities."""
    core = state.decision.core
    days = float(core["span_us"][slots].sum()) / DAY_US
    if days == 0.0:
        return 0.0
    at = np.clip(np.ceil(core["level"][slots] / LEVEL_STEP) - 1, 0, LEVELS - 1).astype(np.int64)
    return float(state.decision.openings[slots, at].sum(dtype=np.float64)) / days * len(slots)


def split_off(known: int, split_over: int, whole: bool) -> Literal["more", "fewer"] | None:
    """Whether a count of entities is twice off the one that the budget is split over.

    Who owns only some of the partitions cannot know that there are too few.
    """
    if known > 2 * split_over:
        return "more"
    return "fewer" if whole and 2 * known < split_over else None


def _top(state: StreamState, slots: Any, top_k: int) -> dict[tuple[str, ...], float]:
    if not top_k:
        return {}
    scores: dict[tuple[str, ...], float] = {
        (state.table.name(int(slot)),): score_of(state, int(slot)) for slot in slots
    }
    return {name: score for name, score in scores.items() if math.isfinite(score)}


def _part(state: StreamState, index: int) -> PartGauges:
    watermark = int(state.progress.watermark[index])
    held = state.drift.held[index]
    drift = {
        name: (float(state.drift.means[index, i, held[i] - 1]), float(state.drift.latest[index, i]))
        for i, name in enumerate(SIGNALS)
        if held[i]
    }
    return PartGauges(
        None if watermark == NO_TIME else watermark / 1e6,
        drift,
        bool(state.progress.freeze[index] == Freeze.FROZEN),
        bool(state.drift.proposed[index]),
    )


def score_of(state: StreamState, slot: int) -> float:
    """The score as smoothing stands; NaN before the first."""
    if state.decision.core["last_us"][slot] == NO_TIME:
        return math.nan
    smoothed = state.decision.fast[slot] + state.decision.slow[slot]
    floored = np.maximum(smoothed, state.decision.floor[slot])
    return float(np.mean(np.log(floored) - state.decision.median[slot]))


def entities(
    state: StreamState, parts: dict[Part, int], lags: int, limit: int, after: str
) -> list[dict[str, Any]]:
    """The entities of `parts` by name, at most `limit` after a name."""
    found = sorted(
        (state.table.name(slot), part, slot)
        for part, index in parts.items()
        for slot in state.slots_of(index).tolist()
        if state.table.name(slot) > after
    )
    return [entity(state, part, parts[part], slot, lags) for _, part, slot in found[:limit]]


def find(state: StreamState, parts: dict[Part, int], lags: int, name: str) -> dict[str, Any] | None:
    """One entity, or None where no owned partition holds it."""
    for part, index in parts.items():
        slot = state.slot_of(index, name)
        if slot is not None:
            return entity(state, part, index, slot, lags, whole=True)
    return None


def entity(
    state: StreamState, part: Part, index: int, slot: int, lags: int, *, whole: bool = False
) -> dict[str, Any]:
    """What is known of one entity; `whole` adds its newest values."""
    core = state.decision.core[slot]
    held = int(state.window.held[slot])
    newest = windows.newest_of(state.window, slot)
    level = float(core["level"])
    shown: dict[str, Any] = {
        "entity": state.table.name(slot),
        "topic": part[0],
        "partition": part[1],
        "state": Phase(int(core["phase"])).name.lower(),
        "last_seen": None if newest == NO_TIME else rfc3339(newest),
        "score": score_of(state, slot),
        "threshold": level + SLOW_SHARE * float(core["S"]) + float(core["lift"]),
        "level": level,
        "calibration": f"{state.rulings[index].label}.{int(core['epoch'])}",
        "warming": warming(state, slot, held, lags),
        "conservative": Caution(int(core["caution"])).name.lower() if core["caution"] else None,
        "expected_until": rfc3339(int(core["expected_us"]))
        if core["expected_us"] > core["last_us"]
        else None,
    }
    shown["scores"], shown["thresholds"] = trace.of(state.trace, slot)
    if whole:
        values = state.window.values[slot, (int(state.window.head[slot]) - 1) % state.window.values.shape[1]]
        shown["incident_since"] = rfc3339(int(core["onset"])) if core["phase"] != Phase.NORMAL else None
        shown["records_learned"] = int(core["accepted"])
        shown["values"] = dict(zip(state.schema.names, values.astype(float).tolist(), strict=True))
    return shown


def warming(state: StreamState, slot: int, held: int, lags: int) -> str | None:
    """Why an entity is not yet judged by what is its own, or None."""
    if held < lags:
        return f"{held} of {lags} records for the first score"
    learning = Learning(int(state.decision.core["learning"][slot]))
    if learning is Learning.LOCATION:
        return f"own location after {int(state.location.learnt[slot])} of {location.LIMIT} ordinary records"
    if state.location.phase[slot] == location.REBASING:
        return f"new ordinary after {int(state.location.learnt[slot])} of {location.LIMIT} ordinary records"
    if learning is Learning.MEDIANS:
        return (
            f"own scale after {int(state.decision.core['learned'][slot])} of {LEARN_RECORDS} ordinary records"
        )
    return None


def ruling_summary(ruling: Ruling) -> dict[str, Any]:
    """What decides, in words."""
    return {
        "model": ruling.model.name,
        "profile": ruling.model.version.profile,
        "budget": ruling.budget.text,
        "entities": ruling.entities,
        "change": ruling.change,
        "recalibration": ruling.recalibrated.version if ruling.recalibrated else None,
        "max_incidents": ruling.rules.cap,
    }
