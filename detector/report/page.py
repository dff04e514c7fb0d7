"""The page: one HTML file that loads nothing, says so in its Content-Security-Policy, and stays within its size."""

from __future__ import annotations

import base64
import hashlib
import os
from importlib.resources import files
from pathlib import Path
from typing import Final

from ...errors import DataError
from . import drifting, entity, overview, words
from .facts import Report
from .markup import Html, el, join, name_of

LIMIT: Final = 10_000_000
"""Bytes that a page has at most: entities are added, worst first, while they fit."""


def page(facts: Report, limit: int = LIMIT) -> str:
    """The whole page. The same facts give the same page."""
    style, script = (Html(_resource(name)) for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    sections: list[Html] = []
    left = limit - len((style + script).encode()) - _bytes(_frame(facts, len(facts.ranked), []))
    for rank, one in enumerate(facts.ranked, 1):
        section = entity.section(one, rank)
        left -= _bytes(section)
        if left < 0:
            break
        sections.append(section)
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", f"{facts.stream}: replay report"),
        el("style", style),
    )
    body = el("body", _frame(facts, len(sections), sections), el("script", script))
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def check_writable(path: Path) -> None:
    """See now whether the page can be written when the replay is over.

    Raises:
        DataError: it cannot.
    """
    _replace(path, None)


def write(path: Path, facts: Report) -> int:
    """Write the page, whole or not at all; returns its bytes.

    Raises:
        DataError: the file cannot be written.
    """
    content = page(facts).encode("utf-8", "replace")
    _replace(path, content)
    return len(content)


def _replace(path: Path, content: bytes | None) -> None:
    """Put content in the place of a file; None only tries."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_bytes(content or b"")
        if content is None:
            temporary.unlink()
        else:
            temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written: {error.strerror}. Name a file in a folder that exists and is yours."
        ) from None


def _frame(facts: Report, shown: int, sections: list[Html]) -> Html:
    """All but the entities one by one, around those."""
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
    return join(
        el("a", "Skip to the content", href="#main", class_="skip"),
        _header(facts),
        el(
            "nav",
            *(el("a", name, href=f"#{target}") for target, name in links),
            aria_label="Parts of this page",
        ),
        el(
            "main",
            overview.summary(facts),
            overview.quality(facts),
            overview.ranking(facts, facts.ranked[:shown]) if shown else None,
            _one_by_one(facts, shown, sections) if shown else None,
            drifting.section(facts),
            overview.words_of_the_page(facts),
            id="main",
            tabindex="-1",
        ),
        el(
            "footer",
            "Written by ",
            el("code", "tocsin replay"),
            ". This page loads nothing and sends nothing.",
        ),
    )


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
    bell = el(
        "svg",
        el("path", d="M12 3a6 6 0 0 0-6 6v4l-2 4h16l-2-4V9a6 6 0 0 0-6-6zM9.500 19a2.500 2.500 0 0 0 5 0z"),
        viewBox="0 0 24 24",
        class_="bell",
        aria_hidden="true",
    )
    return el(
        "header",
        el(
            "div",
            bell,
            el("h1", name_of(facts.stream), el("span", "replay report", class_="kind")),
            class_="title",
        ),
        el("dl", *(el("div", el("dt", key), el("dd", value)) for key, value in given), class_="given"),
        class_="top",
    )


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


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"sha256-{digest}"


def _bytes(content: str) -> int:
    return len(content.encode("utf-8", "replace"))
