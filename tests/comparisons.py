"""Comparisons of made-up windows: what tests of their page start from.

one = pair(before, now)                # values [n, F] in standard deviations, a record a minute
compared.page(facts(one, names))
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from reports import minutes
from tocsin.detector.comparing import Compared, Entities, Gathered
from tocsin.detector.report.compared import Facts
from tocsin.thresholds.advice import advise
from tocsin.thresholds.compare import Comparison, Window, compare
from tocsin.thresholds.shapes import shapes


class Pair(NamedTuple):
    """Two windows and what was found between them."""

    reference: Window
    present: Window
    found: Comparison


def pair(
    before: NDArray[np.float64],
    now: NDArray[np.float64],
    *,
    latent: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Pair:
    """The score is the mean of the features; without a latent there is no VAE."""
    nothing = (np.zeros((len(before), 0)), np.zeros((len(now), 0)))
    times = (minutes(len(before)), minutes(len(now), len(before)))
    reference, present = (
        Window(len(x), 0.0, t, np.nanmean(x, axis=1), x.astype(np.float32), t, z.astype(np.float32))
        for x, t, z in zip((before, now), times, latent or nothing, strict=True)
    )
    moved = medians(now) - medians(before)
    levelled = present._replace(values=(now - moved).astype(np.float32))
    return Pair(reference, present, compare(reference, present, levelled, rounds=100))


def medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    there = [column[np.isfinite(column)] for column in values.T]
    return np.array([np.median(one) if len(one) else 0.0 for one in there])


def facts(one: Pair, names: list[str], *, stream: str = "web", notes: tuple[str, ...] = ()) -> Facts:
    """What the page of that comparison says."""
    windows = [
        Gathered(
            what,
            tuple(names),
            {"scored": len(window.score), "warming": 12, "late": 0},
            0,
            int(window.time_us[0]),
            int(window.time_us[-1]),
            np.zeros(0, object),
            *([np.zeros(0)] * 3),
            np.zeros(0, object),
            *([np.zeros(0)] * 2),
        )
        for what, window in (("the reference", one.reference), ("the present window", one.present))
    ]
    made = Compared(one.found, Entities(7, 8, 2, 1), 1.0, shapes(one.reference, one.present, one.found))
    command = "tocsin recalibrate --data 'now & then.parquet' --dry-run"
    return Facts(stream, "v0001-test", *windows, made, list(notes), advise(one.found), command)
