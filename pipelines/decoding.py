"""What every decoder shares: the reasons for dead letters, tolerant reading of JSON, times and entities.

A decoder turns `Messages` into columns. What it cannot use it names, with a `Reason` whose text is stable:
it is a metric label and a dead-letter header. Extra keys are ignored, of repeated keys the last counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from itertools import repeat
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from . import paths, timestamps
from .records import Messages, Points, Records
from .schema import FeatureSchema
from .slots import NO_SLOT, SlotTable

MAX_MESSAGE_BYTES = 1_000_000
MAX_ENTITY_BYTES = 512
MAX_DETAIL = 200
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_ABSENT = frozenset({"", "nan", "+nan", "-nan", "null", "none"})
_INFINITE = frozenset({"inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})


class Reason(StrEnum):
    """Why a message cannot be used."""

    EMPTY = "empty"
    OVERSIZED = "oversized"
    BAD_UTF8 = "bad_utf8"
    NOT_JSON = "not_json"
    TOO_DEEP = "too_deep"
    NOT_OBJECT = "not_object"
    NOT_ARRAY = "not_array"
    MISSING_ENTITY = "missing_entity"
    BAD_ENTITY = "bad_entity"
    BAD_TIME = "bad_time"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    WRONG_TYPE = "wrong_type"
    LENGTHS_DIFFER = "lengths_differ"
    NO_FEATURES = "no_features"


class Rejection(NamedTuple):
    """A message that cannot be used: its place in the batch, why, and a sentence for people."""

    message: int
    reason: Reason
    detail: str


class Refused(Exception):
    """Carries a reason out of the reading of one message."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason

    def of(self, message: int) -> Rejection:
        """The rejection of a message."""
        # It may quote half a surrogate pair, which JSON can escape and no encoding write.
        detail = str(self)[:MAX_DETAIL].encode("utf-8", "replace").decode()
        return Rejection(message, self.reason, detail)


class Tally(NamedTuple):
    """What was met in messages that were used."""

    infinite: int = 0
    """Values that were infinite or too large, and now count as missing."""
    unknown: int = 0
    """Measurements whose name is no feature (long formats); they are dropped."""


class Decoded(NamedTuple):
    """A batch of wide messages: the usable ones as records, the others with their reasons."""

    records: Records
    message: NDArray[np.int64]
    """[B] the message each record came from, ascending."""
    rejected: list[Rejection]
    tally: Tally


class DecodedPoints(NamedTuple):
    """A batch of long messages: single measurements, to be aligned into records."""

    points: Points
    message: NDArray[np.int64]
    """[B] the message each measurement came from, ascending; a message may hold several."""
    rejected: list[Rejection]
    tally: Tally


class How(NamedTuple):
    """How a stream's messages are read, as the settings of the same names say; None is the key, Kafka's timestamp."""

    entity: str | None = None
    time: str | None = None
    time_unit: timestamps.Unit = "auto"
    max_bytes: int = MAX_MESSAGE_BYTES
    metric: str = "metric"
    value: str = "value"


class Share(NamedTuple):
    """What a message says of one entity."""

    entity: str | int | None
    """None: the message's key names it."""
    time: object
    """As it is written; None: Kafka's timestamp."""
    value: bytes
    """A message of the same format that says this and nothing else."""


class Decoder(Protocol):
    """Reads batches of messages."""

    def decode(self, messages: Messages, table: SlotTable) -> Decoded | DecodedPoints:
        """Read a batch; entities that are new get slots in `table`."""
        ...


