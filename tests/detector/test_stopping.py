"""One deadline from the request to stop, for whatever still waits."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from tocsin.detector.clocks import Clocks
from tocsin.detector.outbox import Outbox
from tocsin.detector.settings import Stream
from tocsin.detector.stopping import SETTLED_S, STOP_S, StopAsked, Stopping
from tocsin.pipelines.brokers.base import StillWaiting


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Away:
    """A producer whose broker never answers; a stop is asked for at some time."""

    def __init__(self, clock: Clock, stopping: Stopping, asked_at: float) -> None:
        self.clock, self.stopping, self.asked_at = clock, stopping, asked_at

    def flush(self, timeout_s: float) -> None:
        self.clock.now += timeout_s
        if self.clock.now >= self.asked_at:
            self.stopping.ask()
        raise StillWaiting("no broker")


def outbox(producer: Any, clock: Clock, stopping: Stopping) -> Outbox:
    nothing: Any = None
    broker: Any = SimpleNamespace(producer=lambda: producer)
    return Outbox(broker, Stream(name="fleet"), nothing, Clocks(monotonic=clock), stopping, 0)


def test_the_deadline_counts_from_the_first_request() -> None:
    clock = Clock()
    stopping = Stopping(clock)
    assert (stopping.asked(), stopping.left()) == (False, math.inf)
    stopping.check()
    stopping.ask()
    clock.now += 4
    stopping.ask()
    assert (stopping.asked(), stopping.left(), stopping.left(STOP_S)) == (True, SETTLED_S - 4, STOP_S - 4)
    clock.now += 100
    assert stopping.left(STOP_S) == 0
    with pytest.raises(StopAsked):
        stopping.check()


def test_all_waits_for_acknowledgements_share_it() -> None:
    clock = Clock()
    stopping = Stopping(clock)
    box = outbox(Away(clock, stopping, asked_at=103.0), clock, stopping)
    assert not box.settle(10)
    assert 103 + SETTLED_S <= clock.now <= 103 + SETTLED_S + 1, "a wait that had begun is not cut"
    before = clock.now
    assert not box.settle(10)
    assert clock.now == before, "the next wait begins anew"


def test_without_a_stop_a_wait_lasts_as_long_as_was_said() -> None:
    clock = Clock()
    stopping = Stopping(clock)
    assert not outbox(Away(clock, stopping, asked_at=math.inf), clock, stopping).settle(10)
    assert clock.now == pytest.approx(110)
