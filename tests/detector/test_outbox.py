"""What a stream sends, and what it remembers of it."""

from __future__ import annotations

from unittest.mock import MagicMock

from tocsin.detector.changelog import Decision, encode_decision
from tocsin.detector.clocks import Clocks
from tocsin.detector.outbox import DECISIONS, Outbox
from tocsin.detector.settings import Stream
from tocsin.detector.stopping import Stopping

PART = ("t", 3)


def decision(offset: int) -> Decision:
    return Decision(partition=3, offset=offset, kind="shift", of="host-1", time_us=offset)


def keys(*offsets: int) -> list[bytes]:
    return [encode_decision("t", decision(offset))[0] for offset in offsets]


def test_a_partition_keeps_its_newest_decisions() -> None:
    """Across restarts too, and one that is taken again after a crash is still one."""
    broker = MagicMock()
    sent: list[tuple[bytes, bool]] = []
    broker.producer.return_value.produce.side_effect = lambda topic, value, key, **_: sent.append(
        (key, value is None)
    )
    outbox = Outbox(broker, Stream(name="s"), lambda part: PART, Clocks(), Stopping(lambda: 0.0), 1)
    outbox.decided(PART, [decision(offset) for offset in range(DECISIONS + 2)])
    assert sent == [(key, True) for key in keys(0, 1)]
    sent.clear()
    outbox.decide(PART, decision(DECISIONS + 1))
    outbox.decide(("t", 4), decision(5))
    assert sent == [(keys(DECISIONS + 1)[0], False), (keys(5)[0], False)]
    sent.clear()
    outbox.decide(PART, decision(DECISIONS + 2))
    assert sent == [(keys(DECISIONS + 2)[0], False), (keys(2)[0], True)]
    sent.clear()
    outbox.decided(PART, [decision(7)])
    outbox.decide(PART, decision(8))
    assert sent == [(keys(8)[0], False)]
