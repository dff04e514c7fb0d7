"""Drift of a partition's score, input level, missing rate and lateness: river's ADWIN over standardised block means.

Records within an entity depend on each other, and a detector fed with them alarms without drift; means of
blocks hardly do. A decision is that of a *fresh* ADWIN run over the block means since the last decision, at
most HELD: that array is all its state, so it can be resumed and replayed, which a detector kept alive cannot.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .policy import RECENT, Action, Around, Finding, What, many_shifted, of_signal

if TYPE_CHECKING:
    from river.drift import ADWIN

SIGNALS: Final = ("score", "level", "missing", "late")
TRAINED: Final = SIGNALS[:3]
"""Those whose block means a training measures; files do not say what comes late."""
ENTITIES: Final = "entities"
HELD: Final = 256
DELTA: Final = 0.01
LEAST_BLOCK: Final = 256
BLOCK_SHARE: Final = 16
LEAST_SD: Final = (0.01, 0.01, 0.001, 0.01)
"""A reference that hardly varied is taken to vary this much."""


class Flag(NamedTuple):
    """One decision: the signal has changed."""

    row: int
    """The row that closed the block."""
    part: int
    signal: str
    """One of SIGNALS, or ENTITIES: many of them have shifted. Then the figures are shares of the entities."""
    blocks: int
    """Block means that the decision looked at."""
    before: float
    """Their mean before the change, in the signal's units."""
    after: float
    """And since."""
    found: Finding
    """What it means, and what is done."""


class DriftState(NamedTuple):
    """Per partition (axis 0)."""

    means: NDArray[np.float64]
    """[P, 4, HELD] standardised block means since the last decision, oldest first."""
    held: NDArray[np.int32]
    """[P, 4] how many."""
    latest: NDArray[np.float64]
    """[P, 4] ADWIN's estimate of the current mean after the last block, standardised; for export."""
    decisions: NDArray[np.int64]
    """[P, 4] decisions so far; for export."""
    quiet: NDArray[np.int32]
    """[P] blocks since the score last moved up, at most RECENT."""
    stepped: NDArray[np.bool_]
    """[P] many entities have shifted, and it was said."""
    proposed: NDArray[np.bool_]
    """[P] a training has been proposed since the model came into force."""


def init(capacity: int) -> DriftState:
    """`capacity` partitions without a block."""
    shape = (capacity, len(SIGNALS))
    return DriftState(
        np.zeros((*shape, HELD)),
        np.zeros(shape, np.int32),
        np.zeros(shape),
        np.zeros(shape, np.int64),
        np.full(capacity, RECENT, np.int32),
        np.zeros(capacity, np.bool_),
        np.zeros(capacity, np.bool_),
    )


def restart(state: DriftState, part: int) -> None:
    """Begin anew, in place: another model's scores are on another scale, and a training proposed is done."""
    state.means[part] = 0.0
    state.held[part] = 0
    state.quiet[part] = RECENT
    state.stepped[part] = state.proposed[part] = False


def block_records(entities: int) -> int:
    """Records of a drift block for a version trained on so many entities: some 16 of each, at least 256.

    Fewer would depend on one another within an entity, and a detector over hundreds of means is run at each end.
    """
    return max(LEAST_BLOCK, BLOCK_SHARE * entities)


def split(means: NDArray[np.float64]) -> int:
    """How many of two or more means lie before the change: the cut that sets the two sides furthest apart."""
    n = len(means)
    left = np.arange(1, n)
    sums = np.cumsum(means)
    apart = np.abs(sums[:-1] / left - (sums[-1] - sums[:-1]) / (n - left))
    return 1 + int(np.argmax(apart * np.sqrt(left * (n - left))))


def decide(means: NDArray[np.float64]) -> tuple[int, float]:
    """Run a fresh ADWIN over means in order: (index of the first that flags, or -1; its last estimate)."""
    detector = _adwin()(delta=DELTA, clock=1)
    flagged = -1
    for at, mean in enumerate(means.tolist()):
        detector.update(mean)
        if flagged < 0 and detector.drift_detected:
            flagged = at
    return flagged, float(detector.estimation)


@cache
def _adwin() -> type[ADWIN]:
    """river's, without one of its neighbours: KSWIN brings scipy.stats, 0.8 of the seconds that a start takes."""
    neighbour = "river.drift.kswin"
    if neighbour not in sys.modules:
        sys.modules[neighbour] = stand_in = ModuleType(neighbour)
        vars(stand_in)["KSWIN"] = None
    from river.drift import ADWIN

    return ADWIN


def standard(reference: Mapping[str, NDArray[np.float64]], signal: str) -> tuple[float, float]:
    """What block means of a signal are measured against: their mean and standard deviation in training."""
    if signal not in TRAINED:
        return 0.0, LEAST_SD[SIGNALS.index(signal)]
    return float(reference[signal][0]), max(float(reference[signal][1]), LEAST_SD[SIGNALS.index(signal)])


def take(state: DriftState, block: np.void, reference: Mapping[str, NDArray[np.float64]]) -> list[Flag]:
    """Take one closed block (BLOCK_MEANS), in place; returns the decisions it brings.

    `reference` holds for each signal [2] the mean and the standard deviation of block means in training.
    """
    part = int(block["part"])
    state.quiet[part] = min(state.quiet[part] + 1, RECENT)
    moved = [
        (*one, signal) for signal in SIGNALS if (one := _signal(state, block, reference, signal)) is not None
    ]
    if any(signal == "score" and after > before for _, before, after, signal in moved):
        state.quiet[part] = 0
    around = Around(
        int(block["entities"]),
        int(block["firing"]),
        int(block["shifted"]),
        bool(block["frozen"]),
        bool(state.quiet[part] < RECENT),
    )
    row = int(block["row"])
    found = [
        Flag(row, part, signal, blocks, before, after, of_signal(signal, after > before, around))
        for blocks, before, after, signal in moved
    ]
    many = many_shifted(around)
    if many and not state.stepped[part]:
        share = around.shifted / around.entities
        found.append(Flag(row, part, ENTITIES, 1, 0.0, share, Finding(What.RELEASE, Action.PROPOSE)))
    state.stepped[part] = many
    state.proposed[part] |= any(flag.found.action is Action.PROPOSE for flag in found)
    return found


def _signal(
    state: DriftState, block: np.void, reference: Mapping[str, NDArray[np.float64]], signal: str
) -> tuple[int, float, float] | None:
    """Take one signal's mean; the blocks looked at and the means before and after where it has changed."""
    part, at = int(block["part"]), SIGNALS.index(signal)
    usual, sd = standard(reference, signal)
    value = (float(block[signal]) - usual) / sd
    if not np.isfinite(value):
        return None
    means, held = state.means[part, at], int(state.held[part, at])
    if held == HELD:
        means[:-1] = means[1:]
        held -= 1
    means[held] = value
    held += 1
    flagged, latest = decide(means[:held])
    state.latest[part, at] = latest
    state.held[part, at] = held
    if flagged < 0:
        return None
    cut = split(means[:held])
    before, after = (usual + sd * float(side.mean()) for side in (means[:cut], means[cut:held]))
    state.decisions[part, at] += 1
    means[:] = 0.0
    state.held[part, at] = 0
    return held, before, after
