"""Times, versions and checksummed lines: exact, or a DataError or StateError."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.detector.wire import (
    checked_line,
    decode_json,
    rfc3339,
    stated_version,
    unchecked_line,
    version_of,
)
from tocsin.errors import DataError, StateError

FIRST, LAST = -62_135_596_800_000_000, 253_402_300_799_999_999


@given(st.integers(FIRST, LAST))
def test_times_survive_the_text(time_us: int) -> None:
    text = rfc3339(time_us)
    assert len(text) == 27
    moment = datetime.fromisoformat(text)
    assert (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) == time_us


def test_golden_times() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"
    assert rfc3339(1_700_000_000_123_456) == "2023-11-14T22:13:20.123456Z"
    assert rfc3339(FIRST) == "0001-01-01T00:00:00.000000Z"
    assert rfc3339(2**63 - 1) == rfc3339(LAST) == "9999-12-31T23:59:59.999999Z"


def test_versions() -> None:
    assert version_of("1.0") == (1, 0)
    assert version_of("12.34") == (12, 34)
    wrong = ("", "1", "1.", ".1", "a.b", "-1.0", "１.0", "1.2.3", "1.123456789")
    assert [version_of(text) for text in wrong] == [None] * len(wrong)


def test_a_version_is_found_in_any_message_that_states_one() -> None:
    assert stated_version(b'{"schema_version":"2.7","n":[{}]}') == (2, 7)
    for value in (b"", b"{}", b"[]", b"\xff", b"[" * 5000, b'{"schema_version":2}'):
        assert stated_version(value) is None


class Thing(msgspec.Struct):
    schema_version: str
    n: int


def decode(value: bytes | None) -> Thing:
    return decode_json(msgspec.json.Decoder(Thing), value, "the thing at 7", 1)


def test_additions_within_a_major_are_ignored_and_newer_majors_named() -> None:
    assert decode(b'{"schema_version":"1.9","n":3,"later":[1]}').n == 3
    with pytest.raises(DataError, match=r"the thing at 7 has schema_version 2\.0, newer than the 1\.x"):
        decode(b'{"schema_version":"2.0","n":"another type"}')


@pytest.mark.parametrize(
    "value", [None, b"", b"[]", b"{}", b'{"schema_version":"1.0"}', b"\xff", b"[" * 5000]
)
def test_what_is_no_such_message_is_named(value: bytes | None) -> None:
    with pytest.raises(DataError, match="the thing at 7"):
        decode(value)


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 7))
def test_a_flipped_bit_shows(body: bytes, at: int, bit: int) -> None:
    line = checked_line(body)
    assert unchecked_line(line, "x") == body
    broken = bytearray(line)
    broken[at % len(line)] ^= 1 << bit
    with pytest.raises(StateError):
        unchecked_line(bytes(broken), "x")
