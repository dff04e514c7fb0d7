"""The parts of the page about the whole replay: summary, quality, ranking, drift, and what its words mean."""

from __future__ import annotations

import math

import numpy as np

from . import charts, words
from .charts import WIDTH, Scale
from .facts import DETAILED, Entity, Report
from .gather import FIRING, LABELLED
from .markup import Html, cards, el, join, name_of, scrolled
from .prose import DEFINITIONS, MEANINGS, WHY


def summary(facts: Report) -> Html:
    """What was replayed and what came of it."""
    unscored = {name: n for name, n in facts.verdicts.items() if name != "scored" and n}
    rate = facts.openings / facts.entity_days if facts.entity_days else math.nan
    given = [
        ("Incidents", words.number(facts.openings), _severities(facts)),
        (
            "Entities with incidents",
            words.number(facts.with_incidents),
            f"of {words.count(facts.entities, 'entity', 'entities')}",
        ),
        ("Records", words.number(facts.records), f"{facts.scored:,} scored, {facts.judged:,} judged"),
        (
            "Opened per entity-day",
            words.fixed(rate),
            f"budget {words.number(facts.budget_per_day / facts.entities)}" if facts.entities else "",
        ),
    ]
    rows = [
        (words.count(n, "record"), name.replace("_", " "), WHY[name]) for name, n in sorted(unscored.items())
    ]
    if facts.late_points:
        rows.append(
            (words.count(facts.late_points, "measurement"), "late", "of a period that was already closed")
        )
    return el(
        "section",
        el("h2", "Summary", id="summary"),
        cards(given),
        _no_scores(facts),
        el(
            "div",
            el(
                "div",
                el("h3", "Without a score"),
                el(
                    "table",
                    el("tbody", *(el("tr", *(el("td", cell) for cell in row)) for row in rows)),
                    class_="plain",
                ),
            )
            if rows
            else None,
            el(
                "div",
                el("h3", "Features most often responsible"),
                charts.bars(
                    [(name_of(name), weight, words.fixed(weight)) for name, weight in facts.responsible]
                ),
                el("p", "Sum of each feature's share at the opening of incidents.", class_="aside"),
            )
            if facts.responsible
            else None,
            class_="columns",
        )
        if rows or facts.responsible
        else None,
        aria_labelledby="summary",
    )


def _severities(facts: Report) -> str:
    more = facts.openings - facts.severities.total()
    said = [f"{n:,} {grade}" for grade, n in sorted(facts.severities.items())]
    said += [f"{more:,} held in digests"] if more > 0 else []
    return ", ".join(said) or "none opened"


def _no_scores(facts: Report) -> Html | None:
    if not facts.records:
        said = "The range holds no records: there is nothing to judge. Give files that hold records, or another range."
    elif not facts.scored:
        said = "None of the records could be scored; the reasons stand below."
    elif not facts.judged:
        said = (
            "All scored records lie in the range that the model was trained on. They only warm it up and are not "
            "judged; replay records of another time."
        )
    else:
        return None
    return el("p", said, class_="notice", role="note")


def quality(facts: Report) -> Html | None:
    """The figures on labelled data; None where there are no labels."""
    one = facts.quality
    if one is None:
        return None
    delay = float(np.median(one.delays_us)) if len(one.delays_us) else math.nan
    true = one.openings - one.false_openings
    return el(
        "section",
        el("h2", "Quality against the labels", id="quality"),
        cards(
            [
                ("Event recall", words.share(one.recall), f"{one.found} of {one.events} events found"),
                (
                    "Precision",
                    words.share(one.precision),
                    f"{true} of {one.openings} openings found an event",
                ),
                (
                    "False openings per entity-day",
                    words.fixed(one.false_per_day),
                    f"{one.false_openings} in {words.fixed(one.days, 1)} entity-days",
                ),
                (
                    "Normal records inside incidents",
                    words.share(one.inside),
                    f"{one.normal_inside:,} of {one.normal:,}",
                ),
                (
                    "AUC-PR of the score",
                    words.fixed(one.auc_pr, 3),
                    f"mean over entities; chance {words.fixed(one.base_rate, 3)}",
                ),
                ("Median delay", words.span(delay), "from an event's first record to the incident"),
            ]
        ),
        el(
            "details",
            el("summary", "How these figures are defined"),
            el(
                "ul",
                *(el("li", said) for said in DEFINITIONS),
                el("li", f"Labelled are {words.count(facts.labelled, 'entity', 'entities')}."),
            ),
            class_="definitions",
        ),
        aria_labelledby="quality",
    )


