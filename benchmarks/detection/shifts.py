"""Drift decisions on noise, where there shall be none, and on planted shifts, where there shall be one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..report import Bar, at_least, at_most
from .bench import Bench

NOISE, PHI, SHIFTS, SHIFT_SD = 1_000_000, 0.98, 200, 2.0


def drift(bench: Bench) -> tuple[list[Bar], dict[str, Any]]:
    """Decisions of the group's and the entity's detector on autoregressive noise, and after planted shifts."""
    from tocsin.thresholds import cusum
    from tocsin.thresholds import drift as own

    bench.say("drift")
    block = own.block_records(1)
    random = np.random.default_rng(0)
    noise = random.standard_normal(NOISE)
    x = np.empty(NOISE)
    last = 0.0
    for i, fresh in enumerate(noise):
        last = PHI * last + fresh
        x[i] = last
    means = x[: NOISE // block * block].reshape(-1, block).mean(axis=1)
    means = (means - means[: len(means) // 4].mean()) / means[: len(means) // 4].std()
    false = len(_decisions(means))
    measured = cusum.measure(x[: NOISE // 4])
    length = int(measured[0])
    false_own = len(_shifts(measured, x[: NOISE // length * length].reshape(-1, length).mean(axis=1)))
    counts, delays, counts_own, delays_own = [], [], [], []
    for number in range(SHIFTS):
        shifted = np.random.default_rng((1, number)).standard_normal(200)
        shifted[100:] += SHIFT_SD
        found = _decisions(shifted)
        counts.append(len(found))
        delays += [at - 99 for at in found[:1]]
        history = shifted[:50]
        known = np.array([length, len(history), history.mean(), history.std(ddof=1)])
        found = _shifts(known, shifted[50:])
        counts_own.append(len(found))
        delays_own += [at - 49 for at in found[:1]]
    return [
        at_most("false drift decisions on AR(.98) noise, 1,000,000 points", false, "", 0),
        at_least(
            "planted shifts with exactly one decision, share", float(np.mean(np.array(counts) == 1)), "", 1.0
        ),
        at_most("delay to notice a shift of 2 sd, median, ADWIN", float(np.median(delays)), "blocks", 15),
        at_most("false shifts by the entity's CUSUM on that noise", false_own, "", 0),
        at_least(
            "planted shifts with exactly one decision by the CUSUM, share",
            float(np.mean(np.array(counts_own) == 1)),
            "",
            1.0,
        ),
        at_most("delay to notice a shift of 2 sd, median, CUSUM", float(np.median(delays_own)), "blocks", 5),
    ], {
        "blocks": len(means),
        "decisions_per_shift": np.bincount(counts).tolist(),
        "entity_block_records": length,
        "entity_decisions_per_shift": np.bincount(counts_own).tolist(),
    }


def _shifts(measured: NDArray[np.float64], means: NDArray[np.float64]) -> list[int]:
    """Blocks at which an entity's CUSUM decides that starts from what was measured."""
    from tocsin.thresholds import cusum
    from tocsin.thresholds.state import CORE

    core = np.zeros(1, CORE)[0]
    cusum.begin(core, measured, True)
    return [at for at, mean in enumerate(means.tolist()) if cusum.take(core, mean)]


def _decisions(means: NDArray[np.float64]) -> list[int]:
    """Blocks at which the group's detector decides, fed as the chain feeds it."""
    from tocsin.thresholds import drift as own
    from tocsin.thresholds.state import BLOCK_MEANS

    state = own.init(1)
    reference = {signal: np.array([0.0, 1.0]) for signal in own.SIGNALS}
    found = []
    for at, mean in enumerate(means.tolist()):
        row = np.zeros(1, BLOCK_MEANS)[0]
        row["score"], row["level"], row["missing"] = mean, np.nan, np.nan
        found += [at for _ in own.take(state, row, reference)]
    return found
