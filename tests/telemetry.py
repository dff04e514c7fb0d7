"""A seeded fleet whose telemetry looks real: the input of every test that needs records.

    fleet = generate(seed=1, entities=20, records=500, features=8, faults=6)
    fleet.values        float64 [n, F], rows in the order of arrival (what a topic would hold)
    fleet.time_us       int64 [n] event time; fleet.arrival_us is when it arrived
    fleet.entity        int32 [n] index into fleet.names
    fleet.label         uint8 [n] 1 inside a planted fault
    fleet.kind          uint8 [n] ORDINARY, DUPLICATE, LATE or DISORDERED
    fleet.faults        what was planted: entity, kind, first and last event time, features
    messages(fleet)     wide JSON, bytes per row: {"ts": <epoch ms>, "host": "host-03", "f00": 0.41, ...}
    keys(fleet)         the entity names as bytes, one per row

Every entity has its own levels and phase. A daily cycle and three slow common factors make the channels
correlated; each has its own noise. Faults (spike, shift, correlation, stuck) are planted after the first
`clean` share of each series and never overlap within an entity. Event times of an entity are regular steps of
`period_s`, a whole number of milliseconds, and differ between entities. `duplicates`, `late`, `disordered`
and `missing` are shares of records (of single values for `missing`). Duplicates arrive a little after the
first copy, disordered records 1 to 3 periods late, late ones 40 periods late. With `counters` the last so
many features are cumulative sums.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

ORDINARY, DUPLICATE, LATE, DISORDERED = range(4)
FAULTS = ("spike", "shift", "correlation", "stuck")
START_US = 1_704_067_200_000_000  # 2024-01-01
DAY_US = 86_400_000_000


class Fault(NamedTuple):
    entity: int
    kind: str
    first_us: int
    last_us: int
    features: tuple[int, ...]


class Fleet(NamedTuple):
    names: tuple[str, ...]
    features: tuple[str, ...]
    counters: tuple[str, ...]
    entity: NDArray[np.int32]
    time_us: NDArray[np.int64]
    arrival_us: NDArray[np.int64]
    values: NDArray[np.float64]
    label: NDArray[np.uint8]
    kind: NDArray[np.uint8]
    faults: tuple[Fault, ...]


def generate(
    seed: int = 0,
    entities: int = 20,
    records: int = 500,
    features: int = 25,
    *,
    period_s: float = 10.0,
    start_us: int = START_US,
    faults: int = 0,
    fault_length: int = 30,
    clean: float = 0.6,
    duplicates: float = 0.0,
    late: float = 0.0,
    disordered: float = 0.0,
    missing: float = 0.0,
    counters: int = 0,
) -> Fleet:
    """`entities` x `records` records and their duplicates, in order of arrival (see the module)."""
    rng = np.random.default_rng(seed)
    period_us = round(period_s * 1000) * 1000
    offsets = np.arange(entities, dtype=np.int64) * 1000 % period_us
    time_us = start_us + offsets[:, None] + np.arange(records, dtype=np.int64) * period_us
    series, noise_sd = _ordinary(rng, time_us, features)
    label = np.zeros((entities, records), np.uint8)
    planted = _plant(rng, series, label, noise_sd, time_us, faults, fault_length, clean)
    if counters:
        rates = np.abs(series[:, :, features - counters :])
        series[:, :, features - counters :] = np.cumsum(np.round(rates * 100), axis=1)
    series = np.round(series, 5)
    if missing:
        series[rng.random(series.shape) < missing] = np.nan
    return _arrive(rng, series, label, time_us, period_us, planted, (duplicates, late, disordered), counters)


def _ordinary(
    rng: np.random.Generator, time_us: NDArray[np.int64], features: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values [E, R, F] without faults, and each channel's typical spread [E, F]."""
    entities, records = time_us.shape
    level = rng.lognormal(1.0, 1.0, (entities, features))
    scale = level * rng.uniform(0.05, 0.2, (entities, features))
    phase = rng.uniform(0, 2 * np.pi, (entities, 1))
    factors = np.empty((records, entities, 4))
    factors[:, :, 0] = np.sin(2 * np.pi * (time_us - START_US) / DAY_US + phase).T
    shocks = rng.normal(size=(records, entities, 3)) * np.sqrt(1 - 0.95**2)
    slow = rng.normal(size=(entities, 3))
    for step in range(records):
        slow = 0.95 * slow + shocks[step]
        factors[step, :, 1:] = slow
    loading = rng.normal(size=(4, features)) * np.array([[0.8], [0.7], [0.5], [0.3]])
    noise = rng.normal(size=(entities, records, features)) * 0.3
    standard = np.einsum("rek,kf->erf", factors, loading) + noise
    return level[:, None, :] + scale[:, None, :] * standard, scale


