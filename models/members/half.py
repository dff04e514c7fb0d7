"""Half whitening: broken correlation, with less noise from minor directions than full whitening lets in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from .base import FitData, Guide, Member, Part, Row


class HalfParams(NamedTuple):
    """Nothing of its own: it shares the whitening's eigenbasis."""


def fit(data: Sequence[FitData], guide: Guide) -> list[HalfParams]:
    """Nothing is left to fit once the whitening is."""
    return [HalfParams() for _ in data]


def score(params: HalfParams, row: Row) -> Part:
    """sum u_i^2 / sqrt(e_i + .003), u = (G - mean) V."""
    return Part(jnp.sum(row.rotated * row.whitened))


MEMBER = Member("half", False, HalfParams, fit, score)
