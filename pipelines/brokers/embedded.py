"""A broker inside this process: for the demo, for fast tests and for faults on demand.

Any Kafka client of this machine can use its `bootstrap`. It is volatile: a partition holds at most 5 MiB or
100,000 batches, and everything goes when the object is closed. It has no topic settings, no compaction, no
security, and every later rebalance of a group takes up to the session timeout.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import BrokerError
from . import config
from .admin import KafkaAdmin
from .config import Table
from .consumer import REQUEST_S
from .kafka import NONE, KafkaBroker
from .mock import NO_RESPONSE, MockCluster, Request

# The mock group waits for its members by their session, so a short one keeps rebalances short; and a fetch
# that waits is not woken by a new record, as it would be in Kafka.
DEFAULTS: Table = {"session.timeout.ms": 6000, "fetch.wait.max.ms": 20}


class EmbeddedAdmin(KafkaAdmin):
    """Metadata and group offsets over the wire; topics are made in the mock cluster itself."""

    def __init__(self, cluster: MockCluster, settings: Mapping[str, Any], *, request_s: float) -> None:
        super().__init__(settings, request_s=request_s)
        self._cluster = cluster

    def create(
        self,
        topic: str,
        partitions: int,
        config: Mapping[str, str] | None = None,
        replicas: int | None = None,
    ) -> bool:
        """Make a topic; a `config` is refused, for the mock cluster could not honour it."""
        if config:
            raise BrokerError(
                f"Creating topic '{topic}': the embedded broker has no topic settings, so {sorted(config)} "
                "cannot be honoured. Leave them out, or use a real Kafka."
            )
        made = self._cluster.create(topic, partitions, min(replicas or 3, len(self._cluster.brokers)))
        if made:
            self._await(topic, partitions)
        return made

    def grow(self, topic: str, partitions: int) -> None:
        """Refused: a topic of the mock cluster keeps the partitions that it was made with."""
        raise BrokerError(
            f"Giving topic '{topic}' {partitions} partitions: the embedded broker cannot. Make a topic anew."
        )

    def describe_config(self, topic: str) -> dict[str, str]:
        """Refused: there are no topic settings."""
        raise BrokerError(
            f"Reading the settings of topic '{topic}': the embedded broker has no topic settings."
        )

    def topic_id(self, topic: str) -> str:
        """Not known: the mock cluster does not answer the question."""
        return ""

    def topic_rights(self, topic: str) -> None:
        """Not known either: there are no access rights."""

    def group_rights(self, group: str) -> None:
        """Not known either."""


class EmbeddedBroker(KafkaBroker):
    """A cluster of `brokers` nodes that lives as long as this object, or until `close`.

    Raises:
        BrokerError: this build of librdkafka has no mock cluster.
        SettingsError: a setting of the table may not be set there.
    """

    capabilities = NONE
    _search_by_time = False

    def __init__(
        self, librdkafka: Table | None = None, *, brokers: int = 1, request_s: float = REQUEST_S
    ) -> None:
        chosen = config.checked(librdkafka or {})
        self._cluster = MockCluster(brokers)
        super().__init__(self._cluster.bootstraps(), {**DEFAULTS, **chosen}, request_s=request_s)
        # Clients that outlive this object would otherwise talk to freed memory's ports for ever.
        self._finalizer = weakref.finalize(self, self._cluster.close)

    def admin(self) -> EmbeddedAdmin:
        """A new admin client, which can make topics but knows no topic settings."""
        settings = config.common(self._bootstrap, self._table)
        admin = EmbeddedAdmin(self._cluster, settings, request_s=self._request_s)
        self._clients.add(admin)
        return admin

    def close(self) -> None:
        """Close the clients opened here, then the cluster; its records are gone."""
        super().close()
        self._finalizer()

    # -- faults on demand ----------------------------------------------------------------------

    def down(self, broker: int | None = None) -> None:
        """Take one node, or all, off the network; what they hold is kept."""
        for one in self._cluster.brokers if broker is None else [broker]:
            self._cluster.down(one)

    def up(self, broker: int | None = None) -> None:
        """Bring nodes back."""
        for one in self._cluster.brokers if broker is None else [broker]:
            self._cluster.up(one)

    def slow(self, round_trip_ms: int) -> None:
        """Let every answer take so long; 0 ends it."""
        for one in self._cluster.brokers:
            self._cluster.slow(one, round_trip_ms)

    def spoil(self, request: Request, errors: Iterable[int] = (NO_RESPONSE,)) -> None:
        """Answer the next requests of a kind with Kafka's error codes, one each (by default: hang up)."""
        self._cluster.spoil(request, errors)

    def heal(self, request: Request) -> None:
        """Forget the errors that were not used."""
        self._cluster.heal(request)

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Drop the records before an offset, as retention would."""
        self._cluster.delete_records(topic, partition, before)

    def delete_topic(self, topic: str) -> None:
        """Remove a topic and its records."""
        self._cluster.delete(topic)
