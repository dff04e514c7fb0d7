"""The admin client of any cluster, over confluent-kafka."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import (
    KafkaError,
    KafkaException,
    TopicCollection,
    Uuid,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by its type stubs
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
    TopicDescription,
)

from ...errors import BrokerUnavailable
from .administration import TopicInfo
from .consumer import REQUEST_S
from .faults import Watch, cause, setting

NO_ID = str(Uuid(0, 0))
"""Of brokers that give topics no ids: before Kafka 2.8."""


class KafkaAdmin:
    """See `administration.Admin`."""

    def __init__(self, settings: Mapping[str, Any], *, request_s: float = REQUEST_S) -> None:
        self._watch = Watch()
        self._bootstrap = str(settings["bootstrap.servers"])
        self._request_s = request_s
        try:
            self._client: AdminClient | None = AdminClient({**settings, **self._watch.settings()})
        except KafkaException as exception:
            raise setting(exception) from None

    @property
    def _open(self) -> AdminClient:
        assert self._client is not None, "the admin client is closed"
        return self._client

    def topics(self) -> dict[str, TopicInfo]:
        """All topics that this client may see."""
        try:
            found = self._open.list_topics(timeout=self._request_s).topics
        except KafkaException as exception:
            raise self._explained(exception, "Listing topics") from None
        return {
            name: TopicInfo(
                partitions=len(topic.partitions),
                replicas=max((len(part.replicas) for part in topic.partitions.values()), default=0),
            )
            for name, topic in found.items()
            if topic.error is None
        }

    def cluster_id(self) -> str:
        """The cluster's name for itself; empty where it has none."""
        try:
            return self._open.list_topics(timeout=self._request_s).cluster_id or ""
        except KafkaException as exception:
            raise self._explained(exception, "Asking for the cluster's id") from None

    def create(
        self,
        topic: str,
        partitions: int,
        config: Mapping[str, str] | None = None,
        replicas: int | None = None,
    ) -> bool:
        """Make a topic and wait until it can be used; see `administration.Admin.create`."""
        wanted = NewTopic(topic, partitions, -1 if replicas is None else replicas, config=dict(config or {}))
        try:
            self._answer(self._open.create_topics([wanted], **self._limits(operation=True))[topic])
        except KafkaException as exception:
            if cause(exception).code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise self._explained(exception, f"Creating topic '{topic}'") from None
        self._await(topic, partitions)
        return True

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions; see `administration.Admin.grow`."""
        wanted = NewPartitions(topic, partitions)
        try:
            self._answer(self._open.create_partitions([wanted], **self._limits(operation=True))[topic])
        except KafkaException as exception:
            raise self._explained(exception, f"Giving topic '{topic}' {partitions} partitions") from None
        self._await(topic, partitions)

    def _await(self, topic: str, partitions: int) -> None:
        """Wait until the cluster's metadata show the topic with a leader for each partition."""
        give_up = time.monotonic() + self._request_s
        while True:
            try:
                found = self._open.list_topics(topic, timeout=self._request_s).topics[topic]
            except KafkaException as exception:
                raise self._explained(exception, f"Looking for topic '{topic}'") from None
            if (
                sum(part.error is None and part.leader >= 0 for part in found.partitions.values())
                == partitions
            ):
                return
            if time.monotonic() > give_up:
                raise BrokerUnavailable(
                    f"Topic '{topic}' at {self._bootstrap} was made but has no leader after "
                    f"{self._request_s:g} s. Check that all brokers of the cluster run."
                )
            time.sleep(0.02)

    def describe_config(self, topic: str) -> dict[str, str]:
        """The settings in force for a topic."""
        resource = ConfigResource(ResourceType.TOPIC, topic)
        try:
            found = self._answer(self._open.describe_configs([resource], **self._limits())[resource])
        except KafkaException as exception:
            raise self._explained(exception, f"Reading the settings of topic '{topic}'") from None
        return {name: entry.value for name, entry in found.items() if entry.value is not None}

    def topic_id(self, topic: str) -> str:
        """What the cluster calls this topic and no other; see `administration.Admin.topic_id`."""
        given = str(self._described(topic, "id").topic_id)
        return "" if given == NO_ID else given

    def topic_rights(self, topic: str) -> frozenset[str] | None:
        """What this client may do with a topic; see `administration.Admin.topic_rights`."""
        return _named(
            self._described(topic, "rights", include_authorized_operations=True).authorized_operations
        )

    def _described(self, topic: str, what: str, **options: bool) -> TopicDescription:
        asked = TopicCollection([topic])
        try:
            found = self._open.describe_topics(asked, **options, **self._limits())
            described: TopicDescription = self._answer(found[topic])
        except KafkaException as exception:
            raise self._explained(exception, f"Asking for the {what} of topic '{topic}'") from None
        return described

    def group_rights(self, group: str) -> frozenset[str] | None:
        """What this client may do with a consumer group."""
        try:
            found = self._answer(
                self._open.describe_consumer_groups(
                    [group], include_authorized_operations=True, **self._limits()
                )[group]
            )
        except KafkaException as exception:
            if cause(exception).code() == KafkaError.GROUP_ID_NOT_FOUND:
                return None  # Kafka 4 knows the rights of groups that exist only
            raise self._explained(exception, f"Reading the rights on group '{group}'") from None
        return _named(found.authorized_operations)

    def _limits(self, *, operation: bool = False) -> dict[str, float]:
        limits = {"request_timeout": self._request_s}
        return {**limits, "operation_timeout": self._request_s} if operation else limits

    def _answer(self, future: Future[Any]) -> Any:
        """The result of an admin request; librdkafka limits its time."""
        return future.result()

    def _explained(self, exception: KafkaException, what: str) -> Exception:
        self._open.poll(0)  # a refused login is told to the error callback only
        return self._watch.explain(cause(exception), what, self._bootstrap)

    def close(self) -> None:
        """Release everything."""
        self._client = None


def _named(operations: Iterable[Any] | None) -> frozenset[str] | None:
    return None if operations is None else frozenset(operation.name for operation in operations)
