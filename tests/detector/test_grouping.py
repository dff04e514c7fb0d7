"""What belongs together: whatever the order within a wait, the batches and the restarts, the same groups."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.detector.group_messages import (
    Grouped,
    Word,
    WordLabels,
    WordNotes,
    decode_grouped,
    decode_word,
    event_id,
    group_id,
    group_schema,
    message_of,
    regrouped,
)
from tocsin.detector.grouping import (
    REMEMBER_US,
    Heard,
    Rules,
    State,
    advanced,
    init,
    listened,
    renewed,
    standing,
    unsettled,
    update,
)
from tocsin.detector.wire import rfc3339
from tocsin.errors import DataError, NewerSchema

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
WAIT = 30 * SECOND
RULES = Rules(WAIT, 3, 1000, 0.1)
END = START + 10_000 * SECOND
VALIDATOR = jsonschema.Draft202012Validator(group_schema())


def name_of(entity: str, at_us: int) -> str:
    return hashlib.sha256(f"{entity} {at_us}".encode()).hexdigest()[:32]


def word(entity: str, opened_us: int, status: str = "firing", **more: Any) -> Word:
    onset = opened_us - 20 * SECOND
    return Word(
        schema_version="1.1",
        alert_id=more.get("alert_id") or name_of(entity, opened_us),
        kind=more.get("kind", "anomaly"),
        status=status,
        labels=WordLabels("s", entity, more.get("group", "web"), more.get("severity", "warning")),
        annotations=WordNotes(
            more.get("score", 2.5),
            more.get("p_value", 0.01),
            more.get("basis", "empirical"),
            more.get("expected"),
        ),
        starts_at=rfc3339(onset),
        ends_at=rfc3339(more.get("ended_us", opened_us + 60 * SECOND)) if status == "resolved" else None,
    )


def opening(entity: str, seconds: float, **more: Any) -> Heard:
    at_us = START + int(seconds * SECOND)
    return Heard(at_us, word(entity, at_us, **more), more.get("past", False))


def ending(one: Heard, seconds: float) -> Heard:
    """The resolution of what opened, that many seconds after the start."""
    at_us = START + int(seconds * SECOND)
    labels = one.word.labels
    ended = word(labels.entity, one.at_us, "resolved", group=labels.group, severity=labels.severity)
    return Heard(at_us, ended, one.past)


class Run:
    """A state, and all that was told."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules, self.state, self.told = rules, init(), list[Grouped]()

    def hear(self, *heard: Heard, at: float) -> list[Grouped]:
        clock = START + int(at * SECOND)
        self.state, told = update(self.state, heard, clock, self.rules)
        self.told += told
        return told


# -- whatever the order ------------------------------------------------------------------------


class Sent(NamedTuple):
    """A message on a partition, with when it can be heard."""

    heard_us: int
    part: int
    heard: Heard


@st.composite
def histories(draw: st.DrawFn) -> list[Sent]:
    """Incidents of some entities of two groups; each message is heard up to a wait after it was published."""
    sent = []
    for number in range(draw(st.integers(1, 12))):
        entity, group = f"e{number}", "web" if number % 4 else "db"
        heard_us, at = 0, 0
        for _ in range(draw(st.integers(1, 3))):
            at += draw(st.integers(0, 150)) * SECOND
            more = {"group": group, "severity": draw(st.sampled_from(["warning", "critical"]))}
            first = word(entity, START + at, **more)
            messages = [(at, first)]
            if draw(st.booleans()):
                at += draw(st.integers(0, 90)) * SECOND
                messages.append((at, word(entity, START + messages[0][0], "resolved", **more)))
            if draw(st.booleans()):
                at += draw(st.integers(0, 5)) * SECOND
                messages += [(at, again) for _, again in messages]
            for moment, what in messages:
                heard_us = max(heard_us, START + moment + draw(st.integers(0, 30)) * SECOND)
                sent.append(Sent(heard_us, number % 3, Heard(START + moment, what)))
            at += SECOND
    # A partition is read in the order of its offsets, so nothing in it is heard before what lies before.
    return sorted(sent, key=lambda one: one.heard_us)


def reference(history: Iterable[Sent]) -> dict[str, tuple[set[str], set[str], int]]:
    """By hand: each group's entities, members and how many are open in the end."""
    first: dict[str, Heard] = {}
    over = set()
    for one in history:
        first.setdefault(one.heard.word.alert_id, one.heard)
        if one.heard.word.status == "resolved":
            over.add(one.heard.word.alert_id)
    found = {}
    for group in ("web", "db"):
        rest = sorted((one.at_us, name) for name, one in first.items() if one.word.labels.group == group)
        while rest:
            inside = [(at, name) for at, name in rest if at < rest[0][0] + 2 * WAIT]
            rest = rest[len(inside) :]
            entities = {first[name].word.labels.entity for _, name in inside}
            members = {name for _, name in inside}
            if len(entities) >= 3:
                found[group_id("s", group, inside[0][1])] = (entities, members, len(members - over))
    return found


