"""Looks at the newest records of a topic and proposes how to read them, for `tocsin init --topic`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..errors import DataError, UnknownTopic
from ..pipelines import formats
from ..pipelines.brokers.base import Broker, Part
from ..pipelines.decoding import How, Refused
from ..pipelines.paths import leaves
from ..pipelines.timestamps import Status, parse, unit_of

TIMES = ("timestamp", "ts", "time", "@timestamp", "event_time", "eventtime", "datetime", "date")
ENTITIES = (
    "entity",
    "host",
    "hostname",
    "instance",
    "service",
    "device",
    "device_id",
    "sensor",
    "node",
    "id",
    "name",
)
METRICS, VALUES = ("metric", "metric_name", "__name__", "name"), ("value", "val")
RECORDS = 400
PRESENT = 0.5  # of the records must have a feature
PATIENCE = 20  # empty answers before the sample is what there is


class Sample(NamedTuple):
    """What a topic holds, newest records of each partition."""

    keys: list[bytes | None]
    values: list[bytes | None]
    parts: list[Part]


def take(broker: Broker, topic: str, records: int = RECORDS) -> Sample:
    """Read the newest records. Raises UnknownTopic, BrokerUnavailable."""
    admin = broker.admin()
    try:
        info = admin.topics().get(topic)
    finally:
        admin.close()
    if info is None:
        raise UnknownTopic(
            f"Topic {topic!r} does not exist at {broker.bootstrap}, or this client may not see it."
        )
    parts: list[Part] = [(topic, partition) for partition in range(info.partitions)]
    consumer = broker.consumer()
    sample = Sample([], [], [])
    try:
        ends, begins = consumer.end_offsets(parts), consumer.begin_offsets(parts)
        share = -(-records // len(parts))
        starts = {part: max(begins[part], ends[part] - share) for part in parts}
        consumer.assign((name, number, start) for (name, number), start in starts.items())
        wanted = sum(ends[part] - starts[part] for part in parts)
        empty = 0
        while len(sample.values) < wanted and empty < PATIENCE:
            batch = consumer.consume(records, 0.25)
            empty = 0 if batch else empty + 1
            sample.keys.extend(batch.key)
            sample.values.extend(batch.value)
            sample.parts.extend(zip(batch.topic, batch.partition, strict=True))
    finally:
        consumer.close()
    return sample


def propose(sample: Sample) -> dict[str, Any]:
    """Keys of [stream] that read the sample. Raises DataError where no format does, or where it holds no numbers."""
    values = [value for value in sample.values if value]
    known = (formats.of(name).propose for name in formats.TABLE)
    found = next(filter(None, (read(values) for read in known if read and values)), None) or _of_objects(
        sample
    )
    return {**found, "rekey": True} if _scattered(sample, found) else found


def understood(sample: Sample, found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the proposal makes of the sample, for people: what is meant, and in words what was found."""
    read = list(_read(sample, found))
    names = sorted({str(name) for name, _, _ in read if name is not None})
    rows = [
        ("sample", f"the newest {len(sample.values)} messages of {len(set(sample.parts))} partitions"),
        ("format", str(found["format"])),
        ("entity", f"{found['entity'] or 'the Kafka key'}: {len(names)} of them, {_some(names)}"),
        ("time", _of_times(found, [time for _, time, _ in read])),
        ("features", f"{len(found['features'])}: {', '.join(found['features'])}"),
    ]
    if counters := found.get("counters"):
        rows.append(("counters", f"{len(counters)}, watched as rates: {', '.join(counters)}"))
    if found.get("rekey"):
        rows.append(
            (
                "rekey",
                "an entity comes in several partitions, so its records are keyed anew before they are scored",
            )
        )
    return rows


def _of_times(found: Mapping[str, Any], times: list[object]) -> str:
    unit = found.get("time_unit")
    text = (found["time"] or "the Kafka timestamp") + (f", in {unit}" if unit else "")
    read, status = parse(times, unit or "auto")
    if (status == Status.OK).any():
        text += (
            f"; the newest is of {datetime.fromtimestamp(int(read.max()) / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
        )
    return text


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + ", …" * (len(names) > most)


def _scattered(sample: Sample, found: Mapping[str, Any]) -> bool:
    """Whether an entity comes in several partitions, where its state would be torn."""
    seen: dict[object, Part] = {}
    return any(seen.setdefault(name, part) != part for name, _, part in _read(sample, found))


