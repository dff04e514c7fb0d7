"""Work done beforehand comes in its order, never far ahead of who uses it, and its faults come where it would."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from tocsin.detector.beforehand import MOST, in_order


def test_all_comes_in_its_order_whichever_is_ready_first() -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return -number

    assert list(in_order(work, range(20))) == [-number for number in range(20)]
    assert list(in_order(work, [])) == []


def test_it_is_never_far_ahead() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            asked.append(number)
            yield number

    for used, number in enumerate(in_order(lambda one: one, items())):
        assert number == used
        assert len(asked) <= used + MOST + 1


def test_a_fault_comes_where_its_item_would_have() -> None:
    def work(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    found = []
    with pytest.raises(ValueError, match="five"):
        found.extend(in_order(work, range(9)))
    assert found == [0, 1, 2, 3, 4]


def test_no_thread_is_left_when_nobody_asks_any_more() -> None:
    before = threading.active_count()
    going = in_order(lambda one: one, range(50))
    next(going)
    del going
    assert threading.active_count() == before
