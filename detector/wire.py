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

from ..errors import DataError, StateError, TocsinError

T = TypeVar("T")
Headers = list[tuple[str, bytes]]

RFC3339_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_US = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST_US = (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC) - _EPOCH) // _MICROSECOND


class Message(NamedTuple):
    """One message to produce. A value of None is a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: Headers


class _Versioned(msgspec.Struct):
    schema_version: str = ""


def major_of(version: str) -> int | None:
    """The major of "major.minor", or None where the text is not of that form."""
    major, dot, minor = version.partition(".")
    plain = dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()
    return int(major) if plain and len(major) < 9 else None


def rfc3339(time_us: int) -> str:
    """Microseconds since 1970 as `2026-01-31T12:00:00.000000Z`.

    RFC 3339 can write the years 1 to 9999; a time outside is written as the nearest of them.
    """
    time_us = min(max(int(time_us), _FIRST_US), _LAST_US)
    moment = _EPOCH + timedelta(microseconds=time_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def microseconds(text: str) -> int:
    """The inverse of `rfc3339`; takes any offset. Raises DataError on other text."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(f"{text!r} is not an RFC 3339 time such as 2026-01-31T12:00:00.000000Z.") from None
    if moment.tzinfo is None:
        raise DataError(f"The time {text!r} names no offset from UTC; add Z or an offset such as +01:00.")
    return (moment - _EPOCH) // _MICROSECOND


def number(value: float) -> float | None:
    """A finite float, or None: JSON knows neither NaN nor the infinities."""
    return float(value) if math.isfinite(value) else None


def decode_json(
    decoder: msgspec.json.Decoder[T],
    value: bytes | None,
    what: str,
    major: int,
    error: type[TocsinError] = DataError,
) -> T:
    """A typed value out of JSON bytes.

    The version is looked at before the rest, so that a message of a newer major is named as that and not
    by the first field that happens to differ. `what` says in an error's text which message it was.
    """
    if value is None:
        raise error(f"{what} is empty. It was deleted or never written by this program; write it again.")
    try:
        version = msgspec.json.decode(value, type=_Versioned).schema_version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise error(f"{what} cannot be read as JSON: {wrong}. It was not written by this program.") from None
    found = major_of(version)
    if found is None:
        raise error(
            f"{what} has the schema_version {version!r}, where {major}.x is expected. It was not "
            "written by this program."
        )
    if found > major:
        raise error(
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
