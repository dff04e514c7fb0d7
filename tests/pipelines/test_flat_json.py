"""The kernel that reads flat JSON: what it reads is what msgspec would, and the rest it leaves alone."""

from __future__ import annotations

import json
import struct

import msgspec
import numpy as np
import pytest
import telemetry
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tocsin.pipelines.decimals import number
from tocsin.pipelines.decode_wide import WideDecoder
from tocsin.pipelines.decoding import Decoded
from tocsin.pipelines.flat_json import FlatReader
from tocsin.pipelines.records import Messages
from tocsin.pipelines.schema import FeatureSchema
from tocsin.pipelines.slots import SlotTable

T = 1_704_067_200
FEATURES = ("cpu", "a rather long name of a feature", "d")
GOOD = b'{"ts": 1704067200, "host": "a", "cpu": 1.5, "d": -2}'


def told(text: str) -> tuple[float, int]:
    """The number that a text begins with and how long it is, as the kernel says."""
    held = np.frombuffer(text.encode() + bytes(9), np.uint8)
    found, end = number(held.ctypes.data)
    return found, end - held.ctypes.data if end >= 0 else -1


def read(*values: bytes | None, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """Which messages are plain, and their values."""
    out = np.empty((len(values), len(FEATURES)))
    return FlatReader(FEATURES, "host", "ts").read(values, 1000, out).good, out


def decoded(values: list[bytes | None], kernel: bool) -> Decoded:
    wide = WideDecoder(FeatureSchema(FEATURES), entity="host", time="ts", max_bytes=200)
    assert wide._flat is not None
    if not kernel:
        wide._flat = None
    rows = len(values)
    at = np.full(rows, T * 1000, np.int64)
    given_ = Messages(np.zeros(rows, np.int32), np.arange(rows), at, [b"key"] * rows, values)
    return wide.decode(given_, SlotTable())


DIGITS = st.text("0123456789", min_size=1, max_size=22)
NUMBERS = (
    st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers(-(10**20), 10**20).map(str)
    | st.builds("{}{}.{}".format, st.sampled_from(["", "-"]), DIGITS, DIGITS)
    | st.builds("{}.{}e{}".format, DIGITS, DIGITS, st.integers(-340, 330))
    | st.builds("{}E+{}".format, DIGITS, st.integers(0, 400))
    # Exactly between two doubles, and next to it.
    | st.builds(
        lambda m, n, d: str((2 * m + 1) * 2**n + d),
        st.integers(2**52, 2**53 - 1),
        st.integers(0, 9),
        st.integers(-1, 1),
    )
    # Of which 64 bits keep nothing.
    | st.builds(
        "{}{}.{}".format, st.sampled_from([n << 64 for n in range(1, 9)]), st.sampled_from(["", "0"]), DIGITS
    )
)


@settings(max_examples=3000, deadline=None)
@given(NUMBERS)
@example("9007199254740993")  # 2^53 + 1: to the even one, down
@example("9007199254740995")  # and up
@example("0.000001")
@example("1e22")
@example("1e23")
@example("18446744073709551616")  # 2^64: 20 digits, of which 64 bits keep nothing
@example("0.36893488147419103232")
@example("184467440737095516160")
@example("-0")
@example("01")
@example("5e-324")
@example("1.7976931348623157e308")
def test_a_number_is_read_to_the_bit_as_by_msgspec_or_not_at_all(text: str) -> None:
    found, size = told(text)
    if size >= 0:
        assert size == len(text)
        assert struct.pack("d", found) == struct.pack("d", msgspec.json.decode(text, type=float))


@pytest.mark.parametrize(
    "text", ["4.25394", "0", "17", "-3.5e-7", "0.1234567890123456", "1e300"[:4], "123456789.12345678"]
)
def test_ordinary_numbers_are_read(text: str) -> None:
    assert told(text) == (float(text), len(text))


@pytest.mark.parametrize(
    "text", ["", "-", ".5", "1.", "1e", "1e+", "01", "-0", "+1", "NaN", "1" * 20, "1e99999"]
)
def test_what_is_no_number_or_hard_is_not_told(text: str) -> None:
    assert told(text)[1] == -1


def test_a_fleet_is_plain_whatever_the_order_of_its_keys() -> None:
    fleet = telemetry.generate(1, entities=7, records=50, features=25, missing=0.05)
    reader = FlatReader(fleet.features, "host", "ts")
    rng = np.random.default_rng(0)
    contents = [json.loads(one) for one in telemetry.messages(fleet)]
    shuffled = [
        json.dumps(
            {k: one[k] for k in rng.permutation(list(one)).tolist()} | {"other": [True, "x", None][n % 3]}
        ).encode()
        for n, one in enumerate(contents)
    ]
    for values in (list(telemetry.messages(fleet)), shuffled):
        out = np.empty((len(values), 25))
        got = reader.read(values, 1000, out)
        assert got.good.all()
        np.testing.assert_array_equal(out, fleet.values)
        assert got.entity == [fleet.names[entity] for entity in fleet.entity]
        np.testing.assert_array_equal(got.time, fleet.time_us // 1000)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{}",
        GOOD + b"x",
        GOOD[:-1],
        b" " * 1000 + GOOD,
        GOOD.replace(b"1.5", b'"1.5"'),
        GOOD.replace(b"1.5", b"NaN"),
        GOOD.replace(b"1.5", b"1e38"),
        GOOD.replace(b"1.5", b"nulll"),
        GOOD.replace(b"1.5", b"[1]"),
        GOOD.replace(b'"a"', b'"a\\u0062"'),
        GOOD.replace(b'"a"', '"ä"'.encode()),
        GOOD.replace(b'"a"', b"1"),
        GOOD.replace(b"1704067200", b'"2024-01-01T00:00:00Z"'),
        GOOD.replace(b"1704067200", b"1704067200.5"),
        GOOD.replace(b'"cpu": 1.5, "d": -2', b'"x": 1'),
        GOOD.replace(b'"host": "a", ', b""),
        GOOD.replace(b", ", b",, ", 1),
        GOOD.replace(b'"cpu"', b"cpu"),
    ],
)
def test_what_is_not_plain_is_left_alone_and_disturbs_no_other(value: bytes | None) -> None:
    good, values = read(GOOD, value, GOOD)
    assert good.tolist() == [True, False, True]
    np.testing.assert_array_equal(values[[0, 2]], [[1.5, np.nan, -2.0]] * 2)


