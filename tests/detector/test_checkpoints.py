"""What is told with each snapshot: how much a crash just before it would have replayed, and whether that is held."""

from __future__ import annotations

import math
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
    state.snapshot.return_value = Snapshot(100, [], {}, {}, {})
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    ledger = Ledger(metrics, "s", Clocks())
    one = Owned(PART, 0, 100, 100, None, snapshot_offset=100 - came)
    Checkpoints(consumer, side, MagicMock(), state, ledger, 7).snapshot([one], 0.0)
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
