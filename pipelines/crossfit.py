"""Honest scores of the records that a model is trained on.

Each series is cut into four blocks of time. For each block everything is fitted anew on the other three
(location, whitening, every member, medians), and the block is scored by what has not seen it. The four
pieces, each in units of its own medians, make one history like what the final model will see later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from ..models import fitting
from ..models.checkpoints import Checkpoints
from ..models.course import EPOCHS, Report
from ..models.panel import PanelParams, Scorer
from ..models.scaling import evenly
from ..thresholds.constants import FLOOR_SHARE
from ..thresholds.smoothing import smooth
from .sequences import Series

BLOCKS = 4
SCORE_ROWS = 16_384


class Step(NamedTuple):
    """What has just been done: an epoch of a panel (of a fold or the final fit), or a series scored."""

    stage: Literal["fold", "final", "score"]
    done: int
    total: int
    """Steps in all; fewer are done where training stops early."""
    report: Report | None


Progress = Callable[[Step], None]


class Ordinary(NamedTuple):
    """What is ordinary for an entity under one panel, over the records it was fitted on."""

    location: NDArray[np.float32]
    """[4, C]"""
    median: NDArray[np.float64]
    """[M] of ln s"""
    floor: NDArray[np.float64]
    """[M] least s that counts"""


class History(NamedTuple):
    """One entity's n records as one panel's cross-fits score them, and what is ordinary for its final fit."""

    members: NDArray[np.float32]
    """[n, M] held out, in units of exp(median) of the fold that scored the record"""
    floor: NDArray[np.float64]
    """[M] in the same units, the mean over the folds"""
    level: NDArray[np.float32]
    """[n] input level"""
    final: Ordinary


class Crossfit(NamedTuple):
    """The final panels, and the histories of the series behind each of them."""

    params: PanelParams
    """[P, ...]"""
    histories: tuple[dict[int, History], ...]
    """[P] by the number of the series"""


def fit(
    series: Sequence[Series],
    groups: Sequence[Sequence[int]],
    recipe: fitting.Recipe,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
) -> Crossfit:
    """Fit a panel per group of series, five times each: four folds, then on everything."""
    told = _Told(groups, progress)
    folds = [_Job(group, block) for group in groups for block in range(BLOCKS)]
    whole = [_Job(group, None) for group in groups]
    rough = split(_fit_all(series, folds, recipe._replace(rehearse=False), told, "fold", checkpoints))
    params = _fit_all(series, whole, recipe, told, "final", checkpoints)
    histories = []
    for group, final in zip(groups, split(params), strict=True):
        own = list(islice(rough, BLOCKS))
        histories.append({i: _history(series[i], own, final, told) for i in group})
    return Crossfit(params, tuple(histories))


def edges(records: int) -> NDArray[np.int64]:
    """[BLOCKS + 1] where the blocks of a series of `records` begin and end."""
    return np.arange(BLOCKS + 1, dtype=np.int64) * records // BLOCKS


def outside(records: int, block: int | None) -> NDArray[np.int64]:
    """The rows of all blocks but one, or of all."""
    if block is None:
        return np.arange(records)
    first, last = edges(records)[block : block + 2]
    return np.concatenate([np.arange(first), np.arange(last, records)])


def ordinary(members: NDArray[np.float32], location: NDArray[np.float32]) -> Ordinary:
    """Medians and floors of the smoothed members of one entity's train records [n, M], in order of time."""
    start = np.median(members, axis=0).astype(np.float64)
    smoothed = smooth(members, start.copy(), start.copy())
    mean = smoothed.mean(axis=0)
    floor = np.where(mean > 0, FLOOR_SHARE * mean, 1.0)
    return Ordinary(location, np.median(np.log(np.maximum(smoothed, floor)), axis=0), floor)


def score(
    params: PanelParams, series: Series, rows: NDArray[np.int64], location: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Members [n, M] and input level [n] of some records of one entity, by a single panel [1, ...]."""
    scorer = Scorer(params)
    members, level = [np.empty((0, len(scorer.members)), np.float32)], [np.empty(0, np.float32)]
    for first in range(0, len(rows), SCORE_ROWS):
        here = rows[first : first + SCORE_ROWS]
        at = np.broadcast_to(location, (len(here), *location.shape))
        done = scorer.score(
            np.zeros(len(here), np.int32), series.windows(here), series.jump[here], at, series.phase(here)
        )
        members.append(done.members)
        level.append(done.level)
    return np.concatenate(members), np.concatenate(level)


class _Job(NamedTuple):
    """One panel to fit: on a group of series, without one block or on everything."""

    group: Sequence[int]
    without: int | None


def _examples(series: Series, without: int | None, most: int) -> fitting.Examples:
    rows = outside(series.records, without)
    location = series.location(rows)
    rows = rows[evenly(len(rows), most)]
    return fitting.Examples(series.windows(rows), series.jump[rows], location, series.phase(rows))


def _fit_all(
    series: Sequence[Series],
    jobs: Sequence[_Job],
    recipe: fitting.Recipe,
    told: _Told,
    stage: Literal["fold", "final"],
    checkpoints: Checkpoints | None,
) -> PanelParams:
    """Panels [P, ...]; the examples are made as they are asked for, so that few are in memory at once."""
    examples = (
        [_examples(series[i], job.without, max(1, fitting.MOST_WINDOWS // len(job.group))) for i in job.group]
        for job in jobs
    )
    on = fitting.devices_for(len(jobs), recipe)
    keep = partial(checkpoints.of, stage) if checkpoints else None
    return fitting.fit_panels(examples, recipe, told.of(stage), on, keep)


class _Told:
    """Counts the steps of a fit and passes them on."""

    def __init__(self, groups: Sequence[Sequence[int]], progress: Progress | None) -> None:
        self.progress = progress
        self.done = 0
        scored = sum(len(group) for group in groups) * (BLOCKS + 1)
        self.total = len(groups) * EPOCHS * (BLOCKS + 2) + scored

    def of(self, stage: Literal["fold", "final"]) -> Callable[[Report], None]:
        """A listener for the trainer."""
        return lambda report: self.say(stage, report)

    def say(self, stage: Literal["fold", "final", "score"], report: Report | None = None) -> None:
        """One step more is done."""
        self.done += 1
        if self.progress is not None:
            self.progress(Step(stage, self.done, self.total, report))


def split(params: PanelParams) -> Iterator[PanelParams]:
    """The single panels [1, ...] of a stack [P, ...]."""
    for i in range(len(params.ordinary)):
        one: PanelParams = jax.tree.map(lambda array, i=i: array[i : i + 1], params)
        yield one


def _history(series: Series, folds: Sequence[PanelParams], final: PanelParams, told: _Told) -> History:
    pieces: list[NDArray[Any]] = []
    levels: list[NDArray[Any]] = []
    floors: list[NDArray[np.float64]] = []
    for block, params in enumerate(folds):
        rows = outside(series.records, block)
        location = series.location(rows)
        known = ordinary(score(params, series, rows, location)[0], location)
        first, last = edges(series.records)[block : block + 2]
        members, level = score(params, series, np.arange(first, last), location)
        unit = np.exp(known.median)
        pieces.append((members / unit).astype(np.float32))
        floors.append(known.floor / unit)
        levels.append(level)
        told.say("score")
    rows = outside(series.records, None)
    location = series.location(rows)
    known = ordinary(score(final, series, rows, location)[0], location)
    told.say("score")
    return History(np.concatenate(pieces), np.mean(floors, axis=0), np.concatenate(levels), known)
