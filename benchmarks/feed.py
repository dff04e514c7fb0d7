"""The telemetry that is measured on: a seeded fleet, a model of its clean part, topics filled with the rest."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import telemetry
from telemetry import Fleet
from tocsin.detector.learning import Gathered, learn, register
from tocsin.detector.settings import Settings
from tocsin.pipelines import sequences
from tocsin.pipelines.records import Records
from tocsin.pipelines.schema import FeatureSchema

PARTITIONS = 4
SEED = 7
FAULT_LENGTH = 12
CHUNK = 20_000
LARGEST_MESSAGE = 2 << 20


class Size(NamedTuple):
    """How much is measured; `trained` and `tested` are records per entity."""

    entities: int
    trained: int
    tested: int
    repetitions: int
    steps: int
    alerts_at_half: int
    """Alerts that the latency at half load is taken over, at least."""
    alerts_at_ten: int

    @property
    def records(self) -> int:
        """Records of the filled topic."""
        return self.entities * self.tested


FULL = Size(1000, 300, 800, 5, 800, 1000, 200)
FAST = Size(50, 120, 400, 1, 20, 30, 10)


class Shape(NamedTuple):
    """What a record looks like, and the model that scores it."""

    features: int = 25
    lags: int = 5
    profile: str = "shared"
    format: str = "json_wide"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features."""
        return tuple(f"chan_{number:02d}" for number in range(self.features))

    @property
    def messages(self) -> int:
        """Messages that make a record."""
        return self.features if self.format == "json_long" else 1


MAIN = Shape()


def fleet_of(size: Size, shape: Shape = MAIN) -> Fleet:
    """A fleet whose faults lie in the tested part and touch about 0.2 records in a thousand to alert on."""
    records = size.trained + size.tested
    fleet = telemetry.generate(
        SEED,
        size.entities,
        records,
        shape.features,
        faults=size.entities // 5,
        fault_length=FAULT_LENGTH,
        clean=(size.trained + 0.5) / records,
    )
    return fleet._replace(features=shape.names)


def trained_rows(fleet: Fleet, size: Size) -> NDArray[np.int64]:
    """The clean rows, which the model is trained on."""
    return np.flatnonzero(fleet.time_us < _border(fleet, size))


def tested_rows(fleet: Fleet, size: Size) -> NDArray[np.int64]:
    """The rows after them, in order of arrival."""
    return np.flatnonzero(fleet.time_us >= _border(fleet, size))


def _border(fleet: Fleet, size: Size) -> int:
    mine = np.sort(fleet.time_us[fleet.entity == 0])
    return int(mine[size.trained])


def train(settings: Settings, fleet: Fleet, rows: NDArray[np.int64]) -> str:
    """Train and register a version of the settings' one stream; returns its name."""
    stream = settings.streams[0]
    schema = FeatureSchema(fleet.features, ())
    records = Records(
        fleet.entity[rows],
        np.zeros(len(rows), np.int32),
        np.arange(len(rows)),
        fleet.time_us[rows],
        fleet.values[rows],
    )
    series, counts = sequences.collect(
        [records],
        fleet.names.__getitem__,
        len(schema),
        schema.counter_index,
        stream.lags,
        stream.window,
        int(stream.far_ahead),
    )
    trained = learn(settings, stream, Gathered(series, counts, schema, Counter()))
    return register(settings, stream, trained, schema, "2024-01-01T00:00:00Z", 0.0).name


def with_spikes(fleet: Fleet, rows: NDArray[np.int64], per_entity: float, length: int, last: float) -> Fleet:
    """The fleet with extreme spikes of `length` records in ordinary rows, all within the first `last` of `rows`.

    Every entity gets `per_entity` of them on average, far apart and never beside a planted fault.
    """
    rng = np.random.default_rng(SEED)
    values = fleet.values.copy()
    spread = np.nanstd(values[rows], axis=0)
    order = rows[np.argsort(fleet.entity[rows], kind="stable")]
    bounds = np.searchsorted(fleet.entity[order], np.arange(len(fleet.names) + 1))
    extra = rng.random(len(fleet.names)) < per_entity % 1
    for entity in range(len(fleet.names)):
        mine = order[bounds[entity] : bounds[entity + 1]]
        count = int(per_entity) + int(extra[entity])
        room = int(len(mine) * last) // max(count, 1)
        for nth in range(count):
            begin = nth * room + int(rng.integers(10, max(room - length - 10, 11)))
            near = mine[max(begin - 30, 0) : begin + length + 30]
            if not fleet.label[near].any():
                values[mine[begin : begin + length]] += 30 * spread * rng.choice([-1.0, 1.0], len(spread))
    return fleet._replace(values=values)


class Message(NamedTuple):
    """One record as it goes to the topic."""

    partition: int
    key: bytes
    value: bytes


def messages(fleet: Fleet, rows: NDArray[np.int64], shape: Shape = MAIN) -> Iterator[Message]:
    """The rows as JSON, keyed by entity: wide, or each feature in a message of its own."""
    keys = [name.encode() for name in fleet.names]
    encode = msgspec.json.Encoder().encode
    for first in range(0, len(rows), CHUNK):
        mine = rows[first : first + CHUNK]
        part = fleet._replace(
            entity=fleet.entity[mine], time_us=fleet.time_us[mine], values=fleet.values[mine]
        )
        if shape.messages == 1:
            for entity, value in zip(part.entity.tolist(), telemetry.messages(part), strict=True):
                yield Message(entity % PARTITIONS, keys[entity], value)
            continue
        columns = ((part.time_us // 1000).tolist(), part.entity.tolist(), part.values.tolist())
        for time, entity, values in zip(*columns, strict=True):
            for name, value in zip(shape.names, values, strict=True):
                point = {"ts": time, "host": fleet.names[entity], "metric": name, "value": value}
                yield Message(entity % PARTITIONS, keys[entity], encode(point))


class Filled(NamedTuple):
    """What a topic holds."""

    messages: int
    width: float
    """Bytes of a value, on average."""


def fill(bootstrap: str, topic: str, given: Iterable[Message], *, at_once: bool = False) -> Filled:
    """Produce messages as fast as they go; with `at_once` in a transaction: all can be read from one moment on."""
    producer = Producer(
        {
            **({"transactional.id": f"fill-{topic}"} if at_once else {}),
            "bootstrap.servers": bootstrap,
            "linger.ms": 50,
            "batch.size": 1 << 20,
            "message.max.bytes": LARGEST_MESSAGE,
            "queue.buffering.max.kbytes": 131_072,
        }
    )
    if at_once:
        producer.init_transactions(30)
        producer.begin_transaction()
    count = total = 0
    for partition, key, value in given:
        while True:
            try:
                producer.produce(topic, value, key, partition)
                break
            except BufferError:
                producer.poll(0.05)
        total += len(value)
        count += 1
    if producer.flush(60):
        raise RuntimeError(f"{topic} could not be filled")
    if at_once:
        producer.commit_transaction(60)
    return Filled(count, total / count)
