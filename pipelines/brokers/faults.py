"""librdkafka's errors, logs and statistics in Tocsin's words."""
# ruff: noqa: SLF001 -- the underscore marks librdkafka's own codes, as opposed to Kafka's

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException

from ...errors import BrokerError, BrokerUnavailable, SettingsError, UnknownTopic
from .base import CommitRefused

LOG: Final = logging.getLogger("tocsin.kafka")

LEADER_MOVES = frozenset({
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.KAFKA_STORAGE_ERROR,
})  # fmt: skip
UNAVAILABLE = LEADER_MOVES | frozenset({
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._WAIT_COORD,
    KafkaError._WAIT_CACHE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NETWORK_EXCEPTION,
})  # fmt: skip
UNKNOWN = frozenset({
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.TOPIC_EXCEPTION,
})  # fmt: skip
FORBIDDEN = frozenset({
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
})  # fmt: skip
REFUSED_LOGIN = frozenset({
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.ILLEGAL_SASL_STATE,
})  # fmt: skip
MOVED_ON = frozenset({
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.FENCED_MEMBER_EPOCH,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._MAX_POLL_EXCEEDED,
})  # fmt: skip
FENCED = frozenset({
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
})  # fmt: skip
ENDED = frozenset({KafkaError._FATAL, KafkaError._STATE})
"""By these `produce` says that the transaction, or the producer, has failed already."""
PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})

OFFSET_GONE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
END_OF_PARTITION = KafkaError._PARTITION_EOF
GROUP_FORBIDDEN = KafkaError.GROUP_AUTHORIZATION_FAILED
EVICTED = KafkaError._MAX_POLL_EXCEEDED


def reason(error: KafkaError) -> str:
    """The error as one phrase, with librdkafka's name for it."""
    return f"{error.str()} ({error.name()})"


def cause(exception: KafkaException) -> KafkaError:
    """The error that librdkafka gave."""
    error = exception.args[0]
    assert isinstance(error, KafkaError)
    return error


def typed(error: KafkaError, what: str, bootstrap: str) -> BrokerError:
    """The exception to raise for an error met while doing `what` ("reading topic 'x'")."""
    code, text = error.code(), reason(error)
    if code in UNAVAILABLE:
        return BrokerUnavailable(
            f"{what}: no broker answers at {bootstrap}: {text}. "
            "Check that it runs and that `[kafka] bootstrap` is its address."
        )
    if code in UNKNOWN:
        return UnknownTopic(
            f"{what}: the broker at {bootstrap} knows no such topic or partition: {text}. "
            "Check the name, or let `tocsin check --connect --create-topics` make it."
        )
    if code in FORBIDDEN:
        return BrokerError(
            f"{what}: the broker at {bootstrap} does not allow it: {text}. "
            "Give the user of this client the right (an ACL) to do so."
        )
    if code in REFUSED_LOGIN:
        host = " and that `[kafka] bootstrap` names the host as its certificate does"
        return BrokerError(
            f"{what}: the broker at {bootstrap} refuses the connection: {text}. "
            f"Check security.protocol, sasl.* and ssl.* in `[kafka.librdkafka]`{host * (code == KafkaError._SSL)}."
        )
    if code in MOVED_ON:
        return CommitRefused(f"{what}: the group has moved on, the partitions are not this member's: {text}.")
    return BrokerError(f"{what}: the broker at {bootstrap} or the client failed: {text}.")


def setting(exception: KafkaException) -> SettingsError:
    """The exception to raise when librdkafka refuses its configuration."""
    return SettingsError(f"[kafka.librdkafka] {cause(exception).str()}.")


class _Node(msgspec.Struct):
    state: str


class _Statistics(msgspec.Struct):
    brokers: dict[str, _Node]


_statistics = msgspec.json.Decoder(_Statistics)


class Watch:
    """What one client has met: fed by its error and statistics callbacks, which run while it is polled."""

    def __init__(self) -> None:
        self.down = False
        self.errors: Counter[str] = Counter()
        self.login: KafkaError | None = None
        self.doubt = False  # whether a topic may be gone or closed to this client: worth a look
        self._last_words = "the client has failed for good"

    def on_error(self, error: KafkaError) -> None:
        """librdkafka's `error_cb`: informational, the client goes on by itself."""
        self.errors[error.name()] += 1
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            if not self.down:
                LOG.warning("no broker can be reached, trying on: %s", error.str())
            self.down = True
        elif error.code() in REFUSED_LOGIN:
            self.login = error
        elif error.code() in UNKNOWN | FORBIDDEN:
            self.doubt = True

    def on_statistics(self, text: str) -> None:
        """librdkafka's `stats_cb`: the one place where a broker is seen to be back while nothing moves."""
        if self.down and any(node.state == "UP" for node in _statistics.decode(text).brokers.values()):
            self.alive()

    def alive(self) -> None:
        """A broker has answered."""
        if self.down:
            LOG.warning("a broker can be reached again")
        self.down = False
        self.login = None

    def explain(self, error: KafkaError, what: str, bootstrap: str) -> BrokerError:
        """`typed`, but with what the client saw: a refused login merely times out requests, a lost cluster
        makes every partition look unknown."""
        code = error.code()
        if self.down and code in (KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC):
            error = KafkaError(KafkaError._ALL_BROKERS_DOWN)
        elif code in UNAVAILABLE and self.login is not None:
            error = self.login
        return typed(error, what, bootstrap)

    def log(self, level: int, form: str, facility: str, client: str, text: str) -> None:
        """librdkafka's `logger`. A fatal error's text is kept first: the line after may be the one that loses
        the error itself, when both are told in one poll."""
        if facility == "FATAL":
            self._last_words = text
        QUIET.log(level, form, facility, client, text)

    def fatal(self) -> KafkaError:
        """The fatal error whose exception was lost, by the client's log."""
        return KafkaError(KafkaError._FATAL, self._last_words)

    def settings(self) -> dict[str, Any]:
        """The callbacks, for a client's configuration."""
        return {"error_cb": self.on_error, "stats_cb": self.on_statistics, "logger": self}


class Quiet(logging.Filter):
    """Lets a line of librdkafka through once in `every_s`: a lost broker is reported twenty times a second.

    Lines are alike when they differ in digits only. A setting that concerns only the other kind of client
    is not worth a line: one table serves both.
    """

    def __init__(self, every_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s, self._clock = every_s, clock
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be written."""
        text = record.getMessage()
        if re.search(r"CONFWARN.* is a (consumer|producer) property", text):
            return False
        alike, now = re.sub(r"\d+", "#", text), self._clock()
        if now - self._last.get(alike, -self._every_s) < self._every_s:
            return False
        if len(self._last) >= 1000:
            self._last.clear()
        self._last[alike] = now
        return True


QUIET: Final = logging.getLogger("tocsin.kafka.client")
if not any(isinstance(one, Quiet) for one in QUIET.filters):
    QUIET.addFilter(Quiet())
