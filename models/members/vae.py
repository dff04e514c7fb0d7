"""What the trained model cannot explain: the VAE's reconstruction error and KL at the posterior mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from .. import vae, whitening
from .base import FitData, Guide, Member, Part, Row


class VaeParams(NamedTuple):
    """A trained VAE and where its score begins."""

    weights: vae.Weights
    """by dotted path"""
    lowest: jax.Array
    """[] least NLL + KL over train"""


def fit(data: Sequence[FitData], guide: Guide) -> list[VaeParams]:
    """Train one VAE for each panel, in stacks."""
    from .. import training  # optax, which a daemon with a model needs not

    condition = vae.CONDITION if guide.time_of_day else 0
    jobs = [training.Job(_rows(panel, guide.time_of_day), panel.owner) for panel in data]
    plan = training.Plan(
        guide.seed, guide.steps, guide.rehearse, guide.first, guide.width, condition, guide.precision
    )
    fitted = training.train(jobs, plan, guide.progress, guide.keeper)
    return [VaeParams(one.weights, jnp.asarray(one.lowest)) for one in fitted]


def score(params: VaeParams, row: Row) -> Part:
    """max(NLL + KL less its train minimum, 0) + 1; parts: squared residuals of the newest values.

    The residual is turned back onto the channels by the whitening's rotation (V residual, cut to the newest
    record) and stays in whitened units: multiplied by the spreads it would say little of a broken correlation.
    """
    terms, residual = vae.explain(vae.model_of(params.weights), row_of(params.weights, row))
    newest = row.whitening.basis[-row.z.shape[1] :] @ residual
    return Part(jnp.maximum(terms.nll + terms.kl - params.lowest, 0.0) + 1.0, newest * newest)


def row_of(weights: vae.Weights, row: Row) -> jax.Array:
    """[D + C] what the model is shown of a record."""
    return vae.row_at(row.whitened, row.phase) if vae.condition_of(weights) else row.whitened


def _rows(data: FitData, time_of_day: bool) -> NDArray[np.float32]:
    whitened = whitening.apply(data.whitening, data.windows.reshape(len(data.windows), -1))
    return np.asarray(vae.row_at(jnp.asarray(whitened), jnp.asarray(data.phase))) if time_of_day else whitened


MEMBER = Member("vae", True, VaeParams, fit, score)
