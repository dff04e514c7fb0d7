"""What every page has: a head that forbids it to load anything, its frame, its bound, and how it is written."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from ..outputs import writing
from .markup import Html, el, join, name_of

LIMIT: Final = 10_000_000
"""Bytes that a page has at most: its parts are added, the foremost first, while they fit."""


def document(title: str, content: Html) -> str:
    """The whole page around its content. The same content gives the same page."""
    style, script = (Html(_resource(name)) for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", title),
        el("style", style),
    )
    body = el("body", content, el("script", script))
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def framed(header: Html, links: Sequence[tuple[str, str]], sections: Iterable[Html | None], by: str) -> Html:
    """Sections below a header and links to them (id, name); `by` is the command that wrote the page."""
    return join(
        el("a", "Skip to the content", href="#main", class_="skip"),
        header,
        el(
            "nav",
            *(el("a", name, href=f"#{target}") for target, name in links),
            aria_label="Parts of this page",
        ),
        el("main", *sections, id="main", tabindex="-1"),
        el("footer", "Written by ", el("code", by), ". This page loads nothing and sends nothing."),
    )


def masthead(stream: str, kind: str, given: Iterable[tuple[str, object]]) -> Html:
    """The stream, what kind of page it is, and what was given."""
    bell = el(
        "svg",
        el("path", d="M12 3a6 6 0 0 0-6 6v4l-2 4h16l-2-4V9a6 6 0 0 0-6-6zM9.500 19a2.500 2.500 0 0 0 5 0z"),
        viewBox="0 0 24 24",
        class_="bell",
        aria_hidden="true",
    )
    return el(
        "header",
        el("div", bell, el("h1", name_of(stream), el("span", kind, class_="kind")), class_="title"),
        el("dl", *(el("div", el("dt", key), el("dd", value)) for key, value in given), class_="given"),
        class_="top",
    )


def fitting(parts: Iterable[Html], left: int) -> list[Html]:
    """The first parts, as many as have room in so many bytes."""
    kept = []
    for part in parts:
        left -= size(part)
        if left < 0:
            break
        kept.append(part)
    return kept


def size(content: str) -> int:
    """Bytes of it in a file."""
    return len(content.encode("utf-8", "replace"))


def check_writable(path: Path) -> None:
    """See now whether a page can be written when the work is over.

    Raises:
        DataError: it cannot.
    """
    _replace(path, None)


def write(path: Path, page: str) -> int:
    """Write a page, whole or not at all; returns its bytes.

    Raises:
        DataError: the file cannot be written.
    """
    content = page.encode("utf-8", "replace")
    _replace(path, content)
    return len(content)


def _replace(path: Path, content: bytes | None) -> None:
    """Put content in the place of a file; None only tries."""
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            temporary.write_bytes(content or b"")
            if content is not None:
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"sha256-{digest}"
