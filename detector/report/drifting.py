"""The page's part about drift: block means over time, and the decisions."""

from __future__ import annotations

import numpy as np

from . import charts, words
from .charts import WIDTH, Scale
from .facts import DECISIONS, PARTS, Drift, Report
from .markup import Html, el, name_of, scrolled
from .prose import SIGNALS


def section(facts: Report) -> Html:
    """The partitions' drift detectors."""
    notes = []
    if facts.parts > len(facts.drifts):
        rest = words.count(facts.parts - len(facts.drifts), "more partition")
        notes.append(
            el(
                "p",
                f"{rest} without a closed block, or beyond the {PARTS} that are shown.",
                class_="left-out",
            )
        )
    return el(
        "section",
        el("h2", "Drift", id="drift"),
        el(
            "p",
            "Means over blocks of a partition's records, in standard deviations of such means in training. A decision "
            "says that a signal has changed; it moves no threshold by itself.",
            class_="aside",
        ),
        *(_part(one) for one in facts.drifts),
        el("p", "No block of records was closed: there is nothing to say about drift.", class_="nothing")
        if not facts.drifts
        else None,
        *notes,
        aria_labelledby="drift",
    )


def _part(one: Drift) -> Html:
    series = one.series
    rows = (
        el(
            "tr",
            el("td", words.moment(decision.time_us)),
            el("td", SIGNALS.get(decision.flag.signal, "entities shifted")),
            el("td", words.number(decision.flag.before, 4), class_="figure"),
            el("td", words.number(decision.flag.after, 4), class_="figure"),
            el("td", words.number(decision.flag.blocks), class_="figure"),
            el("td", str(decision.flag.found.what).replace("_", " ")),
            el("td", str(decision.flag.found.action).replace("_", " ")),
        )
        for decision in one.decisions
    )
    head = ("decided at (UTC)", "signal", "mean before", "and since", "blocks looked at", "taken for", "done")
    more = one.decided - len(one.decisions)
    return el(
        "article",
        el("h3", name_of(one.part), " ", el("span", words.count(one.decided, "decision"), class_="aside")),
        el("div", *(_signal(one, at) for at in range(len(SIGNALS))), class_="triple")
        if len(series.time_us)
        else None,
        scrolled(
            f"Drift decisions of {one.part}",
            el(
                "table",
                el("thead", el("tr", *(el("th", name, scope="col") for name in head))),
                el("tbody", *rows),
                class_="plain",
            ),
        )
        if one.decisions
        else None,
        el("p", f"{more:,} earlier decisions are left out: a partition shows {DECISIONS}.", class_="left-out")
        if more
        else None,
        class_="part",
    )


def _signal(one: Drift, at: int) -> Html:
    series, (signal, name) = one.series, list(SIGNALS.items())[at]
    x = Scale(int(series.time_us[0]), int(series.time_us[-1]) + series.width_us, WIDTH)
    low, high = series.low[:, at], series.high[:, at]
    known = np.isfinite(low)
    bottom = min(float(low[known].min()) if known.any() else 0.0, -3.0)
    top = max(float(high[known].max()) if known.any() else 0.0, 3.0)
    y = Scale(bottom * 1.05, top * 1.05, charts.HEIGHT, turned=True)
    marks = words.ticks(y.low, y.high, 6)
    when = [decision.time_us for decision in one.decisions if decision.flag.signal == signal]
    plot = charts.stretched(
        charts.grid([int(y(mark)) for mark in marks]),
        charts.level_line(int(y(0.0)), "zero"),
        charts.upright([int(x(each)) for each in when], "decision"),
        charts.envelope(series, at, x, y, "block"),
    )
    latest = words.fixed(one.latest[at])
    return el(
        "figure",
        el("p", name, class_="chart-title"),
        el(
            "div",
            charts.y_axis(y, marks),
            charts.described(plot, f"{name}: {words.count(len(when), 'decision')}, now {latest}"),
            el("span"),
            charts.time_axis(x),
            class_="chart",
        ),
        el(
            "figcaption",
            el("span", "block mean", class_="key block"),
            el("span", "decision", class_="key decision"),
            el("span", f"ADWIN's estimate now {latest}", class_="aside"),
        ),
        class_="small",
    )