def seen(told: Iterable[Grouped]) -> dict[str, tuple[set[str], set[str], int]]:
    """The same of what was told last of each group."""
    last = {one.group_id: one for one in told}
    return {
        name: (
            {member.entity for member in one.members},
            {member.alert_id for member in one.members},
            one.annotations.open,
        )
        for name, one in last.items()
    }


def lived(
    history: Sequence[Sent], state: State, ticks: Iterable[int], past: int = 0
) -> tuple[State, list[Grouped]]:
    """Hear what can be heard at each tick, from that message on."""
    told, at = [], past
    for clock in ticks:
        until = at
        while until < len(history) and history[until].heard_us <= clock:
            until += 1
        state, more = update(state, [one.heard for one in history[at:until]], clock, RULES)
        told, at = told + more, until
    return state, told


def ticks_of(draws: Iterable[int]) -> list[int]:
    return [*sorted(START + seconds * SECOND for seconds in draws), END]


moments = st.lists(st.integers(0, 700), max_size=40)


@given(histories(), moments)
def test_order_and_batches_change_no_group(history: list[Sent], moments: list[int]) -> None:
    _, told = lived(history, init(), ticks_of(moments))
    assert seen(told) == reference(history)
    for one in told:
        VALIDATOR.validate(json.loads(message_of(one).value or b""))
        assert (one.status == "firing") == (one.annotations.open > 0)
        assert len({member.entity for member in one.members}) == one.annotations.entities >= 3


@given(histories(), moments)
def test_there_is_never_more_than_one_group_in_two_waits(history: list[Sent], moments: list[int]) -> None:
    published = {one.heard.word.alert_id: one.heard.at_us for one in reversed(history)}
    _, told = lived(history, init(), ticks_of(moments))
    begins: dict[str, set[int]] = {}
    for one in told:
        first = min(published[member.alert_id] for member in one.members)
        begins.setdefault(one.labels.group, set()).add(first)
    for group, firsts in begins.items():
        assert len(firsts) == len({one.group_id for one in told if one.labels.group == group})
        assert all(b - a >= 2 * WAIT for a, b in itertools.pairwise(sorted(firsts)))


@given(histories(), moments, st.integers(0, 700), moments)
def test_a_restart_anywhere_tells_the_same_groups_and_loses_none(
    history: list[Sent], before: list[int], crash: int, after: list[int]
) -> None:
    """What is committed lies before the first message of each partition whose alert is not settled."""
    crashed = START + crash * SECOND
    ticks = [tick for tick in ticks_of(before) if tick <= crashed] or [crashed]
    state, first = lived(history, init(), ticks)
    heard = [one for one in history if one.heard_us <= ticks[-1]]
    waiting, committed, held = unsettled(state), [], set()
    for one in heard:
        if one.heard.word.alert_id in waiting:
            held.add(one.part)
        committed.append(one.part not in held)
    known = [one.heard._replace(past=True) for one, past in zip(heard, committed, strict=True) if past]
    again = [one for one, past in zip(heard, committed, strict=True) if not past] + history[len(heard) :]
    _, second = lived(again, listened(init(), known), [t for t in ticks_of(after) if t > ticks[-1]])
    assert seen([*first, *second]) == reference(history)
    assert {one.group_id for one in first} <= reference(history).keys()


@given(histories())
def test_what_was_told_is_not_told_again(history: list[Sent]) -> None:
    past = [one.heard._replace(past=True) for one in history]
    assert update(init(), past, END, RULES)[1] == []
    state, _ = lived(history, init(), [END])
    assert update(state, [one.heard for one in history], END + SECOND, RULES)[1] == []
    assert unsettled(state) == frozenset()


# -- the life of a group -----------------------------------------------------------------------


