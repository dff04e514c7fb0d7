"""What is remembered of a partition: when a snapshot is due, and when entities are torn between partitions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.detector.owned import Owned, check_torn, too_torn
from tocsin.errors import StateError

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
    if refused:
        with pytest.raises(
            StateError, match=rf"{torn} of {entities} .* produce with the entity as the message"
        ):
            check_torn("hosts", torn, entities)
    else:
        check_torn("hosts", torn, entities)
