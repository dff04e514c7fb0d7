"""Offsets move up to the oldest open message of each partition; repeats are known, within bounds."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st
from tocsin.detector.acknowledgements import Acknowledgements
from tocsin.pipelines.brokers import Part

A: Part = ("alerts", 0)
B: Part = ("alerts", 1)


def owning(*parts: Part, remember: int = 1000, committed: int | None = 0) -> Acknowledgements:
    found = Acknowledgements(remember)
    for part in parts:
        found.begin(part, 0, committed)
    return found


def test_offsets_stop_at_the_oldest_that_is_not_acknowledged() -> None:
    one = owning(A, B)
    assert [one.offer(A, offset, f"k{offset}") for offset in range(4)] == [True] * 4
    assert one.offer(B, 0, "other")
    assert one.due() == {}
    assert one.acknowledge("k2")
    assert one.due() == {}
    assert one.acknowledge("k0")
    assert one.due() == {A: 1}
    assert one.acknowledge("k1")
    assert one.due() == {A: 3}
    one.committed({A: 3})
    assert one.due() == {}
    assert one.acknowledge("k3")
    assert one.acknowledge("other")
    assert one.due() == {A: 4, B: 1}


def test_where_a_new_group_begins_is_due_at_once() -> None:
    one = owning(A, committed=None)
    assert not one.anchored(A)
    assert one.due() == {A: 0}
    one.committed({A: 0})
    assert one.anchored(A)


def test_a_copy_of_an_open_alert_is_a_repeat_and_holds_its_own_partition() -> None:
    one = owning(A, B)
    assert one.offer(A, 0, "k")
    assert not one.offer(A, 1, "k")
    assert not one.offer(B, 0, "k")
    one.passed(B, 1)
    assert (one.open, one.due()) == (1, {})
    one.drop([A])  # the first copy now belongs to another member, this one still holds its own
    assert one.due() == {}
    assert one.acknowledge("k")
    assert one.due() == {B: 2}


def test_a_repeat_of_what_is_done_passes() -> None:
    one = owning(A)
    assert one.offer(A, 0, "k")
    assert one.acknowledge("k")
    assert not one.acknowledge("k")
    assert not one.offer(A, 1, "k")
    assert one.due() == {A: 2}


def test_what_was_open_in_a_partition_that_went_is_handed_out_again_when_it_returns() -> None:
    one = owning(A)
    assert one.offer(A, 0, "held")
    assert one.offer(A, 1, "done late")
    one.drop([A, B])
    assert (one.open, one.due()) == (0, {})
    assert not one.acknowledge("done late")  # too late for its offset, but not for its repeat
    one.committed({A: 9})
    one.begin(A, 0, 0)
    assert one.offer(A, 0, "held")
    assert not one.offer(A, 1, "done late")


def test_only_the_latest_of_what_is_done_are_remembered() -> None:
    one = owning(A, remember=3)
    for offset in range(5):
        one.offer(A, offset, f"k{offset}")
        one.acknowledge(f"k{offset}")
    assert not one.offer(A, 5, "k2")  # which makes it the latest
    assert one.offer(A, 6, "k1")
    one.acknowledge("k1")
    assert not one.offer(A, 7, "k2")
    assert one.offer(A, 8, "k3")


def test_a_topic_that_was_made_anew_holds_nothing_of_the_old_one() -> None:
    one = owning(A)
    one.offer(A, 7, "old")
    one.offer(A, 0, "new")
    assert one.due() == {}
    assert not one.acknowledge("old")
    assert one.acknowledge("new")
    assert one.due() == {A: 1}


steps = st.tuples(st.sampled_from([A, B, None]), st.integers(0, 5))


@given(st.lists(steps, max_size=60), st.integers(0, 8))
def test_nothing_unacknowledged_is_ever_committed(
    steps: list[tuple[Part | None, int]], remember: int
) -> None:
    """Against the plain rule, over all that was read: messages (of six keys) and acknowledgements in any order."""
    one = owning(A, B, remember=remember)
    read: dict[Part, list[str]] = {A: [], B: []}
    acknowledged: set[str] = set()
    at = {A: 0, B: 0}
    for part, number in steps:
        key = f"k{number}"
        if part is None:
            one.acknowledge(key)
            acknowledged.add(key)
        else:
            one.offer(part, len(read[part]), key)
            read[part].append(key)
        due = one.due()
        one.committed(due)
        at.update(due)
        for of, keys in read.items():
            assert set(keys[: at[of]]) <= acknowledged
            if remember >= 6:
                first = next(
                    (offset for offset, key in enumerate(keys) if key not in acknowledged), len(keys)
                )
                assert at[of] == first


def test_many_threads_may_acknowledge() -> None:
    one = owning(A)
    count, threads = 4000, 4
    for offset in range(count):
        one.offer(A, offset, f"k{offset}")

    def work(first: int) -> None:
        for offset in range(first, count, threads):
            assert one.acknowledge(f"k{offset}")
            one.due()

    workers = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (one.open, one.due()) == (0, {A: count})
