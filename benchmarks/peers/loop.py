"""What the peers' programs share: the topic, read as by the limit, and a rate over a time rather than all records.

    python -m benchmarks.peers.NAME --bootstrap HOST:PORT --topic NAME --partitions 4 --records N --features F
        --trained FILE.npz --seconds S

Prints records/s as JSON: from a tenth of the topic or WARM_S on, up to 95 % of it or for S seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from .. import limit

WARM_S = 3.0
FITTED = 20_000
"""Rows that a model is fitted on."""


def arguments() -> argparse.Namespace:
    """What a peer is told."""
    parser = limit.arguments()
    parser.add_argument("--trained", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    return parser.parse_args()


class Meter:
    """Counts records and tells when enough have been seen."""

    def __init__(self, told: argparse.Namespace) -> None:
        self._begin, self._end = limit.FIRST * told.records, limit.LAST * told.records
        self._seconds = told.seconds
        self._seen = self._first = 0
        self._started = self._began = 0.0

    def over(self, records: int) -> bool:
        """Whether it is over, with so many more."""
        now = time.perf_counter()
        self._started = self._started or now
        self._seen += records
        if not self._first and (self._seen >= self._begin or now - self._started > WARM_S):
            self._first, self._began = self._seen, now
        self._now = now
        return bool(self._first) and (self._seen >= self._end or now - self._began > self._seconds)

    def tell(self) -> None:
        """Print the rate."""
        print(json.dumps({"records_per_s": (self._seen - self._first) / (self._now - self._began)}))


def run(told: argparse.Namespace, score: Callable[[Any, Any], Any], batch: int = 1) -> None:
    """Consume `batch` messages at a time and have them scored as (values [B, F], slots [B])."""
    consumer = Consumer({**limit.CONSUMER, "bootstrap.servers": told.bootstrap})
    consumer.assign([TopicPartition(told.topic, p, 0) for p in range(told.partitions)])
    decode, meter, taken = limit.decoder(told.features), Meter(told), 0
    while not meter.over(taken):
        messages = consumer.consume(batch, 1.0)
        taken = len(messages)
        if messages:
            score(*decode(messages))
    consumer.close()
    meter.tell()


class Trained:
    """The rows that the product was trained on."""

    def __init__(self, told: argparse.Namespace) -> None:
        with np.load(told.trained) as held:
            self.values, self.entity = held["values"], held["entity"]
        self.mean, self.spread = self.values.mean(axis=0), self.values.std(axis=0) + 1e-6

    def unit(self, values: Any) -> Any:
        """Of mean 0 and spread 1 by these rows."""
        return (values - self.mean) / self.spread

    def rows(self) -> Any:
        """FITTED of them at most, evenly strided."""
        return self.unit(self.values[:: max(1, len(self.values) // FITTED)])

    def windows(self, lags: int) -> Any:
        """[n, lags, F] the last records of an entity up to some, FITTED at most."""
        order = np.argsort(self.entity, kind="stable")
        found = np.lib.stride_tricks.sliding_window_view(self.unit(self.values[order]), lags, axis=0)
        whole = self.entity[order][lags - 1 :] == self.entity[order][: 1 - lags]
        found = found[whole].swapaxes(1, 2)
        return np.ascontiguousarray(found[:: max(1, len(found) // FITTED)], np.float32)


class Windows:
    """The last records of each entity."""

    def __init__(self, lags: int) -> None:
        self._lags = lags
        self._held: dict[int, Any] = {}

    def add(self, slot: int, row: Any) -> Any:
        """[lags, F] with this record, zeros before an entity's first."""
        held = self._held.get(slot)
        if held is None:
            held = self._held[slot] = np.zeros((self._lags, len(row)), np.float32)
        held[:-1] = held[1:]
        held[-1] = row
        return held
