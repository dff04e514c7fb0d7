"""Charts as inline SVG. A plot is stretched to the page's width, its texts are not; nothing needs a script.

Coordinates are whole numbers on a canvas of WIDTH x HEIGHT, so that a path of a thousand points takes few bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .envelope import Series
from .markup import Html, el
from .words import number, ticks, time_ticks

WIDTH: Final = 1600
HEIGHT: Final = 400
_GAP = 6
"""So many usual distances between buckets break a line."""


class Scale(NamedTuple):
    """From a quantity to the canvas."""

    low: float
    high: float
    size: int
    turned: bool = False
    """Upwards: the low end lies at `size`."""

    def __call__(self, value: Any) -> Any:
        """Whole coordinates, [n] or one; what lies outside is put on the edge."""
        part = (np.asarray(value, np.float64) - self.low) / max(self.high - self.low, 1e-12)
        part = np.clip(part, 0.0, 1.0)
        return np.rint(self.size * (1.0 - part if self.turned else part)).astype(np.int64)

    def percent(self, value: float) -> str:
        """The same as a percentage of the whole."""
        part = (value - self.low) / max(self.high - self.low, 1e-12)
        return f"{100 * (1.0 - part if self.turned else part):.2f}%"


def stretched(*children: object, height: int = HEIGHT, **attributes: Any) -> Html:
    """An SVG of the canvas that fills its box."""
    return el(
        "svg",
        *children,
        viewBox=f"0 0 {WIDTH} {height}",
        preserveAspectRatio="none",
        aria_hidden="true",
        **attributes,
    )


def line(x: NDArray[np.int64], y: NDArray[np.int64]) -> str:
    """A path through points, by steps; points that change nothing are left out."""
    if not len(x):
        return ""
    kept = np.ones(len(x), np.bool_)
    flat = (y[1:-1] == y[:-2]) & (y[1:-1] == y[2:])
    kept[1:-1] = ~flat
    x, y = x[kept], y[kept]
    steps = zip(np.diff(x).tolist(), np.diff(y).tolist(), strict=True)
    rest = "".join(f"{dx}{dy:+d} " if dy else f"{dx} 0 " for dx, dy in steps).rstrip()
    return f"M{x[0]} {y[0]}" + (f"l{rest}" if rest else "")


def band(x: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]) -> str:
    """The area between two lines over the same x, as a closed path."""
    if not len(x):
        return ""
    there, back = line(x, high), line(x[::-1], low[::-1])
    return f"{there}L{back[1:]}z"


def runs(held: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.r_[False, held, False]))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def segments(series: Series) -> list[slice]:
    """The stretches of a series without a hole in time."""
    steps = np.diff(series.time_us)
    if not len(steps):
        return [slice(0, len(series.time_us))]
    cuts = np.flatnonzero(steps > _GAP * np.median(steps)) + 1
    ends = [0, *cuts.tolist(), len(series.time_us)]
    return [slice(a, b) for a, b in pairwise(ends)]


def envelope(series: Series, column: int, x: Scale, y: Scale, css: str) -> Html:
    """A column of a series as the area between its lowest and its highest values."""
    paths = []
    for part in segments(series):
        low, high = series.low[part, column], series.high[part, column]
        known = np.isfinite(low) & np.isfinite(high)
        middle = series.time_us[part][known] + series.width_us // 2
        paths.append(band(x(middle), y(low[known]), y(high[known])))
    return el("path", d="".join(paths), class_=css)


def stretches(series: Series, mark: int, x: Scale, css: str, height: int = HEIGHT) -> Html | None:
    """Where a mark is set, as upright bars; a single bucket is wide enough to be seen."""
    found = runs((series.marks & mark) > 0)
    if not found:
        return None
    boxes = []
    for a, b in found:
        left, right = int(x(series.time_us[a])), int(x(series.time_us[b] + series.width_us))
        boxes.append(f"M{left} 0h{max(right - left, 3)}v{height}H{left}z")
    return el("path", d="".join(boxes), class_=css)


def upright(at: Sequence[int], css: str, height: int = HEIGHT) -> Html | None:
    """Upright lines at some x."""
    return el("path", d="".join(f"M{x} 0v{height}" for x in at), class_=css) if len(at) else None


def level_line(at: int, css: str) -> Html:
    """A line across the canvas."""
    return el("path", d=f"M0 {at}H{WIDTH}", class_=css)


def grid(at: Sequence[int]) -> Html:
    """Faint lines across."""
    return el("path", d="".join(f"M0 {y}H{WIDTH}" for y in at), class_="grid")


def y_axis(scale: Scale, marks: Sequence[float] | None = None, labels: Sequence[str] | None = None) -> Html:
    """Numbers beside a plot, in a box as high as it."""
    marks = ticks(scale.low, scale.high) if marks is None else marks
    labels = [number(mark) for mark in marks] if labels is None else labels
    texts = (
        el("text", label, x="100%", y=scale.percent(mark), dy="0.32em", text_anchor="end")
        for mark, label in zip(marks, labels, strict=True)
    )
    return el("svg", *texts, class_="axis y", aria_hidden="true")


def x_axis(scale: Scale, marks: Sequence[tuple[float, str]]) -> Html:
    """Texts below a plot, in a box as wide as it."""
    texts = (el("text", label, x=scale.percent(mark), y="1em", text_anchor="middle") for mark, label in marks)
    return el("svg", *texts, class_="axis x", aria_hidden="true")


def time_axis(scale: Scale) -> Html:
    """Moments below a plot."""
    return x_axis(scale, [(float(at), label) for at, label in time_ticks(int(scale.low), int(scale.high))])


def readings(series: Series, x: Scale) -> str:
    """What a pointer reads: per bucket x, highest and lowest score, highest threshold, in hundredths, in order."""
    middle = x(series.time_us + series.width_us // 2)
    columns = (series.high[:, 0], series.low[:, 0], series.high[:, 1])
    known = np.isfinite(np.stack(columns)).all(axis=0)
    whole = [np.rint(100 * column[known].astype(np.float64)).astype(np.int64).tolist() for column in columns]
    rows = zip(np.diff(middle[known], prepend=0).tolist(), *whole, strict=True)
    return ";".join(f"{dx},{high},{low},{threshold}" for dx, high, low, threshold in rows)


def bars(rows: Sequence[tuple[object, float, str]]) -> Html:
    """Names with a bar each, the longest first: (name, length, what is written behind)."""
    longest = max((length for _, length, _ in rows), default=0.0) or 1.0
    return barred([(name, bar(length / longest), said) for name, length, said in rows])


def barred(rows: Sequence[tuple[object, Html, str]]) -> Html:
    """Names, each with a bar and with what is written behind it."""
    return el(
        "ul",
        *(
            el("li", el("span", name, class_="name"), drawn, el("span", said, class_="figure"))
            for name, drawn, said in rows
        ),
        class_="bars",
    )


def bar(part: float) -> Html:
    """A bar that fills a part of its box."""
    return el("svg", _filled(part), class_="bar", aria_hidden="true")


def gauge(value: float, limit: float) -> Html:
    """A figure beside its limit, which the mark in the middle stands for; a full bar is twice the limit or more.

    Without a figure there is neither bar nor mark.
    """
    if not math.isfinite(value):
        return el("svg", class_="bar", aria_hidden="true")
    mark = el("rect", x="50%", y=0, width=2, height="100%", class_="limit")
    css = "bar over" if value > limit else "bar"
    return el("svg", _filled(value / limit / 2.0), mark, class_=css, aria_hidden="true")


def _filled(part: float) -> Html:
    return el("rect", x=0, y=0, height="100%", width=f"{100 * min(max(part, 0.0), 1.0):.1f}%")


def described(plot: Html, said: str, **attributes: Any) -> Html:
    """A plot with what it shows in words."""
    return el("div", plot, class_="plot", role="img", aria_label=said, **attributes)


def small(
    title: str | None, plot: Html, said: str, y_axis: Html, x_axis: Html, keys: Sequence[tuple[str, str]]
) -> Html:
    """A low figure: a plot with its axes, what it shows in words, and its keys (class, name) below."""
    return el(
        "figure",
        el("p", title, class_="chart-title") if title else None,
        el("div", y_axis, described(plot, said), el("span"), x_axis, class_="chart"),
        el("figcaption", *(el("span", name, class_=f"key {css}") for css, name in keys)),
        class_="small",
    )
