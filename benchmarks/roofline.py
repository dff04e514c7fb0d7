"""What JAX's devices can do at all, and how near to it the scorer comes. JAX is to be imported by tocsin first."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray
from tocsin.models import fitting, panel, scaling, training, vae

from .bench import spread
from .feed import SEED, Shape, telemetry

ENTITIES, RECORDS, STEPS = 8, 1_000, 200
TURNS, TURN_S = 5, 0.06
PRECISIONS = ("default", "highest")
"""Of products of float32: as the device likes it, and as exact as it can."""


class Rows(NamedTuple):
    """What `panel.score_row` is given of each record, in its order."""

    window: NDArray[np.float32]
    """[n, L, F]"""
    jump: NDArray[np.float32]
    """[n, F]"""
    location: NDArray[np.float32]
    """[n, 4, F]"""
    phase: NDArray[np.float32]
    """[n]"""


def seconds(run: Callable[[], Any]) -> list[float]:
    """Of one call, in each turn of as many calls as take long enough to be timed; the first is not counted."""
    jax.block_until_ready(run())
    calls: int = 1
    found: list[float] = []
    while len(found) < TURNS:
        begun = time.perf_counter()
        for _ in range(calls):
            last = run()
        jax.block_until_ready(last)
        taken = time.perf_counter() - begun
        if taken >= TURN_S:
            found.append(taken / calls)
        else:
            calls *= 2
    return found


def ceilings(values: int, side: int) -> dict[str, float]:
    """Bytes/s of a copy (read and written), and operations/s of a square product at each precision."""
    one = jnp.arange(values, dtype=jnp.float32)
    copy = jax.jit(lambda a: a + 1.0)
    found = {"bytes": 8.0 * values / min(seconds(lambda: copy(one)))}
    square = jax.random.normal(jax.random.key(SEED), (side, side), jnp.float32)
    for name in PRECISIONS:
        product = jax.jit(partial(jnp.matmul, precision=name))
        found[name] = 2.0 * side**3 / min(seconds(lambda product=product: product(square, square)))
    half, plain = square.astype(jnp.bfloat16), jax.jit(partial(jnp.matmul, precision="default"))
    found["bfloat16"] = 2.0 * side**3 / min(seconds(lambda: plain(half, half)))
    return found


def words(top: dict[str, float], values: int, side: int) -> str:
    """The ceilings for people."""
    rates = ", ".join(f"{name} {top[name] / 1e12:,.2f} TFLOP/s" for name in (*PRECISIONS, "bfloat16"))
    return (
        f"a copy of {4 * values / 2**20:,.0f} MiB: {top['bytes'] / 1e9:,.0f} GB/s read and written; "
        f"products of {side:,} x {side:,}: {rates}"
    )


def floor_of_training(shape: Shape, steps: int, top: dict[str, float]) -> str:
    """What so many steps of one model cost at least: six operations a weight and draw (forward once, back twice)."""
    size = shape.features * shape.lags
    weights = sum(a.size for a in vae.weights_of(vae.VAE(size, 0, rngs=vae.nnx.Rngs(SEED))).values())
    operations = 6.0 * weights * training.BATCH * steps
    return (
        f"floor: {weights:,} weights, {operations:.2e} operations, {operations / top['highest']:.3f} s in float32; "
        "the rest is steps that wait for one another, and fitting of the other members"
    )


def scorer(rows: int, blocks: tuple[int, ...], shape: Shape, top: dict[str, float]) -> dict[str, Any]:
    """Records/s of the product's scorer and of plain programs on the device's resident rows, and their floor."""
    params, given = _rows(rows, shape)
    here, resident = jax.device_put(params), jax.device_put(given)
    product = panel.Scorer(params)
    none = np.zeros(rows, np.int32)
    taken = {"the product's scorer, on the processor": seconds(lambda: product.score(none, *given))}
    with jax.default_device(jax.devices("cpu")[0]):
        right = _members(_program(blocks[0], "highest")(params, given), rows)
    notes = []
    for precision in PRECISIONS:
        for block in blocks:
            name, run = f"resident, blocks of {block:,}, {precision}", _program(block, precision)
            taken[name] = seconds(lambda run=run: run(here, resident))
            away = np.abs(_members(run(here, resident), rows) - right) / np.maximum(right, 1e-6)
            notes.append(
                f"{name}: the processor's but for {np.median(away):.1e} (median), {away.max():.1e} (most)"
            )
    whole = _program(rows, "highest")
    operations = float(whole.lower(here, resident).compile().cost_analysis()["flops"]) / rows
    size = sum(a.nbytes for a in (*given, *whole(here, resident))) / rows
    work, move = operations / top["highest"], size / top["bytes"]
    fastest = min(statistics.median(one) for one in taken.values()) / rows
    least = (
        f"{shape.features} x {shape.lags}, {rows:,} records a call; a record is {operations:,.0f} operations and "
        f"{size:,.0f} bytes: at least {1e9 * work:.2f} ns in float32 and {1e9 * move:.2f} ns in memory; "
        f"the fastest takes {1e9 * fastest:.2f} ns ({max(work, move) / fastest:.3f} of what could be)"
    )
    notes.append(least)
    return {
        "rates": {name: spread([rows / one for one in all_of]) for name, all_of in taken.items()},
        "notes": notes,
    }


def _rows(count: int, shape: Shape) -> tuple[panel.PanelParams, Rows]:
    """A shared panel of a seeded fleet, and so many of its rows, over and over."""
    fleet = telemetry.generate(SEED, ENTITIES, RECORDS, shape.features)
    runs = [fleet.values[fleet.entity == number] for number in range(ENTITIES)]
    examples = [fitting.examples_of([run], scaling.fit_location([run]), shape.lags) for run in runs]
    with jax.default_device(jax.devices("cpu")[0]):  # that it is fitted, not how fast
        params = fitting.fit_panel(examples, fitting.Recipe(steps=STEPS, rehearse=False))
    columns = (
        np.concatenate([one.windows for one in examples]),
        np.concatenate([one.jump for one in examples]),
        np.concatenate([np.broadcast_to(one.location, (RECORDS, *one.location.shape)) for one in examples]),
        np.concatenate([one.phase for one in examples]),
    )
    return params, Rows(*(np.resize(a, (count, *a.shape[1:])).astype(np.float32) for a in columns))


def _program(rows: int, precision: str) -> Any:
    """All rows in blocks of so many, one after the other; a single block without the loop."""

    def score(params: panel.PanelParams, given: Rows) -> panel.RowScore:
        one = jax.tree.map(lambda a: a[0], params)
        block = jax.vmap(partial(panel.score_row, one))
        with jax.default_matmul_precision(precision):
            if len(given.phase) == rows:
                return block(*given)
            folded = tuple(a.reshape(-1, rows, *a.shape[1:]) for a in given)
            done: panel.RowScore = lax.map(lambda some: block(*some), folded)
            return done

    return jax.jit(score)


def _members(scored: panel.RowScore, rows: int) -> NDArray[np.float32]:
    return np.asarray(scored.members).reshape(rows, -1)
