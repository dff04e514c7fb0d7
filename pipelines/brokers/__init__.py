"""Consuming and producing: one interface, any Kafka cluster or one inside this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .administration import Admin, TopicInfo
from .base import (
    BEGINNING,
    END,
    Batch,
    Broker,
    Capabilities,
    CommitRefused,
    Consumer,
    DataLoss,
    Events,
    Headers,
    Part,
    Producer,
    Start,
)

if TYPE_CHECKING:
    from .config import Table

__all__ = [
    "BEGINNING",
    "EMBEDDED",
    "END",
    "Admin",
    "Batch",
    "Broker",
    "Capabilities",
    "CommitRefused",
    "Consumer",
    "DataLoss",
    "Events",
    "Headers",
    "Part",
    "Producer",
    "Start",
    "TopicInfo",
    "open_broker",
]

EMBEDDED = "embedded"
"""As a bootstrap address: the broker inside this process."""


def open_broker(bootstrap: str, librdkafka: Table | None = None) -> Broker:
    """The cluster at `bootstrap` ("host:port,host:port"), or a new one inside this process ("embedded").

    Nothing is connected yet: the first use of a client tells whether anybody answers.

    Raises:
        SettingsError: `librdkafka` holds a setting that may not be set there.
    """
    # Client libraries are loaded here only: most of what imports this package never opens a broker.
    if bootstrap == EMBEDDED:
        from .embedded import EmbeddedBroker

        return EmbeddedBroker(librdkafka)
    from .kafka import KafkaBroker

    return KafkaBroker(bootstrap, librdkafka)
