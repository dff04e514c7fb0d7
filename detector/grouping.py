"""Which alerts belong together: those of one group that were published within two waits. No I/O, no clock of its own.

    state = init()
    state, messages = update(state, heard, clock_us, rules)

`clock_us` is a promise: what was published a wait before it, or earlier, has been heard. So a window, which begins with
the first opening that lies in no earlier one, is fixed one wait after it began, and neither the order in which alerts
came within that wait, nor how they were cut into batches, nor a restart that hears them anew changes which windows
there are, what they are called and who is in them.

A window is told once so many different entities are in it as the rules ask for, and again whenever something of it
changes. What opened belongs to it, also where it is over by then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple, TypeAlias

import msgspec

from .alerts import Kind, Severity, Status
from .group_messages import (
    ALERT_NAME,
    SCHEMA_VERSION,
    Grouped,
    GroupLabels,
    GroupMember,
    GroupNotes,
    Word,
    group_id,
)
from .ranking import Candidate, Ranked, ranked
from .wire import rfc3339

Key: TypeAlias = tuple[str, str]
"""A stream and a group."""

REMEMBER_US = 86_400_000_000
"""So long a repeat of an alert is recognised, counted from when it was first published."""
KEPT_WINDOWS = 10
"""A window that nothing can happen to any more is kept for so many lengths, for alerts that come late."""
NAMED = 3
"""Entities that a summary names."""


class Rules(NamedTuple):
    """What makes a group, and how it is told."""

    wait_us: int
    least: int
    """Different entities that it takes."""
    listed: int
    q: float

    @property
    def length_us(self) -> int:
        """How long a window is."""
        return 2 * self.wait_us


class Heard(NamedTuple):
    """An alert from the topic."""

    at_us: int
    """When it was published."""
    word: Word
    past: bool = False
    """It lies before the committed offset: what follows from it has been told."""


class Member(msgspec.Struct, frozen=True):
    """An incident that was heard of."""

    at_us: int
    changed_us: int
    """When the newest alert about it was published."""
    candidate: Candidate
    entity: str
    onset: str
    news: bool
    ended: str | None = None


class Phase(StrEnum):
    """What has become of a window."""

    GATHERING = "gathering"
    TOLD = "told"
    SPENT = "spent"


class Window(msgspec.Struct, frozen=True):
    """A stretch of time whose beginning is fixed, with the incidents that opened in it."""

    begin_us: int
    first: str
    """The alert that it is named after."""
    members: tuple[str, ...]
    phase: Phase = Phase.GATHERING
    news: bool = False
    """Something of it has changed and was not told."""
    severity: Severity = Severity.WARNING
    """At the opening."""


class Lane(msgspec.Struct, frozen=True):
    """What is remembered of one group."""

    members: Mapping[str, Member] = {}
    waiting: frozenset[str] = frozenset()
    """Members that are in no window yet."""
    home: Mapping[str, int] = {}
    """Where the others are, by the beginning of the window."""
    windows: Mapping[int, Window] = {}
    forgot_us: int = 0


State: TypeAlias = Mapping[Key, Lane]


def init() -> State:
    """Nothing was heard yet."""
    return {}


def update(state: State, heard: Iterable[Heard], clock_us: int, rules: Rules) -> tuple[State, list[Grouped]]:
    """Hear alerts, then let the clock come to a time; returns what is to be told."""
    return advanced(listened(state, heard), clock_us, rules)


def listened(state: State, heard: Iterable[Heard]) -> State:
    """The state with these alerts heard, each entity's in their order; nothing is decided by that."""
    by_key: dict[Key, list[Heard]] = {}
    for one in heard:
        if one.word.kind != Kind.TEST and one.word.annotations.expected is None:
            labels = one.word.labels
            by_key.setdefault((labels.stream, labels.group), []).append(one)
    return {**state, **{key: _heard(state.get(key, Lane()), words) for key, words in by_key.items()}}


def advanced(state: State, clock_us: int, rules: Rules) -> tuple[State, list[Grouped]]:
    """The state at that time, and what is to be told."""
    lanes = {key: _decided(lane, clock_us, rules) for key, lane in state.items()}
    due = [(key, window) for key, lane in lanes.items() for window in lane.windows.values() if _due(window)]
    ranks = {stream: ranked(_open(lanes, stream), rules.q) for stream in {key[0] for key, _ in due}}
    messages = [_told(key, lanes[key].members, window, ranks[key[0]], rules) for key, window in due]
    return {key: _settled(lane, clock_us, rules) for key, lane in lanes.items()}, messages


