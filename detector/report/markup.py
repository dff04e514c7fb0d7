"""HTML that is safe by construction: what is not markup already is escaped on its way in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_VOID = frozenset({"meta", "link", "br", "hr", "input"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def text(value: object) -> Html:
    """Anything as markup: escaped, unless it is markup."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def el(tag: str, /, *children: object, **attributes: object) -> Html:
    """An element. A trailing `_` of an attribute's name is dropped, others become hyphens (`class_`, `aria_label`).

    True is an attribute without a value; None and False leave it out. Children are escaped unless they are Html.
    """
    parts = [f"<{tag}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        shown = key.removesuffix("_").replace("_", "-") if key.islower() else key
        parts.append(f" {shown}" if value is True else f' {shown}="{escape(str(value))}"')
    parts.append(">")
    if tag not in _VOID:
        parts += [join(*children), f"</{tag}>"]
    return Html("".join(parts))


def join(*children: object) -> Html:
    """Several pieces, one after the other; None is nothing."""
    return Html("".join(text(child) for child in children if child is not None))


def name_of(value: str) -> Html:
    """A name out of the data: kept from turning the text around it, whatever script it is in."""
    return el("bdi", value)


def scrolled(name: str, content: Html, css: str = "scroll") -> Html:
    """What may be wider than the page, in a box that scrolls, by keyboard as well."""
    return el("div", content, class_=css, tabindex="0", role="region", aria_label=name)


def chips(facts: Iterable[tuple[str, object]]) -> Html:
    """Short facts in a row: what, and how much."""
    return el("dl", *(el("div", el("dt", key), el("dd", value)) for key, value in facts), class_="chips")


def cards(facts: Sequence[tuple[str, str, str]]) -> Html:
    """Figures in large print: what, how much, and a remark."""
    return el(
        "dl",
        *(
            el("div", el("dt", name), el("dd", value), el("dd", said, class_="aside"), class_="card")
            for name, value, said in facts
        ),
        class_="cards six" if len(facts) == 6 else "cards",
    )