def _plant(
    rng: np.random.Generator,
    series: NDArray[np.float64],
    label: NDArray[np.uint8],
    scale: NDArray[np.float64],
    time_us: NDArray[np.int64],
    faults: int,
    length: int,
    clean: float,
) -> tuple[Fault, ...]:
    entities, records, features = series.shape
    first = int(records * clean)
    per_entity = -(-faults // entities)
    room = (records - first) // max(per_entity, 1)
    if faults and room <= length:
        raise ValueError(
            f"{faults} faults of {length} records do not fit into {entities} x {records - first}"
        )
    planted = []
    for number in range(faults):
        entity, nth = number % entities, number // entities
        begin = first + nth * room + int(rng.integers(0, room - length))
        span = slice(begin, begin + length)
        kind = FAULTS[(number + number // len(FAULTS)) % len(FAULTS)]
        width = max(1, features // (5 if kind == "spike" else 2))
        touched = np.sort(rng.choice(features, width, replace=False))
        part = series[entity, span][:, touched]
        spread = scale[entity, touched]
        if kind == "spike":
            part += 12 * spread * rng.choice([-1.0, 1.0], width)
        elif kind == "shift":
            part += 6 * spread
        elif kind == "correlation":
            before = series[entity, :first][:, touched]
            part = before[rng.integers(0, first, (length, width)), np.arange(width)]
            part[:, ::2] += 3 * spread[::2]
        else:
            part = np.repeat(part[:1] + 4 * spread, length, axis=0)
        series[entity, span][:, touched] = part
        label[entity, span] = 1
        planted.append(
            Fault(
                entity,
                kind,
                int(time_us[entity, begin]),
                int(time_us[entity, begin + length - 1]),
                tuple(touched.tolist()),
            )
        )
    return tuple(planted)


def _arrive(
    rng: np.random.Generator,
    series: NDArray[np.float64],
    label: NDArray[np.uint8],
    time_us: NDArray[np.int64],
    period_us: int,
    planted: tuple[Fault, ...],
    shares: tuple[float, float, float],
    counters: int,
) -> Fleet:
    """Flatten to rows in the order of arrival, with duplicates, late and disordered ones."""
    entities, records, features = series.shape
    entity = np.repeat(np.arange(entities, dtype=np.int32), records)
    times = time_us.ravel()
    arrival = times + 500
    kind = np.zeros(len(times), np.uint8)
    draw = rng.random(len(times))
    duplicates, late, disordered = shares
    kind[draw < late] = LATE
    kind[(draw >= late) & (draw < late + disordered)] = DISORDERED
    arrival[kind == LATE] += 40 * period_us
    tardy = kind == DISORDERED
    arrival[tardy] += rng.integers(1, 4, int(tardy.sum())) * period_us + 250
    copies = np.flatnonzero(rng.random(len(times)) < duplicates)
    rows = np.concatenate([np.arange(len(times)), copies])
    kind = np.concatenate([kind, np.full(len(copies), DUPLICATE, np.uint8)])
    arrival = np.concatenate([arrival, arrival[copies] + period_us // 3])
    order = np.argsort(arrival, kind="stable")
    rows, width = rows[order], max(2, len(str(entities - 1)))
    names = tuple(f"f{number:02d}" for number in range(features))
    return Fleet(
        tuple(f"host-{number:0{width}d}" for number in range(entities)),
        names,
        names[features - counters :] if counters else (),
        entity[rows],
        times[rows],
        arrival[order],
        series.reshape(-1, features)[rows],
        label.ravel()[rows],
        kind[order],
        planted,
    )


def messages(fleet: Fleet, rows: slice = slice(None)) -> list[bytes]:
    """Wide JSON messages; a missing value is null."""
    encode = msgspec.json.Encoder().encode  # writes NaN as null
    features = fleet.features
    columns = (fleet.time_us[rows] // 1000, fleet.entity[rows], fleet.values[rows])
    return [
        encode({"ts": time, "host": fleet.names[entity], **dict(zip(features, values, strict=True))})
        for time, entity, values in zip(*(column.tolist() for column in columns), strict=True)
    ]


def keys(fleet: Fleet, rows: slice = slice(None)) -> list[bytes]:
    """The Kafka keys: the entity's name."""
    names = [name.encode() for name in fleet.names]
    return [names[entity] for entity in fleet.entity[rows].tolist()]