class Format(NamedTuple):
    """A way in which telemetry is written. `formats` lists all; each is defined in a module of its own."""

    long: bool
    """Messages hold single measurements, which `alignment` puts together into records."""
    decoder: Callable[[FeatureSchema, How], Decoder]
    """Raises SettingsError where the features or the paths cannot be read."""
    features: Callable[[bytes, How], Iterable[str]]
    """The names of the features that a message holds. Raises Refused."""
    shares: Callable[[bytes, How], list[Share]]
    """What a message says, by entity. Raises Refused."""
    identity: tuple[str, str] | None = None
    """Where entity and time always stand; None: the settings say."""
    propose: Callable[[Sequence[bytes]], dict[str, Any] | None] | None = None
    """Keys of [stream] for a sample of messages; None where they are of another format."""


def read_object(value: bytes) -> dict[str, Any]:
    """The JSON object in `value`, read as tolerantly as is safe: NaN and Infinity tokens are let through.

    Raises Refused.
    """
    content = read_json(value)
    if not isinstance(content, dict):
        raise Refused(Reason.NOT_OBJECT, f"the JSON is {kind(content)}, not an object")
    return content


def read_json(value: bytes) -> Any:
    """Any JSON in `value`, likewise. Raises Refused."""
    try:
        return _read(value)
    except RecursionError:
        raise Refused(Reason.TOO_DEEP, "the JSON is nested too deeply") from None


def share_of_object(value: bytes, how: How) -> list[Share]:
    """The one share of a message that is an object with entity and time at the configured paths. Raises Refused."""
    content = read_object(value)
    entity = find("entity", content, paths.split(how.entity)) if how.entity else None
    time = find("time", content, paths.split(how.time)) if how.time else None
    check_identity(entity, time)
    return [Share(entity, time, value)]


def _read(value: bytes) -> Any:
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(Reason.BAD_UTF8, f"byte {error.start} is not UTF-8") from None
    try:
        return json.loads(text)  # msgspec refuses NaN, Infinity and 1e999, which many producers write
    except ValueError as error:
        raise Refused(Reason.NOT_JSON, f"not JSON: {error}") from None


def kind(value: object) -> str:
    """What a JSON value is, for messages."""
    names = {bool: "a boolean", str: "a string", dict: "an object", list: "an array", type(None): "null"}
    return names.get(type(value), "a number")


