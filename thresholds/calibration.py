"""What turns scores into levels and p-values, as rows of a table; how an entity's slot is given one.

A model version holds one row per training entity and one pooled row, the prior, for all others. Rows add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .constants import BINS, DAY_US, LEVEL_STEP, LEVELS, PRIOR_WEIGHT, Caution, Learning
from .cusum import begin
from .histogram import freeze
from .jit import kernel
from .level import lowest_level, set_level
from .state import DecisionState, init, pace


class Calibration(NamedTuple):
    """n entities, structure of arrays; the prior is the same with n = 1."""

    counts: NDArray[np.float32]
    """[n, BINS] histogram of x."""
    openings: NDArray[np.float32]
    """[n, LEVELS] openings of the incident machine at each fixed level."""
    span_us: NDArray[np.int64]
    """[n] event time over which they were counted."""
    level: NDArray[np.float64]
    """[n] opening level."""
    median: NDArray[np.float64]
    """[n, M] median of ln s of each member."""
    floor: NDArray[np.float64]
    """[n, M] least s that counts."""
    half_life: NDArray[np.float64]
    """[n] half-life of S, records."""
    blocks: NDArray[np.float64]
    """[n, 4] of `cusum.measure`: what a lasting shift of the score is measured against."""


def of_arrays(arrays: Mapping[str, NDArray[Any]]) -> Calibration:
    """A calibration as a model version or a change holds it; those of before `blocks` know nothing of them.

    Raises:
        ValueError: an array is missing, or has another type or shape than the kernels read.
    """
    level, median = (arrays.get(name, np.zeros(0)) for name in ("level", "median"))
    rows, members = len(level) if level.ndim else 0, median.shape[1:]
    shapes = {
        "counts": (np.float32, (BINS,)),
        "openings": (np.float32, (LEVELS,)),
        "span_us": (np.int64, ()),
        "level": (np.float64, ()),
        "median": (np.float64, members),
        "floor": (np.float64, members),
        "half_life": (np.float64, ()),
        "blocks": (np.float64, (4,)),
    }
    found = {"blocks": np.zeros((rows, 4)), **arrays}
    for name, (dtype, shape) in shapes.items():
        array = found.get(name)
        if array is None:
            raise ValueError(f"the calibration has no {name}")
        if array.dtype != dtype or array.shape != (rows, *shape) or len(members) != 1:
            raise ValueError(f"the calibration's {name} is {array.dtype}{list(array.shape)}")
    return Calibration(**{name: found[name] for name in Calibration._fields})


@kernel
def open_epoch(
    state: DecisionState, slot: int, calibration: Calibration, row: int, epoch: int, weight: float
) -> None:
    """Begin an epoch of one slot from one row, its history scaled to `weight` records (0: as it is).

    An open incident, S, smoothing, medians and what the day's cap has counted stay.
    """
    core = state.core[slot]
    counts, openings = state.counts[slot], state.openings[slot]
    scale = 1.0
    if weight > 0.0:
        total = 0.0
        for j in range(len(counts)):
            total += np.float64(calibration.counts[row, j])
        scale = weight / total if total > weight else 1.0
    for j in range(len(counts)):
        counts[j] = np.float32(np.float64(calibration.counts[row, j]) * scale)
    for j in range(len(openings)):
        openings[j] = np.float32(np.float64(calibration.openings[row, j]) * scale)
        state.shadow[slot, j] = 0
    core.span_us = int(np.float64(calibration.span_us[row]) * scale)
    core.active = 0
    core.height = 0
    core.fill = 0
    core.waiting = 0
    core.accepted = 0
    core.epoch = epoch
    core.borrowed = weight > 0.0
    begin(core, calibration.blocks[row], weight == 0.0)
    core.anchor = calibration.level[row]
    freeze(core, counts, state.above[slot])
    set_level(core, openings)
    # the row's level was found on all its history and by the whole machine: it stands until the first refresh
    core.level = core.anchor


@kernel
def _open_epochs(
    state: DecisionState,
    slots: NDArray[np.int32],
    calibration: Calibration,
    rows: NDArray[np.int64],
    epochs: NDArray[np.int32],
    weight: float,
) -> None:
    for i in range(len(slots)):
        open_epoch(state, slots[i], calibration, rows[i], epochs[i], weight)


def plain(calibration: Calibration) -> Calibration:
    """The same as contiguous writable arrays of the declared types (one compilation serves all)."""
    kinds: tuple[Any, ...] = (
        np.float32,
        np.float32,
        np.int64,
        np.float64,
        np.float64,
        np.float64,
        np.float64,
        np.float64,
    )
    return Calibration(
        *(np.require(array, kind, ["C", "W"]) for array, kind in zip(calibration, kinds, strict=True))
    )


def install(
    state: DecisionState,
    slots: NDArray[np.int32],
    calibration: Calibration,
    rows: NDArray[np.int64],
    *,
    epoch: NDArray[np.int32] | int,
    share: NDArray[np.float64] | float,
    learning: int = Learning.CALIBRATED,
    weight: float = 0.0,
) -> None:
    """Give slots their calibration, in place: a new epoch, medians, floors, budget and half-life of S.

    Args:
        state: the state to change.
        slots: [k] slots.
        calibration: where from.
        rows: [k] row of each slot.
        epoch: the number(s) of the epoch that begins.
        share: the entities' budget, openings a day.
        learning: where the entities stand in learning about themselves (`Learning.LOCATION` for cold ones).
        weight: scale the history to that many records (`PRIOR_WEIGHT` for cold entities), 0 = as it is.
    """
    slots = np.require(slots, np.int32, ["C", "W"])
    rows = np.require(rows, np.int64, ["C", "W"])
    calibration = plain(calibration)
    state.core["share"][slots] = share
    state.core["pace"][slots] = pace(calibration.half_life[rows])
    state.core["learning"][slots] = learning
    state.core["learned"][slots] = 0
    state.learn[slots] = 0
    state.median[slots] = calibration.median[rows]
    state.floor[slots] = calibration.floor[rows]
    epochs = np.require(np.broadcast_to(np.asarray(epoch, np.int32), slots.shape), np.int32, ["C", "W"])
    _open_epochs(state, slots, calibration, rows, epochs, float(weight))


def reopen(
    state: DecisionState,
    slots: NDArray[np.int32],
    calibration: Calibration,
    rows: NDArray[np.int64],
    *,
    weight: float = 0.0,
) -> None:
    """Open the slots' next epoch from other rows, in place: a recalibration of the same model.

    Medians, floors, S and its half-life, smoothing, budget, open incidents and what the entities are learning stay.

    Args:
        state: the state to change.
        slots: [k] slots.
        calibration: where from.
        rows: [k] row of each slot.
        weight: scale the history to that many records, 0 = as it is.
    """
    slots = np.require(slots, np.int32, ["C", "W"])
    epochs = np.require(state.core["epoch"][slots] + 1, np.int32, ["C", "W"])
    _open_epochs(
        state, slots, plain(calibration), np.require(rows, np.int64, ["C", "W"]), epochs, float(weight)
    )


def begin_medians(state: DecisionState, slots: NDArray[np.int32], prior: Calibration) -> None:
    """The slots' own location has taken over: from the next record on they learn their own medians.

    A new epoch begins from the prior; S stays.
    """
    slots = np.require(slots, np.int32, ["C", "W"])
    state.core["learning"][slots] = Learning.MEDIANS
    state.core["learned"][slots] = 0
    state.learn[slots] = 0
    reopen(state, slots, prior, np.zeros(len(slots), np.int64), weight=PRIOR_WEIGHT)


def take(calibration: Calibration, rows: Sequence[int] | NDArray[np.int64]) -> Calibration:
    """Some rows of a calibration."""
    at = np.asarray(rows, np.int64)
    kept: dict[str, Any] = {name: array[at] for name, array in calibration._asdict().items()}
    return Calibration(**kept)


def stack(calibrations: Sequence[Calibration]) -> Calibration:
    """Rows of several calibrations below each other."""
    return Calibration(*(np.concatenate(arrays) for arrays in zip(*calibrations, strict=True)))


def pool(
    calibration: Calibration, share: float, median: NDArray[np.float64], floor: NDArray[np.float64]
) -> Calibration:
    """The prior: the sum of all rows, with the group's medians and floors [M], median half-life and block length.

    Its level is the lowest of the fixed levels at which all entities together keep `share` openings a day
    each, and at least the median of the entities' own levels while their history is shorter than one opening.
    """
    counts = calibration.counts.astype(np.float64).sum(0).astype(np.float32)
    openings = calibration.openings.astype(np.float64).sum(0).astype(np.float32)
    span = int(calibration.span_us.sum())
    allowed = share * span / DAY_US
    level = LEVEL_STEP * (lowest_level(openings, allowed) + 1)
    if allowed < 1.0 or len(calibration.level) == 0:
        level = max(level, float(np.median(calibration.level))) if len(calibration.level) else level
    return Calibration(
        counts=counts[None],
        openings=openings[None],
        span_us=np.array([span]),
        level=np.array([level]),
        median=np.asarray(median, np.float64)[None],
        floor=np.asarray(floor, np.float64)[None],
        half_life=np.array([np.median(calibration.half_life)]),
        blocks=np.array([[np.median(calibration.blocks[:, 0]), 0.0, 0.0, 0.0]]),
    )


def level_by_rule(calibration: Calibration, row: int, share: float) -> tuple[float, Caution]:
    """The level that one row's openings, span and tail give at another budget, and its caution."""
    state = init(1, calibration.median.shape[1])
    one = np.zeros(1, np.int32)
    install(state, one, calibration, np.array([row]), epoch=0, share=share)
    set_level(state.core[0], state.openings[0])
    return float(state.core["level"][0]), Caution(int(state.core["caution"][0]))
