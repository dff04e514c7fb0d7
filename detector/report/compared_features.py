"""The features of two windows: a table of all of them, and the foremost one by one with their histograms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ...thresholds.advice import remarks
from ...thresholds.compare import Comparison, Feature
from ...thresholds.shapes import DRAWN, REACH, Histogram, Shapes, foremost
from . import charts, overlays, words
from .markup import Html, chips, el, name_of, scrolled

COLUMNS = (
    ("#", "number"),
    ("feature", "text"),
    ("PSI", "number"),
    ("limit", "number"),
    ("PSI over its limit", "number"),
    ("distance", "number"),
    ("missing before", "number"),
    ("missing now", "number"),
    ("remark", "text"),
)


def rows(found: Comparison, shapes: Shapes, names: Sequence[str]) -> Iterator[Html]:
    """A row for each feature, the foremost first."""
    for rank, one in enumerate(foremost(found), 1):
        yield _row(one, rank, names[one.feature], one.feature in shapes.features)


def table(shown: list[Html], count: int) -> Html:
    """Those rows, of as many features."""
    head = el(
        "tr",
        *(
            el("th", el("button", name, type="button", data_sort=kind), scope="col", class_=kind)
            for name, kind in COLUMNS
        ),
    )
    hidden = count - len(shown)
    return el(
        "section",
        el("h2", "Features", id="features"),
        el(
            "p",
            "Those that moved first, then by PSI. The mark in the middle of a bar is the limit, a full bar twice the "
            "limit or more. Distances are in standard deviations of the entities.",
            class_="aside",
        ),
        scrolled(
            "Features",
            el("table", el("thead", head), el("tbody", *shown), class_="ranking", id="ranking"),
            css="scroll framed",
        ),
        el(
            "p",
            f"{words.count(hidden, 'more feature')} had no room on the page; --json lists all.",
            class_="left-out",
        )
        if hidden
        else None,
        aria_labelledby="features",
    )


def closer(found: Comparison, shapes: Shapes, names: Sequence[str]) -> Html:
    """The foremost features one by one."""
    ordered = foremost(found)
    rest = ordered[DRAWN:]
    unseen = sum(one.moved or one.lost for one in rest)
    left_out = f"{words.count(len(rest), 'more feature')} in the table alone: {DRAWN} are drawn."
    if unseen:
        left_out += f" Of those {unseen:,} moved."
    return el(
        "section",
        el("h2", "One by one", id="closer"),
        el(
            "p",
            "Values after scaling by their entity's location, in its standard deviations; shares of those that are "
            f"there. The outermost bars hold what lies beyond, at most {words.share(REACH)} of a window at each end.",
            class_="aside",
        ),
        el(
            "div",
            *(
                _picture(one, names[one.feature], shapes.features[one.feature])
                for one in ordered
                if one.feature in shapes.features
            ),
            class_="pictures",
        ),
        el("p", left_out, class_="left-out") if rest else None,
        aria_labelledby="closer",
    )


def _row(one: Feature, rank: int, name: str, drawn: bool) -> Html:
    shown = name_of(name)
    excess = one.psi / one.psi_limit
    return el(
        "tr",
        _figure(rank, str(rank)),
        el("th", el("a", shown, href=f"#f{one.feature}") if drawn else shown, scope="row"),
        _figure(one.psi, words.fixed(one.psi, 3)),
        _figure(one.psi_limit, words.fixed(one.psi_limit, 3)),
        el("td", charts.gauge(one.psi, one.psi_limit), class_="beside", data_value=_known(excess)),
        _figure(one.wasserstein, words.fixed(one.wasserstein)),
        *(_figure(part, words.share(part)) for part in one.missing),
        el("td", ", ".join(remarks(one._asdict()))),
    )


def _figure(value: float, shown: str) -> Html:
    return el("td", shown, class_="figure", data_value=_known(value))


def _known(value: float) -> float | str:
    return value if math.isfinite(value) else ""


def _picture(one: Feature, name: str, shape: Histogram) -> Html:
    psi = f"{words.fixed(one.psi, 3)}, limit {words.fixed(one.psi_limit, 3)}"
    before, now = (words.share(part) for part in one.missing)
    said = (
        f"Histogram of {name} in both windows, from {words.fixed(float(shape.edges[0]))} to "
        f"{words.fixed(float(shape.edges[-1]))} standard deviations; PSI {psi}"
    )
    grade = "badge warning" if one.moved or one.lost else "badge"
    return el(
        "article",
        el(
            "header",
            el("h3", name_of(name), id=f"f{one.feature}-title"),
            *(el("span", remark, class_=grade) for remark in remarks(one._asdict())),
        ),
        charts.barred([("PSI", charts.gauge(one.psi, one.psi_limit), psi)]),
        chips(
            [
                ("missing", f"{before} before, {now} now"),
                ("distance, sd", words.fixed(one.wasserstein)),
            ]
        ),
        overlays.histogram(shape, said)
        if shape.share.any()
        else el("p", "Neither window holds a value.", class_="nothing"),
        id=f"f{one.feature}",
        class_="picture",
        tabindex="-1",
        aria_labelledby=f"f{one.feature}-title",
    )
