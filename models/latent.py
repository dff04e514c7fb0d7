"""Where windows stand in the latent space of a version: the posterior mean by the group's own panel.

One panel for all entities, so that their means can be laid together, and the scorer's own way to it: scaled, whitened,
encoded, in blocks of a constant number of rows, so that a row's mean depends on no other row.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from .members.vae import row_of
from .panel import SHARED_BLOCK_ROWS, PanelParams, scale_row, score_scaled
from .vae import LATENT, model_of
from .version import Version

BLOCKS = 16
"""Blocks per call; the last call is filled up."""


def encode(
    version: Version, window: NDArray[np.float32], location: NDArray[np.float32], phase: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Posterior means [n, 8] of raw windows [n, L, C] (NaN = missing) at locations [n, 4, C] and phases [n]."""
    params: PanelParams = jax.tree.map(lambda a: jnp.asarray(a[-1], jnp.float32), version.params)
    out = np.empty((len(window), LATENT), np.float32)
    most = BLOCKS * SHARED_BLOCK_ROWS
    for first in range(0, len(window), most):
        here = slice(first, first + most)
        filled = (_filled(a[here], most) for a in (window, location, phase))
        out[here] = np.asarray(_means(params, *filled))[: len(window) - first]
    return out


def _filled(rows: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """Rows in blocks, ones behind the last."""
    room = np.ones((most, *rows.shape[1:]), np.float32)
    room[: len(rows)] = rows
    return room.reshape(-1, SHARED_BLOCK_ROWS, *rows.shape[1:])


@jax.jit
def _means(params: PanelParams, window: jax.Array, location: jax.Array, phase: jax.Array) -> jax.Array:
    def one(window: jax.Array, location: jax.Array, phase: jax.Array) -> jax.Array:
        z, r, present = scale_row(window, jnp.zeros_like(window[-1]), location)
        row, _ = score_scaled(params, z, r, present, phase)
        weights = params.members["vae"].weights
        return model_of(weights).encoder(row_of(weights, row)).mean

    means: jax.Array = lax.map(lambda block: jax.vmap(one)(*block), (window, location, phase))
    return means.reshape(-1, LATENT)
