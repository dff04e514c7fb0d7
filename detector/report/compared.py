"""The page of `tocsin drift`: two windows of records, what moved between them, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ...thresholds.advice import Action, Advice, lost, moved
from ...thresholds.compare import QUANTILES, Comparison
from ..comparing import Compared, Gathered
from . import charts, compared_features, frame, overlays, words
from .markup import Html, cards, el, join, scrolled
from .prose import COMPARED, WHY


class Facts(NamedTuple):
    """Everything that the page says."""

    stream: str
    model: str
    reference: Gathered
    present: Gathered
    compared: Compared
    notes: list[str]
    advice: Advice
    next: str
    """The command to type."""


def page(facts: Facts, limit: int = frame.LIMIT) -> str:
    """The whole page. The same facts give the same page."""
    title = f"{facts.stream}: drift report"
    names, found = facts.reference.features, facts.compared.found
    around = frame.document(title, _content(facts, []))
    rows = frame.fitting(
        compared_features.rows(found, facts.compared.shapes, names), limit - frame.size(around)
    )
    return frame.document(title, _content(facts, rows))


def _content(facts: Facts, rows: list[Html]) -> Html:
    found, shapes, names = facts.compared.found, facts.compared.shapes, facts.reference.features
    links = [
        ("summary", "Summary"),
        ("score", "Score"),
        ("features", "Features"),
        ("closer", "One by one"),
        ("latent", "Latent"),
        ("words", "Words"),
    ]
    sections = (
        _summary(facts),
        _score(facts.compared),
        compared_features.table(rows, len(names)),
        compared_features.closer(found, shapes, names),
        _latent(facts.compared),
        _words(),
    )
    given = [
        ("model", facts.model),
        ("reference", _range(facts.reference)),
        ("present", _range(facts.present)),
        ("features", words.number(len(names))),
    ]
    header = frame.masthead(facts.stream, "drift report", given)
    return frame.framed(header, links, sections, "tocsin drift")


def _range(window: Gathered) -> str:
    return f"{words.moment(window.first_us)} to {words.moment(window.last_us)} UTC"


def _summary(facts: Facts) -> Html:
    entities, advice = facts.compared.entities, facts.advice
    rows = (
        _window(name, window, known)
        for name, window, known in (
            ("reference", facts.reference, entities.reference),
            ("present", facts.present, entities.present),
        )
    )
    columns = ("window", "from, to (UTC)", "lasts", "records", "scored", "trained on", "entities")
    others = (
        [f"{words.count(entities.gone, 'entity', 'entities')} of the reference alone"]
        if entities.gone
        else []
    )
    if entities.new:
        others.append(f"{words.count(entities.new, 'new entity', 'new entities')}, left out")
    return el(
        "section",
        el("h2", "Summary", id="summary"),
        el(
            "div",
            el(
                "p",
                el("strong", f"Advice: {advice.action}. "),
                f"{advice.why[0].upper()}{advice.why[1:]}.",
            ),
            el("p", el("code", facts.next), class_="command"),
            class_="notice calm" if advice.action is Action.NOTHING else "notice",
            role="note",
        ),
        cards(_figures(facts.compared.found)),
        scrolled("The two windows", _plain(columns, rows)),
        *(
            el("p", said, class_="aside")
            for said in (*_unscored(facts), *([f"{'; '.join(others)}."] if others else []))
        ),
        *(el("p", note, class_="notice", role="note") for note in facts.notes),
        aria_labelledby="summary",
    )


def _figures(found: Comparison) -> list[tuple[str, str, str]]:
    score, latent, gone = found.score, found.latent, len(lost(found))
    count = len(found.features)
    return [
        (
            "Score",
            _verb(score.moved),
            f"PSI {words.fixed(score.psi, 3)}, limit {words.fixed(score.psi_limit, 3)}",
        ),
        (
            "Beyond the reference's 95 % point",
            words.share(score.tail),
            f"of the present scores; limit {words.share(score.tail_limit)}",
        ),
        (
            "Features that moved",
            words.number(len(moved(found))),
            f"of {words.number(count)}; {words.number(gone)} missing more or less often",
        ),
        ("Latent", words.NOTHING, "not compared: the model has no VAE")
        if latent is None
        else (
            "Latent",
            _verb(latent.moved),
            f"{words.share(latent.share)} of the variance, limit {words.share(latent.limit)}",
        ),
    ]


def _window(name: str, window: Gathered, entities: int) -> Html:
    figures = (
        words.span(window.last_us - window.first_us),
        words.number(sum(window.counts.values())),
        words.number(window.counts["scored"]),
        words.number(window.trained),
        words.number(entities),
    )
    when = f"{words.moment(window.first_us)} to {words.moment(window.last_us)}"
    return el(
        "tr",
        el("th", name, scope="row"),
        el("td", when),
        *(el("td", figure, class_="figure") for figure in figures),
    )


def _unscored(facts: Facts) -> Iterable[str]:
    """Of each window that has some, its records without a score, with the reasons."""
    for name, window in (("reference", facts.reference), ("present", facts.present)):
        rest = [(n, verdict) for verdict, n in window.counts.items() if verdict != "scored" and n]
        if rest:
            reasons = "; ".join(f"{n:,} {verdict.replace('_', ' ')} ({WHY[verdict]})" for n, verdict in rest)
            yield f"Without a score in the {name}: {reasons}."


def _score(compared: Compared) -> Html:
    score, shapes = compared.found.score, compared.shapes
    rows = (
        el(
            "tr",
            el("th", name, scope="row"),
            *(el("td", words.fixed(value, 3), class_="figure") for value in values),
        )
        for name, values in (("reference", score.reference), ("present", score.present))
    )
    gauges = [
        (
            "PSI",
            score.psi,
            score.psi_limit,
            f"{words.fixed(score.psi, 3)}, limit {words.fixed(score.psi_limit, 3)}",
        ),
        (
            "beyond the 95 % point",
            score.tail,
            score.tail_limit,
            f"{words.share(score.tail)}, limit {words.share(score.tail_limit)}",
        ),
    ]
    medians = [words.fixed(window[0]) for window in (score.reference, score.present)]
    said = f"Histogram of the score in both windows: median {medians[0]} before, {medians[1]} now"
    beyond = (
        f"Above {words.fixed(shapes.high)} lie 5 % of the reference's scores, now {words.share(score.tail)}"
    )
    return el(
        "section",
        el("h2", f"Score: {_verb(score.moved)}", id="score"),
        el(
            "div",
            el(
                "div",
                charts.barred(
                    [(name, charts.gauge(value, limit), text) for name, value, limit, text in gauges]
                ),
                el("p", f"Wasserstein distance {words.fixed(score.wasserstein, 3)}.", class_="aside"),
            ),
            scrolled("Quantiles of the score", _plain(("quantile", *(f"{q:g}" for q in QUANTILES)), rows)),
            class_="columns",
        ),
        el(
            "div",
            overlays.histogram(shapes.score, said, "Share of records, by score", shapes.high),
            overlays.above(
                shapes.above, shapes.high, beyond, "Share of records that score higher (log scale)"
            ),
            class_="pair",
        ),
        aria_labelledby="score",
    )


def _latent(compared: Compared) -> Html:
    latent, moments = compared.found.latent, compared.shapes.latent
    if latent is None or moments is None:
        return el(
            "section",
            el("h2", "Latent", id="latent"),
            el("p", "Not compared: the model has no VAE.", class_="nothing"),
            aria_labelledby="latent",
        )
    by = " with the features' level" if latent.level else ""
    share = f"{words.share(latent.share)}, limit {words.share(latent.limit)}"
    said = "; ".join(
        f"unit {unit}: {words.fixed(m1)} ± {words.fixed(s1)} before, {words.fixed(m2)} ± {words.fixed(s2)} now"
        for unit, (m1, s1, m2, s2) in enumerate(moments.reshape(4, -1).T.tolist(), 1)
    )
    return el(
        "section",
        el("h2", f"Latent: {_verb(latent.moved)}{by}", id="latent"),
        el(
            "div",
            charts.barred(
                [("Frechet distance, of the variance", charts.gauge(latent.share, latent.limit), share)]
            ),
            el("p", f"Frechet distance {words.fixed(latent.frechet, 3)}.", class_="aside"),
            class_="narrow",
        ),
        overlays.units(moments, said, "Mean of each unit, and one standard deviation to either side"),
        aria_labelledby="latent",
    )


def _words() -> Html:
    return el(
        "section",
        el("h2", "What the words mean", id="words"),
        el("dl", *(join(el("dt", word), el("dd", said)) for word, said in COMPARED), class_="meanings"),
        aria_labelledby="words",
    )


def _plain(columns: Iterable[str], rows: Iterable[Html]) -> Html:
    head = el("tr", *(el("th", name, scope="col") for name in columns))
    return el("table", el("thead", head), el("tbody", *rows), class_="plain")


def _verb(moved: bool) -> str:
    return "moved" if moved else "not moved"
