"""Slots: who gets which, what dropping a part frees, and that nothing of the former holder is left."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tocsin.pipelines import slots
from tocsin.pipelines.slots import SlotTable


class State(NamedTuple):
    total: NDArray[np.float64]
    ring: NDArray[np.int32]


def fresh(rows: int = 1) -> State:
    return State(np.full(rows, np.nan), np.full((rows, 3), -1, np.int32))


def test_the_same_name_in_two_parts_is_two_entities_and_torn() -> None:
    table = SlotTable()
    assert [table.intern(0, "a"), table.intern(1, "a"), table.intern(0, "b"), table.intern(0, "a")] == [
        0,
        1,
        2,
        0,
    ]
    assert (table.torn, len(table), table.size) == (1, 3, 3)
    assert (table.name(1), table.part(1)) == ("a", 1)
    assert table.slots_of(0).tolist() == [0, 2]
    assert table.parts() == [0, 1]


def test_dropping_a_part_frees_its_slots_for_others() -> None:
    table = SlotTable()
    table.intern_all(0, ["a", "b"])
    table.intern_all(7, ["c"])
    assert table.take_new().tolist() == [0, 1, 2]
    assert table.drop(0).tolist() == [0, 1]
    assert (len(table), table.size, table.parts()) == (1, 3, [7])
    assert table.intern_all(7, ["d", "e", "f"]).tolist() == [0, 1, 3]
    assert table.take_new().tolist() == [0, 1, 3]
    assert table.take_new().tolist() == []
    assert table.drop(5).tolist() == []


def test_a_slot_that_was_released_is_given_out_again() -> None:
    table = SlotTable()
    assert table.intern_all(0, ["a", "b"]).tolist() == [0, 1]
    assert table.intern(1, "c") == 2
    table.release(np.array([0]))
    assert table.intern(0, "c") == 0
    assert table.slots_of(0).tolist() == [0, 1]


def test_a_torn_name_that_is_released_is_torn_no_more() -> None:
    table = SlotTable()
    table.intern_all(0, ["a", "b"])
    a, b = table.intern_all(1, ["a", "b"]).tolist()
    assert table.torn == 2
    table.release([a])
    assert table.torn == 1
    assert table.intern(1, "c") == a
    table.release([a, b])
    assert table.torn == 0


def test_growing_keeps_what_is_there_and_taking_puts_it_back() -> None:
    state = slots.grow(fresh(), fresh(), 4)
    assert slots.capacity(state) == 4
    assert slots.grow(state, fresh(), 2) is state
    at = np.array([3, 1], np.int32)
    slots.put(state, at, State(np.array([1.0, 2.0]), np.ones((2, 3), np.int32)))
    rows = slots.take(state, at)
    assert rows.total.tolist() == [1.0, 2.0]
    grown = slots.grow(state, fresh(), 9)
    assert grown.total[3] == 1.0
    assert grown.ring[8].tolist() == [-1] * 3
    slots.reset(grown, at, fresh())
    assert np.isnan(grown.total).all()
    assert (grown.ring == -1).all()


class Odd(NamedTuple):
    zero: NDArray[np.float64]
    minus_zero: NDArray[np.float64]
    record: NDArray[np.void]


def test_new_rows_are_copies_of_the_fresh_one_to_the_bit() -> None:
    record = np.array([(0, -1.0)], [("a", "i4"), ("b", "f8")])
    fresh = Odd(np.zeros(1), np.array([-0.0]), record)
    grown = slots.grow(fresh, fresh, 3)
    assert [column.tobytes() for column in grown] == [column.tobytes() * 3 for column in fresh]
    assert [column.dtype for column in grown] == [column.dtype for column in fresh]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([*"abcdef", None])), max_size=60))
def test_a_slot_has_one_holder_and_a_holder_one_slot(steps: list[tuple[int, str | None]]) -> None:
    table = SlotTable()
    held: dict[tuple[int, str], int] = {}
    given_out: list[int] = []
    for part, name in steps:
        if name is None:
            freed = table.drop(part).tolist()
            assert sorted(freed) == sorted(slot for (at, _), slot in held.items() if at == part)
            held = {key: slot for key, slot in held.items() if key[0] != part}
            continue
        slot = table.intern(part, name)
        if (part, name) in held:
            assert held[part, name] == slot
        else:
            assert slot not in held.values()
            held[part, name] = slot
            given_out.append(slot)
        assert (table.name(slot), table.part(slot)) == (name, part)
    assert len(table) == len(held)
    assert set(table.take_new().tolist()) == set(given_out)
