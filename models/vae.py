"""The variational autoencoder of whitened windows, as flax nnx modules in tree mode (no shared references).

Gaussian encoder and decoder, standard normal prior. The decoder's noise is one learned log-variance per
whitened coordinate, not a function of the input: a free variance scored worse on every data set tried.

A model may be conditioned (Sohn et al. 2015; on the time of day as Bagel, Li et al. 2018): its rows are then a
window's D values and after them a condition's C, which encoder and decoder are both shown and nothing reconstructs.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

LATENT = 8
HIDDEN = 64
HARMONICS = 3
CONDITION = 2 * HARMONICS
"""Values that the time of day is shown as."""
LATENT_LOG_VARIANCE = (-8.0, 4.0)
NOISE_LOG_VARIANCE = (-7.0, 4.0)
LN_2PI = 1.8378770664093453

Weights = dict[str, jax.Array]


class Posterior(NamedTuple):
    """q(z | w): mean and log-variance, each [..., 8]."""

    mean: jax.Array
    log_variance: jax.Array


class Encoder(nnx.Module):
    """x [..., D + C] -> posterior, by two hidden layers of 64 gelu units."""

    def __init__(self, size: int, dtype: Any, *, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(size, HIDDEN, dtype=dtype, rngs=rngs)
        self.second = nnx.Linear(HIDDEN, HIDDEN, dtype=dtype, rngs=rngs)
        self.mean = nnx.Linear(HIDDEN, LATENT, dtype=dtype, rngs=rngs)
        self.log_variance = nnx.Linear(HIDDEN, LATENT, kernel_init=_small(0.1), dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> Posterior:
        """The posterior of each row."""
        hidden = nnx.gelu(self.second(nnx.gelu(self.first(x))))
        mean, log_variance = _single(self.mean(hidden)), _single(self.log_variance(hidden))
        return Posterior(mean, jnp.clip(log_variance, *LATENT_LOG_VARIANCE))


class Decoder(nnx.Module):
    """z and condition [..., 8 + C] -> mean of w [..., D], by two hidden layers of 64 gelu units."""

    def __init__(self, size: int, condition: int, dtype: Any, *, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(LATENT + condition, HIDDEN, dtype=dtype, rngs=rngs)
        self.second = nnx.Linear(HIDDEN, HIDDEN, dtype=dtype, rngs=rngs)
        self.mean = nnx.Linear(HIDDEN, size, kernel_init=_small(0.3), dtype=dtype, rngs=rngs)

    def __call__(self, z: jax.Array) -> jax.Array:
        """The mean of each window."""
        hidden = nnx.gelu(self.second(nnx.gelu(self.first(z))))
        return _single(self.mean(hidden))


class VAE(nnx.Module):
    """Encoder, decoder and the learned log-variance of the decoder's noise, for windows of `size` values.

    Matrix products are computed in `dtype` (None: that of the weights); weights, and what comes out, are float32.
    """

    def __init__(self, size: int, condition: int = 0, dtype: Any = None, *, rngs: nnx.Rngs) -> None:
        self.encoder = Encoder(size + condition, dtype, rngs=rngs)
        self.decoder = Decoder(size, condition, dtype, rngs=rngs)
        self.noise = nnx.Param(jnp.zeros(size, jnp.float32))

    def noise_log_variance(self) -> jax.Array:
        """[D], clipped."""
        return jnp.clip(self.noise[...], *NOISE_LOG_VARIANCE)


class Terms(NamedTuple):
    """The two halves of -ELBO of one window, in nats: -ln p(w | z) and KL(q || prior)."""

    nll: jax.Array
    kl: jax.Array


def negative_log_likelihood(residual: jax.Array, log_variance: jax.Array) -> jax.Array:
    """-ln N(residual; 0, exp(log_variance)) summed over the D coordinates of one window."""
    return 0.5 * jnp.sum(residual * residual * jnp.exp(-log_variance) + log_variance + LN_2PI)


def kl_to_prior(posterior: Posterior) -> jax.Array:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of one window, summed over the latent units."""
    mean, log_variance = posterior
    return 0.5 * jnp.sum(mean * mean + jnp.exp(log_variance) - log_variance - 1.0)


def row_at(w: jax.Array, phase: jax.Array) -> jax.Array:
    """Windows w [..., D] as rows conditioned on the share of the day that has passed, `phase` [...]."""
    waves = 2.0 * np.pi * np.arange(1, HARMONICS + 1, dtype=np.float32)
    angle = phase[..., None] * jnp.expand_dims(waves, tuple(range(phase.ndim)))
    return jnp.concatenate([w, jnp.sin(angle), jnp.cos(angle)], axis=-1)


def elbo_terms(model: VAE, x: jax.Array, noise: jax.Array) -> Terms:
    """One-sample estimate of the terms for one row x [D + C]; `noise` [8] is standard normal.

    Kingma and Welling, Auto-Encoding Variational Bayes, 2013, equation 10; of ln p(w | condition) with one.
    """
    posterior = model.encoder(x)
    z = posterior.mean + noise * jnp.exp(0.5 * posterior.log_variance)
    nll = negative_log_likelihood(_residual(model, x, z), model.noise_log_variance())
    return Terms(nll, kl_to_prior(posterior))


def explain(model: VAE, x: jax.Array) -> tuple[Terms, jax.Array]:
    """The terms of one row x [D + C] at the posterior mean, and its window's residual [D]; deterministic."""
    posterior = model.encoder(x)
    residual = _residual(model, x, posterior.mean)
    return Terms(
        negative_log_likelihood(residual, model.noise_log_variance()), kl_to_prior(posterior)
    ), residual


def weights_of(model: VAE) -> Weights:
    """The parameters by dotted path (`encoder.first.kernel`)."""
    return {_dotted(path): leaf for path, leaf in jax.tree.leaves_with_path(model)}


def model_of(weights: Weights, dtype: Any = None) -> VAE:
    """The module that holds these parameters; the inverse of `weights_of`, cheap and traceable."""
    size = weights["noise"].shape[-1]
    names, structure = _skeleton(size, condition_of(weights), dtype)
    model: VAE = jax.tree.unflatten(structure, [weights[name] for name in names])
    return model


def condition_of(weights: Weights) -> int:
    """C, how many values the model is shown beside a window."""
    return int(weights["encoder.first.kernel"].shape[-2] - weights["noise"].shape[-1])


def _residual(model: VAE, x: jax.Array, z: jax.Array) -> jax.Array:
    size = model.noise_log_variance().shape[-1]
    return x[:size] - model.decoder(jnp.concatenate([z, x[size:]]))


@cache
def _skeleton(size: int, condition: int, dtype: Any) -> tuple[tuple[str, ...], Any]:
    abstract = nnx.eval_shape(lambda: VAE(size, condition, dtype, rngs=nnx.Rngs(0)))
    names = tuple(_dotted(path) for path, _ in jax.tree.leaves_with_path(abstract))
    return names, jax.tree.structure(abstract)


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(str(key.name) for key in path if getattr(key, "name", "value") != "value")


def _single(a: jax.Array) -> jax.Array:
    return a.astype(jnp.float32)


def _small(factor: float) -> Any:
    return nnx.initializers.variance_scaling(factor * factor, "fan_in", "truncated_normal")
