"""librdkafka's settings: what Tocsin chooses, what the operator may choose, what neither may touch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from ...errors import SettingsError

Table: TypeAlias = Mapping[str, str | int | float | bool]

COMMON: dict[str, Any] = {
    "client.id": "tocsin",
    # A mistyped topic is an error, never a new topic.
    "allow.auto.create.topics": False,
    # The default of 100 ms makes each answer of "try again" cost that much.
    "retry.backoff.ms": 5,
    "reconnect.backoff.ms": 100,
    "reconnect.backoff.max.ms": 1000,
    # How long a topic may be unknown, after which its records fail and its reader is told.
    "topic.metadata.propagation.max.ms": 5000,
    # How soon an idle client notices that a broker is back.
    "statistics.interval.ms": 2000,
}

CONSUMER: dict[str, Any] = {
    # The default of 1000 ms stalls a consumer that is slower than the network, a second at a time.
    "fetch.queue.backoff.ms": 5,
    # Fetched ahead, of each partition: a twentieth of the default. More only takes memory, while there is a backlog.
    "queued.min.messages": 5_000,
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # Where to go when an offset is gone is decided here, visibly, not by the client library.
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "partition.assignment.strategy": "cooperative-sticky",
    # A member hears of a rebalance with its next heartbeat, and no offset can be committed until all have heard: with
    # the default of 3 s partitions that stay stood still for as long.
    "heartbeat.interval.ms": 300,
}

READER: dict[str, Any] = {
    # A broker answers a connection in order: what else a reader asks shall not stand behind an idle fetch for the
    # default of 500 ms.
    "fetch.wait.max.ms": 100,
}

PRODUCER: dict[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "linger.ms": 5,
    "queue.buffering.max.kbytes": 131_072,
    # The topic's own limit decides: a message that came in goes out again with headers, as a dead letter.
    "message.max.bytes": 100_000_000,
    "delivery.report.only.error": True,
}

TRANSACTIONS: dict[str, Any] = {
    # After a crash readers wait so long for what was begun, and so does whoever takes over.
    "transaction.timeout.ms": 15_000,
}

OWN_PLACE = {
    "bootstrap.servers": "set `[kafka] bootstrap`",
    "metadata.broker.list": "set `[kafka] bootstrap`",
    "group.id": "set `[stream] group_id`",
    "auto.offset.reset": "set `[stream] start`",
    "enable.auto.commit": "offsets are committed after what they stand for, never by a clock",
    "enable.auto.offset.store": "offsets are committed after what they stand for, never by a clock",
    "enable.partition.eof": "it follows from what a consumer is for",
    "enable.idempotence": "records must be neither lost nor doubled on the way",
    "acks": "records must be neither lost nor doubled on the way",
    "request.required.acks": "records must be neither lost nor doubled on the way",
    "delivery.report.only.error": "deliveries are counted from it",
    "partition.assignment.strategy": "rebalances are cooperative",
    "transactional.id": "set `[stream] transactional_id`",
}

NO_GROUP = "tocsin-without-group"
"""The name that librdkafka demands where no group is joined; nobody needs a right to it."""

# With the consumer group protocol of Kafka 4 these are settings of the broker and may not be given.
CLASSIC_ONLY = ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms")


def checked(table: Table) -> dict[str, Any]:
    """The operator's `[kafka.librdkafka]` table, or the reason why it cannot be used.

    Raises:
        SettingsError: a setting belongs elsewhere or would break a promise.
    """
    for name in table:
        if name in OWN_PLACE:
            raise SettingsError(f"[kafka.librdkafka] {name} cannot be set there: {OWN_PLACE[name]}.")
    return dict(table)


def common(bootstrap: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an admin client."""
    return {**COMMON, **table, "bootstrap.servers": bootstrap}


def consumer(bootstrap: str, table: Mapping[str, Any], group: str | None) -> dict[str, Any]:
    """Settings of a consumer; librdkafka demands a group even where none is joined."""
    alone = READER if group is None else {}
    settings = {**COMMON, **CONSUMER, **alone, **table, "bootstrap.servers": bootstrap}
    settings["group.id"] = group if group is not None else NO_GROUP
    # Who reads up to an end must hear of it: what stands there may be no record but the mark of a transaction.
    settings["enable.partition.eof"] = group is None
    if settings.get("group.protocol") == "consumer":
        for name in CLASSIC_ONLY:
            settings.pop(name, None)
    return settings


def producer(bootstrap: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a producer."""
    return {**COMMON, **PRODUCER, **table, "bootstrap.servers": bootstrap}


def transactions(bootstrap: str, table: Mapping[str, Any], transactional_id: str) -> dict[str, Any]:
    """Settings of a producer of transactions."""
    return {**COMMON, **PRODUCER, **TRANSACTIONS, **table, "bootstrap.servers": bootstrap} | {
        "transactional.id": transactional_id
    }