def unsettled(state: State) -> frozenset[str]:
    """The alerts of which it is not yet known whether they will be told."""
    found: set[str] = set()
    for lane in state.values():
        found |= lane.waiting
        for window in lane.windows.values():
            if window.phase is Phase.GATHERING:
                found.update(window.members)
    return frozenset(found)


def standing(state: State) -> frozenset[str]:
    """The names of the groups that have been told, are remembered, and are open."""
    return frozenset(
        group_id(*key, window.first)
        for key, lane in state.items()
        for window in lane.windows.values()
        if window.phase is Phase.TOLD and any(lane.members[name].ended is None for name in window.members)
    )


def renewed(state: State, names: Collection[str]) -> State:
    """The state in which the groups of these names are to be told again."""
    if not names:
        return state

    def marked(key: Key, window: Window) -> Window:
        named = group_id(*key, window.first) in names
        return msgspec.structs.replace(window, news=True) if named else window

    return {
        key: msgspec.structs.replace(
            lane, windows={begin: marked(key, window) for begin, window in lane.windows.items()}
        )
        for key, lane in state.items()
    }


# -- hearing -----------------------------------------------------------------------------------


def _heard(lane: Lane, heard: Iterable[Heard]) -> Lane:
    members, windows, waiting = dict(lane.members), dict(lane.windows), set(lane.waiting)
    for at_us, word, past in heard:
        known = members.get(word.alert_id)
        if known is None and word.status == Status.FIRING:
            members[word.alert_id] = _member(at_us, word, past)
            waiting.add(word.alert_id)
        elif known is not None and known.ended is None and word.status == Status.RESOLVED:
            members[word.alert_id] = msgspec.structs.replace(
                known,
                changed_us=max(at_us, known.changed_us),
                ended=word.ends_at or word.event_time or known.onset,
                news=known.news or not past,
            )
            window = windows.get(lane.home.get(word.alert_id, -1))
            if window is not None and not past:
                windows[window.begin_us] = msgspec.structs.replace(window, news=True)
    return msgspec.structs.replace(lane, members=members, windows=windows, waiting=frozenset(waiting))


def _member(at_us: int, word: Word, past: bool) -> Member:
    notes, labels = word.annotations, word.labels
    candidate = Candidate(word.alert_id, labels.severity, notes.score, notes.p_value, notes.basis)
    return Member(at_us, at_us, candidate, labels.entity, word.starts_at, not past)


# -- deciding ----------------------------------------------------------------------------------


def _decided(lane: Lane, clock_us: int, rules: Rules) -> Lane:
    """The lane with its waiting members in windows as far as these are fixed, and each window's phase."""
    if not lane.waiting and all(window.phase is not Phase.GATHERING for window in lane.windows.values()):
        return lane
    inside: dict[int, list[str]] = {}  # by the beginning of the window
    left = []
    for name in _in_order(lane, lane.waiting):
        begin = _joined(lane.windows, lane.members[name].at_us, rules)
        if begin is None:
            left.append(name)
        else:
            inside.setdefault(begin, []).append(name)
    waiting = frozenset(left)
    newest: int | None = None
    for name in left:
        at_us = lane.members[name].at_us
        if newest is None or at_us >= newest + rules.length_us:
            if clock_us < at_us + rules.wait_us:
                break
            newest = at_us
        inside.setdefault(newest, []).append(name)
    windows = dict(lane.windows)
    for begin, names in inside.items():
        windows[begin] = _with(windows.get(begin, Window(begin, names[0], ())), names, lane)
    windows = {begin: _phased(window, lane, clock_us, rules) for begin, window in windows.items()}
    placed = {name: begin for begin, names in inside.items() for name in names}
    return msgspec.structs.replace(
        lane, waiting=waiting - placed.keys(), home={**lane.home, **placed}, windows=windows
    )


def _in_order(lane: Lane, names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (lane.members[name].at_us, name))


def _joined(windows: Mapping[int, Window], at_us: int, rules: Rules) -> int | None:
    """The window that an opening lies in or, where it came too late to begin one, just before."""
    inside = [begin for begin in windows if begin <= at_us < begin + rules.length_us]
    after = [begin for begin in windows if at_us < begin < at_us + rules.length_us]
    return max(inside) if inside else min(after, default=None)


def _with(window: Window, names: Iterable[str], lane: Lane) -> Window:
    members = (*window.members, *names)
    news = window.news or any(lane.members[name].news for name in members)
    return msgspec.structs.replace(window, members=members, news=news)


