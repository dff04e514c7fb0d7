"""An entity's calibration as two pictures: the scores it has counted, and what each level would have opened."""

from __future__ import annotations

import math

import numpy as np

from ...thresholds.constants import BIN_WIDTH, LEVEL_STEP, LOWEST
from ...thresholds.tail import survival
from . import charts, words
from .charts import HEIGHT, WIDTH, Scale
from .facts import Calibrated
from .markup import Html, chips, el, join


def part(one: Calibrated) -> Html:
    """What decides about the entity now, and where that comes from."""
    at = round(one.level / LEVEL_STEP) - 1 if math.isfinite(one.level) else -1
    rate = float(one.openings[at]) if 0 <= at < len(one.openings) else math.nan
    facts = [
        ("calibration", one.name),
        ("level", words.fixed(one.level)),
        ("threshold now", words.fixed(one.threshold)),
        ("budget", f"{words.number(one.budget)} a day"),
        ("opened near that level", f"{words.fixed(rate)} a day"),
        ("time counted", words.span(one.days * 86_400e6)),
        ("records in the histogram", words.number(round(one.total))),
        ("learned in this epoch", words.number(one.accepted)),
        (
            "tail",
            f"from {words.fixed(one.tail[0])}, scale {words.number(one.tail[1])}, shape {words.number(one.tail[2])}",
        ),
    ]
    if one.caution:
        facts.append(("careful", one.caution.replace("_", " ")))
    if one.warming:
        facts.append(("still learning", one.warming))
    return join(
        el("h4", "Calibration"),
        chips(facts),
        el("div", _histogram(one), _openings(one), class_="pair") if one.total > 0 else None,
    )


def _histogram(one: Calibrated) -> Html:
    used = np.flatnonzero(one.counts > 0)
    first, last = int(used[0]), int(used[-1])
    start, sigma, gamma, _ = one.tail
    reach = LOWEST + (last + 1) * BIN_WIDTH
    high = max(reach, one.level if math.isfinite(one.level) else reach) + 4 * BIN_WIDTH
    x = Scale(LOWEST + first * BIN_WIDTH, high, WIDTH)
    y = Scale(math.log10(0.5), max(math.log10(float(one.counts.max())), 1.0) + 0.1, HEIGHT, turned=True)
    counts = one.counts[first : last + 1].astype(np.float64)
    tops = y(np.log10(np.maximum(counts, 0.5)))
    edges = x(LOWEST + BIN_WIDTH * np.arange(first, last + 2))
    boxes = "".join(
        f"M{a} {HEIGHT}V{top}H{b}V{HEIGHT}z"
        for a, b, top in zip(edges[:-1].tolist(), edges[1:].tolist(), tops.tolist(), strict=True)
        if top < HEIGHT
    )
    begin = round((start - LOWEST) / BIN_WIDTH)
    mass = float(one.counts[begin:].sum())
    bins = np.arange(begin, math.ceil((high - LOWEST) / BIN_WIDTH))
    ends = LOWEST + BIN_WIDTH * np.append(bins, bins[-1] + 1 if len(bins) else begin)
    left = np.array([survival(float(end), start, sigma, gamma) for end in ends])
    expected = mass * -np.diff(left)
    shown = expected >= 0.5
    curve = charts.line(x(ends[:-1][shown] + BIN_WIDTH / 2), y(np.log10(np.maximum(expected[shown], 0.5))))
    powers = [float(power) for power in range(int(y.high) + 1)]
    plot = charts.stretched(
        charts.grid([int(y(power)) for power in powers]),
        el("path", d=boxes, class_="histogram"),
        el("path", d=curve, class_="tail"),
        charts.upright([int(x(one.level))], "level") if math.isfinite(one.level) else None,
    )
    said = (
        f"Histogram of {words.number(round(one.total))} records from {words.fixed(x.low)} to {words.fixed(reach)}; "
        f"opening level {words.fixed(one.level)}"
    )
    labels = [words.number(10**power) for power in powers]
    return charts.small(
        "Records learned, by score less a share of its slow average",
        plot,
        said,
        charts.y_axis(y, powers, labels),
        charts.x_axis(x, [(mark, words.number(mark)) for mark in words.ticks(x.low, x.high, 6)]),
        [("histogram", "records (log scale)"), ("tail", "fitted tail"), ("level", "opening level")],
    )


def _openings(one: Calibrated) -> Html:
    rates = one.openings
    used = np.flatnonzero(rates > 0)
    high = float(one.level) if math.isfinite(one.level) else LEVEL_STEP
    x = Scale(0.0, max(high, LEVEL_STEP * (int(used[-1]) + 2 if len(used) else 2)) + LEVEL_STEP, WIDTH)
    largest = float(rates.max(initial=0.0))
    most = max(2.5 * one.budget, min(largest, 12 * one.budget))
    y = Scale(0.0, most, HEIGHT, turned=True)
    levels = LEVEL_STEP * np.arange(1, len(rates) + 1)
    inside = levels <= x.high
    marks = words.ticks(0.0, most, 4)
    plot = charts.stretched(
        charts.grid([int(y(mark)) for mark in marks]),
        el("path", d=charts.line(x(levels[inside]), y(rates[inside])), class_="rate"),
        charts.level_line(int(y(one.budget)), "budget"),
        charts.upright([int(x(one.level))], "level") if math.isfinite(one.level) else None,
    )
    said = f"Openings a day at each level, against a budget of {words.number(one.budget)} a day"
    return charts.small(
        "Incidents a day that each level would have opened"
        + (", cut off at the top" if largest > most else ""),
        plot,
        said,
        charts.y_axis(y, marks),
        charts.x_axis(x, [(mark, words.number(mark)) for mark in words.ticks(0.0, x.high, 6)]),
        [("rate", "openings a day"), ("budget", "budget"), ("level", "opening level")],
    )
