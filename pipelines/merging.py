"""All partitions of some topics as one line of messages, merged by their heads: the oldest timestamp goes first.

A partition that has run dry is waited for while the broker holds more of it, so that what was left lying comes in the
order in which it was sent, however the broker hands it out. Within a partition the order stays.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..errors import BrokerUnavailable
from .brokers.base import Consumer, Events, Headers, Part

BATCH = 4096
MOST = 20_000
"""Messages of a partition that are held before no more are fetched."""
PATIENCE_S = 5.0
"""How long a partition of which there is more is waited for while nothing of it comes: its leader may be away."""


class Message(NamedTuple):
    """A message and where it came from."""

    timestamp_ms: int
    part: Part
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None


class Merged:
    """Reads partitions with a consumer of its own, outside any group. Belongs to one thread."""

    def __init__(
        self, consumer: Consumer, starts: Mapping[Part, int], monotonic: Callable[[], float]
    ) -> None:
        self._consumer = consumer
        self._monotonic = monotonic
        self._held: dict[Part, deque[Message]] = {part: deque() for part in sorted(starts)}
        self._paused: set[Part] = set()
        self._dry_since: dict[Part, float] = {}
        self._fetched = dict(starts)
        self.next_offsets = dict(starts)
        """Of each partition, the offset behind the last message that was given out."""
        consumer.assign([(*part, start) for part, start in sorted(starts.items())])

    def read(self, timeout_s: float) -> list[Message]:
        """The messages whose turn has come, after a wait for the first."""
        self._fetch(timeout_s)
        if not any(self._held.values()):
            return []
        try:
            ends = self._consumer.end_offsets(list(self._held))
        except BrokerUnavailable:
            return []
        at = self._consumer.position()
        reached = {part: max(self._fetched[part], at.get(part, -1)) >= ends[part] for part in self._held}
        out = self._merge({part for part in self._held if self._may_be_passed(part, reached[part])})
        self._resume()
        return out

    def is_past(self, ends: Mapping[Part, int]) -> bool:
        """Whether all that these partitions held before those offsets was given out."""
        at = self._consumer.position()
        return all(
            self.next_offsets[part] >= end or (not self._held[part] and at.get(part, -1) >= end)
            for part, end in ends.items()
        )

    def events(self) -> Events:
        """What the client met since the last call."""
        return self._consumer.events()

    def ends(self) -> dict[Part, int]:
        """The end of each partition. Raises BrokerError."""
        return self._consumer.end_offsets(list(self._held))

    def close(self) -> None:
        """Release the consumer; what was not given out is dropped."""
        self._consumer.close()

    def _fetch(self, timeout_s: float) -> None:
        batch = self._consumer.consume(BATCH, timeout_s)
        headers = batch.headers or [None] * batch.size
        for part, *message in zip(
            zip(batch.topic, batch.partition, strict=True),
            batch.timestamp_ms, batch.offset, batch.key, batch.value, headers,
            strict=True,
        ):  # fmt: skip
            stamp, offset, key, value, header = message
            self._held[part].append(Message(stamp, part, offset, key, value, header))
            self._fetched[part] = offset + 1
        full = {part for part, held in self._held.items() if len(held) >= MOST} - self._paused
        if full:
            self._consumer.pause(full)
            self._paused |= full

    def _resume(self) -> None:
        low = {part for part in self._paused if len(self._held[part]) < MOST // 2}
        if low:
            self._consumer.resume(low)
            self._paused -= low

    def _may_be_passed(self, part: Part, reached: bool) -> bool:
        """Whether the others need not wait for a partition once nothing of it is held."""
        if self._held[part] or reached:
            self._dry_since.pop(part, None)
            return reached
        return self._monotonic() - self._dry_since.setdefault(part, self._monotonic()) >= PATIENCE_S

    def _merge(self, passable: set[Part]) -> list[Message]:
        out: list[Message] = []
        heads = []
        for part, held in self._held.items():
            if held:
                heads.append((held[0].timestamp_ms, part))
            elif part not in passable:
                return out
        heapq.heapify(heads)
        while heads:
            _, part = heapq.heappop(heads)
            held = self._held[part]
            message = held.popleft()
            out.append(message)
            self.next_offsets[part] = message.offset + 1
            if held:
                heapq.heappush(heads, (held[0].timestamp_ms, part))
            elif part not in passable:
                break
        return out