def _phased(window: Window, lane: Lane, clock_us: int, rules: Rules) -> Window:
    if window.phase is Phase.TOLD:
        return window
    members = [lane.members[name] for name in _in_order(lane, window.members)]
    reached = _reached(members, rules.least)
    if reached is not None and clock_us >= reached:
        opening = max(reached, window.begin_us + rules.wait_us - 1)
        worst = _worst(one for one in members if one.at_us <= opening)
        return msgspec.structs.replace(window, phase=Phase.TOLD, severity=worst)
    over = clock_us >= window.begin_us + rules.length_us
    return msgspec.structs.replace(window, phase=Phase.SPENT if over else Phase.GATHERING)


def _reached(members: Iterable[Member], least: int) -> int | None:
    """When the entity was published that is the `least`-th; None where there are not so many."""
    entities: set[str] = set()
    for one in members:
        entities.add(one.entity)
        if len(entities) >= least:
            return one.at_us
    return None


def _worst(members: Iterable[Member]) -> Severity:
    critical = any(one.candidate.severity == Severity.CRITICAL for one in members)
    return Severity.CRITICAL if critical else Severity.WARNING


def _due(window: Window) -> bool:
    return window.phase is Phase.TOLD and window.news


def _settled(lane: Lane, clock_us: int, rules: Rules) -> Lane:
    """The lane with its news told, without what can no longer matter; members are looked through once an hour."""

    def kept(window: Window) -> bool:
        young = clock_us < window.begin_us + KEPT_WINDOWS * rules.length_us
        is_open = any(lane.members[name].ended is None for name in window.members)
        return window.phase is Phase.GATHERING or young or (window.phase is Phase.TOLD and is_open)

    windows = {
        begin: msgspec.structs.replace(window, news=False) if _due(window) else window
        for begin, window in lane.windows.items()
        if kept(window)
    }
    if clock_us < lane.forgot_us + REMEMBER_US // 24:
        return msgspec.structs.replace(lane, windows=windows)
    members = {
        name: one
        for name, one in lane.members.items()
        if name in lane.waiting
        or lane.home[name] in windows
        or one.ended is None
        or clock_us < one.at_us + REMEMBER_US
    }
    home = {name: begin for name, begin in lane.home.items() if name in members}
    return Lane(members, lane.waiting, home, windows, clock_us)


# -- telling -----------------------------------------------------------------------------------


def _open(state: State, stream: str) -> Iterator[Candidate]:
    """The incidents of a stream that are open now, whatever group they are in."""
    for (of, _), lane in state.items():
        if of == stream:
            yield from (one.candidate for one in lane.members.values() if one.ended is None)


def _told(
    key: Key, known: Mapping[str, Member], window: Window, ranks: Iterable[Ranked], rules: Rules
) -> Grouped:
    own = set(window.members)
    shown = [one for one in ranks if one.alert_id in own]
    is_open = len(shown)
    discovered = sum(one.discovery for one in shown)
    over = sorted(
        (name for name in window.members if known[name].ended is not None),
        key=lambda name: (known[name].at_us, name),
    )
    shown += [Ranked(name, discovery=False) for name in over]
    members = [known[one.alert_id] for one in shown]
    status = Status.FIRING if is_open else Status.RESOLVED
    entities = list(dict.fromkeys(one.entity for one in members))
    worst = _worst(members)
    notes = GroupNotes(
        summary=_summary(key[1], entities, is_open),
        entities=len(entities),
        members=len(members),
        open=is_open,
        discoveries=discovered,
        unlisted=max(0, len(members) - rules.listed),
        escalation=worst if worst is not window.severity else None,
    )
    return Grouped(
        schema_version=SCHEMA_VERSION,
        group_id=group_id(*key, window.first),
        status=status,
        labels=GroupLabels(ALERT_NAME, *key, window.severity),
        annotations=notes,
        members=tuple(_listed(known[one.alert_id], one.discovery) for one in shown[: rules.listed]),
        starts_at=min(one.onset for one in members),
        ends_at=None if is_open else max(one.ended or "" for one in members),
        updated_at=rfc3339(max(one.changed_us for one in members)),
    )


def _listed(member: Member, discovery: bool) -> GroupMember:
    return GroupMember(
        alert_id=member.candidate.alert_id,
        entity=member.entity,
        severity=member.candidate.severity,
        status=Status.FIRING if member.ended is None else Status.RESOLVED,
        starts_at=member.onset,
        score=member.candidate.score,
        p_value=member.candidate.p_value,
        basis=member.candidate.basis,
        discovery=discovery,
    )


def _summary(group: str, entities: list[str], is_open: int) -> str:
    named, rest = ", ".join(entities[:NAMED]), len(entities) - NAMED
    more = f" and {rest} more" if rest > 0 else ""
    state = f"{is_open} open" if is_open else "all over"
    return f"{len(entities)} entities of {group} at once: {named}{more}; {state}"
