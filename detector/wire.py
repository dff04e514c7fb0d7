"""What every message on a topic shares: JSON in and out, schema versions, times, checksummed lines.

A `schema_version` is "major.minor". Within a major only additions happen, so a reader ignores fields that it
does not know and refuses a major that is newer than its own. Times in messages are RFC 3339 in UTC with six
decimals; inside the program they are int64 microseconds since 1970.
"""

from __future__ import annotations

import math
import zlib
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from ..errors import DataError, StateError, TocsinError

T = TypeVar("T")
Headers = list[tuple[str, bytes | None]]

RFC3339_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
# The first microsecond of the year 1 and the last of the year 9999.
_FIRST_US = -62_135_596_800_000_000
_LAST_US = 253_402_300_799_999_999


class Message(NamedTuple):
    """One message to produce. A value of None is a tombstone; a header may be None, as Kafka allows."""

    key: bytes | None
    value: bytes | None
    headers: Headers


class _Versioned(msgspec.Struct):
    schema_version: str = ""


_VERSIONED = msgspec.json.Decoder(_Versioned)


def version_of(text: str) -> tuple[int, int] | None:
    """The numbers of "major.minor", or None where the text is not of that form."""
    parts = text.split(".")
    plain = len(parts) == 2 and all(part.isascii() and part.isdigit() and len(part) < 9 for part in parts)
    return (int(parts[0]), int(parts[1])) if plain else None


def stated_version(value: bytes) -> tuple[int, int] | None:
    """The schema_version that a JSON message states, whatever else is in it; None where there is none."""
    try:
        return version_of(_VERSIONED.decode(value).schema_version)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def rfc3339(time_us: int) -> str:
    """Microseconds since 1970 as `2026-01-31T12:00:00.000000Z`.

    RFC 3339 can write the years 1 to 9999; a time outside is written as the nearest of them.
    """
    return f"{np.datetime64(min(max(int(time_us), _FIRST_US), _LAST_US), 'us')}Z"


def microseconds(text: str) -> int:
    """The inverse of `rfc3339`, for any RFC 3339; UTC where no zone is given.

    Raises:
        ValueError: it is no such time.
    """
    moment = datetime.fromisoformat(text)
    since = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1)


def number(value: float) -> float | None:
    """A finite float, or None: JSON knows neither NaN nor the infinities."""
    return float(value) if math.isfinite(value) else None


def decode_json(
    decoder: msgspec.json.Decoder[T],
    value: bytes | None,
    what: str,
    major: int,
    error: type[TocsinError] = DataError,
    newer: type[TocsinError] | None = None,
) -> T:
    """A typed value out of JSON bytes.

    The version is looked at before the rest, so that a message of a newer major is named as that and not
    by the first field that happens to differ. `what` says in an error's text which message it was; `newer` is the
    error of a newer major where it is to be told apart.
    """
    if value is None:
        raise error(f"{what} is empty. It was deleted or never written by this program; write it again.")
    try:
        version = _VERSIONED.decode(value).schema_version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise error(f"{what} cannot be read as JSON: {wrong}. It was not written by this program.") from None
    found = version_of(version)
    if found is None:
        raise error(
            f"{what} has the schema_version {version!r}, where {major}.x is expected. It was not "
            "written by this program."
        )
    if found[0] > major:
        raise (newer or error)(
            f"{what} has schema_version {version}, newer than the {major}.x that this program reads. "
            "Upgrade tocsin on this machine, or go back to the version that wrote it everywhere."
        )
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise error(f"{what} is not as its schema says: {wrong}.") from None


def checked_line(body: bytes) -> bytes:
    """JSON with its CRC-32 before it: `1c291ca3 {"a":1}`. Readable with any Kafka tool, and damage shows."""
    return b"%08x %s" % (zlib.crc32(body), body)


def unchecked_line(value: bytes, what: str) -> bytes:
    """The JSON of a `checked_line`; raises StateError where the checksum does not fit."""
    if len(value) < 9 or value[8:9] != b" " or value[:8] != b"%08x" % zlib.crc32(value[9:]):
        raise corrupt(what, "its checksum does not fit its content")
    return value[9:]


def corrupt(what: str, why: str) -> StateError:
    """The StateError for state that cannot be used, with the way out."""
    return StateError(
        f"{what} cannot be restored: {why}. The changelog was damaged or written by another program. "
        "Restore the "
        "topic from a backup, or delete it and start the stream anew with `[stream] start` set; "
        "alerts that are "
        "already published stay as they are."
    )
