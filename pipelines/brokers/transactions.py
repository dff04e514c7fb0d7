"""The producer whose records become visible together with the offsets that they were made from, or not at all."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from ...errors import BrokerError, DeliveryFailed
from .base import Consumer, Headers, Part, StillWaiting, TransactionFailed
from .consumer import REQUEST_S
from .faults import ENDED, FENCED, FORBIDDEN, PURGED, REFUSED_LOGIN, UNAVAILABLE, cause, reason, typed
from .producer import KafkaProducer

PAUSE_S = 0.05
GRACE_S = 5.0
"""How far a call of the client may go beyond its time limit before nothing more is expected of it."""


class KafkaTransactions(KafkaProducer):
    """See `base.Transactions`. One transaction is open at a time, from the first record handed over to `commit`.

    Once anything has failed it can only be closed: librdkafka does not know what the broker made of a commit that
    timed out. A new one with the same id aborts what this one left open.
    """

    def __init__(self, settings: Mapping[str, Any], *, request_s: float = REQUEST_S) -> None:
        super().__init__(settings)
        self._request_s = request_s
        self._open = False
        self._committed = 0
        self._passing = 0  # failed for a reason that passes by itself
        self._stuck = False  # a call does not come back
        try:
            self._try("Beginning transactions", self._client.init_transactions, request_s)
        except BrokerError:
            self.close()
            raise

    @property
    def delivered(self) -> int:
        """How many records were committed so far."""
        return self._committed

    @property
    def open(self) -> bool:
        """Whether records were handed over that are not committed."""
        return self._open

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        """Hand over one record; the first one begins a transaction."""
        self._begin()
        super().produce(topic, value, key, partition, headers, timestamp_ms)

    def commit(self, offsets: Mapping[Part, int], consumer: Consumer) -> None:
        """Make visible what was handed over, and store the next offsets of the consumer's group with it.

        Raises:
            TransactionFailed: none of it is known to have been stored. What was handed over, or all of it, may be.
            DeliveryFailed: a record was refused for good.
        """
        self._begin()
        try:
            self.flush(self._request_s)
        except StillWaiting as owed:
            raise TransactionFailed(str(owed)) from None
        parts = [TopicPartition(*part, at) for part, at in offsets.items()]
        member = consumer.membership()
        what = "Committing a transaction"
        self._try(what, lambda s: self._client.send_offsets_to_transaction(parts, member, s), self._request_s)
        self._try(what, self._client.commit_transaction, self._request_s)
        self._open = False
        self._committed = self._handed

    def flush(self, timeout_s: float) -> None:
        """See `base.Producer.flush`; TransactionFailed where it was the broker's absence that refused records."""
        try:
            super().flush(timeout_s)
        except StillWaiting:
            raise
        except DeliveryFailed as fault:
            if self._refused:
                raise
            raise TransactionFailed(str(fault)) from None

    @property
    def _refused(self) -> bool:
        """Whether a record was refused for good, which no other transaction would change."""
        return self._passing < self._failed

    def close(self) -> None:
        """Abort what is open and release everything; what hangs in the client is left to itself."""
        if self._stuck:
            self._closed = True
            return
        # The client's own close aborts, and warns where it cannot: then the broker does, by its time limit or for the
        # next producer of this id.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            closing = threading.Thread(target=super().close, daemon=True)
            closing.start()
            closing.join(self._request_s + GRACE_S)

    def _begin(self) -> None:
        if not self._open:
            self._try("Beginning a transaction", lambda _: self._client.begin_transaction(), 0.0)
            self._open = True

    def _try(self, what: str, call: Callable[[float], object], timeout_s: float) -> None:
        """Call again while the client says that this would help."""
        give_up = time.monotonic() + timeout_s
        while True:
            left = max(give_up - time.monotonic(), 0.0)
            try:
                if timeout_s:
                    self._bounded(what, call, left)
                else:
                    call(left)
            except KafkaException as exception:
                error = cause(exception)
                if error.retriable() and left > 0.0:
                    time.sleep(min(PAUSE_S, left))
                    continue
                if error.code() in FORBIDDEN | REFUSED_LOGIN:
                    raise typed(error, what, self._bootstrap) from None
                if self._refused and self._failures:  # it is what the client has ended the transaction for
                    raise self._undelivered() from None
                raise TransactionFailed(
                    f"{what} at {self._bootstrap}: {reason(error)}.", fenced=error.code() in FENCED
                ) from None
            else:
                return

    def _bounded(self, what: str, call: Callable[[float], object], left_s: float) -> None:
        """Call, but no longer than that: the client forgets its time limit where a coordinator goes in its midst.

        librdkafka #5456 and #5511.
        """
        done: Future[object] = Future()

        def run() -> None:
            try:
                done.set_result(call(left_s))
            except BaseException as fault:  # for whoever waits
                done.set_exception(fault)

        threading.Thread(target=run, daemon=True).start()
        try:
            done.result(left_s + GRACE_S)
        except TimeoutError:
            self._stuck = True
            raise TransactionFailed(
                f"{what} at {self._bootstrap}: the client did not come back within {left_s + GRACE_S:.1f} s."
            ) from None

    def _not_taken(self, error: KafkaError, what: str) -> BrokerError:
        if error.code() not in ENDED:
            return super()._not_taken(error, what)
        self._served(self._client.poll, 0)
        if self._refused and self._failures:
            return self._undelivered()
        fatal = self._fatal is not None and self._fatal.code() in FENCED
        return TransactionFailed(f"{what}: {reason(error)}.", fenced=fatal)

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise TransactionFailed(
                f"The producer of transactions at {self._bootstrap} cannot go on: {reason(self._fatal)}.",
                fenced=self._fatal.code() in FENCED,
            )

    def _report(self, error: KafkaError | None, message: Message) -> None:
        super()._report(error, message)
        self._passing += error is not None and error.code() in UNAVAILABLE | PURGED
