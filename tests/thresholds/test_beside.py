"""Rows that lie side by side: in one place however often they grow, and plain rows to a kernel."""

from __future__ import annotations

import numpy as np
import pytest
from tocsin.pipelines import location, windows
from tocsin.pipelines.slots import capacity, grow
from tocsin.thresholds import state, trace
from tocsin.thresholds.ahead import ask_for
from tocsin.thresholds.beside import in_one_piece, longer, side_by_side
from tocsin.thresholds.jit import kernel


@kernel
def summed(column, slot):
    row = in_one_piece(column[slot])
    total = 0.0
    for j in range(len(row)):
        row[j] += 1.0
        total += row[j]
    return total


@kernel
def asked(column, slot):
    ask_for(column, slot)


def held() -> dict[str, np.ndarray]:
    made = side_by_side(3, mean=(np.float64, (5,)), ring=(np.uint8, (4, 2)), head=(np.int16, ()))
    made["mean"][:] = np.arange(15.0).reshape(3, 5)
    made["ring"][:] = np.arange(24).reshape(3, 4, 2)
    made["head"][:] = [7, 8, 9]
    return made


def test_a_row_of_each_lies_in_one_place() -> None:
    made = held()
    assert {column.strides[0] for column in made.values()} == {56}
    places = sorted(column.ctypes.data - made["mean"].ctypes.data for column in made.values())
    assert places == [0, 40, 48]
    assert all(column.flags.aligned for column in made.values())


def test_it_still_does_when_they_have_grown_twice() -> None:
    alone, record = np.arange(3.0), np.zeros(3, [("a", "i4"), ("b", "f8")])
    record["b"] = 5.0
    columns = [*held().values(), alone, record]
    grown = longer(longer(columns, 4), 6)
    for before, after in zip(columns, grown, strict=True):
        assert (after.shape, after.dtype) == ((6, *before.shape[1:]), before.dtype)
        assert after[:3].tobytes() == before.tobytes()
        assert not any(after[3:].tobytes())
    assert {column.strides[0] for column in grown[:3]} == {56}


def test_a_kernel_reads_and_writes_a_row_as_if_it_were_alone() -> None:
    made = held()
    assert summed(made["mean"], 1) == 5 + 6 + 7 + 8 + 9 + 5
    assert made["mean"].tolist() == [[0, 1, 2, 3, 4], [6, 7, 8, 9, 10], [10, 11, 12, 13, 14]]


def test_asking_for_a_row_changes_nothing() -> None:
    made = held()
    before = {name: column.tobytes() for name, column in made.items()}
    for column in (*made.values(), np.zeros(3, state.CORE)):
        for slot in range(3):
            asked(column, slot)
    assert {name: column.tobytes() for name, column in made.items()} == before


@pytest.mark.parametrize(
    ("fresh", "together"),
    [
        (state.init(1, 5), {"fast", "slow", "median", "floor", "above", "openings", "shadow", "wait"}),
        (windows.init(1, 16, 25, 0), {"values", "times", "trend", "head", "held"}),
        (location.init(1, 25), {"mean", "square", "jump_mean", "jump_square", "bound", "phase"}),
        (trace.init(1), {"score", "threshold", "head"}),
    ],
)
def test_what_a_record_touches_lies_together_after_a_state_has_grown(fresh, together: set[str]) -> None:
    grown = grow(fresh, fresh, 100)
    assert capacity(grown) == 100
    columns = [getattr(grown, name) for name in sorted(together)]
    row = {column.strides[0] for column in columns}
    assert len(row) == 1
    places = [column.ctypes.data for column in columns]
    assert max(places) - min(places) < row.pop()
