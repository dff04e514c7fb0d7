"""How far the training of a stack is: what it reports, and what it goes on from when it was killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

BETA = 0.2
EPOCHS = 20  # reports in a run


class Figures(NamedTuple):
    """Means over windows, in nats; elbo = -(reconstruction + kl)."""

    elbo: float
    reconstruction: float
    kl: float
    active_units: int

    @property
    def loss(self) -> float:
        """What training minimises once the KL has its full weight `BETA`."""
        return self.reconstruction + BETA * self.kl


Phase = Literal["rehearsal", "final"]


class Report(NamedTuple):
    """The figures of one panel after one epoch; `held_out` only in rehearsals, `warnings` only at the end."""

    panel: int
    phase: Phase
    epoch: int
    epochs: int
    steps: int
    train: Figures
    held_out: Figures | None
    warnings: tuple[str, ...]


Progress = Callable[[Report], None]


class Kept(NamedTuple):
    """How far a stack is: what its training goes on from."""

    phase: Phase
    epoch: int
    """epochs of the phase that are done"""
    reports: tuple[Report, ...]
    """all of the stack, of both phases, in their order"""
    tensors: dict[str, NDArray[Any]]
    """weights and moments [S, ...] by their place in the run; at its end the weights alone"""

    @property
    def finished(self) -> bool:
        """Nothing is left to train."""
        return self.phase == "final" and self.epoch == EPOCHS


class Keeper(Protocol):
    """Whoever remembers how far one stack is, for a training that is killed."""

    def load(self, like: Mapping[str, jax.ShapeDtypeStruct]) -> Kept | None:
        """What was kept, where it has tensors like these."""

    def due(self) -> bool:
        """Whether it is time to keep an unfinished run."""

    def save(self, kept: Kept) -> None:
        """Keep this, in place of what was kept before."""


class Course:
    """What is known of a stack: what it goes on from, what was reported, and who hears of it.

    A run is a named tuple of trees of arrays [S, ...]: `weights` and `moments`.
    """

    def __init__(self, progress: Progress | None, keeper: Keeper | None, like: Any) -> None:
        self._progress, self._keeper = progress, keeper
        self._kept = None if keeper is None else keeper.load(leaves_of(like))
        self._told: list[Report] = []
        for report in self._kept.reports if self._kept else ():
            self.tell(report)

    @property
    def rehearsed(self) -> bool:
        """Whether it goes on from after its rehearsal."""
        return self._kept is not None and self._kept.phase == "final"

    def tell(self, report: Report) -> None:
        """Report an epoch of a panel."""
        self._told.append(report)
        if self._progress is not None:
            self._progress(report)

    def history(self, panel: int, phase: Phase) -> list[Report]:
        """What was reported of a panel in a phase."""
        return [r for r in self._told if r.panel == panel and r.phase == phase]

    def begin(self, phase: Phase, fresh: Any) -> tuple[Any, int]:
        """Where a phase begins: a run, and how many epochs of it are done."""
        kept = self._kept
        if kept is None or kept.phase != phase:
            return fresh, 0
        leaves, structure = jax.tree.flatten_with_path(fresh)
        filled = [jnp.asarray(kept.tensors.get(jax.tree_util.keystr(path), leaf)) for path, leaf in leaves]
        return jax.tree.unflatten(structure, filled), kept.epoch

    def keep(self, phase: Phase, epoch: int, run: Any) -> None:
        """After each epoch; not each is kept."""
        kept = Kept(phase, epoch, tuple(self._told), {})
        if self._keeper is not None and (kept.finished or self._keeper.due()):
            leaves = leaves_of(run._replace(moments=()) if kept.finished else run)
            self._keeper.save(
                kept._replace(tensors={name: np.asarray(leaf) for name, leaf in leaves.items()})
            )


def leaves_of(run: Any) -> dict[str, Any]:
    """The arrays of a run by their place in it."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(run)}
