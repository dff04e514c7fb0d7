"""Who is held, who gives way and who is turned away, against the rule written out record by record."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tocsin.detector.gate import enter, fit, said_of
from tocsin.detector.outcome import Outcome, nothing
from tocsin.detector.state import StreamState
from tocsin.pipelines.admission import AMONG, EARLIER, PAUSE, Limits, Turned
from tocsin.pipelines.records import NO_TIME, Points, Records
from tocsin.pipelines.schema import FeatureSchema
from tocsin.pipelines.windows import Verdict
from tocsin.thresholds.constants import Phase

KNOWN = ("a", "b")
"""Entities that the model knows."""
NONE = np.zeros(0, np.int32)


class Row(NamedTuple):
    part: int
    name: str
    time: int
    fires: bool
    """An incident of the entity is open from this record on, or over."""
    refused: bool = False
    """Its time is not believed, unless it is the entity's first."""


class Bare(StreamState):
    """The state without a model: an entity's first epoch is the 1st."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(FeatureSchema(("fires", "refused")), 16, 1, limits=limits)
        model: Any = SimpleNamespace(
            version=SimpleNamespace(
                entities=KNOWN,
                entity_row=lambda name: KNOWN.index(name) if name in KNOWN else len(KNOWN),
            )
        )
        for part in (0, 1):
            self.part("t", part)
            self.rulings[part] = SimpleNamespace(model=model, note=dict)  # type: ignore[assignment]

    def install(self, ruling: Any, slots: NDArray[np.int32]) -> None:
        self.decision.core["epoch"][slots] += 1

    def through(self, piece: Records | Points) -> Outcome:
        """As the chain: incidents open and end record by record, and times that are not believed are refused."""
        assert isinstance(piece, Records)
        assert (self.assigned.owner[piece.slot] == piece.part).all()
        verdict = np.zeros(len(piece.slot), np.uint8)
        met = set(np.flatnonzero(self.recency.seen != NO_TIME).tolist())
        for row, (slot, (fires, refused)) in enumerate(
            zip(piece.slot.tolist(), piece.values.tolist(), strict=True)
        ):
            verdict[row] = Verdict.FAR_AHEAD if refused and slot in met else Verdict.SCORED
            self.decision.core["phase"][slot] = Phase.FIRING if fires else Phase.NORMAL
            met.add(slot)
        return nothing(piece)._replace(verdict=verdict, refused=np.flatnonzero(verdict == Verdict.FAR_AHEAD))

    def take(self, rows: list[Row], first: int = 0) -> Outcome:
        """One batch, its first record at an offset."""
        names = [self.table.intern(row.part, row.name) for row in rows]
        records = Records(
            np.array(names, np.int32),
            np.array([row.part for row in rows], np.int32),
            first + np.arange(len(rows)),
            np.array([row.time for row in rows], np.int64),
            np.array([[row.fires, row.refused] for row in rows], np.float64).reshape(-1, 2),
        )
        self.idle.update(self.table.take_new().tolist())
        self.reserve()
        return enter(self, records, self.through)

    def held(self, part: int) -> dict[str, int]:
        """Who is held, and when seen."""
        return {self.table.name(s): int(self.recency.seen[s]) for s in self.slots_of(part).tolist()}


class Book:
    """The rule for one partition, in plain Python."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held: dict[str, int] = {}
        self.open: set[str] = set()
        self.mark = self.leapt = self.sweep = NO_TIME
        self.pause = self.counted = self.newcomers = self.by_limit = self.by_time = 0

    def record(self, row: Row) -> int:
        new = row.name not in self.held
        fate = self._fate(row.name) if new else 0
        if self.counted == AMONG:
            self.counted = self.newcomers = 0
        self.counted += 1
        self.pause = max(self.pause - 1, 0)
        if fate:
            return fate
        if new:
            self.newcomers += row.name not in KNOWN
        seen_before = not new
        self.open = self.open | {row.name} if row.fires else self.open - {row.name}
        if seen_before and row.refused:
            return 0
        if seen_before and row.time > self.mark:
            if self.mark == NO_TIME or 0 < self.limits.forget_us < row.time - self.mark:
                self.leapt = row.time
            self.mark = row.time
        self.held[row.name] = max(self.mark, EARLIER)
        if self.limits.forget_us and self.mark != NO_TIME and self.mark >= self.sweep:
            self._forget()
        return 0

    def _fate(self, name: str) -> int:
        most_new = self.limits.newcomers
        if most_new and name not in KNOWN and self.counted < AMONG and self.newcomers >= most_new:
            return Turned.TOO_MANY
        if len(self.held) >= self.limits.entities and self.pause == 0:
            wanted = len(self.held) - self.limits.entities + self.limits.places
            may = sorted((seen, one) for one, seen in self.held.items() if one not in self.open)[:wanted]
            for _, one in may:
                del self.held[one]
            self.by_limit += len(may)
            if len(may) < wanted:
                self.pause = PAUSE
        return Turned.FULL if len(self.held) >= self.limits.entities else 0

    def _forget(self) -> None:
        after = self.limits.forget_us
        last = {one: max(seen, self.leapt) for one, seen in self.held.items()}
        for one, seen in last.items():
            if seen + after <= self.mark and one not in self.open:
                del self.held[one]
                self.by_time += 1
        soonest = min((last[one] for one in self.held), default=self.mark) + after
        self.sweep = max(soonest, self.mark + max(after // 64, 1))


def by_the_book(rows: list[Row], limits: Limits) -> tuple[list[int], list[Book]]:
    books = [Book(limits), Book(limits)]
    return [books[row.part].record(row) for row in rows], books


def agrees(state: Bare, books: list[Book]) -> None:
    for part, book in enumerate(books):
        assert state.held(part) == book.held
        door = state.admission
        assert (int(door.entities[part]), int(door.watermark[part])) == (len(book.held), book.mark)
        assert int(door.pause[part]) == book.pause
        assert int(door.newcomers[part]) == (book.newcomers if book.limits.newcomers else 0)
    slots = np.concatenate([state.slots_of(part) for part in (0, 1)])
    assert (state.decision.core["epoch"][slots] == 1).all(), "who comes again is new"
    given_out = {slot for part in (0, 1) for slot in state.table.lookup(part).values()}
    assert given_out == set(slots.tolist()) | state.idle
    assert not set(slots.tolist()) & state.idle


def moved(state: Bare, limits: Limits) -> Bare:
    """The same in another process, out of snapshots."""
    other = Bare(limits)
    for part in (1, 0):
        other.restore(part, state.snapshot(part, 0), state.rulings[part])
        assert fit(other, part) == 0
    return other


def run(rows: list[Row], limits: Limits, cuts: list[int], what: list[str]) -> None:
    fates, books = by_the_book(rows, limits)
    state, found, evicted = Bare(limits), [], np.zeros(2, np.int64)
    for first, last, then in zip([0, *cuts], [*cuts, len(rows)], [*what, "end"], strict=True):
        outcome = state.take(rows[first:last], first)
        fate = np.zeros(last - first, np.int64)
        fate[outcome.turned] = outcome.why
        found += fate.tolist()
        np.testing.assert_array_equal(outcome.verdict == Verdict.NOT_ADMITTED, fate > 0)
        evicted += outcome.evicted
        if then == "release":
            state.release()
        if then == "restore":
            state = moved(state, limits)
    assert found == fates
    assert evicted.tolist() == [sum(b.by_limit for b in books), sum(b.by_time for b in books)]
    agrees(state, books)


steps = st.lists(
    st.builds(
        Row,
        part=st.sampled_from([0, 0, 0, 1]),
        name=st.sampled_from("abcdefgh"),
        time=st.integers(0, 400),
        fires=st.sampled_from([False, False, True]),
        refused=st.sampled_from([False] * 5 + [True]),
    ),
    max_size=60,
)
some_limits = st.builds(
    Limits, entities=st.integers(1, 5), forget_us=st.sampled_from([0, 30, 100]), newcomers=st.integers(0, 4)
)


@settings(max_examples=300, deadline=None)
@given(steps, some_limits, st.data())
def test_it_is_as_the_rule_says_however_batches_are_cut(rows: list[Row], limits: Limits, data: Any) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    then = st.sampled_from(["go on", "release", "restore"])
    run(rows, limits, cuts, [data.draw(then) for _ in cuts])


@pytest.mark.parametrize(
    ("seed", "limits"),
    [
        (0, Limits(200)),  # three give way at once
        (1, Limits(130, forget_us=150)),
        (2, Limits(64, newcomers=40)),
        (3, Limits(20, forget_us=300, newcomers=15)),
    ],
)
def test_it_is_as_the_rule_says_over_many_records(seed: int, limits: Limits) -> None:
    """Long enough that pauses end and that new ones are counted anew; incidents are open for a while."""
    rng = np.random.default_rng(seed)
    rows, time = [], 0
    for number in range(4000):
        time += int(rng.integers(0, 4)) + (600 if number == 2000 else 0)
        busy = rng.random() < 0.5
        name = f"host-{rng.integers(0, limits.entities // 2) if busy else rng.integers(0, 600)}"
        crowded = 1000 < number < 1700
        rows.append(
            Row(
                int(rng.random() < 0.3),
                name,
                time - int(rng.integers(0, 20)),
                bool(rng.random() < (0.98 if crowded else 0.02)),
            )
        )
    fates, books = by_the_book(rows, limits)
    assert any(book.by_limit for book in books)
    assert bool(limits.forget_us) == any(book.by_time for book in books)
    assert bool(limits.newcomers) == (Turned.TOO_MANY in fates)
    assert 0 in fates[-100:]
    cuts = np.sort(rng.choice(4000, 30)).tolist()
    run(rows, limits, cuts, rng.choice(["go on", "release", "restore"], 30).tolist())


# -- the rule, a sentence each ---------------------------------------------------------------------


def quiet(*names: str, at: int = 0, part: int = 0) -> list[Row]:
    return [Row(part, name, at, False) for name in names]


def twice(*names: str, at: int) -> list[Row]:
    """Of each a record before `at` and one at it, so that they are seen then."""
    return quiet(*names, at=at - 1) + quiet(*names, at=at)


def test_the_least_recently_seen_give_way_and_of_equally_recent_ones_the_first_by_name() -> None:
    state = Bare(Limits(3))
    state.take(twice("z", at=10) + twice("y", at=20) + twice("c", at=30))
    assert state.take(quiet("d", at=30)).evicted == (1, 0)
    assert set(state.held(0)) == {"y", "c", "d"}
    assert state.take(quiet("y", at=30)).evicted == (0, 0)
    state.take(quiet("e", at=30))
    assert set(state.held(0)) == {"y", "d", "e"}, "all seen at 30: the first by name went"


def test_one_with_an_open_alert_never_gives_way_and_where_all_have_one_the_new_one_is_turned_away() -> None:
    state = Bare(Limits(2))
    state.take(quiet("a", "b"))
    state.decision.core["held_count"][state.table.lookup(0)["a"]] = 1  # a digest
    state.take(quiet("c"))
    assert set(state.held(0)) == {"a", "c"}
    state.decision.core["absent_us"][state.table.lookup(0)["c"]] = 5  # an absence
    outcome = state.take(quiet("d", "a"))
    assert (outcome.turned.tolist(), outcome.why.tolist(), outcome.evicted) == ([0], [Turned.FULL], (0, 0))
    assert outcome.verdict.tolist() == [Verdict.NOT_ADMITTED, Verdict.SCORED]
    assert set(state.held(0)) == {"a", "c"}
    state.decision.core["absent_us"][state.table.lookup(0)["c"]] = NO_TIME
    assert len(state.take(quiet("d")).turned), "it is not asked again at each record"
    state.take(quiet(*"a" * PAUSE))
    assert not len(state.take(quiet("d")).turned)


def test_a_first_record_with_a_wrong_time_neither_forgets_nor_counts_as_recent() -> None:
    state = Bare(Limits(100, forget_us=1000))
    state.take(twice("a", at=10) + quiet("mad", at=10**9) + quiet("a", at=11))
    assert state.held(0) == {"a": 11, "mad": 10}


def test_first_records_need_no_look_at_who_is_to_be_forgotten() -> None:
    state, pieces = Bare(Limits(10_000, forget_us=1000)), []

    def through(piece: Any) -> Outcome:
        pieces.append(len(piece.slot))
        return Bare.through(state, piece)

    state.through = through  # type: ignore[method-assign]
    state.take(quiet(*(f"request-{number}" for number in range(500)), at=10**6))
    assert pieces == [500]


def test_what_was_not_seen_for_so_long_is_forgotten_but_not_after_a_silence_of_all() -> None:
    limits = Limits(100, forget_us=640)
    state = Bare(limits)
    state.take(twice("a", "b", at=10))
    assert state.take(quiet("a", at=640)).evicted == (0, 0)
    assert state.take(quiet("a", at=660)).evicted == (0, 1)
    assert set(state.held(0)) == {"a"}
    state.take(quiet("c", at=660) + quiet("a", at=10_000))
    assert set(state.held(0)) == {"a", "c"}, "it counts as seen when all fell silent no more"
    assert state.take(quiet("a", at=10_600) + quiet("a", at=10_650)).evicted == (0, 1)


def test_one_with_an_open_alert_is_not_forgotten_before_it_ends() -> None:
    state = Bare(Limits(100, forget_us=640))
    state.take([*twice("a", "b", at=10), Row(0, "b", 10, fires=True), *quiet("a", at=2000, part=0)])
    state.take(quiet("a", at=2640) + quiet("a", at=3200))
    assert set(state.held(0)) == {"a", "b"}
    state.decision.core["phase"] = Phase.NORMAL
    assert state.take(quiet("a", at=3300)).evicted == (0, 1)


def test_beyond_so_many_new_ones_further_are_turned_away_and_those_that_are_known_are_not() -> None:
    state = Bare(Limits(100, newcomers=2))
    outcome = state.take(quiet("c", "d", "e", "c", "a", "e", "b"))
    assert (outcome.turned.tolist(), set(outcome.why.tolist())) == ([2, 5], {Turned.TOO_MANY})
    assert set(state.held(0)) == {"a", "b", "c", "d"}
    assert not len(state.take(quiet("e", part=1)).turned), "the other partition counts for itself"
    state.take(quiet(*"a" * (AMONG - 7)))
    assert not len(state.take(quiet("e")).turned)


def test_a_lower_limit_acts_when_the_state_is_restored() -> None:
    state = Bare(Limits(10, forget_us=10_000))
    state.take([row for at, name in enumerate("abcdef", 1) for row in twice(name, at=10 * at)])
    lower = Bare(Limits(4, forget_us=100))
    lower.restore(0, state.snapshot(0, 0), state.rulings[0])
    assert fit(lower, 0) == 2
    assert set(lower.held(0)) == set("cdef")
    assert lower.take(quiet("f", at=160)).evicted == (0, 4 - 1), "nor is the longer time waited for"


def test_a_snapshot_holds_none_that_gave_way() -> None:
    state = Bare(Limits(2))
    state.take(quiet(*"abcde"))
    assert state.snapshot(0, 0).entities == sorted(state.held(0)) == ["d", "e"]


def test_slots_are_used_again_and_names_let_go_once_nothing_is_on_its_way() -> None:
    state = Bare(Limits(8))
    for first in range(0, 8 * 200, 50):
        state.take([Row(0, f"guest-{n}", n, False) for n in range(first, first + 50)])
        assert state.table.size <= 8 + 50 + 50
        assert len(state.idle) == len(state.table) - 8
        if len(state.idle) >= 50:
            state.release()
            assert len(state.table) == 8
    assert len(state.assigned.owner) <= 160


def test_an_empty_batch_and_one_of_which_nothing_is_let_in() -> None:
    state = Bare(Limits(1))
    assert len(state.take([]).verdict) == 0
    state.take([Row(0, "a", 0, fires=True)])
    outcome = state.take(quiet("b", "c"))
    assert outcome.verdict.tolist() == [Verdict.NOT_ADMITTED] * 2
    assert (len(outcome.row), outcome.turned.tolist()) == (0, [0, 1])


def test_it_says_what_it_holds_to() -> None:
    assert said_of(Limits(9, 3_600_000_000, 5)) == (
        "at most 9 entities a partition; then the least recently seen without an open alert give way; forgotten once "
        "not seen for 3600 s; at most 5 new ones among 1000 records"
    )
