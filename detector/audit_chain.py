"""Whether the control topic still holds what was published: its seals followed from link to link.

A sealed change names the one before it, so none can be taken out, altered or put in between without a gap that shows.
What was cut off at the end shows by what partitions have applied, and by a link that was noted elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..errors import SignatureError
from .seals import FIRST, Entry, Verify, checked, link_of


class Gap(NamedTuple):
    """Where the chain does not hold: at this version of the control topic, for this reason."""

    version: int
    problem: str


class Chain(NamedTuple):
    """What the seals say. `head` and `link` are of the newest sealed change, -1 and all zeros where there is none."""

    sealed: int
    unsealed: list[int]
    """Changes without a seal that holds; nothing vouches for them."""
    head: int
    link: str
    gaps: list[Gap]


def follow(
    stream: str,
    entries: Iterable[Entry],
    verify: Verify,
    *,
    sealed_from: int = 0,
    applied: Mapping[int, str] | None = None,
    noted: str | None = None,
) -> Chain:
    """Follow the chain from the first change that must be sealed.

    `applied` are the versions that partitions have applied, with the name of one that did; `noted` is a link that was
    the head at some time.
    """
    held: set[int] = set()
    links: dict[str, int] = {FIRST: -1}
    unsealed: list[int] = []
    gaps: list[Gap] = []
    head, link = -1, FIRST
    sealed = 0
    for entry in entries:
        held.add(entry.version)
        if entry.version < sealed_from:
            continue
        try:
            seal = checked(stream, entry, verify)
        except SignatureError:
            unsealed.append(entry.version)
            links.setdefault(link_of(stream, entry), entry.version)
            continue
        if seal.previous != link and (sealed or not sealed_from):
            gaps.append(Gap(entry.version, _missing(links.get(seal.previous), head)))
        sealed += 1
        head, link = entry.version, seal.link
        links[link] = head
    gaps += [
        Gap(version, f"is not there, but {part} has applied it")
        for version, part in sorted((applied or {}).items())
        if version not in held
    ]
    if noted is not None and links.get(noted, -1) in (-1, *unsealed):
        gaps.append(Gap(head, f"is the last that holds, and none has the link {noted}: what had it is gone"))
    return Chain(sealed, unsealed, head, link, gaps)


def _missing(found: int | None, head: int) -> str:
    before = "no change" if head < 0 else f"change {head}"
    if found == -1:
        return f"takes itself for the first signed change, where {before} stands before it"
    if found is None:
        return f"follows a signed change that is not there, where {before} stands before it"
    return f"follows change {found} and not {before}, so no key that is trusted here signed what is between"
