"""What a snapshot tells of the replay that a crash just before it led to; and when and how it goes out."""

from __future__ import annotations

import math
from typing import NamedTuple
from unittest.mock import MagicMock

import numpy as np
from prometheus_client import CollectorRegistry
from tocsin.detector import metric_defs as defs
from tocsin.detector.changelog import PIECE_BYTES, Pair, Snapshot
from tocsin.detector.checkpoints import PIECES, Checkpoints
from tocsin.detector.clocks import Clocks
from tocsin.detector.ledger import Ledger
from tocsin.detector.metrics import Metrics
from tocsin.detector.owned import Owned
from tocsin.errors import BrokerUnavailable
from tocsin.pipelines.brokers.base import Part

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
    Checkpoints(consumer, side, MagicMock(), state, ledger, 7, Clocks()).snapshot([one])
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
        self.checkpoints.begin(self.checkpoints.due(self.owned, at, EVERY_S, SHARE), SHARE)
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


class Large(NamedTuple):
    """A partition whose snapshots have 21 messages; two more that hold nothing."""

    checkpoints: Checkpoints
    owned: list[Owned]
    sent: list[str]
    now: list[float]
    struck: list[str]
    """Of what was sent the tombstones."""

    @classmethod
    def make(cls) -> Large:
        sent, now, struck, outbox, state = list[str](), [0.0], list[str](), MagicMock(), MagicMock()
        noise = np.random.default_rng(0).integers(0, 256, 19 * PIECE_BYTES + 7, np.uint8)

        def record(part: Part, pair: Pair) -> None:
            now[0] += 0.01
            sent.append(pair[0].decode())
            struck.extend(sent[-1:] if pair[1] is None else ())

        def snapshot(index: int, next_offset: int, topic_id: str) -> Snapshot:
            return Snapshot(next_offset, [], [], {} if index else {"noise": noise}, {"topic": topic_id})

        outbox.record.side_effect, state.snapshot.side_effect = record, snapshot
        clocks = Clocks(monotonic=lambda: now[0])
        ledger = Ledger(Metrics(CollectorRegistry()), "s", clocks)
        checkpoints = Checkpoints(MagicMock(broker_down=True), MagicMock(), outbox, state, ledger, 7, clocks)
        owned = [Owned(("t", index), index, 100, 100, None, snapshot_at=-math.inf) for index in range(3)]
        return cls(checkpoints, owned, sent, now, struck)

    def due(self) -> list[int]:
        return [one.index for one in self.checkpoints.due(self.owned, self.now[0], 0.0, 1.0)]

    def begin(self) -> None:
        self.checkpoints.begin(self.owned, SHARE)

    def turn(self) -> list[str]:
        """What goes out in a turn."""
        before = len(self.sent)
        self.checkpoints.go_on(self.owned, SHARE)
        return self.sent[before:]


def test_a_large_snapshot_goes_out_some_pieces_a_turn_and_counts_for_nothing_before_its_marker() -> None:
    stream = Large.make()
    one = stream.owned[0]
    stream.begin()
    assert stream.sent == [f"t/0/snapshot/0/A/{index}" for index in range(PIECES)]
    one.next_offset, one.bytes_in = 170, 12  # records are scored meanwhile
    stream.now[0] = 1e6
    for turn in range(1, 5):
        assert (one.marker, one.snapshot_offset) == (None, -1)
        assert stream.due() == [], "one at a time"
        assert len(stream.turn()) == PIECES, turn
    assert stream.turn() == ["t/0/snapshot/0"]
    assert one.marker is not None
    assert (one.marker.pieces, one.marker.next_offset, one.snapshot_offset) == (20, 100, 100)
    assert one.snapshot_bytes > 19 * PIECE_BYTES
    assert one.bytes_in == 12, "what came since it was taken"
    assert stream.turn() == []
    assert stream.due() == [1, 2]


def test_snapshots_of_earlier_terms_are_struck_out_once_there_is_one_of_this() -> None:
    stream = Large.make()
    one = stream.owned[0]
    one.term, one.superseded = 40, (b"t/0/snapshot/7/A/0", b"t/0/snapshot/7")
    stream.begin()
    while one.unsent:
        stream.turn()
    assert stream.sent[-3:] == ["t/0/snapshot/40", "t/0/snapshot/7/A/0", "t/0/snapshot/7"]
    assert stream.struck == stream.sent[-2:]
    stream.now[0], one.next_offset = 1e6, 170
    stream.begin()
    while one.unsent:
        stream.turn()
    assert len(stream.struck) == 2, "once"


def test_the_time_that_it_takes_is_made_up_for() -> None:
    stream = Large.make()
    stream.begin()
    while stream.turn():
        pass
    assert len(stream.sent) == 21
    stream.now[0] = 0.209 / SHARE
    assert stream.due() == []
    stream.now[0] = 0.211 / SHARE
    assert stream.due() == [1, 2]


def test_a_partition_that_goes_is_written_anew_and_whole_and_the_others_go_on() -> None:
    stream = Large.make()
    stream.begin()
    stream.owned[0].next_offset = 170
    stream.sent.clear()
    stream.checkpoints.snapshot(stream.owned[1:2])
    assert stream.sent == ["t/1/snapshot/0/A/0", "t/1/snapshot/0"]
    stream.sent.clear()
    stream.checkpoints.snapshot(stream.owned[:1])
    assert stream.sent == [*(f"t/0/snapshot/0/A/{index}" for index in range(20)), "t/0/snapshot/0"], (
        "the side of the first"
    )
    assert stream.owned[0].snapshot_offset == 170
    assert stream.turn() == []


def test_of_a_topic_that_was_made_anew_nothing_goes_out_any_more() -> None:
    stream = Large.make()
    stream.begin()
    stream.owned[0].begin_anew(0, "another")
    assert stream.turn() == []
    stream.now[0] = 1e6
    assert stream.due() == [0, 1, 2]
