"""Two windows in one picture: histograms laid over each other, how many scores lie above, the latent's units."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...thresholds.compare import TAIL
from ...thresholds.shapes import ABOVE, Histogram
from . import charts, words
from .charts import HEIGHT, WIDTH, Scale
from .markup import Html, el

KEYS: Final = (("before", "reference"), ("now", "present"))
_HIGH: Final = ("level", f"the reference's {100 * TAIL:.0f} % point")


def histogram(shape: Histogram, said: str, title: str | None = None, high: float | None = None) -> Html:
    """Both windows' shares by bin; `high` is marked. A window without values is not drawn."""
    x = Scale(float(shape.edges[0]), float(shape.edges[-1]), WIDTH)
    y = Scale(0.0, 1.08 * float(shape.share.max()) or 1.0, HEIGHT, turned=True)
    at = np.repeat(x(shape.edges), 2)[1:-1]
    floor = np.full(len(at), HEIGHT)
    areas = [
        el("path", d=charts.band(at, floor, np.repeat(y(share), 2)), class_=css)
        for (css, _), share in zip(KEYS, shape.share, strict=True)
        if share.any()
    ]
    marks = words.ticks(0.0, y.high, 4)
    plot = charts.stretched(
        charts.grid([int(y(mark)) for mark in marks]),
        *areas,
        None if high is None else charts.upright([int(x(high))], "level"),
    )
    return charts.small(
        title,
        plot,
        said,
        charts.y_axis(y, marks, [_percent(mark) for mark in marks]),
        charts.x_axis(x, [(mark, words.number(mark)) for mark in words.ticks(x.low, x.high, 6)]),
        KEYS if high is None else (*KEYS, _HIGH),
    )


def above(points: NDArray[np.float64], high: float, said: str, title: str) -> Html:
    """For both windows [2, len(ABOVE)] the share of scores above each point, by powers of ten."""
    known = np.isfinite(points)
    low, most = float(points[known].min()), float(points[known].max())
    room = 0.03 * (most - low) or 0.5
    x = Scale(low - room, most + room, WIDTH)
    deepest = ABOVE[known.any(axis=0)][-1]
    y = Scale(float(np.floor(np.log10(deepest))), 0.15, HEIGHT, turned=True)
    lines = [
        el("path", d=charts.line(x(window[there]), y(np.log10(ABOVE[there]))), class_=f"above {css}")
        for (css, _), window, there in zip(KEYS, points, known, strict=True)
    ]
    powers = [float(power) for power in range(int(y.low), 1)]
    plot = charts.stretched(
        charts.grid([int(y(power)) for power in powers]),
        charts.level_line(int(y(np.log10(1.0 - TAIL))), "zero"),
        charts.upright([int(x(high))], "level"),
        *lines,
    )
    return charts.small(
        title,
        plot,
        said,
        charts.y_axis(y, powers, [_percent(10.0**power) for power in powers]),
        charts.x_axis(x, [(mark, words.number(mark)) for mark in words.ticks(x.low, x.high, 6)]),
        (*KEYS, _HIGH),
    )


def units(moments: NDArray[np.float64], said: str, title: str) -> Html:
    """Mean and spread of each of K units in both windows [2, 2, K]: a dot, and a bar of one sd to either side."""
    count = moments.shape[2]
    low, high = (
        float(end) for end in ((moments[:, 0] - moments[:, 1]).min(), (moments[:, 0] + moments[:, 1]).max())
    )
    room = 0.06 * (high - low) or 0.5
    y = Scale(low - room, high + room, HEIGHT, turned=True)
    x = Scale(0.5, count + 0.5, WIDTH)
    marks = words.ticks(y.low, y.high)
    drawn = []
    for (css, _), aside, (mean, sd) in zip(KEYS, (-0.12, 0.12), moments, strict=True):
        at = x(np.arange(1, count + 1) + aside).tolist()
        tops, bottoms, middles = (y(each).tolist() for each in (mean + sd, mean - sd, mean))
        bars = "".join(f"M{a} {top}V{end}" for a, top, end in zip(at, tops, bottoms, strict=True))
        dots = "".join(f"M{a} {middle}h0" for a, middle in zip(at, middles, strict=True))
        drawn += [el("path", d=bars, class_=f"spread {css}"), el("path", d=dots, class_=f"mean {css}")]
    plot = charts.stretched(
        charts.grid([int(y(mark)) for mark in marks]), charts.level_line(int(y(0.0)), "zero"), *drawn
    )
    return charts.small(
        title,
        plot,
        said,
        charts.y_axis(y, marks),
        charts.x_axis(x, [(float(unit), str(unit)) for unit in range(1, count + 1)]),
        KEYS,
    )


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
