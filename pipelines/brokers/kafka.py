"""Any Kafka cluster, through confluent-kafka."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ...errors import BrokerUnavailable
from . import config
from .admin import KafkaAdmin
from .base import Capabilities, Part, Start
from .config import Table
from .consumer import REQUEST_S, KafkaConsumer
from .producer import KafkaProducer
from .transactions import KafkaTransactions

Client = TypeVar("Client", KafkaConsumer, KafkaProducer, KafkaTransactions, KafkaAdmin)

ALL = Capabilities(
    admin=True,
    search_by_time=True,
    compaction=True,
    transactions=True,
    durable=True,
    topic_ids=True,
    security=True,
    steady_groups=True,
)
NONE = Capabilities(
    admin=False,
    search_by_time=False,
    compaction=False,
    transactions=False,
    durable=False,
    topic_ids=False,
    security=False,
    steady_groups=False,
)
# How librdkafka begins the id of every mock cluster; a real cluster's id is 22 characters of base64.
MOCK_CLUSTER = "mockCluster"


class KafkaBroker:
    """A cluster reached at `bootstrap`; connects only when a client is used.

    `librdkafka` is the operator's table of client settings; `request_s` limits each request. A client that
    is still open when the broker is closed is closed with it.

    Raises:
        SettingsError: a setting of the table may not be set there.
    """

    _search_by_time = True  # asked for when a consumer is made, which must not wait for the cluster

    def __init__(
        self, bootstrap: str, librdkafka: Table | None = None, *, request_s: float = REQUEST_S
    ) -> None:
        self._bootstrap = bootstrap
        self._table: Mapping[str, Any] = config.checked(librdkafka or {})
        self._request_s = request_s
        self._capabilities: Capabilities | None = None
        self._clients: weakref.WeakSet[KafkaConsumer | KafkaProducer | KafkaAdmin] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._bootstrap!r})"

    @property
    def bootstrap(self) -> str:
        """The address that any Kafka client can use."""
        return self._bootstrap

    @property
    def capabilities(self) -> Capabilities:
        """What the cluster can do, asked once: another process's embedded broker can do none of it.

        While nobody answers it is taken for a real one.
        """
        if self._capabilities is None:
            admin = self.admin()
            try:
                self._capabilities = NONE if admin.cluster_id().startswith(MOCK_CLUSTER) else ALL
            except BrokerUnavailable:
                return ALL
            finally:
                admin.close()
        return self._capabilities

    def consumer(
        self,
        group: str | None = None,
        *,
        start: Start = "error",
        headers: bool = True,
        uncommitted: bool = False,
    ) -> KafkaConsumer:
        """A new consumer.

        Raises:
            SettingsError: librdkafka refuses its settings.
        """
        settings = config.consumer(self._bootstrap, self._table, group)
        if uncommitted:
            settings["isolation.level"] = "read_uncommitted"
        return self._opened(
            KafkaConsumer(
                settings,
                start=start,
                headers=headers,
                search_by_time=self._search_by_time,
                request_s=self._request_s,
            )
        )

    def committed(self, group: str, parts: Iterable[Part]) -> dict[Part, int | None]:
        """See `base.Broker.committed`. By a consumer: an admin client that asks falls over a null pointer when the
        group's coordinator moves (librdkafka issue 5040).
        """
        consumer = self.consumer(group, uncommitted=True)
        try:
            return consumer.committed(parts)
        finally:
            consumer.close()

    def producer(self) -> KafkaProducer:
        """A new producer.

        Raises:
            SettingsError: librdkafka refuses its settings.
        """
        return self._opened(KafkaProducer(config.producer(self._bootstrap, self._table)))

    def transactions(self, transactional_id: str) -> KafkaTransactions:
        """A new producer of transactions; it fences any other of that id.

        Raises:
            SettingsError: librdkafka refuses its settings.
            TransactionFailed: nobody answers.
        """
        settings = config.transactions(self._bootstrap, self._table, transactional_id)
        return self._opened(KafkaTransactions(settings, request_s=self._request_s))

    def admin(self) -> KafkaAdmin:
        """A new admin client.

        Raises:
            SettingsError: librdkafka refuses its settings.
        """
        return self._opened(
            KafkaAdmin(config.common(self._bootstrap, self._table), request_s=self._request_s)
        )

    def _opened(self, client: Client) -> Client:
        self._clients.add(client)
        return client

    def close(self) -> None:
        """Close what is still open."""
        for client in list(self._clients):
            client.close()
        self._clients.clear()
