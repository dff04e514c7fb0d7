"""librdkafka's mock cluster by its C functions: the library inside the confluent-kafka wheel exports them.

A real Kafka protocol over TCP on the loopback, without Java and without disk. librdkafka calls the interface
experimental; a release that lacks a function gives a clear error, the contract suite tells of the rest.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from confluent_kafka import cimpl

from ...errors import BrokerError

PRODUCER = 0  # RD_KAFKA_PRODUCER
NO_RESPONSE = -195  # RD_KAFKA_RESP_ERR__TRANSPORT: the broker drops the connection instead of answering


class Request(IntEnum):
    """Kafka's numbers of the requests whose answers can be spoilt."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    INIT_PRODUCER_ID = 22


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_conf_new": (ctypes.c_void_p, []),
    "rd_kafka_conf_set_log_cb": (None, [ctypes.c_void_p, ctypes.c_void_p]),
    "rd_kafka_new": (ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_mock_cluster_new": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]),
    "rd_kafka_mock_cluster_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, [ctypes.c_void_p]),
    "rd_kafka_mock_topic_create": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int],
    ),
    "rd_kafka_mock_topic_delete": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p]),
    "rd_kafka_mock_partition_delete_records": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int64],
    ),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_down": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_up": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_rtt": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int]),
    "rd_kafka_mock_push_request_errors_array": (
        None,
        [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
    ),
    "rd_kafka_mock_clear_request_errors": (None, [ctypes.c_void_p, ctypes.c_int16]),
}
_ALREADY_EXISTS = 36  # RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS


def _library() -> ctypes.CDLL:
    """The very librdkafka that confluent-kafka uses: symbols of a module include those of what it links to.

    Raises:
        BrokerError: it does not export the mock cluster.
    """
    library = ctypes.CDLL(cimpl.__file__)
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise BrokerError(
                f"The embedded broker needs librdkafka's {name}, which this build of confluent-kafka "
                "does not export. Use the wheel pinned in constraints.txt, or a real Kafka."
            ) from None
        function.restype, function.argtypes = result, arguments
    return library


class MockCluster:
    """A mock cluster and the librdkafka handle that it lives in; both go with `close`."""

    def __init__(self, brokers: int) -> None:
        self._library = _library()
        self.brokers = range(1, brokers + 1)
        conf = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set_log_cb(conf, None)
        text = ctypes.create_string_buffer(512)
        self._handle = self._library.rd_kafka_new(PRODUCER, conf, text, len(text))
        if not self._handle:
            raise BrokerError(f"The embedded broker could not start: {text.value.decode()}.")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, brokers)
        if not self._cluster:
            self._library.rd_kafka_destroy(self._handle)
            raise BrokerError("The embedded broker could not open its ports on the loopback interface.")
        # A group of one need not wait for others.
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)

    @property
    def open(self) -> bool:
        """Whether it has not been closed."""
        return bool(self._handle)

    def bootstraps(self) -> str:
        """Addresses of the brokers."""
        return str(self._library.rd_kafka_mock_cluster_bootstraps(self._alive).decode())

    def create(self, topic: str, partitions: int, replicas: int) -> bool:
        """Make a topic; False if it exists."""
        code = self._library.rd_kafka_mock_topic_create(self._alive, topic.encode(), partitions, replicas)
        if code == _ALREADY_EXISTS:
            return False
        self._check(code, f"creating topic '{topic}'")
        return True

    def delete(self, topic: str) -> None:
        """Remove a topic and its records."""
        self._check(
            self._library.rd_kafka_mock_topic_delete(self._alive, topic.encode()), f"deleting topic '{topic}'"
        )

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Drop the records before an offset, as retention would."""
        code = self._library.rd_kafka_mock_partition_delete_records(
            self._alive, topic.encode(), partition, before
        )
        self._check(code, f"deleting records of {topic}[{partition}]")

    def down(self, broker: int) -> None:
        """Close a broker's port and its connections; it keeps what it holds."""
        self._check(self._library.rd_kafka_mock_broker_set_down(self._alive, broker), "stopping a broker")

    def up(self, broker: int) -> None:
        """Open a broker's port again."""
        self._check(self._library.rd_kafka_mock_broker_set_up(self._alive, broker), "starting a broker")

    def slow(self, broker: int, round_trip_ms: int) -> None:
        """Let a broker take its time over every answer."""
        code = self._library.rd_kafka_mock_broker_set_rtt(self._alive, broker, round_trip_ms)
        self._check(code, "slowing a broker")

    def spoil(self, request: Request, errors: Iterable[int]) -> None:
        """Answer the next requests of a kind with these error codes, one each."""
        codes = list(errors)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._alive, request, len(codes), (ctypes.c_int * len(codes))(*codes)
        )

    def heal(self, request: Request) -> None:
        """Forget the errors that were not used."""
        self._library.rd_kafka_mock_clear_request_errors(self._alive, request)

    def close(self) -> None:
        """Stop the brokers and free the memory; a second call does nothing."""
        if self._handle:
            cluster, handle = self._cluster, self._handle
            self._cluster = self._handle = None
            self._library.rd_kafka_mock_cluster_destroy(cluster)
            self._library.rd_kafka_destroy(handle)

    @property
    def _alive(self) -> Any:
        if not self._handle:
            raise BrokerError("The embedded broker is closed.")
        return self._cluster

    def _check(self, code: int, what: str) -> None:
        if code != 0:
            raise BrokerError(f"The embedded broker failed at {what}: error {code}.")
