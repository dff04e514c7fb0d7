"""A JAX consumer as one first writes it: a compiled VAE as wide as the product's, called on each record's window."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from .loop import Trained, Windows, arguments, run

LAGS, HIDDEN, LATENT, STEPS, FIT_BATCH = 5, 64, 8, 300, 256
Weights = list[tuple[jax.Array, jax.Array]]


def fresh(key: jax.Array, sizes: tuple[int, ...]) -> Weights:
    keys = jax.random.split(key, len(sizes))
    pairs = zip(keys, sizes, sizes[1:], strict=False)
    return [(jax.random.normal(k, (a, b)) / a**0.5, jnp.zeros(b)) for k, a, b in pairs]


def through(weights: Weights, x: jax.Array) -> jax.Array:
    for matrix, bias in weights[:-1]:
        x = jax.nn.gelu(x @ matrix + bias)
    return x @ weights[-1][0] + weights[-1][1]


def loss(both: tuple[Weights, Weights], x: jax.Array, key: jax.Array) -> jax.Array:
    mean, log_variance = jnp.split(through(both[0], x), 2, axis=-1)
    z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
    divergence = 0.5 * (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum(axis=-1)
    return jnp.mean(((through(both[1], z) - x) ** 2).sum(axis=-1) + divergence)


@jax.jit
def score(both: tuple[Weights, Weights], window: jax.Array) -> jax.Array:
    x = window.ravel()
    mean, _ = jnp.split(through(both[0], x), 2)
    return ((through(both[1], mean) - x) ** 2).sum()


def fitted(windows: Any) -> tuple[Weights, Weights]:
    rows = jnp.asarray(windows.reshape(len(windows), -1))
    key = jax.random.key(0)
    width = rows.shape[1]
    both = fresh(key, (width, HIDDEN, HIDDEN, 2 * LATENT)), fresh(key, (LATENT, HIDDEN, HIDDEN, width))
    adam = optax.adam(1e-3)
    state = adam.init(both)

    @jax.jit
    def step(both: Any, state: Any, key: jax.Array) -> Any:
        chosen = rows[jax.random.randint(key, (FIT_BATCH,), 0, len(rows))]
        moves, state = adam.update(jax.grad(loss)(both, chosen, key), state)
        return optax.apply_updates(both, moves), state

    for one in jax.random.split(key, STEPS):
        both, state = step(both, state, one)
    return both


def main() -> None:
    told = arguments()
    trained = Trained(told)
    both = fitted(trained.windows(LAGS))
    windows = Windows(LAGS)
    run(
        told,
        lambda values, slots: float(score(both, windows.add(slots[0], trained.unit(values[0])))),
    )


if __name__ == "__main__":
    main()