def ranking(facts: Report, shown: list[Entity]) -> Html:
    """The entities of the page, worst first."""
    x = Scale(facts.first_us, max(facts.last_us, facts.first_us + 1), WIDTH)
    columns = (
        ("#", "number"),
        ("entity", "text"),
        ("highest above threshold", "number"),
        ("incidents", "number"),
        ("critical", "number"),
        ("time inside", "number"),
        ("anomalous records", "number"),
    )
    labelled = facts.quality is not None
    head = el(
        "tr",
        *(
            el("th", el("button", name, type="button", data_sort=kind), scope="col", class_=kind)
            for name, kind in columns
        ),
        el("th", "incidents over time", scope="col"),
    )
    rows = (_row(entity, rank, x, labelled) for rank, entity in enumerate(shown, 1))
    hidden = facts.entities - len(shown)
    left_out = (
        f"{words.count(hidden, 'more entity', 'more entities')} of {facts.entities:,} are counted in the summary and "
        f"not shown one by one: a page holds at most {DETAILED}, and no more than fit its size."
    )
    return el(
        "section",
        el("h2", "Entities, worst first", id="entities"),
        el(
            "p",
            "Ranked by how far the score rose above the threshold at its highest. Choose a column to sort, a name to "
            "see the entity.",
            class_="aside",
        ),
        scrolled(
            "Entities",
            el("table", el("thead", head), el("tbody", *rows), class_="ranking", id="ranking"),
            css="scroll framed",
        ),
        el(
            "p",
            f"{words.moment(facts.first_us)} to {words.moment(facts.last_us)} UTC from left to right; above: incidents"
            + (", below: labelled events." if labelled else "."),
            class_="aside",
        ),
        el("p", left_out, class_="left-out") if hidden else None,
        aria_labelledby="entities",
    )


def _row(entity: Entity, rank: int, x: Scale, labelled: bool) -> Html:
    cells = [
        (rank, str(rank)),
        (entity.excess, words.fixed(entity.excess)),
        (entity.openings, words.number(entity.openings)),
        (entity.critical, words.number(entity.critical)),
        (entity.inside, words.share(entity.inside)),
        (entity.anomalous, words.number(entity.anomalous)),
    ]
    figures = [
        el("td", shown, class_="figure", data_value=value if math.isfinite(value) else "")
        for value, shown in cells
    ]
    name = el("th", el("a", name_of(entity.name), href=f"#e{rank}"), scope="row")
    height = 22 if labelled else 14
    strip = charts.stretched(
        charts.stretches(entity.series, FIRING, x, "firing", 14),
        el("g", charts.stretches(entity.series, LABELLED, x, "labelled", 6), transform="translate(0 16)")
        if labelled
        else None,
        height=height,
        class_="strip",
    )
    return el("tr", figures[0], name, *figures[1:], el("td", strip, class_="when"))


def words_of_the_page(facts: Report) -> Html:
    """What the page's words and pictures mean."""
    return el(
        "section",
        el("h2", "What the words mean", id="words"),
        el("dl", *(join(el("dt", word), el("dd", said)) for word, said in MEANINGS), class_="meanings"),
        el("p", "Calibrations that judged: ", ", ".join(facts.calibrations) or "none", ".", class_="aside"),
        aria_labelledby="words",
    )