def test_it_opens_after_a_wait_grows_and_ends_with_its_last_member() -> None:
    run = Run()
    one, two, three = opening("a", 0), opening("b", 4), opening("c", 9, severity="critical")
    assert run.hear(one, two, three, at=29.9) == []
    (told,) = run.hear(at=30)
    assert told.group_id == group_id("s", "web", one.word.alert_id)
    assert (told.status, told.labels.severity, told.annotations.escalation) == ("firing", "critical", None)
    assert told.annotations.summary == "3 entities of web at once: c, a, b; 3 open"
    assert (told.starts_at, told.ends_at) == (one.word.starts_at, None)
    assert told.updated_at == rfc3339(three.at_us)
    assert run.hear(at=40) == []
    four = opening("d", 59)
    (grown,) = run.hear(four, at=59)
    assert (grown.group_id, grown.annotations.members, grown.annotations.open) == (told.group_id, 4, 4)
    assert run.hear(opening("e", 60), at=60) == []  # the next window
    (less,) = run.hear(*(ending(each, 100) for each in (one, two, three)), at=100)
    assert (less.status, less.annotations.open, less.members[0].entity) == ("firing", 1, "d")
    assert less.annotations.summary == "4 entities of web at once: d, a, b and 1 more; 1 open"
    (over,) = run.hear(ending(four, 300), at=300)
    assert (over.status, over.annotations.open, over.group_id) == ("resolved", 0, told.group_id)
    assert over.ends_at == rfc3339(four.at_us + 60 * SECOND)
    assert over.updated_at == rfc3339(START + 300 * SECOND)
    assert over.annotations.summary.endswith("all over")
    assert len({event_id(each) for each in run.told}) == len(run.told)


def test_it_opens_as_soon_as_there_are_enough_until_two_waits_are_over() -> None:
    run = Run()
    assert run.hear(opening("a", 0), opening("b", 0), at=45) == []
    assert len(run.hear(opening("c", 50), at=50)) == 1
    late = Run()
    assert late.hear(opening("a", 0), opening("b", 0), at=45) == []
    assert late.hear(opening("c", 60), at=500) == []


def test_one_entity_alone_is_no_group_however_often_it_opens() -> None:
    run = Run()
    assert run.hear(*(opening("a", i) for i in range(20)), at=500) == []
    assert run.hear(opening("b", 600), at=1000) == []
    assert unsettled(run.state) == frozenset()


def test_the_same_alert_twice_is_one_member() -> None:
    run = Run()
    one, two = opening("a", 0), opening("b", 1)
    assert run.hear(one, two, one, one._replace(at_us=one.at_us + 5 * SECOND), at=500) == []
    run = Run()
    (told,) = run.hear(one, one, two, opening("c", 2), at=500)
    assert told.annotations.members == 3
    assert run.hear(one, at=600) == []
    (less,) = run.hear(ending(one, 610), at=610)
    assert run.hear(one, ending(one, 611), at=620) == []  # a daemon's crash repeats both
    assert less.annotations.open == 2


def test_what_is_over_within_the_wait_belongs_to_it_all_the_same() -> None:
    run = Run()
    flap, two, three = opening("a", 0), opening("b", 1), opening("c", 2)
    (told,) = run.hear(flap, two, three, ending(flap, 3), at=31)
    assert (told.status, told.annotations.members, told.annotations.open) == ("firing", 3, 2)
    assert [(one.entity, one.status) for one in told.members][-1] == ("a", "resolved")
    (told,) = Run().hear(flap, two, three, *(ending(one, 5) for one in (flap, two, three)), at=31)
    assert (told.status, told.annotations.open) == ("resolved", 0)


def test_a_critical_one_that_comes_later_is_an_escalation_and_changes_no_label() -> None:
    run = Run()
    (told,) = run.hear(*(opening(name, 0) for name in "abc"), at=31)
    (worse,) = run.hear(opening("d", 40, severity="critical"), at=41)
    assert (told.labels.severity, told.annotations.escalation) == ("warning", None)
    assert (worse.labels.severity, worse.annotations.escalation) == ("warning", "critical")


def test_groups_and_tests_do_not_mix() -> None:
    run = Run()
    trial = opening("tocsin-test", 2, kind="test")
    assert run.hear(opening("a", 0), opening("b", 1), opening("c", 1, group="db"), trial, at=500) == []


def test_what_is_expected_is_in_no_group() -> None:
    run = Run()
    quiet = opening("c", 1, expected={"until": rfc3339(START), "change": 7})
    assert run.hear(opening("a", 0), opening("b", 1), quiet, opening("c", 1.5, group="db"), at=500) == []


def test_the_list_is_bounded_and_the_rest_is_counted() -> None:
    run = Run(RULES._replace(listed=5))
    (told,) = run.hear(*(opening(f"h{i:02}", 0) for i in range(40)), at=31)
    assert (len(told.members), told.annotations.unlisted, told.annotations.members) == (5, 35, 40)
    assert told.annotations.summary.endswith("and 37 more; 40 open")


