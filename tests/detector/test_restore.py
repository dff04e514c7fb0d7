"""The records that a silent replay goes through."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest
from tocsin.detector.restore import between
from tocsin.pipelines.brokers.base import Batch

PART = ("t", 0)


def batch(*offsets: int) -> Batch:
    n = len(offsets)
    return Batch(["t"] * n, [0] * n, list(offsets), [0] * n, [None] * n, [None] * n, None)


def read(batches: list[Batch], begin: int, end: int, held: tuple[int, int]) -> list[int]:
    """The offsets that come of what a consumer finds; it finds nothing more at last."""
    consumer, at = MagicMock(), {PART: begin}
    waiting = iter(batches)

    def consume(most: int, timeout_s: float) -> Batch:
        found = next(waiting, batch())
        at[PART] = found.offset[-1] + 1 if found else at[PART]
        return found

    beats = iter(range(100))
    consumer.consume.side_effect, consumer.position.side_effect = consume, lambda: at
    consumer.begin_offsets.return_value, consumer.end_offsets.return_value = ({PART: one} for one in held)
    return [
        offset for one in between(consumer, PART, begin, end, lambda: next(beats)) for offset in one.offset
    ]


@pytest.mark.parametrize(
    ("held", "batches", "expected"),
    [
        ((0, 9), [batch(2, 3), batch(), batch(4, 5, 6)], [2, 3, 4, 5]),
        ((0, 9), [batch(2, 3, 5)], [2, 3, 5]),
        ((7, 9), [batch(), batch(7, 8)], []),
        ((0, 4), [batch(2, 3)], [2, 3]),
        ((0, 1), [], []),
    ],
    ids=["more comes", "compacted", "retention took it", "the log was cut", "before the begin"],
)
def test_a_replay_ends_where_there_is_no_more_of_it(
    held: tuple[int, int], batches: list[Batch], expected: list[int]
) -> None:
    assert read(batches, 2, 6, held) == expected
