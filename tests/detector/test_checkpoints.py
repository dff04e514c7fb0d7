"""What is told with each snapshot: how much a crash just before it would have replayed, and whether that is held."""

from __future__ import annotations

import math
from typing import NamedTuple
from unittest.mock import MagicMock

from prometheus_client import CollectorRegistry
from tocsin.detector import metric_defs as defs
from tocsin.detector.changelog import Snapshot
from tocsin.detector.checkpoints import Checkpoints
from tocsin.detector.clocks import Clocks
from tocsin.detector.ledger import Ledger
from tocsin.detector.metrics import Metrics
from tocsin.detector.owned import Owned
from tocsin.errors import BrokerUnavailable

PART = ("t", 0)
TOLD = (defs.REPLAY, defs.REPLAY_COVER)


def snapshot(
    oldest: int | Exception, *, down: bool = False, came: int = 30
) -> tuple[float | None, float | None]:
    """Replay and cover that are exported after a snapshot at offset 100, the one before it `came` records ago."""
    consumer, side, state = MagicMock(broker_down=down), MagicMock(), MagicMock()
    side.begin_offsets.side_effect = [oldest if isinstance(oldest, Exception) else {PART: oldest}]
    state.snapshot.return_value = Snapshot(100, [], [], {}, {})
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    ledger = Ledger(metrics, "s", Clocks())
    one = Owned(PART, 0, 100, 100, None, snapshot_offset=100 - came)
    Checkpoints(consumer, side, MagicMock(), state, ledger, 7, Clocks()).snapshot([one], 0.0)
    assert one.snapshot_offset == 100, "written, whatever is known of the input"
    labels = ("s", "t", "0")
    exported = [
        registry.get_sample_value(one.name, dict(zip(one.labels, labels, strict=True))) for one in TOLD
    ]
    return exported[0], exported[1]


def test_a_topic_that_deletes_is_held_against_what_would_be_replayed() -> None:
    assert snapshot(oldest=10) == (30, 3.0)
    assert snapshot(oldest=55) == (30, 1.5)


def test_what_has_deleted_nothing_yet_covers_all() -> None:
    assert snapshot(oldest=0) == (30, math.inf)


def test_nothing_is_told_where_nothing_came_or_nobody_answers() -> None:
    assert snapshot(oldest=10, came=0) == (None, None)
    assert snapshot(BrokerUnavailable("nobody")) == (None, None)
    assert snapshot(oldest=10, down=True) == (None, None)


class Slow(NamedTuple):
    """A stream of many partitions, the snapshot of each of which takes some seconds."""

    checkpoints: Checkpoints
    owned: list[Owned]
    now: list[float]
    written: list[int]

    def turn(self, at: float) -> list[int]:
        """The partitions written at a checkpoint then; `now` stands at its end after it."""
        self.written.clear()
        self.now[0] = at
        self.checkpoints.snapshot_in_turn(self.checkpoints.due(self.owned, at, EVERY_S, SHARE), SHARE)
        return list(self.written)


EVERY_S, SHARE = 30.0, 0.1


def slow(partitions: int, takes_s: float) -> Slow:
    """All of them are as old, and always have something to write."""
    now, written, state = [0.0], list[int](), MagicMock()

    def snapshot(index: int, next_offset: int, topic_id: str) -> Snapshot:
        now[0] += takes_s
        written.append(index)
        return Snapshot(next_offset - 1, [], [], {}, {})

    state.snapshot.side_effect = snapshot
    consumer = MagicMock(broker_down=True)
    clocks = Clocks(monotonic=lambda: now[0])
    ledger = Ledger(Metrics(CollectorRegistry()), "s", clocks)
    checkpoints = Checkpoints(consumer, MagicMock(), MagicMock(), state, ledger, 7, clocks)
    owned = [Owned(("t", index), index, 100, 100, None) for index in range(partitions)]
    for one in owned:
        one.snapshot_at = -EVERY_S
    return Slow(checkpoints, owned, now, written)


def test_large_states_are_written_one_after_another_and_within_a_tenth_of_the_time() -> None:
    stream = slow(partitions=3, takes_s=4.0)
    assert stream.turn(0.0) == [0]
    for one in stream.owned:
        one.next_offset += 1
        one.bytes_in = 1 << 30
    assert stream.turn(39.0) == []
    assert stream.turn(40.0) == [1], "the one that has waited longest"
    assert stream.turn(80.0) == [2]
    assert stream.turn(120.0) == [0]


def test_small_states_are_written_in_one_turn() -> None:
    stream = slow(partitions=8, takes_s=0.02)
    assert stream.turn(0.0) == [0, 1, 2, 3, 4]
    assert stream.turn(0.9) == []
    assert stream.turn(1.0) == [5, 6, 7]
    assert stream.turn(2.0) == [], "all are younger than that"
