"""A few channels leaving their own recent level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from .base import FitData, Guide, Member, Part, Row

CHANNELS = 3


class JumpParams(NamedTuple):
    """Nothing of its own: the scale of jumps is part of an entity's location."""


def fit(data: Sequence[FitData], guide: Guide) -> list[JumpParams]:
    """Nothing to fit."""
    return [JumpParams() for _ in data]


def score(params: JumpParams, row: Row) -> Part:
    """(mean of the min(3, channels present) largest |r|)^2; the parts are the squares of those channels."""
    size = jnp.abs(row.jump)
    # The three largest by plain maxima and counts, ties included: far cheaper on a CPU than sorting a row.
    wanted = jnp.clip(jnp.sum(row.present), 1.0, float(CHANNELS))
    left, total, below, least = wanted, jnp.zeros_like(wanted), jnp.full_like(wanted, jnp.inf), wanted
    for _ in range(CHANNELS):
        under = size < below
        top = jnp.max(jnp.where(under, size, 0.0))
        taken = jnp.minimum(jnp.sum(jnp.where(under & (size == top), 1.0, 0.0)), left)
        least = jnp.where(left > 0.0, top, least)
        total, left, below = total + top * taken, left - taken, top
    mean = total / wanted
    return Part(mean * mean, jnp.where(size >= least, size * size, 0.0))


MEMBER = Member("jump", False, JumpParams, fit, score)
