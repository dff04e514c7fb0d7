"""Fitting panels: scaled windows, their whitening, every member, and what is ordinary for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from . import devices, whitening
from .course import Keeper, Progress, Report
from .members import TABLE
from .members.base import FitData, Guide
from .panel import PanelParams, score_scaled
from .scaling import JUMP_MEAN, JUMP_SD, MEAN, SD, evenly, jump_residuals, lag_windows, scale
from .training import STACK

MOST_WINDOWS = 65_536  # per panel; 800 steps of 128 draws see no more than 102,400
MOST_VALUES = 2**24  # per panel, so that a stack of 8 stays under 600 MB of wide windows on each device
STEPS_WORTH_COMPILING = 800  # of a stack: from some seconds on, as compiling takes
ORDINARY_ROWS = 4096
ORDINARY_FLOOR = 0.01


class Examples(NamedTuple):
    """One entity's train records, in time order, raw with NaN = missing, and its location."""

    windows: NDArray[np.float32]
    """[n, L, F] oldest first; a strided view will do, since only what is used is copied"""
    jump: NDArray[np.float32]
    """[n, F] the newest value less the running mean of its past"""
    location: NDArray[np.float32]
    """[4, F] of `scaling.fit_location`"""
    phase: NDArray[np.float32]
    """[n] of `scaling.phase_of_day`"""


class Recipe(NamedTuple):
    """How panels are fitted; `rehearse` adds the watched run on 90 % of train, for all but cross-fitting."""

    members: tuple[str, ...] = tuple(TABLE)
    steps: int = 800
    seed: int = 0
    rehearse: bool = True
    time_of_day: bool = False
    """whether the VAE is conditioned on it"""
    stack: int = STACK
    """panels that are trained in one compiled loop"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of the matrix products in training"""


def examples_of(
    segments: Sequence[NDArray[np.floating[Any]]],
    location: NDArray[np.float32],
    lags: int,
    phase: NDArray[np.float32] | None = None,
) -> Examples:
    """Examples of one entity from contiguous runs of its records, each [n, F] in time order, NaN = missing.

    The first record of a run stands in for its past, and the running mean starts there anew. Without their
    `phase` the records are taken for ones at midnight.
    """
    windows = [lag_windows(np.asarray(run, np.float32), lags) for run in segments]
    jumps = [jump_residuals(run).astype(np.float32) for run in segments]
    together = np.concatenate(windows)
    return Examples(
        together,
        np.concatenate(jumps),
        location,
        np.zeros(len(together), np.float32) if phase is None else phase,
    )


def fit_panel(examples: Sequence[Examples], recipe: Recipe, progress: Progress | None = None) -> PanelParams:
    """Fit one panel on all these entities, each weighing the same.

    Returns arrays with a leading axis of 1.
    """
    return fit_panels([examples], recipe, progress)


def fit_panels(
    groups: Iterable[Sequence[Examples]],
    recipe: Recipe,
    progress: Progress | None = None,
    on: Sequence[jax.Device] | None = None,
    keep: Callable[[int], Keeper] | None = None,
) -> PanelParams:
    """Fit one panel per group of entities (a group of one for an entity of its own); all of one L and F.

    A stack of `recipe.stack` groups is fitted at once, and a stack on each of the devices `on` (by default one) at
    the same time. `groups` are taken as a device is free for them, so a generator keeps memory bounded. `progress`
    hears one stack after the other, in the caller's thread. Returns numpy arrays with a leading axis P = number of
    groups, the same for the same groups, recipe and machine, on however many devices, and whether or not it goes on
    from what the keepers of the stacks (`keep` of the number of the first group) have.
    """
    stacks = _stacks(groups, recipe, keep)
    hear = progress or (lambda report: None)
    panels = [
        one for stack in devices.side_by_side(stacks, hear, on or devices.usable()[:1]) for one in stack
    ]
    stacked: PanelParams = jax.tree.map(lambda *a: np.stack([np.asarray(x, np.float32) for x in a]), *panels)
    return stacked