def test_members_stand_in_the_order_of_their_rank_among_all_that_is_open() -> None:
    run = Run()
    alone = opening("alone", -500, p_value=1e-6, group="db")
    run.hear(alone, at=-400)
    (told,) = run.hear(
        opening("rest", 0, p_value=0.9),
        opening("far", 0, p_value=1e-12, basis="extrapolated"),
        opening("none", 0, p_value=None, score=None),
        opening("small", 0, p_value=0.04),
        at=31,
    )
    assert [(one.entity, one.discovery) for one in told.members] == [
        ("small", True),
        ("far", False),
        ("none", False),
        ("rest", False),
    ]
    assert told.annotations.discoveries == 1
    assert told.members[2].p_value is None
    # Without the other one, which was open elsewhere in the stream, .04 is not small enough among three.
    run.hear(ending(alone, 40), at=40)
    (told,) = run.hear(opening("more", 41, p_value=0.5), at=41)
    assert not any(one.discovery for one in told.members)


def test_one_that_comes_too_late_joins_and_the_name_stays() -> None:
    run = Run()
    (told,) = run.hear(*(opening(name, 10) for name in "abc"), at=41)
    (grown,) = run.hear(opening("late", 5), at=50)
    assert (grown.group_id, grown.annotations.members) == (told.group_id, 4)


def test_what_can_no_longer_matter_is_forgotten() -> None:
    run = Run()
    lasting = [opening(name, 0) for name in "abc"]
    run.hear(*lasting, at=31)
    for i in range(200):
        one = opening(f"h{i}", 100 + 100 * i)
        run.hear(one, ending(one, 150 + 100 * i), at=180 + 100 * i)
    assert len(run.state["s", "web"].windows) < 30
    (over,) = run.hear(*(ending(one, 90_000) for one in lasting), at=90_000)
    assert (over.status, over.annotations.members) == ("resolved", 3)
    run.hear(at=2 * REMEMBER_US / SECOND)
    run.hear(at=3 * REMEMBER_US / SECOND)
    lane = run.state["s", "web"]
    assert (lane.members, lane.windows, lane.home) == ({}, {}, {})


# -- messages ----------------------------------------------------------------------------------


def test_the_id_is_of_stream_group_and_first_alert() -> None:
    text = b"s\0web\0" + b"0" * 32
    assert group_id("s", "web", "0" * 32) == hashlib.sha256(text).hexdigest()[:32]


def test_key_and_headers() -> None:
    run = Run()
    (told,) = run.hear(*(opening(name, 0) for name in "abc"), at=31)
    message = message_of(told)
    assert message.key == b"web"
    assert dict(message.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": f"{told.group_id}-firing-3-3".encode(),
        "ce_source": b"/tocsin/s",
        "ce_type": b"tocsin.group.firing",
        "ce_time": told.updated_at.encode(),
        "content-type": b"application/json",
    }


def test_of_an_alert_no_more_is_demanded_than_grouping_needs() -> None:
    content = {
        "schema_version": "1.9",
        "alert_id": "0" * 32,
        "kind": "novelty",
        "status": "firing",
        "labels": {"stream": "s", "entity": "a", "group": "web", "severity": "grave", "new": "x"},
        "annotations": {},
        "starts_at": rfc3339(START),
    }
    read = decode_word(json.dumps(content).encode(), "it")
    assert (read.annotations.p_value, read.labels.severity) == (None, "grave")
    with pytest.raises(NewerSchema, match=r"it has schema_version 2\.0"):
        decode_word(json.dumps({**content, "schema_version": "2.0"}).encode(), "it")
    for wrong in (b"no alert", json.dumps({**content, "labels": {}}).encode()):
        with pytest.raises(DataError, match="it "):
            decode_word(wrong, "it")


def test_what_stands_is_what_was_told_and_is_open() -> None:
    run = Run()
    three = [opening(name, 0) for name in "abc"]
    run.hear(*three, *(opening(name, 0, group="db") for name in "xy"), at=20)
    assert standing(run.state) == frozenset()
    (told,) = run.hear(at=30)
    assert standing(run.state) == {told.group_id}
    assert advanced(renewed(run.state, {"another"}), END, RULES)[1] == []
    assert advanced(renewed(run.state, {told.group_id}), END, RULES)[1] == [told]
    run.hear(*(ending(one, 40) for one in three), at=41)
    assert standing(run.state) == frozenset()


def test_the_end_of_what_is_no_group_any_more_meets_the_schema_and_comes_back() -> None:
    (told,) = Run().hear(*(opening(name, 0) for name in "abc"), at=31)
    over = regrouped(told, rfc3339(END))
    value = message_of(over).value or b""
    VALIDATOR.validate(json.loads(value))
    assert decode_grouped(value, "it") == over
    assert (over.status, over.annotations.regrouped, over.members) == ("resolved", True, told.members)
    with pytest.raises(DataError, match="it cannot be read"):
        decode_grouped(b"no group", "it")


def test_time_alone_tells_nothing_twice() -> None:
    state = listened(init(), [opening(name, 0) for name in "abc"])
    state, told = advanced(state, START + WAIT, RULES)
    assert len(told) == 1
    assert advanced(state, END, RULES)[1] == []
