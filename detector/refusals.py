"""What cannot be used: to the dead letters, and an end where that is most of a partition."""

from __future__ import annotations

import numpy as np

from ..pipelines.brokers.base import Batch, Part
from .deadletters import Breaker, closed, unreadable, update
from .ledger import Ledger
from .outbox import Outbox
from .outcome import Outcome
from .reading import Read
from .settings import Decode

FAR_AHEAD = "its event time is far ahead of its entity's newest, and the records after it do not agree"


class Refusals:
    """The dead letters of one stream, and a breaker per partition."""

    def __init__(self, outbox: Outbox, ledger: Ledger, decode: Decode) -> None:
        self._outbox = outbox
        self._ledger = ledger
        self._decode = decode
        self._breakers: dict[Part, Breaker] = {}
        self._reasons: dict[str, int] = {}

    def send(self, batch: Batch, read: Read, outcome: Outcome | None) -> None:
        """Send on what a batch holds that cannot be used.

        Raises:
            UnreadableTopic: most of a partition's last records cannot be used.
        """
        bad = [(one.message, one.reason.value, one.detail) for one in read.rejected]
        if outcome is not None:
            far = np.unique(read.message[outcome.refused])  # a message may hold several measurements
            bad += [(int(message), "time_far_ahead", FAR_AHEAD) for message in far]
        for message, reason, detail in bad:
            self._ledger.refused(reason, self._outbox.refuse(batch, message, reason, detail))
            self._reasons[reason] = self._reasons.get(reason, 0) + 1
        if self._reasons:  # before the first one every breaker stands as it began
            self._judge(batch, {message for message, _, _ in bad})

    def _judge(self, batch: Batch, bad: set[int]) -> None:
        by_part: dict[Part, list[int]] = {}
        for row, part in enumerate(zip(batch.topic, batch.partition, strict=True)):
            by_part.setdefault(part, []).append(row)
        for part, rows in by_part.items():
            breaker = self._breakers.get(part) or closed(self._decode.breaker_records)
            unusable = np.array([row in bad for row in rows])
            self._breakers[part], tripped = update(breaker, unusable, self._decode.breaker_share)
            if tripped is not None:
                raise unreadable(*part, batch.offset[rows[tripped]], self._breakers[part], self._reasons)