def number(value: object) -> float:
    """A measurement: a number, or a string that holds one; null and NaN are NaN, infinities stay.

    Raises ValueError for anything else.
    """
    if value is None:
        return float("nan")
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _ABSENT:
            return float("nan")
        if text in _INFINITE:
            return float("inf")
        if len(text) > 400 or not _DECIMAL.fullmatch(text):
            raise ValueError("a string that holds no number")
        return float(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(kind(value))
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def sized(value: bytes | None, limit: int) -> bytes:
    """The message as it is. Raises Refused if it has no value or more than `limit` bytes."""
    if not value:
        raise Refused(Reason.EMPTY, "the message has no value")
    if len(value) > limit:
        raise Refused(Reason.OVERSIZED, f"the message has {len(value)} bytes, {limit} are allowed")
    return value


def check_identity(entity: object, time: object) -> None:
    """Raises Refused for an entity or a time of a type that neither can have."""
    if isinstance(entity, bool) or not isinstance(entity, str | int | None):
        raise Refused(Reason.BAD_ENTITY, f"the entity is {kind(entity)}, not a string")
    if isinstance(time, bool) or not isinstance(time, str | int | float | None):
        raise Refused(Reason.BAD_TIME, f"the time is {kind(time)}")


def find(name: str, content: dict[str, Any], keys: tuple[str, ...]) -> Any:
    """What stands at a path, None where it is absent. Raises Refused where it leads through a non-object."""
    try:
        return paths.lookup(content, keys)[1]
    except paths.NotAnObject as error:
        detail = f"the path of '{name}' meets something other than an object before '{error}'"
        raise Refused(Reason.WRONG_TYPE, detail) from None


def times(
    written: Sequence[object],
    unit: timestamps.Unit,
    messages: Messages,
    index: Sequence[int],
    rejected: list[Rejection],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Event times of the messages `index`: what was written in them, else Kafka's timestamp.

    Returns the times [n] and which are good; the others are added to `rejected`.
    """
    time_us, status = timestamps.parse(written, unit)
    absent = np.flatnonzero(status == timestamps.Status.ABSENT)
    if len(absent):
        broker_ms = messages.timestamp_ms[np.asarray(index, np.int64)[absent]]
        time_us[absent], status[absent] = timestamps.from_integers(broker_ms, "ms")
        status[absent[broker_ms <= 0]] = timestamps.Status.ABSENT
    good = status == timestamps.Status.OK
    bad = np.flatnonzero(~good).tolist()
    rejected.extend(_bad_time(index[row], int(status[row]), written[row]) for row in bad)
    return time_us, good


def _bad_time(index: int, status: int, written: object) -> Rejection:
    text = str(written)[:60]
    if status == timestamps.Status.ABSENT:
        return Rejection(index, Reason.BAD_TIME, "neither the message nor Kafka gives a time")
    if status == timestamps.Status.OUT_OF_RANGE:
        shown = "Kafka's timestamp" if written is None else f"the time {text!r}"
        return Rejection(index, Reason.TIME_OUT_OF_RANGE, f"{shown} lies outside the years 2000 to 2100")
    return Rejection(index, Reason.BAD_TIME, f"{text!r} is neither an epoch number nor an RFC 3339 time")


def entities(
    written: Sequence[str | int | None],
    messages: Messages,
    index: Sequence[int] | NDArray[np.int64],
    good: NDArray[np.bool_],
    table: SlotTable,
    rejected: list[Rejection],
) -> NDArray[np.int32]:
    """Slots of the entities of the messages `index`: as written in them, else the Kafka key.

    Only rows marked `good` get a slot; those that turn out to be unusable are added to `rejected` and
    unmarked.
    """
    parts = messages.part[np.asarray(index, np.int64)]
    slots = _known(written, parts, table)
    slots[~good] = NO_SLOT
    for row in np.flatnonzero(good & (slots == NO_SLOT)).tolist():
        name, part = written[row], int(parts[row])
        try:
            text = name if isinstance(name, str) else _other_name(name, messages.key[index[row]])
            slot = table.lookup(part).get(text, NO_SLOT)
            slots[row] = slot if slot != NO_SLOT else _meet(text, part, table)
        except Refused as refused:
            rejected.append(refused.of(index[row]))
            good[row] = False
    return slots


def _known(
    written: Sequence[str | int | None], parts: NDArray[np.int32], table: SlotTable
) -> NDArray[np.int32]:
    """[n] the slots of the names that are written as the table holds them, without a step of Python per record."""
    slots = np.empty(len(written), np.int32)
    starts = [] if not len(written) else [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist()]
    for first, end in zip(starts, [*starts[1:], len(written)], strict=False):
        lookup: Callable[[Any, int], int] = table.lookup(int(parts[first])).get
        slots[first:end] = np.fromiter(
            map(lookup, written[first:end], repeat(NO_SLOT)), np.int32, end - first
        )
    return slots


def _other_name(written: int | None, key: bytes | None) -> str:
    if written is not None:
        return str(written)
    try:
        return key.decode("utf-8") if key else ""
    except UnicodeDecodeError:
        raise Refused(Reason.BAD_ENTITY, "the message names no entity and its key is not UTF-8") from None


def _meet(name: str, part: int, table: SlotTable) -> int:
    """The slot of an entity that is new. Raises Refused."""
    if not name.strip():
        raise Refused(Reason.MISSING_ENTITY, "neither the message nor its key names an entity")
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise Refused(Reason.BAD_ENTITY, "the entity's name is not valid Unicode") from None
    if size > MAX_ENTITY_BYTES:
        raise Refused(
            Reason.BAD_ENTITY, f"the entity's name has {size} bytes, {MAX_ENTITY_BYTES} are allowed"
        )
    return table.intern(part, name)
