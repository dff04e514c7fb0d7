"""Mean time between false incidents (ARL0), by replaying the whole incident machine over blocks of one entity's scores.

An incident opens by records in a row, so whole stretches of the history are drawn anew and never single records: the
circular block bootstrap (Politis and Romano 1992, in LePage and Billard, Exploring the Limits of Bootstrap), which
draws every record equally often, those at the ends too.

The draws say how often the machine opens, and by how much that number varies more than a Poisson number would. The
interval is that of a Poisson mean (Garwood 1936), widened by this. Quantiles of the draws would be too short where
few have opened: of a history without any they would say that there never will be one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .constants import DAY_US
from .jit import kernel
from .opening import run
from .state import CORE, Rules, checked, pace

HOLDS: Final = 10
"""Mean incidents that a block is long at the least, so that its ends cut few of them in two."""
LEAST_BLOCKS: Final = 4
"""Blocks that a history is cut into at the least, however long they should be."""
DRAWS: Final = 200
LEAST_DRAWS: Final = 20
"""Less than half of what the search for a level takes."""
REPLAYED: Final = 100_000_000
"""Records replayed for all histories together, where LEAST_DRAWS allow it: a few seconds."""
NORMAL_POINT: Final = 1.96
"""Of a 95 % interval."""


class RunLength(NamedTuple):
    """Days of event time outside incidents between two openings."""

    mean: float
    """inf where none opened."""
    low: float
    """The ends of its 95 % interval;"""
    high: float
    """inf where fewer than one opened in the history's time."""


UNKNOWN: Final = RunLength(np.nan, np.nan, np.nan)


def draws_within(records: int) -> int:
    """How often to replay histories of so many records together, for it to take seconds."""
    return min(max(REPLAYED // max(records, 1), LEAST_DRAWS), DRAWS)


def mean_run_length(
    score: NDArray[np.float64],
    time_us: NDArray[np.int64],
    *,
    half_life: float,
    rules: Rules,
    level: float,
    start: float = 0.0,
    block: int,
    draws: int,
    rng: np.random.Generator,
) -> RunLength:
    """How long the machine runs between two openings at a fixed level, were the entity to go on as in its history.

    Neither cap nor damping takes an opening away. Blocks are made longer where incidents at that level ask for it
    (HOLDS) and shorter where the history does (LEAST_BLOCKS).

    Args:
        score: [n] one entity's scores in order.
        time_us: [n] their event times; every draw runs over them.
        half_life: of S, records.
        rules: of the incident machine.
        level: fixed.
        start: where S begins.
        block: records of a block: so many that block means hardly depend on each other (`cusum.measure`).
        draws: at least 2.
        rng: what the blocks are drawn by.

    Raises:
        ValueError: there is no score, or fewer than two draws.
    """
    n = len(score)
    if n == 0 or draws < 2:
        raise ValueError(f"a run length needs a score and two draws, and there are {n} and {draws}")
    score = np.require(score, np.float64, ["C", "W"])
    time_us = np.require(time_us, np.int64, ["C", "W"])
    rules = checked(rules)._replace(flap_after=0)
    cores = np.zeros(1 + draws, CORE)
    cores["S"], cores["pace"] = start, pace(half_life)
    inside = np.empty(n, np.bool_)
    incidents, _ = run(cores[0], score, time_us, float(level), rules, np.empty(n), inside)
    longest = max(n // LEAST_BLOCKS, 1)
    block = min(max(block, HOLDS * int(inside.sum()) // max(incidents, 1), 1), longest)
    blocks = -(-n // block)
    starts = rng.integers(n, size=(draws, blocks))
    opened, span = _replay(cores[1:], score, starts, block, time_us, float(level), rules)
    seen, days = float(opened.mean()), float(span.mean()) / DAY_US
    spread = 1.0
    if seen > 0.0 and blocks > 1:
        # Around their own mean, blocks vary by one part in `blocks` less than around the true one.
        spread = max(float(opened.var(ddof=1)) / seen * blocks / (blocks - 1), 1.0)
    least, most = (spread * limit for limit in poisson_limits(seen / spread))
    return RunLength(*(days / count if count > 0.0 else np.inf for count in (seen, most, least)))


def poisson_limits(count: float) -> tuple[float, float]:
    """The 95 % interval of a Poisson mean of which `count` was seen, which need not be a whole number.

    By Byar's approximation (Breslow and Day, Statistical Methods in Cancer Research II, 1987, 69); 0 is its lower end
    where fewer than one was seen.
    """
    low, high = (
        of * (1.0 - 1.0 / (9.0 * of) + point / (3.0 * of**0.5)) ** 3 if of >= 1.0 else 0.0
        for of, point in ((count, -NORMAL_POINT), (count + 1.0, NORMAL_POINT))
    )
    return low, high


@kernel
def _replay(
    cores: NDArray[np.void],
    score: NDArray[np.float64],
    starts: NDArray[np.int64],
    block: int,
    time_us: NDArray[np.int64],
    level: float,
    rules: Rules,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Openings and span (us) of each draw: blocks of the scores [n] from `starts` [draws, blocks], circular."""
    n = len(score)
    draws, blocks = starts.shape
    around = np.concatenate((score, score[:block]))
    drawn, x, inside = np.empty(n), np.empty(n), np.empty(n, np.bool_)
    opened, span = np.empty(draws, np.int64), np.empty(draws, np.int64)
    for draw in range(draws):
        for j in range(blocks):
            at, start = j * block, starts[draw, j]
            length = min(block, n - at)
            drawn[at : at + length] = around[start : start + length]
        opened[draw], span[draw] = run(cores[draw], drawn, time_us, level, rules, x, inside)
    return opened, span
