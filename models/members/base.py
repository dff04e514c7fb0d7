"""The contract of a panel member.

A member is fitted on a stack of panels' train windows at once (so that one which trains a network can do it
in one compiled loop), and scores ONE row inside the scorer's compiled block, from intermediates that all
members share. Larger is stranger, and never below 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from ..course import Keeper, Report
from ..whitening import Moments, Whitening


class FitData(NamedTuple):
    """What a member may learn from: one panel's scaled train windows, in time order within each entity."""

    windows: NDArray[np.float32]
    """[n, L, F] scaled, 0 where missing"""
    present: NDArray[np.bool_]
    """[n, F] whether the newest value of each window was there"""
    owner: NDArray[np.int32]
    """[n] index of the entity a window belongs to; grouped, each entity's windows contiguous"""
    phase: NDArray[np.float32]
    """[n] share of the day that has passed at the newest value"""
    moments: Moments
    """of at most 8,000 flattened windows, [L*F] and [L*F, L*F], float64"""
    whitening: Whitening
    """fitted from those moments, float32"""


class Row(NamedTuple):
    """The shared intermediates of one record."""

    z: jax.Array
    """[L, F] scaled window, oldest first, 0 where missing"""
    present: jax.Array
    """[F] 1 where the newest value is there, else 0"""
    jump: jax.Array
    """[F] scaled jump of the newest value, 0 where missing"""
    centred: jax.Array
    """[L*F] flattened window less the whitening's mean"""
    rotated: jax.Array
    """[K] centred on the principal axes"""
    whitened: jax.Array
    """[K] rotated, each axis divided by its spread"""
    whitening: Whitening
    phase: jax.Array
    """[] share of the day that has passed at the newest value"""


class Part(NamedTuple):
    """What a member says of one record."""

    value: jax.Array
    """scalar >= 0, larger is stranger"""
    channels: jax.Array | None = None
    """[F] >= 0, the part of each channel in any unit, or None for a member that cannot tell channels apart"""
    forecast: jax.Array | None = None
    """[F] the scaled values it expected, or None for a member that forecasts nothing"""


class Guide(NamedTuple):
    """How a stack of panels is to be fitted, and whom to tell."""

    seed: int
    steps: int
    rehearse: bool
    progress: Callable[[Report], None] | None
    first: int
    """number of the stack's first panel among all"""
    width: int
    """panels that a compiled fit is made for; a stack may hold fewer"""
    time_of_day: bool = False
    """whether what is trained is conditioned on it"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of the matrix products of a network's training"""
    keeper: Keeper | None = None
    """who remembers how far the stack is"""


class Member(NamedTuple):
    """One way of scoring a window."""

    name: str
    trained: bool
    """False: nothing is optimised, so it can serve before a model has been trained"""
    params: type[Any]
    """NamedTuple of float32 arrays (or of dicts of them)"""
    fit: Callable[[Sequence[FitData], Guide], list[Any]]
    """one `params` for each panel's data"""
    score: Callable[[Any, Row], Part]
    """pure, traceable, of one panel's params and one record"""