def _read(sample: Sample, found: Mapping[str, Any]) -> Iterator[tuple[object, object, Part]]:
    """Entity, time as it is written, and partition of what can be read."""
    shares = formats.of(found["format"]).shares
    how = How(entity=found["entity"] or None, time=found["time"] or None)
    for key, value, part in zip(*sample, strict=True):
        with suppress(Refused):
            for share in shares(value or b"", how):
                named = share.entity
                yield (
                    (key and key.decode(errors="replace") if named is None else str(named)),
                    share.time,
                    part,
                )


def _of_objects(sample: Sample) -> dict[str, Any]:
    """What reads JSON objects, wide or long."""
    records = []
    for value in sample.values:
        try:
            content = json.loads(value or b"")
        except (ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            records.append(dict(leaves(content)))
    if len(records) < max(1, len(sample.values) // 2):
        raise DataError(
            f"{len(records)} of {len(sample.values)} sampled messages are JSON objects, and they are of no other "
            "format that can be read; an empty topic shows nothing. Write the file without --topic and fill it in."
        )
    columns: dict[str, list[Any]] = {}
    for record in records:
        for path in record:
            columns.setdefault(path, [])
    for path, column in columns.items():
        column.extend(record.get(path) for record in records)
    time = _first(TIMES, columns, _are_times)
    metric = _first(METRICS, columns, _are_texts)
    measured = _first(VALUES, columns, _are_numbers)
    rest = {path: column for path, column in columns.items() if path not in (time, "label")}
    long = (
        metric is not None
        and measured is not None
        and [p for p, c in rest.items() if _are_numbers(c)] == [measured]
    )
    found: dict[str, Any] = {"format": "json_long" if long else "json_wide", "time": time or ""}
    if unit := unit_of(columns[time]) if time else None:
        found["time_unit"] = unit
    if long:
        rest = {path: column for path, column in rest.items() if path not in (metric, measured)}
    entity = _first(ENTITIES, rest, _name_something)
    if entity is None and not any(sample.keys):
        texts = [path for path, column in rest.items() if _are_texts(column)]
        entity = texts[0] if texts else None
    found["entity"] = entity or ""
    if long:
        features = sorted({str(name) for name in columns[str(metric)] if name is not None})
        return {**found, "metric": metric, "value": measured, "features": features}
    features = [path for path, column in rest.items() if path != entity and _are_numbers(column)]
    if not features:
        raise DataError(
            f"the sampled records hold no numbers to watch; their paths are: {', '.join(sorted(columns))}."
        )
    names = columns[entity] if entity else [None] * len(records)
    return {**found, "features": features, "counters": [p for p in features if _counts_up(columns[p], names)]}


def _first(
    names: Sequence[str], columns: Mapping[str, list[Any]], fits: Callable[[list[Any]], bool]
) -> str | None:
    """The path whose last key is the earliest of the names and whose values fit; the shortest of several."""
    for name in names:
        found = [p for p, column in columns.items() if p.rpartition(".")[2].lower() == name and fits(column)]
        if found:
            return min(found, key=lambda path: (path.count("."), path))
    return None


def _present(column: list[Any]) -> list[Any]:
    held = [value for value in column if value is not None]
    return held if len(held) >= PRESENT * len(column) else []


def _are_times(column: list[Any]) -> bool:
    held = _present(column)
    return bool(held) and bool((parse(held)[1] == Status.OK).all())


def _are_texts(column: list[Any]) -> bool:
    held = _present(column)
    return bool(held) and all(isinstance(value, str) for value in held) and not _are_numbers(column)


def _name_something(column: list[Any]) -> bool:
    held = _present(column)
    return bool(held) and all(isinstance(value, (str, int)) and not isinstance(value, bool) for value in held)


def _are_numbers(column: list[Any]) -> bool:
    held = _present(column)
    return bool(held) and all(_number(value) is not None for value in held)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _counts_up(column: list[Any], names: list[Any]) -> bool:
    """Whether a feature only ever rises, in whole numbers, and does so often: a counter, most likely."""
    rises = steps = 0
    for _, group in itertools.groupby(
        sorted(range(len(column)), key=lambda i: str(names[i])), key=lambda i: names[i]
    ):
        held = [number for i in group if (number := _number(column[i])) is not None]
        for before, after in itertools.pairwise(held):
            if after < before or after != int(after):
                return False
            steps += 1
            rises += after > before
    return steps >= 10 and rises > steps / 2
