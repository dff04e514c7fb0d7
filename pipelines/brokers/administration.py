"""What the rest of Tocsin may ask about topics, and have made of them; see `base` for what it may ask of a broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class TopicInfo(NamedTuple):
    """A topic as the cluster's metadata show it."""

    partitions: int
    replicas: int


class Admin(Protocol):
    """Looks at topics and makes them."""

    def topics(self) -> dict[str, TopicInfo]:
        """All topics that this client may see.

        Raises:
            BrokerUnavailable: nobody answers.
        """

    def create(
        self,
        topic: str,
        partitions: int,
        config: Mapping[str, str] | None = None,
        replicas: int | None = None,
    ) -> bool:
        """Make a topic and wait until it can be used; False if it was there already, untouched.

        Raises:
            BrokerError: the broker refuses, or cannot have topic settings and some are given.
        """

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions, and wait until they can be used.

        Raises:
            UnknownTopic: it does not exist.
            BrokerError: the broker cannot, or the topic has more already.
        """

    def describe_config(self, topic: str) -> dict[str, str]:
        """The settings in force for a topic, such as `cleanup.policy`.

        Raises:
            UnknownTopic: it does not exist.
            BrokerError: the broker knows no topic settings, or may not show them.
        """

    def topic_id(self, topic: str) -> str:
        """What the cluster calls this topic and no other, also of the same name before or after it; empty if not known.

        Raises:
            UnknownTopic: it does not exist.
            BrokerUnavailable: nobody answers.
        """

    def topic_rights(self, topic: str) -> frozenset[str] | None:
        """What this client may do with a topic, in Kafka's words ("READ", "WRITE", ...); None if not known.

        Raises:
            UnknownTopic: it does not exist, or may not even be seen.
        """

    def group_rights(self, group: str) -> frozenset[str] | None:
        """What this client may do with a consumer group, likewise."""

    def close(self) -> None:
        """Release everything."""
