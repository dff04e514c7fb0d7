"""The control topic as a running daemon follows it: changes in order, their models loaded beside the loop."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import Executor, Future
from typing import NamedTuple

from ..errors import ArtefactError, SignatureError
from ..pipelines.brokers.base import Broker
from .changes import Promotion, Rollback, Versioned, kind_of
from .control import Artefacts, Unloadable, from_message, of_batch, read_all
from .ruling import Model
from .rulings import Rulings

log = logging.getLogger(__name__)


class Arrived(NamedTuple):
    """A change that was taken in, and why it has no effect here (or an empty text)."""

    change: Versioned | Unloadable
    why: str


class ControlFeed:
    """Belongs to the loop's thread; models are loaded and compiled by `loader`, so that the loop does not pause.

    Raises SignatureError where changes are there of which those that are sealed, as they must be, let no model serve:
    a start that said its own would bury what was decided before.
    """

    def __init__(
        self, broker: Broker, topic: str, artefacts: Artefacts, rulings: Rulings, loader: Executor
    ) -> None:
        self._broker = broker
        self._topic = topic
        self._artefacts = artefacts
        self._rulings = rulings
        self._loader = loader
        self._waiting: deque[tuple[Versioned | Unloadable, Future[Model] | None]] = deque()
        self._consumer = broker.consumer()
        self.unsealed = 0
        """Changes so far that were refused for want of a seal that holds."""
        self.catch_up()
        if self.unsealed and rulings.effective().in_force.model is None:
            raise SignatureError(
                f"[control] require_signature is set, but no signed change of {topic} lets a model serve; "
                f"{self.unsealed} changes are refused, up to {rulings.newest}. If all of them are yours, from before "
                f"the setting, set [stream] signed_from = {rulings.newest + 1}; else run `tocsin models "
                "promote VERSION`."
            )

    def arrived(self) -> list[Arrived]:
        """The changes that are ready to act, in order; one whose model still loads holds those behind it."""
        batch = self._consumer.consume(100, 0.0)
        for entry in of_batch(batch):
            change = from_message(entry.version, entry.value, self._artefacts, entry.headers)
            self._waiting.append((change, self._begin(change)))
        done = []
        while self._waiting and (self._waiting[0][1] is None or self._waiting[0][1].done()):
            change, model = self._waiting.popleft()
            done.append(self._take(change, model))
        return done

    def catch_up(self) -> None:
        """Take in everything that the topic holds now, waiting for its models."""
        for change in read_all(self._broker, self._topic, self._artefacts, self._rulings.newest + 1):
            self._take(change, self._begin(change))
        self._consumer.assign([(self._topic, 0, self._rulings.newest + 1)])

    def close(self) -> None:
        """Release the consumer."""
        self._consumer.close()

    def _begin(self, change: Versioned | Unloadable) -> Future[Model] | None:
        if isinstance(change, Versioned) and isinstance(change.change, Promotion | Rollback):
            return self._loader.submit(self._rulings.model, change.change.model)
        return None

    def _take(self, change: Versioned | Unloadable, model: Future[Model] | None) -> Arrived:
        if model is not None and isinstance(change, Versioned):
            try:
                model.result()
            except ArtefactError as fault:
                change = Unloadable(change.version, kind_of(change.change), str(fault))
        self.unsealed += isinstance(change, Unloadable) and change.unsealed
        why = self._rulings.take(change)
        if why:
            log.error("a change has no effect here", extra={"change": change.version, "why": why})
        return Arrived(change, why)
