"""One entity's part of the page: its scores over time, its incidents with the features responsible, its calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..alerts import Feature
from . import calibrating, charts, words
from .charts import HEIGHT, WIDTH, Scale
from .facts import Entity
from .gather import ANOMALOUS, FIRING, KEPT, LABELLED, Incident
from .markup import Html, chips, el, join, name_of

SHOWN = 6
"""Incidents that stand open; the others unfold."""


def section(entity: Entity, rank: int) -> Html:
    """All about one entity, under the anchor `e<rank>`."""
    facts = [
        ("incidents", words.number(entity.openings)),
        ("time inside", words.share(entity.inside)),
        ("highest above threshold", words.fixed(entity.excess)),
        ("records", words.number(entity.records)),
        ("judged", words.number(entity.judged)),
        ("partition", entity.part),
    ]
    return el(
        "article",
        el("h3", el("span", f"#{rank}", class_="rank"), " ", name_of(entity.name), id=f"e{rank}-title"),
        chips(facts),
        _scores(entity, rank),
        _quality(entity),
        _incidents(entity),
        calibrating.part(entity.calibrated),
        id=f"e{rank}",
        class_="entity top" if rank <= 10 else "entity",
        aria_labelledby=f"e{rank}-title",
        tabindex="-1",
    )


def _scores(entity: Entity, rank: int) -> Html:
    series = entity.series
    known = np.isfinite(series.high[:, 0]) if len(series.time_us) else np.zeros(0, np.bool_)
    if not known.any():
        return el("p", "None of its records has a score.", class_="nothing")
    x = Scale(int(series.time_us[0]), int(series.time_us[-1]) + series.width_us, WIDTH)
    finite = np.r_[series.high[np.isfinite(series.high)], series.low[np.isfinite(series.low)], 0.0]
    low, high = float(finite.min()), float(finite.max())
    room = 0.06 * (high - low or 1.0)
    y = Scale(low - room, high + room, HEIGHT, turned=True)
    marks = words.ticks(y.low, y.high)
    peak = None
    if math.isfinite(entity.excess):
        at = f"M{x(entity.excess_us)} {y(entity.score)}h0"
        peak = el("path", d=at, class_="peak")
    plot = charts.stretched(
        charts.grid([int(y(mark)) for mark in marks]),
        charts.stretches(series, FIRING, x, "firing"),
        charts.envelope(series, 0, x, y, "score"),
        charts.envelope(series, 1, x, y, "threshold"),
        peak,
    )
    said = (
        f"Score of {entity.name} from {words.moment(int(x.low))} to {words.moment(int(x.high))} UTC: between "
        f"{words.fixed(low)} and {words.fixed(high)}, {words.count(entity.openings, 'incident')}"
    )
    lanes = [_lane("incidents", charts.stretches(series, FIRING, x, "firing", 10), x)]
    lanes.append(_lane("anomalous", charts.stretches(series, ANOMALOUS, x, "anomalous", 10), x))
    if entity.quality is not None:
        lanes.append(_lane("labelled", charts.stretches(series, LABELLED, x, "labelled", 10), x))
    return el(
        "figure",
        el(
            "div",
            charts.y_axis(y, marks),
            charts.described(
                plot,
                said,
                data_from=int(x.low) // 1000,
                data_to=int(x.high) // 1000,
                data_width=WIDTH,
                data_readings=charts.readings(series, x),
                data_name=entity.name,
            ),
            *lanes,
            el("span"),
            charts.time_axis(x),
            class_="chart",
        ),
        el(
            "figcaption",
            el("span", "score", class_="key score"),
            el("span", "threshold", class_="key threshold"),
            el("span", "incident open", class_="key firing"),
            el("span", f"lowest to highest of every {words.span(series.width_us)}, UTC", class_="aside"),
        ),
        el("p", "", class_="readout", id=f"e{rank}-read", role="status"),
        class_="scores",
    )


def _lane(name: str, content: Html | None, x: Scale) -> Html:
    lane = el("div", charts.stretched(content, height=10), class_="lane", aria_hidden="true")
    return join(el("span", name, class_="lane-name"), lane)


def _quality(entity: Entity) -> Html | None:
    one = entity.quality
    if one is None:
        return None
    delay = float(np.median(one.delays_us)) if len(one.delays_us) else math.nan
    return chips(
        [
            ("labelled events found", f"{one.found} of {one.events}"),
            ("false openings", f"{one.false_openings} of {one.openings}"),
            ("a day", words.fixed(one.false_per_day)),
            ("normal records inside", words.share(one.inside)),
            ("AUC-PR", f"{words.fixed(one.auc_pr, 3)} (chance {words.fixed(one.base_rate, 3)})"),
            ("median delay", words.span(delay)),
        ]
    )


def _incidents(entity: Entity) -> Html:
    found = entity.incidents
    if not found:
        return el("p", "No incident opened.", class_="nothing")
    worst = sorted(found, key=lambda one: -one.peak)[:SHOWN]
    first = [one for one in found if one in worst]
    rest = [one for one in found if one not in worst]
    notes = []
    if rest:
        notes.append(
            el(
                "details",
                el("summary", f"{words.count(len(rest), 'more incident')}, with lower peaks"),
                el("div", *(_incident(one) for one in rest), class_="incidents"),
            )
        )
    if len(found) == KEPT:
        said = f"Of this entity the {KEPT} incidents with the highest peaks are shown; it had {entity.openings:,}."
        notes.append(el("p", said, class_="left-out"))
    return join(
        el("h4", "Incidents"), el("div", *(_incident(one) for one in first), class_="incidents"), *notes
    )


def _incident(one: Incident) -> Html:
    grade = "critical" if one.severity == "critical" or one.escalated else "warning"
    lasted = "open at the end" if one.ended_us is None else words.span(one.ended_us - one.began_us)
    facts = [
        ("lasted", lasted),
        ("ended", (one.reason or "").replace("_", " ") or words.NOTHING),
        ("score", words.fixed(one.score)),
        ("threshold", words.fixed(one.threshold)),
        ("peak", words.fixed(one.peak)),
        ("p-value", words.number(one.p)),
        ("p stands on", one.basis),
    ]
    if one.kind == "digest":
        facts.append(("held in this digest", words.number(one.held)))
    if one.escalated:
        facts.append(("escalated", "to critical"))
    if one.conservative:
        facts.append(("level is careful", one.conservative.replace("_", " ")))
    return el(
        "section",
        el(
            "header",
            el("span", grade, class_=f"badge {grade}"),
            el("span", one.kind, class_="badge") if one.kind != "anomaly" else None,
            el("strong", words.moment(one.began_us)),
            el("span", f"opened {words.span(one.opened_us - one.began_us)} later", class_="aside")
            if one.opened_us > one.began_us
            else None,
        ),
        chips(facts),
        _features(one.features),
        class_=f"incident {grade}",
    )


def _features(features: Sequence[Feature]) -> Html:
    if not features:
        return el("p", "No feature stood out.", class_="nothing")
    head = el("tr", *(el("th", name, scope="col") for name in ("feature", "share", "observed", "expected")))
    rows = (
        el(
            "tr",
            el("th", name_of(one.name), scope="row"),
            el("td", charts.bar(one.share), el("span", words.share(one.share)), class_="share"),
            el("td", "missing" if one.observed is None else words.number(one.observed, 5), class_="figure"),
            el("td", words.number(one.expected, 5), class_="figure"),
        )
        for one in features
    )
    return el("table", el("thead", head), el("tbody", *rows), class_="features")