BLANK = st.text(" \t\n\r", max_size=2)
KEYS = st.sampled_from([*FEATURES, "host", "ts", "x", "cp", "cpuu", "", "h\\u006fst", "ü"])
VALUES = (
    NUMBERS
    | st.sampled_from(
        ["null", "true", "false", "nul", "NaN", '"a"', '"b\\n"', '"é"', "[1, 2]", '{"cpu": 1}', '""']
    )
    | st.sampled_from([str(T), str(T * 1000), f'"{T}"', "-5"])
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Nearly JSON: objects of numbers with blanks, repeated and foreign keys, and sometimes a byte that is another."""
    pairs = [f'"host"{draw(BLANK)}:{draw(BLANK)}"a"', f'"ts": {T}'] if draw(st.booleans()) else []
    for key, value in draw(st.lists(st.tuples(KEYS, VALUES), max_size=6)):
        pairs.append(f'{draw(BLANK)}"{key}"{draw(BLANK)}:{draw(BLANK)}{value}{draw(BLANK)}')
    text = ("{" + ",".join(draw(st.permutations(pairs))) + "}" + draw(BLANK)).encode()
    if draw(st.booleans()):
        return text
    at = draw(st.integers(0, len(text) - 1))
    return text[:at] + draw(st.binary(max_size=2)) + text[at + draw(st.integers(0, 2)) :]


@settings(max_examples=1500, deadline=None)
@given(st.lists(messages() | st.none() | st.binary(max_size=9), max_size=8))
def test_the_kernel_changes_no_record_and_no_reason(values: list[bytes | None]) -> None:
    with_it, without = decoded(values, True), decoded(values, False)
    assert with_it.rejected == without.rejected
    assert with_it.tally == without.tally
    for mine, theirs in zip(
        (*with_it.records, with_it.message), (*without.records, without.message), strict=True
    ):
        assert mine.dtype == theirs.dtype
        assert mine.tobytes() == theirs.tobytes()
