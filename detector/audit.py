"""The audit trail: who changed what decides, when, why, and what was in force before and after.

It is nothing but the fold of the control topic, so it cannot disagree with what the daemons do. Decisions that
records led to stand in the changelog, at the offsets where they acted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..pipelines.brokers.base import Broker, Part
from .changelog import Decision
from .changelog_fold import Restored
from .changes import START, Effective, Feedback, InForce, Resolve, Revert, Versioned, Word, apply, kind_of
from .control import Unloadable
from .restore import read_changelog
from .settings import Stream


class Decided(NamedTuple):
    """One decision that a partition's own records led to, and the topic of that partition."""

    topic: str
    decision: Decision


def decided(broker: Broker, stream: Stream) -> list[Decided]:
    """The decisions of all partitions, in the order of their event times.

    Raises:
        StateError: a value of the changelog is corrupt or of a newer format.
    """
    found = _restored(broker, stream)
    listed = [Decided(topic, one) for (topic, _), restored in found for one in restored.decisions]
    return sorted(
        listed, key=lambda d: (d.decision.time_us, d.topic, d.decision.partition, d.decision.offset)
    )


def applied(broker: Broker, stream: Stream) -> dict[int, str]:
    """The changes that partitions have applied, by version, with the name of one that did.

    Raises:
        StateError: a value of the changelog is corrupt or of a newer format.
    """
    named = ((f"{topic}/{p}", found) for (topic, p), found in _restored(broker, stream))
    return {one.version: part for part, found in named for one in found.applied if one.version >= 0}


def _restored(broker: Broker, stream: Stream) -> Iterator[tuple[Part, Restored]]:
    """What the changelog says of each partition; nothing where there is none yet."""
    admin = broker.admin()
    try:
        topics = admin.topics()
    finally:
        admin.close()
    if stream.changelog not in topics:
        return
    parts = [
        (topic, p) for topic in stream.scored if topic in topics for p in range(topics[topic].partitions)
    ]
    found = read_changelog(broker, stream.changelog, parts, lambda: None)
    yield from ((part, found.restored(*part)) for part in parts)


class AuditEntry(NamedTuple):
    """One change. `before` and `after` hold only the fields that it altered; `effect` says if it acted."""

    version: int
    kind: str
    created_at: str
    author: str
    reason: str
    before: dict[str, Any]
    after: dict[str, Any]
    about: str
    effect: str


def trail(changes: Iterable[Versioned | Unloadable]) -> list[AuditEntry]:
    """The entries of all changes, in the order of their versions."""
    entries = []
    state = START
    for one in changes:
        if isinstance(one, Unloadable):
            effect = f"refused: {one.why}" if one.unsealed else one.why
            entries.append(AuditEntry(one.version, one.kind or "unreadable", "", "", "", {}, {}, "", effect))
            continue
        following = apply(state, one)
        entries.append(_entry(state, following, one))
        state = following
    return entries


def _entry(before: Effective, after: Effective, versioned: Versioned) -> AuditEntry:
    change = versioned.change
    old, new = _facts(before.in_force), _facts(after.in_force)
    # A setting that no change has named stands as the file has it, which reads as null here.
    altered = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    about = ""
    if isinstance(change, Revert):
        about = f"change {change.version}"
    elif isinstance(change, Resolve | Feedback):
        about = f"alert {change.alert_id} of {change.entity}"
        if isinstance(change, Resolve) and change.rebase:
            about += ", whose new ordinary this is"
    given = after.given
    if given is not None and given.version == versioned.version:
        altered.append("feedback")
        old["feedback"], new["feedback"] = _said(given.before), _said(given.now)
    return AuditEntry(
        versioned.version,
        kind_of(change),
        change.created_at,
        change.author,
        change.reason,
        {name: old.get(name) for name in altered},
        {name: new.get(name) for name in altered},
        about,
        f"refused: {after.refused}" if after.refused else "in force",
    )


def _said(word: Word | None) -> str:
    if word is None:
        return "none"
    return word.said.verdict + (f" until {word.said.until}" if word.said.until else "")


def _facts(in_force: InForce) -> dict[str, Any]:
    facts = {name: getattr(in_force, name) for name in in_force.__struct_fields__ if name != "settings"}
    if in_force.recalibration is not None:
        facts["recalibration"] = in_force.recalibration.version
    return {**facts, **{f"settings.{name}": value for name, value in in_force.settings.items()}}
