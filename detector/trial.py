"""A trial of the configuration on the newest records of a topic: what a first run would stumble over, said before it.

For `tocsin check --connect`. It looks at paths, not at every rule of decoding: a path that leads nowhere is the
configuration's mistake, a single bad record is a dead letter.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..pipelines import timestamps
from ..pipelines.brokers.base import Broker
from ..pipelines.decoding import Refused, read_object
from ..pipelines.paths import leaves
from ..pipelines.timestamps import UNITS, Status, Unit
from .sampling import Sample, take
from .settings import Stream
from .topics import Finding

HALF = 0.5
CLOCK_US = 86_400_000_000
"""A median this far ahead of this machine's clock is a clock in the wrong unit or place."""


def look(broker: Broker, stream: Stream, now_us: int) -> list[Finding]:
    """What in the newest records of the stream's topics does not fit its settings. Raises BrokerUnavailable."""
    if not stream.format.startswith("json"):
        return []
    return [
        finding for topic in stream.topics for finding in examine(stream, topic, take(broker, topic), now_us)
    ]


def examine(stream: Stream, topic: str, sample: Sample, now_us: int) -> list[Finding]:
    """The findings of one topic's sample."""
    subject = f"input topic {topic}"
    if not sample.values:
        return [
            Finding(
                stream.name,
                subject,
                "holds no record, so entity, time and features could not be tried",
                "produce some and check again",
                fatal=False,
            )
        ]
    records, why = _objects(sample.values)
    if len(records) < HALF * len(sample.values):
        return [
            Finding(
                stream.name,
                subject,
                f"holds {len(records)} JSON objects in {len(sample.values)} messages ({why})",
                "produce JSON objects, or name another [stream] format",
            )
        ]
    findings = [*_entity(stream, records, sample.keys), *_time(stream, records, now_us)]
    findings += _long(stream, records) if stream.format == "json_long" else _features(stream, records)
    return [Finding(stream.name, subject, *said) for said in findings]


Said = tuple[str, str, bool]
"""Problem, fix, and whether it is fatal."""


def _objects(values: Iterable[bytes | None]) -> tuple[list[dict[str, Any]], str]:
    """The records as values by path, and why the first of the others is none."""
    records, why = [], ""
    for value in values:
        try:
            records.append(dict(leaves(read_object(value or b""))))
        except Refused as refused:
            why = why or str(refused)
    return records, why


def _held(records: list[dict[str, Any]], path: str) -> list[Any]:
    return [value for record in records if (value := record.get(path)) is not None]


def _absent(records: list[dict[str, Any]], setting: str, path: str) -> str:
    """The fix for a path that leads nowhere."""
    known = list(dict.fromkeys(path for record in records for path in record))
    close = difflib.get_close_matches(path, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean [stream] {setting} = {close[0]!r}?"
    return f"set [stream] {setting} to one of: {', '.join(known[:12])}{', …' * (len(known) > 12)}"


def _entity(stream: Stream, records: list[dict[str, Any]], keys: list[bytes | None]) -> Iterator[Said]:
    if not stream.entity:
        if sum(map(bool, keys)) < HALF * len(keys):
            yield (
                "has messages without a key, which is where [stream] entity = '' looks for the entity",
                "produce with the entity as the key, or name its path in [stream] entity",
                True,
            )
    elif len(_held(records, stream.entity)) < HALF * len(records):
        where = f"no entity at {stream.entity!r} in {_most(records, stream.entity)} messages"
        yield f"has {where}", _absent(records, "entity", stream.entity), True


def _time(stream: Stream, records: list[dict[str, Any]], now_us: int) -> Iterator[Said]:
    if not stream.time:
        return
    held = _held(records, stream.time)
    if len(held) < HALF * len(records):
        where = f"no time at {stream.time!r} in {_most(records, stream.time)} messages"
        yield f"has {where}", _absent(records, "time", stream.time), True
        return
    read = _read(held, stream.time_unit)
    if len(read) < HALF * len(held):
        fits = [unit for unit in UNITS if len(_read(held, unit)) == len(held)]
        what = (
            f"has times such as {held[0]!r} at {stream.time!r}, in {stream.time_unit!r} none of 2000 to 2100"
        )
        other = "name the path of an event time in [stream] time"
        yield what, f"set [stream] time_unit = {fits[0]!r}" if fits else other, True
    elif (ahead := int(np.median(read)) - now_us) > CLOCK_US:
        yield (
            f"has times {ahead / CLOCK_US:.0f} days ahead of this machine's clock",
            "compare [stream] time_unit and the clocks of producers; what comes on time later would be late",
            False,
        )


def _read(values: list[Any], unit: Unit) -> Any:
    time_us, status = timestamps.parse(values, unit)
    return time_us[status == Status.OK]


def _features(stream: Stream, records: list[dict[str, Any]]) -> Iterator[Said]:
    gone = [path for path in stream.features if not _held(records, path)]
    for path in gone:
        yield (
            f"has no {path!r} in any of {len(records)} sampled records, so this feature would always be missing",
            _absent(records, "features", path),
            len(gone) == len(stream.features),
        )


def _long(stream: Stream, records: list[dict[str, Any]]) -> Iterator[Said]:
    for setting, path in (("metric", stream.metric), ("value", stream.value)):
        if len(_held(records, path)) < HALF * len(records):
            where = f"no {setting} at {path!r} in {_most(records, path)} messages"
            yield f"has {where}", _absent(records, setting, path), True
            return
    names = {str(name) for name in _held(records, stream.metric)}
    gone = [name for name in stream.features if name not in names]
    for name in gone:
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        yield (
            f"has no metric {name!r} among those of {len(records)} sampled messages",
            f"did you mean {close[0]!r}?" if close else f"those sampled: {', '.join(sorted(names)[:12])}",
            len(gone) == len(stream.features),
        )


def _most(records: list[dict[str, Any]], path: str) -> str:
    missing = len(records) - len(_held(records, path))
    return f"{missing} of {len(records)}"
