"""The page of a replay: its parts one below the other, and as many entities one by one as have room."""

from __future__ import annotations

from pathlib import Path

from . import drifting, entity, frame, overview, words
from .facts import Report
from .markup import Html, el


def page(facts: Report, limit: int = frame.LIMIT) -> str:
    """The whole page. The same facts give the same page."""
    title = f"{facts.stream}: replay report"
    around = frame.document(title, _content(facts, len(facts.ranked), []))
    each = (entity.section(one, rank) for rank, one in enumerate(facts.ranked, 1))
    sections = frame.fitting(each, limit - frame.size(around))
    return frame.document(title, _content(facts, len(sections), sections))


def write(path: Path, facts: Report) -> int:
    """Write the page, whole or not at all; returns its bytes.

    Raises:
        DataError: the file cannot be written.
    """
    return frame.write(path, page(facts))


def _content(facts: Report, shown: int, sections: list[Html]) -> Html:
    """The entities one by one, and all that stands around those."""
    links = [
        ("summary", "Summary"),
        ("quality", "Quality"),
        ("entities", "Entities"),
        ("entity", "One by one"),
    ]
    links += [("drift", "Drift"), ("words", "Words")]
    if facts.quality is None:
        links.remove(("quality", "Quality"))
    if not shown:
        links = [link for link in links if link[0] not in ("entities", "entity")]
    parts = (
        overview.summary(facts),
        overview.quality(facts),
        overview.ranking(facts, facts.ranked[:shown]) if shown else None,
        _one_by_one(facts, shown, sections) if shown else None,
        drifting.section(facts),
        overview.words_of_the_page(facts),
    )
    return frame.framed(_header(facts), links, parts, "tocsin replay")


def _header(facts: Report) -> Html:
    ruling = facts.ruling
    given = [
        (
            "range",
            f"{words.moment(facts.first_us)} to {words.moment(facts.last_us)} UTC"
            if facts.scored
            else "none",
        ),
        ("model", f"{ruling['model']} ({ruling['profile']})" if ruling else words.NOTHING),
        ("budget", str(ruling["budget"]) if ruling else words.NOTHING),
        ("features", words.number(facts.features)),
    ]
    return frame.masthead(facts.stream, "replay report", given)


def _one_by_one(facts: Report, shown: int, sections: list[Html]) -> Html:
    options = (
        el("option", f"#{rank}  {one.name}", value=f"e{rank}")
        for rank, one in enumerate(facts.ranked[:shown], 1)
    )
    picker = el(
        "div",
        el("label", "Entity", for_="pick"),
        el("select", *options, id="pick"),
        el("button", "Previous", type="button", id="previous"),
        el("button", "Next", type="button", id="next"),
        class_="picker",
        hidden=True,
        role="group",
        aria_label="Choose an entity",
    )
    return el(
        "section",
        el("h2", "One by one", id="entity"),
        picker,
        el("p", "On paper: the ten worst entities, and the one chosen.", class_="aside on-paper"),
        *sections,
        class_="singles",
        aria_labelledby="entity",
    )
