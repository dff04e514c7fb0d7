"""The opening level of one entity, found by running the whole incident machine over its history.

Used in training on cross-fitted scores and in recalibration on recent ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration
from .constants import DAY_US, HIGHEST_LEVEL, LEVEL_STEP, LEVELS, NO_TIME, TOP_LEVEL, Caution
from .cusum import measure
from .histogram import count
from .jit import kernel
from .level import lowest_level
from .machine import DID_OPEN, FIRING, close, follow, rolling, step
from .smoothing import score_rows
from .state import CORE, Rules, checked, pace
from .tail import beyond, fit

STEPS = 8
"""Halvings of the search: a level is found to LEVEL_STEP / 2 ** STEPS."""


class Opening(NamedTuple):
    """What an entity's history says about its level."""

    level: float
    caution: Caution
    """SHORT_HISTORY: the history allows no opening; the level is where none opened, raised by the tail."""
    openings: NDArray[np.float32]
    """[LEVELS] openings of the whole machine at each fixed level."""
    counts: NDArray[np.float32]
    """[BINS] histogram of x at that level."""
    span_us: int
    blocks: NDArray[np.float64]
    """[4] of `cusum.measure`, over the scores outside incidents at that level."""


@kernel
def run(
    core: Any,
    scores: NDArray[np.float64],
    times: NDArray[np.int64],
    level: float,
    rules: Rules,
    x: NDArray[np.float64],
    inside: NDArray[np.bool_],
) -> tuple[int, int]:
    """Run slow average and machine over one entity's scores [n] at a fixed level, filling x [n] and `inside` [n].

    Returns openings and the event time spent outside incidents (us), counted as the decision kernel does.
    """
    core.level = level
    opened, span, last = 0, 0, NO_TIME
    for i in range(len(scores)):
        if core.phase != FIRING:
            follow(core, scores[i])
            if last != NO_TIME:
                span += min(max(times[i] - last, 0), rules.gone_after_us)
        last = times[i]
        x[i] = scores[i] - rolling(core)
        happened = step(core, x[i], scores[i], times[i], i, rules)
        if happened == DID_OPEN:
            opened += 1
        elif happened > DID_OPEN:
            close(core)
        inside[i] = core.phase == FIRING
    return opened, span


def scores(
    members: NDArray[np.float32], median: NDArray[np.float64], floor: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Scores [n] of one entity's members [n, M] in order, smoothing started at "ordinary".

    Medians and floors are [M], or [n, M] where each fold of a cross-fit has its own.
    """
    members = np.require(members, np.float32, ["C", "W"])
    medians, floors = (
        np.require(np.broadcast_to(array, members.shape), np.float64, ["C", "W"]) for array in (median, floor)
    )
    start = 0.5 * np.exp(medians[0]) if len(members) else np.zeros(members.shape[1])
    return score_rows(members, medians, floors, start.copy(), start.copy())


def openings_at(
    level: float,
    score: NDArray[np.float64],
    time_us: NDArray[np.int64],
    *,
    half_life: float,
    rules: Rules,
    start: float = 0.0,
) -> tuple[int, int, NDArray[np.float64]]:
    """Openings, span (us) and x [n] of the whole machine over one entity's scores [n] at a fixed level.

    `start` is where S begins. Flapping is not damped: openings are counted as the shadow machines do.
    """
    return _ran(level, score, time_us, half_life, rules, start)[:3]


def _ran(
    level: float,
    score: NDArray[np.float64],
    time_us: NDArray[np.int64],
    half_life: float,
    rules: Rules,
    start: float,
) -> tuple[int, int, NDArray[np.float64], NDArray[np.bool_]]:
    """What `openings_at` gives, and at which scores [n] an incident is open."""
    core = np.zeros(1, CORE)
    core["S"], core["pace"] = start, pace(half_life)
    x, inside = np.empty(len(score)), np.empty(len(score), np.bool_)
    score = np.require(score, np.float64, ["C", "W"])
    time_us = np.require(time_us, np.int64, ["C", "W"])
    rules = checked(rules)._replace(flap_after=0)
    opened, span = run(core[0], score, time_us, float(level), rules, x, inside)
    return opened, span, x, inside


def opening_level(
    score: NDArray[np.float64],
    time_us: NDArray[np.int64],
    *,
    half_life: float,
    share: float,
    rules: Rules,
    start: float = 0.0,
    block: int | None = None,
) -> Opening:
    """The lowest level at which, as at all fixed ones above it, the machine opens at most share x span times.

    Where that is less than one opening, the lowest level without any, raised along the tail of x until the
    expected rate meets the share. Never below LEVEL_STEP nor above HIGHEST_LEVEL.

    Args:
        score: [n] one entity's scores in order.
        time_us: [n] their event times.
        half_life: of S, records.
        share: budget, openings a day.
        rules: of the incident machine.
        start: where S begins.
        block: records of the blocks whose means are measured, by default as many as `cusum.measure` finds.

    Raises:
        ValueError: there is no score.
    """
    if len(score) == 0:
        raise ValueError("an opening level needs at least one score")

    def ran(level: float) -> tuple[int, int, NDArray[np.float64], NDArray[np.bool_]]:
        return _ran(level, score, time_us, half_life, rules, start)

    openings = np.array([ran(LEVEL_STEP * (j + 1))[0] for j in range(LEVELS)], np.float32)
    span = ran(HIGHEST_LEVEL)[1]
    allowed = share * span / DAY_US
    may = allowed if allowed >= 1.0 else 0.0
    j = lowest_level(openings, may)
    low, high = LEVEL_STEP * j, LEVEL_STEP * (j + 1)
    if j == LEVELS:
        low, high = TOP_LEVEL, HIGHEST_LEVEL
    while j > 0 and high - low > LEVEL_STEP / 2**STEPS:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if ran(middle)[0] <= may else (middle, high)
    level = high
    caution = Caution.NONE
    if allowed < 1.0:
        caution = Caution.SHORT_HISTORY
        counts = count(ran(level)[2])
        level = min(beyond(level, allowed, *fit(counts, float(counts.sum()))[:3]), HIGHEST_LEVEL)
    _, _, x, inside = ran(level)
    return Opening(level, caution, openings, count(x), span, measure(score[~inside], block))


def row(
    found: Opening, median: NDArray[np.float64], floor: NDArray[np.float64], half_life: float
) -> Calibration:
    """One row of a calibration."""
    return Calibration(
        counts=found.counts[None],
        openings=found.openings[None],
        span_us=np.array([found.span_us], np.int64),
        level=np.array([found.level]),
        median=np.asarray(median, np.float64)[None],
        floor=np.asarray(floor, np.float64)[None],
        half_life=np.array([half_life], np.float64),
        blocks=found.blocks[None],
    )
