from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tocsin.models import vae

SIZE = 12


def model(seed: int = 0) -> vae.VAE:
    return vae.VAE(SIZE, rngs=nnx.Rngs(seed))


class LinearGaussian(NamedTuple):
    """w = a z + noise of variance s2, with orthogonal columns of a: its posterior has independent units."""

    a: jax.Array
    s2: float

    def encoder(self, w: jax.Array) -> vae.Posterior:
        precision = 1.0 + jnp.sum(self.a * self.a, axis=0) / self.s2
        return vae.Posterior(self.a.T @ w / self.s2 / precision, -jnp.log(precision))

    def decoder(self, z: jax.Array) -> jax.Array:
        return self.a @ z

    def noise_log_variance(self) -> jax.Array:
        return jnp.full(self.a.shape[0], np.log(self.s2), jnp.float32)


def test_elbo_of_a_linear_gaussian_model_is_its_log_likelihood() -> None:
    """With the exact posterior the bound is tight: E[-ELBO] = -ln N(w; 0, a a' + s2 I)."""
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(SIZE, vae.LATENT)))[0]
    a = basis * np.linspace(0.5, 2.0, vae.LATENT)
    s2 = 0.3
    w = random.normal(size=SIZE)
    covariance = a @ a.T + s2 * np.eye(SIZE)
    log_likelihood = -0.5 * (
        w @ np.linalg.solve(covariance, w) + np.linalg.slogdet(covariance)[1] + SIZE * np.log(2 * np.pi)
    )
    exact = LinearGaussian(jnp.asarray(a, jnp.float32), s2)
    noise = jax.random.normal(jax.random.key(0), (20_000, vae.LATENT), jnp.float32)
    terms = jax.vmap(lambda n: vae.elbo_terms(exact, jnp.asarray(w, jnp.float32), n))(noise)  # type: ignore[arg-type]
    elbo = -float(jnp.mean(terms.nll + terms.kl))
    assert elbo == pytest.approx(log_likelihood, abs=0.05)


def test_any_other_posterior_gives_a_lower_bound() -> None:
    class Worse(LinearGaussian):
        def encoder(self, w: jax.Array) -> vae.Posterior:
            mean, log_variance = super().encoder(w)
            return vae.Posterior(mean + 0.3, log_variance + 0.5)

    a, w = jnp.eye(SIZE, vae.LATENT), jnp.ones(SIZE, jnp.float32)
    noise = jax.random.normal(jax.random.key(0), (20_000, vae.LATENT), jnp.float32)
    bounds = [
        -float(jnp.mean(sum(jax.vmap(lambda n, m=m: vae.elbo_terms(m, w, n))(noise))))
        for m in (LinearGaussian(a, 0.3), Worse(a, 0.3))
    ]
    assert bounds[1] < bounds[0] - 0.5


def test_negative_log_likelihood_by_hand() -> None:
    residual, log_variance = jnp.array([1.0, -2.0]), jnp.array([0.0, np.log(4.0)], jnp.float32)
    expected = 0.5 * (1 + 1 + np.log(4.0) + 2 * np.log(2 * np.pi))
    assert float(vae.negative_log_likelihood(residual, log_variance)) == pytest.approx(expected, rel=1e-6)


def test_kl_by_hand() -> None:
    posterior = vae.Posterior(jnp.array([0.0, 2.0]), jnp.array([0.0, np.log(3.0)], jnp.float32))
    assert float(vae.kl_to_prior(posterior)) == pytest.approx(0.5 * (4 + 3 - np.log(3.0) - 1), rel=1e-6)


def test_weights_go_out_and_come_back() -> None:
    one = model()
    weights = vae.weights_of(one)
    assert set(weights) == {
        f"{half}.{layer}.{kind}"
        for half, layers in (
            ("encoder", ("first", "second", "mean", "log_variance")),
            ("decoder", ("first", "second", "mean")),
        )
        for layer in layers
        for kind in ("kernel", "bias")
    } | {"noise"}
    w = jnp.linspace(-1.0, 1.0, SIZE, dtype=jnp.float32)
    for a, b in zip(
        jax.tree.leaves(vae.explain(one, w)),
        jax.tree.leaves(vae.explain(vae.model_of(weights), w)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_sizes_and_initial_scales() -> None:
    weights = vae.weights_of(vae.VAE(100, rngs=nnx.Rngs(1)))
    assert weights["encoder.first.kernel"].shape == (100, 64)
    assert weights["encoder.mean.kernel"].shape == (64, 8)
    assert weights["decoder.mean.kernel"].shape == (64, 100)
    unit = 1 / np.sqrt(64)
    assert float(jnp.std(weights["encoder.mean.kernel"])) == pytest.approx(unit, rel=0.15)
    assert float(jnp.std(weights["encoder.log_variance.kernel"])) == pytest.approx(0.1 * unit, rel=0.15)
    assert float(jnp.std(weights["decoder.mean.kernel"])) == pytest.approx(0.3 * unit, rel=0.15)


def test_log_variances_are_held() -> None:
    one = model()
    one.noise.set_value(jnp.array([-50.0, 50.0] * (SIZE // 2)))
    assert set(np.asarray(one.noise_log_variance()).tolist()) == {-7.0, 4.0}
    far = one.encoder(jnp.full(SIZE, 1e6, jnp.float32)).log_variance
    assert ((far >= -8.0) & (far <= 4.0)).all()


def test_modules_are_trees_without_shared_references() -> None:
    one = model()
    doubled = jax.tree.map(lambda a: 2.0 * a, one)
    np.testing.assert_array_equal(doubled.encoder.first.kernel[...], 2.0 * one.encoder.first.kernel[...])
    leaves = jax.tree.leaves(one)
    assert len({id(leaf) for leaf in leaves}) == len(leaves)
