"""What cannot be used: to the dead letters, and an end where that is most of a partition."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from ..pipelines.admission import Turned
from ..pipelines.brokers.base import Batch, Part
from .deadletters import Breaker, closed, unreadable, update
from .ledger import Ledger
from .outbox import Outbox
from .outcome import Outcome
from .reading import Read, stretches
from .settings import Decode

log = logging.getLogger(__name__)

LOOPING = "looping"
"""Counted in place of its reason: a message that has come back too often and is written no more."""
FAR_AHEAD = "its event time is far ahead of its entity's newest, and the records after it do not agree"

TURNED = {
    Turned.FULL: "its entity is new, and all that [state] max_entities allows are held and have an alert open",
    Turned.TOO_MANY: "its entity is new, and [state] max_new_entities came just before",
}


class Refusals:
    """The dead letters of one stream, and a breaker per partition."""

    def __init__(self, outbox: Outbox, ledger: Ledger, decode: Decode) -> None:
        self._outbox = outbox
        self._ledger = ledger
        self._decode = decode
        self._breakers: dict[Part, Breaker] = {}
        self._reasons: dict[str, int] = {}
        self._said: set[tuple[Part, str]] = set()

    def send(self, batch: Batch, read: Read, outcome: Outcome | None) -> None:
        """Send on what a batch holds that cannot be used, or for whose entity there is no place.

        Raises:
            UnreadableTopic: most of a partition's last records cannot be used.
        """
        bad = [(one.message, one.reason.value, one.detail) for one in read.rejected]
        if outcome is not None:
            far = np.unique(read.message[outcome.refused])  # a message may hold several measurements
            bad += [(int(message), "time_far_ahead", FAR_AHEAD) for message in far]
        counts: Counter[str] = Counter()
        for message, reason, detail in bad:
            counts[reason if self._outbox.refuse(batch, message, reason, detail) else LOOPING] += 1
            self._reasons[reason] = self._reasons.get(reason, 0) + 1
        unusable = {message for message, _, _ in bad}
        for message, why in self._turned(read, outcome).items():
            if message in unusable:
                continue
            told = self._outbox.refuse(batch, message, why.reason, TURNED[why])
            counts[why.reason if told else LOOPING] += 1
            self._say_once((batch.topic[message], batch.partition[message]), why.reason, TURNED[why])
        self._ledger.refused(counts)
        if self._reasons:  # before the first one every breaker stands as it began
            self._judge(batch, unusable)

    def _turned(self, read: Read, outcome: Outcome | None) -> dict[int, Turned]:
        """The messages of new entities that were not let in. They can be read, so they trip no breaker."""
        if outcome is None:
            return {}
        messages = read.message[outcome.turned].tolist()  # which may hold several measurements
        return {message: Turned(why) for message, why in zip(messages, outcome.why.tolist(), strict=True)}

    def _say_once(self, part: Part, reason: str, why: str) -> None:
        if (part, reason) not in self._said:
            self._said.add((part, reason))
            log.warning(
                "records of new entities go to the dead letters",
                extra={"topic": part[0], "partition": part[1], "reason": reason, "why": why},
            )

    def _judge(self, batch: Batch, bad: set[int]) -> None:
        unusable = np.zeros(batch.size, np.bool_)
        unusable[list(bad)] = True
        by_part: dict[Part, list[NDArray[np.int64]]] = {}
        for part, first, end in stretches(batch):
            by_part.setdefault(part, []).append(np.arange(first, end))
        for part, pieces in by_part.items():
            rows = np.concatenate(pieces)
            breaker = self._breakers.get(part) or closed(self._decode.breaker_records)
            self._breakers[part], tripped = update(breaker, unusable[rows], self._decode.breaker_share)
            if tripped is not None:
                raise unreadable(*part, batch.offset[rows[tripped]], self._breakers[part], self._reasons)
