"""Whole topics read outside any group, with the time up to which nothing older is still to come.

A partition that is behind has come as far as the newest message read of it; one that is at its end, to now. The
partition that has come least far says what the time is. So a backlog is gone through as if it were lived again.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import BrokerUnavailable
from ..pipelines.brokers.base import Batch, Consumer, Part
from .clocks import Clocks

LOOK_S = 0.5
"""How often the ends are asked for."""


class Tide:
    """A reader of partitions. Belongs to one thread; it closes the consumer."""

    def __init__(
        self, consumer: Consumer, starts: Mapping[Part, int], come_us: Mapping[Part, int], clocks: Clocks
    ) -> None:
        """Begin at these offsets; `come_us` says how far each partition had come before."""
        self._consumer, self._clocks = consumer, clocks
        self._at = dict(starts)
        now_us = self._now_us()
        self._come_us = {part: min(come_us.get(part, 0), now_us) for part in starts}
        self._looked_at = float("-inf")
        consumer.assign((*part, at) for part, at in starts.items())

    @property
    def parts(self) -> frozenset[Part]:
        """What is read."""
        return frozenset(self._at)

    def read(self, most: int, wait_s: float) -> Batch:
        """The next messages; see `Consumer.consume`."""
        batch = self._consumer.consume(most, wait_s)
        now_us = self._now_us()
        for part, offset, stamp in zip(
            zip(batch.topic, batch.partition, strict=True), batch.offset, batch.timestamp_ms, strict=True
        ):
            self._at[part] = offset + 1
            self._come_us[part] = max(self._come_us[part], min(stamp * 1000, now_us))
        return batch

    def time_us(self) -> int:
        """The time up to which everything has been read. It stands still while a partition cannot be asked."""
        if self._clocks.monotonic() - self._looked_at >= LOOK_S:
            self._look()
            self._looked_at = self._clocks.monotonic()
        return min(self._come_us.values())

    def _look(self) -> None:
        now_us = self._now_us()  # before it is asked: what is appended meanwhile is not older
        try:
            ends = self._consumer.end_offsets(self._at)
        except BrokerUnavailable:
            return
        at = self._consumer.position()  # which passes the marks of transactions
        for part, end in ends.items():
            if max(self._at[part], at.get(part, 0)) >= end:
                self._come_us[part] = max(self._come_us[part], now_us)

    def _now_us(self) -> int:
        return int(self._clocks.wall() * 1e6)

    def close(self) -> None:
        """Release the consumer."""
        self._consumer.close()
