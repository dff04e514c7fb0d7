"""What the daemon is compared with, pinned here so that nothing done to the product can move it.

    python -m benchmarks.limit --bootstrap HOST:PORT --topic NAME --partitions 4 --records N [--features F] [--decode]

Consumes a filled topic in this process of its own and prints records per second between a tenth and 95 % of it as
JSON, or of what follows its first `--before` records. With `--decode` every value is decoded by a typed msgspec Struct
into a float32 [batch, feature] array, and its entity into a slot number by a dictionary: the limit that the daemon's
rate is a share of.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, TopicPartition

BATCH = 4096
FIRST, LAST = 0.1, 0.95
"""The share of the records that the rate is taken over: what comes before is warm-up, what follows runs dry."""
CONSUMER = {
    "group.id": "limit",
    "fetch.queue.backoff.ms": 5,
    "queued.min.messages": 100_000,
    "retry.backoff.ms": 5,
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
}


def decoder(count: int) -> Callable[[list[Any]], Any]:
    """A function from messages of `count` features to (values float32 [B, F], slots int32 [B])."""
    names = [f"chan_{number:02d}" for number in range(count)]
    fields = [(name, float | None, float("nan")) for name in names]
    struct = msgspec.defstruct("Message", [("ts", int), ("host", str), *fields], gc=False)
    decode = msgspec.json.Decoder(struct).decode
    features, host = attrgetter(*names), attrgetter("host")
    slots: dict[str, int] = {}

    def run(batch: list[Any]) -> Any:
        structs = [decode(message.value()) for message in batch]
        flat = chain.from_iterable(map(features, structs))
        values = np.fromiter(flat, np.float32, len(structs) * count).reshape(-1, count)
        found = [slots.setdefault(name, len(slots)) for name in map(host, structs)]
        return values, np.array(found, np.int32)

    return run


def arguments() -> argparse.ArgumentParser:
    """What the loops are told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--before", type=int, default=0, help="records ahead of those that are measured")
    parser.add_argument("--features", type=int, default=25)
    return parser


def measure(told: argparse.Namespace, run: Callable[[list[Any]], Any] | None) -> float:
    """Records/s of consuming the topic and running `run` on each batch."""
    consumer = Consumer({**CONSUMER, "bootstrap.servers": told.bootstrap})
    consumer.assign([TopicPartition(told.topic, p, 0) for p in range(told.partitions)])
    begin, end = (told.before + share * (told.records - told.before) for share in (FIRST, LAST))
    seen, began, first = 0, 0.0, 0
    while seen < end:
        batch = consumer.consume(BATCH, 1.0)
        if run is not None and batch:
            run(batch)
        seen += len(batch)
        if not first and seen >= begin:
            first, began = seen, time.perf_counter()
    seconds = time.perf_counter() - began
    consumer.close()
    return (seen - first) / seconds


def main() -> None:
    parser = arguments()
    parser.add_argument("--decode", action="store_true")
    told = parser.parse_args()
    print(json.dumps({"records_per_s": measure(told, decoder(told.features) if told.decode else None)}))


if __name__ == "__main__":
    main()
