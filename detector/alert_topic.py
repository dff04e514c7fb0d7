"""The alert topic, read back: all of it, or what comes from now on; and one more alert put there by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..errors import DataError, UnknownTopic
from ..pipelines.brokers.base import Batch, Broker, Part
from .alerts import Alert, decode, message_of
from .control import read_to_end


class Read(NamedTuple):
    """An alert, or why the message at this place is none that this version understands."""

    place: str
    alert: Alert | None
    fault: str


def read_alerts(broker: Broker, topic: str) -> Iterator[Read]:
    """Every message that the topic holds now. UnknownTopic where it does not exist."""
    consumer = broker.consumer(headers=False)
    try:
        for batch in read_to_end(consumer, _parts(broker, topic)):
            yield from _decoded(batch)
    finally:
        consumer.close()


def follow_alerts(broker: Broker, topic: str, wait_s: float = 0.5) -> Iterator[Read | None]:
    """Every message that comes from now on; None whenever `wait_s` passed without one.

    Ends with its consumer.
    """
    consumer = broker.consumer(headers=False)
    try:
        ends = consumer.end_offsets(_parts(broker, topic))
        consumer.assign((*part, end) for part, end in ends.items())
        yield None  # from here on nothing is missed
        while True:
            batch = consumer.consume(1000, wait_s)
            yield from _decoded(batch) if batch else (None,)
    finally:
        consumer.close()


def publish_alert(broker: Broker, topic: str, alert: Alert, timeout_s: float = 30.0) -> None:
    """Append an alert, where a daemon would: in the partition of its entity.

    Raises:
        UnknownTopic: the topic does not exist.
        DeliveryFailed: the broker did not acknowledge it.
    """
    _parts(broker, topic)
    message, producer = message_of(alert), broker.producer()
    try:
        producer.produce(topic, message.value, message.key, headers=message.headers)
        producer.flush(timeout_s)
    finally:
        producer.close()


def _parts(broker: Broker, topic: str) -> list[Part]:
    admin = broker.admin()
    try:
        info = admin.topics().get(topic)
    finally:
        admin.close()
    if info is None:
        raise UnknownTopic(
            f"The alert topic {topic!r} does not exist at {broker.bootstrap}. `tocsin check --connect "
            "--create-topics` makes it; [stream] alerts names it."
        )
    return [(topic, partition) for partition in range(info.partitions)]


def _decoded(batch: Batch) -> Iterator[Read]:
    for topic, partition, offset, value in zip(
        batch.topic, batch.partition, batch.offset, batch.value, strict=True
    ):
        if value is None:
            continue
        place = f"{topic}[{partition}] at offset {offset}"
        try:
            yield Read(place, decode(value, f"the alert {place}"), "")
        except DataError as fault:
            yield Read(place, None, str(fault))
