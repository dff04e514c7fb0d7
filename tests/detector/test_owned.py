"""What is remembered of a partition: when a snapshot is due, and when entities are torn between partitions."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.detector.changelog import Applied, Snapshot
from tocsin.detector.owned import Owned, too_torn, torn_apart
from tocsin.detector.restore import Recovered

EVERY_S, SHARE = 30.0, 0.1


def owned(**more: float) -> Owned:
    return Owned(("t", 0), 0, 5, 0, None, **more)  # type: ignore[arg-type]


def test_a_snapshot_waits_for_its_time_for_records_and_for_input_that_makes_up_for_the_last() -> None:
    one = owned(snapshot_bytes=1000, snapshot_at=100.0, bytes_in=10_000, snapshot_offset=0)
    assert one.snapshot_due(130.0, EVERY_S, SHARE)
    assert not one.snapshot_due(129.9, EVERY_S, SHARE)
    one.bytes_in = 9_999
    assert not one.snapshot_due(1e9, EVERY_S, SHARE)
    one.bytes_in, one.snapshot_offset = 10_000, 5
    assert not one.snapshot_due(1e9, EVERY_S, SHARE), "nothing has come since"


turns = st.lists(
    st.tuples(
        st.floats(0.0, 60.0),  # seconds
        st.integers(0, 1 << 20),  # bytes of input in them
        st.integers(1, 1 << 20),  # how large a snapshot would be now
        st.sampled_from(["goes on", "goes on", "is killed"]),
    ),
    max_size=60,
)


@given(turns)
def test_all_snapshots_but_the_last_stay_within_a_tenth_of_the_input_also_across_restarts(
    turns: list[tuple[float, int, int, str]],
) -> None:
    now, read, sizes = 0.0, 0, [64]
    one = owned(snapshot_bytes=sizes[0], snapshot_offset=4)
    for seconds, size, snapshot, how in turns:
        now, read = now + seconds, read + size
        one.next_offset += 1
        one.bytes_in += size
        if one.snapshot_due(now, EVERY_S, SHARE):
            sizes.append(snapshot)
            one = owned(snapshot_bytes=snapshot, snapshot_at=now, snapshot_offset=one.next_offset)
            one.next_offset = one.snapshot_offset
        elif how == "is killed":  # what was read since the snapshot is replayed, and counted again
            one = owned(
                snapshot_bytes=one.snapshot_bytes,
                snapshot_at=now,
                snapshot_offset=one.snapshot_offset,
                bytes_in=one.bytes_in,
            )
        assert sum(sizes[:-1]) <= SHARE * read


@pytest.mark.parametrize(
    ("torn", "entities", "refused"),
    [(0, 0, False), (0, 3, False), (1, 3, True), (1, 99, True), (1, 100, False), (6, 500, True)],
)
def test_above_one_per_cent_of_torn_entities_is_refused_with_the_fix(
    torn: int, entities: int, refused: bool
) -> None:
    assert too_torn(torn, entities) == refused
    said = str(torn_apart("hosts", torn, entities))
    assert f"{torn} of {entities}" in said
    assert "produce with the entity as the message" in said


def test_in_another_topic_of_the_name_nothing_is_taken_for_committed_and_a_snapshot_is_due_at_once() -> None:
    pending = [Applied(partition=0, first_offset=at, version=at, config_hash="") for at in (900, 950)]
    one = Owned(("t", 0), 0, 800, 780, None, deque(pending), 10**6, 10**6, 50.0, 790, "old")
    one.begin_anew(3, "new")
    assert (one.next_offset, one.committed, one.topic_id) == (3, 3, "new")
    assert [(change.first_offset, change.version) for change in one.pending] == [(3, 900), (3, 950)]
    assert one.snapshot_due(50.1, EVERY_S, SHARE)


@pytest.mark.parametrize(
    ("note", "now", "another"),
    [
        ({"topic_id": "old"}, "new", True),
        ({"topic_id": "old"}, "old", False),
        ({"topic_id": "old"}, "", False),  # nobody says
        ({"topic_id": ""}, "new", False),
        ({}, "new", False),  # written by an earlier release
        (None, "new", False),
    ],
)
def test_a_snapshot_is_of_another_topic_only_where_both_are_known(
    note: dict[str, str] | None, now: str, another: bool
) -> None:
    snapshot = None if note is None else Snapshot(5, [], [], {}, note)
    assert Recovered(snapshot, None, [], 0).of_another(now) is another
