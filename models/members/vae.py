"""What the trained model cannot explain: the VAE's reconstruction error and KL at the posterior mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from .. import training, vae, whitening
from .base import FitData, Guide, Member, Part, Row


class VaeParams(NamedTuple):
    """A trained VAE and where its score begins."""

    weights: vae.Weights
    """by dotted path"""
    lowest: jax.Array
    """[] least NLL + KL over train"""


def fit(data: Sequence[FitData], guide: Guide) -> list[VaeParams]:
    """Train one VAE for each panel, in stacks."""
    jobs = [training.Job(_whitened(panel), panel.owner) for panel in data]
    plan = training.Plan(guide.seed, guide.steps, guide.rehearse, guide.first, guide.width)
    fitted = training.train(jobs, plan, guide.progress)
    return [VaeParams(one.weights, jnp.asarray(one.lowest)) for one in fitted]


def score(params: VaeParams, row: Row) -> Part:
    """max(NLL + KL less its train minimum, 0) + 1; parts: squared residuals of the newest values.

    The residual is turned back onto the channels by the whitening's rotation (V residual, cut to the newest
    record) and stays in whitened units: multiplied by the spreads it would say little of a broken correlation.
    """
    terms, residual = vae.explain(vae.model_of(params.weights), row.whitened)
    newest = row.whitening.basis[-row.z.shape[1] :] @ residual
    return Part(jnp.maximum(terms.nll + terms.kl - params.lowest, 0.0) + 1.0, newest * newest)


def _whitened(data: FitData) -> NDArray[np.float32]:
    return whitening.apply(data.whitening, data.windows.reshape(len(data.windows), -1))


MEMBER = Member("vae", True, VaeParams, fit, score)
