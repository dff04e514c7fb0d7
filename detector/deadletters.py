"""Dead letters: what could not be read goes on, untouched, with headers that say why; and the breaker.

Key, value and the sender's headers stay byte for byte as they came. Ours are `tocsin.error.*`, UTF-8 text:
topic, partition, offset, timestamp (milliseconds), reason (one word), detail (at most 512 bytes), stream,
version (of this program), attempt. Where a dead letter is produced to an input topic again and fails
again, our headers are replaced and `attempt` counts up, so that a loop is seen and ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadableTopic
from .wire import Headers, Message

PREFIX = "tocsin.error."
_NAMES = ("topic", "partition", "offset", "timestamp", "reason", "detail", "stream", "version", "attempt")
OURS = tuple(PREFIX + name for name in _NAMES)
DETAIL_BYTES = 512
MAX_ATTEMPTS = 5


class Failed(NamedTuple):
    """A message as it came, and where from. Header values may be None, as Kafka allows."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] | None


def dead_letter(failed: Failed, reason: str, detail: str, stream: str, version: str) -> Message:
    """The message for the dead-letter topic."""
    ours = (
        failed.topic.encode(),
        b"%d" % failed.partition,
        b"%d" % failed.offset,
        b"%d" % failed.timestamp_ms,
        reason.encode(),
        _bounded(detail),
        stream.encode(),
        version.encode(),
        b"%d" % (attempt_of(failed.headers) + 1),
    )
    headers: Headers = [(name, value) for name, value in failed.headers or () if not name.startswith(PREFIX)]
    headers.extend(zip(OURS, ours, strict=True))
    return Message(failed.key, failed.value, headers)


def attempt_of(headers: Sequence[tuple[str, bytes | None]] | None) -> int:
    """How often a message has been a dead letter before; 0 where it says nothing readable."""
    for name, value in headers or ():
        if name == PREFIX + "attempt":
            text = (value or b"")[:9]
            return int(text) if text.isdigit() else 0
    return 0


def looping(headers: Sequence[tuple[str, bytes | None]] | None) -> bool:
    """Whether a message has come back so often that it must not be written again, only counted."""
    return attempt_of(headers) >= MAX_ATTEMPTS


def _bounded(text: str) -> bytes:
    """UTF-8 of at most DETAIL_BYTES, cut between characters; lone surrogates become question marks."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= DETAIL_BYTES:
        return encoded
    return encoded[:DETAIL_BYTES].decode("utf-8", "ignore").encode()


class Breaker(NamedTuple):
    """Whether each of the last N records of a topic was unreadable: a ring, oldest first.

    Starts all readable.
    """

    last: NDArray[np.bool_]


def closed(window: int) -> Breaker:
    """A breaker over the last `window` records."""
    return Breaker(np.zeros(window, np.bool_))


def update(breaker: Breaker, bad: NDArray[np.bool_], share: float) -> tuple[Breaker, int | None]:
    """The breaker after these records, and the index of the first at which it trips, or None.

    It trips where more than `share` of the last N records were unreadable; a topic's first N are judged
    against N as well, so a topic that begins unreadable trips after share * N. The outcome does not
    depend on how the records are cut into batches.
    """
    window = breaker.last.size
    sequence = np.concatenate((breaker.last, np.asarray(bad, np.bool_)))
    total = np.concatenate((np.zeros(1, np.int64), np.cumsum(sequence, dtype=np.int64)))
    within = total[window + 1 :] - total[1:-window]
    tripped = np.flatnonzero(within > share * window)
    return Breaker(sequence[sequence.size - window :].copy()), int(tripped[0]) if tripped.size else None


def unreadable(
    topic: str, partition: int, offset: int, breaker: Breaker, reasons: Mapping[str, int]
) -> UnreadableTopic:
    """The error that stops a stream: what, where and what to do. `reasons` counts each reason."""
    bad, window = int(breaker.last.sum()), breaker.last.size
    common = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:3]
    named = ", ".join(f"{reason} ({count})" for reason, count in common) or "unknown"
    return UnreadableTopic(
        f"Topic {topic!r} has become unreadable: {bad} of the last {window} records up to partition "
        f"{partition}, "
        f"offset {offset} could not be used, most often: {named}. Reading on would drain the topic "
        "into the dead "
        "letters, so the stream stops here and nothing after its committed offsets is skipped. Look "
        "at one with "
        "its tocsin.error.* headers in the dead-letter topic; correct [stream] format, entity, time "
        "or features, "
        "or the sender; then start again."
    )
