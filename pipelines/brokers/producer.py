"""The producer of both brokers, over confluent-kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from ...errors import BrokerError, DeliveryFailed
from .base import Headers, StillWaiting
from .faults import Watch, cause, reason, setting

BLOCK_S = 60.0
"""How long `produce` waits for room in the queue."""


class KafkaProducer:
    """See `base.Producer`."""

    def __init__(self, settings: Mapping[str, Any], *, block_s: float = BLOCK_S) -> None:
        self._watch = Watch()
        self._bootstrap = str(settings["bootstrap.servers"])
        self._block_s = block_s
        self._handed = 0
        self._topics: set[str] = set()  # since the last complete flush
        self._failed = 0
        self._failures: dict[tuple[str, str], int] = {}
        self._fatal: KafkaError | None = None
        self._closed = False
        try:
            self._client = Producer({**settings, **self._watch.settings(), "on_delivery": self._report})
        except KafkaException as exception:
            raise setting(exception) from None

    @property
    def broker_down(self) -> bool:
        """Whether no broker could be reached when last polled."""
        return self._watch.down

    @property
    def delivered(self) -> int:
        """How many records were acknowledged so far."""
        return self._handed - self._failed - self.waiting

    @property
    def waiting(self) -> int:
        """How many records are neither acknowledged nor failed."""
        return 0 if self._closed else len(self._client)

    def _report(self, error: KafkaError | None, message: Message) -> None:
        """Called for failures only (`delivery.report.only.error`)."""
        if error is not None:
            self._failed += 1
            failure = (str(message.topic()), reason(error))
            self._failures[failure] = self._failures.get(failure, 0) + 1

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        """Hand over one record; see `base.Producer.produce`."""
        chosen: dict[str, Any] = {}
        if partition is not None:
            chosen["partition"] = partition
        if headers is not None:
            chosen["headers"] = list(headers)
        if timestamp_ms is not None:
            chosen["timestamp"] = timestamp_ms
        give_up: float | None = None
        while True:
            try:
                self._client.produce(topic, value=value, key=key, **chosen)
            except BufferError:
                give_up = give_up or time.monotonic() + self._block_s
                if time.monotonic() > give_up:
                    raise DeliveryFailed(
                        f"Producing to topic '{topic}' at {self._bootstrap}: the queue of "
                        f"{self.waiting} records has been full for {self._block_s:g} s{self._why()}."
                    ) from None
                self.poll(0.1)
            except KafkaException as exception:
                size = len(value or b"") + len(key or b"")
                what = f"Producing to topic '{topic}' at {self._bootstrap}: a record of {size} bytes was not taken"
                raise self._not_taken(cause(exception), what) from None
            else:
                self._handed += 1
                self._topics.add(topic)
                return

    def _not_taken(self, error: KafkaError, what: str) -> BrokerError:
        return DeliveryFailed(f"{what}: {reason(error)}.")

    def poll(self, timeout_s: float = 0) -> None:
        """Serve delivery reports and errors; raises DeliveryFailed once the client has failed for good."""
        self._served(self._client.poll, timeout_s)
        self._raise_fatal()

    def flush(self, timeout_s: float) -> None:
        """Wait until everything handed over is acknowledged; see `base.Producer.flush`."""
        waiting = self._served(self._client.flush, timeout_s)
        self._raise_fatal()
        if self._failures:
            raise self._undelivered()
        if waiting:
            raise StillWaiting(
                f"{waiting} records for {sorted(self._topics)} at {self._bootstrap} were not acknowledged "
                f"within {timeout_s:g} s{self._why()}; they are still queued."
            )
        self._topics.clear()
        if self._handed:
            self._watch.alive()

    def _undelivered(self) -> DeliveryFailed:
        """What became of records that were not acknowledged, told once."""
        failures, self._failures = self._failures, {}
        (topic, why), _ = max(failures.items(), key=lambda item: item[1])
        return DeliveryFailed(
            f"{sum(failures.values())} records were not acknowledged by {self._bootstrap}, most of "
            f"them for topic '{topic}': {why}."
        )

    def _served(self, call: Callable[[float], int], timeout_s: float) -> int:
        """Let the client run its callbacks; a fatal error is raised from there, in the midst of others."""
        try:
            return call(timeout_s)
        except KafkaException as exception:
            self._fatal = cause(exception)
        except SystemError as exception:
            # A callback that ran after it wraps the error, or loses it.
            told = exception.__cause__
            self._fatal = cause(told) if isinstance(told, KafkaException) else self._watch.fatal()
        return self.waiting

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise DeliveryFailed(
                f"Records for {sorted(self._topics)} at {self._bootstrap} were not acknowledged and the "
                f"producer cannot go on: {reason(self._fatal)}. Remove the cause and start again."
            )

    def _why(self) -> str:
        if self._watch.login is not None:
            return f": {reason(self._watch.login)}"
        return ": no broker can be reached" if self._watch.down else ""

    def close(self) -> None:
        """Release everything; what is still waiting is dropped."""
        if not self._closed:
            self._closed = True
            self._client.purge()
            self._served(self._client.flush, 1.0)
            # It too raises what was fatal, which whoever had anything waiting was told before.
            self._served(lambda _: self._client.close(), 0)