def devices_for(panels: int, recipe: Recipe) -> list[jax.Device]:
    """As many devices as are worth it for so many panels: each compiles for itself."""
    stacks = -(-panels // recipe.stack)
    return devices.usable()[: max(1, stacks * recipe.steps // STEPS_WORTH_COMPILING)]


def _stacks(
    groups: Iterable[Sequence[Examples]], recipe: Recipe, keep: Callable[[int], Keeper] | None
) -> Iterator[devices.Task[Report, list[PanelParams]]]:
    rest, first = iter(groups), 0
    while stack := list(islice(rest, recipe.stack)):
        width = 1 if not first and len(stack) == 1 else recipe.stack
        guide = Guide(
            recipe.seed,
            recipe.steps,
            recipe.rehearse,
            None,
            first,
            width,
            recipe.time_of_day,
            recipe.precision,
            keep(first) if keep else None,
        )
        yield partial(_fit_stack, stack, recipe, guide)
        first += len(stack)


def _fit_stack(
    stack: Sequence[Sequence[Examples]], recipe: Recipe, guide: Guide, progress: Progress
) -> list[PanelParams]:
    guide = guide._replace(progress=progress)
    prepared = [prepare(group) for group in stack]
    names = [name for name in TABLE if name in recipe.members]
    fitted = {name: TABLE[name].fit([data for data, _ in prepared], guide) for name in names}
    panels = []
    for i, (data, jumps) in enumerate(prepared):
        members = {name: fitted[name][i] for name in names}
        blank = PanelParams(data.whitening, jnp.ones(len(names), jnp.float32), members)
        panels.append(blank._replace(ordinary=_ordinary(blank, data, jumps)))
    return panels


def prepare(group: Sequence[Examples]) -> tuple[FitData, NDArray[np.float32]]:
    """The scaled windows of a group, their whitening; and the scaled jumps [n, F]."""
    _, lags, features = group[0].windows.shape
    limit = min(MOST_WINDOWS, max(whitening.SAMPLE_WINDOWS, MOST_VALUES // (lags * features)))
    windows, present, jumps, sample, owner, phase = [], [], [], [], [], []
    for number, examples in enumerate(group):
        keep = evenly(len(examples.windows), max(1, limit // len(group)))
        raw = np.asarray(examples.windows[keep], np.float64)
        at = examples.location.astype(np.float64)[:, None, :]
        z = scale(raw, at[None, MEAN], at[None, SD], np).astype(np.float32)
        sample.append(z[evenly(len(z), max(1, whitening.SAMPLE_WINDOWS // len(group)))])
        windows.append(z)
        jumps.append(scale(examples.jump[keep], at[JUMP_MEAN], at[JUMP_SD], np).astype(np.float32))
        present.append(np.isfinite(raw[:, -1]))
        owner.append(np.full(len(keep), number, np.int32))
        phase.append(examples.phase[keep])
    moments = whitening.moments(np.concatenate(sample).reshape(-1, lags * features))
    data = FitData(
        np.concatenate(windows),
        np.concatenate(present),
        np.concatenate(owner),
        np.concatenate(phase),
        moments,
        whitening.fit(moments),
    )
    return data, np.concatenate(jumps)


def _ordinary(params: PanelParams, data: FitData, jumps: NDArray[np.float32]) -> jax.Array:
    """Each member's median [M] over 4,096 train windows, at least .01 of its mean (1 where that is 0)."""
    rows = np.arange(ORDINARY_ROWS) * len(data.windows) // ORDINARY_ROWS
    values = np.asarray(
        _values(params, data.windows[rows], jumps[rows], data.present[rows], data.phase[rows]), np.float64
    )
    mean = values.mean(axis=0)
    floor = np.where(mean > 0, ORDINARY_FLOOR * mean, 1.0)
    return jnp.asarray(np.maximum(np.median(values, axis=0), floor), jnp.float32)


@jax.jit
def _values(
    params: PanelParams, z: jax.Array, r: jax.Array, present: jax.Array, phase: jax.Array
) -> jax.Array:
    def one(z: jax.Array, r: jax.Array, present: jax.Array, phase: jax.Array) -> jax.Array:
        _, parts = score_scaled(params, z, r, present, phase)
        return jnp.stack([part.value for part in parts.values()])

    return jax.vmap(one)(z, r, present.astype(jnp.float32), phase)
