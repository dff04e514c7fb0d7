"""Every way in which a time is written, and the edges of the plausible range."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.pipelines import timestamps
from tocsin.pipelines.records import NO_TIME
from tocsin.pipelines.timestamps import Status, Unit, unit_of

US = 1_704_067_200_123_456


def one(value: object, unit: Unit = "auto") -> tuple[int, Status]:
    time_us, status = timestamps.parse([value], unit)
    return int(time_us[0]), Status(status[0])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_704_067_200, 1_704_067_200_000_000),
        (1_704_067_200_123, 1_704_067_200_123_000),
        (US, US),
        (US * 1000 + 789, US),
        (1_704_067_200.123456, US),
        (1_704_067_200_123.456, US),
        ("1704067200", 1_704_067_200_000_000),
        (" 1704067200.123456 ", US),
        ("1.704067200123e12", 1_704_067_200_123_000),
        ("2024-01-01T00:00:00.123456Z", US),
        ("2024-01-01t00:00:00.123456999z", US),
        ("2024-01-01 02:00:00.123456+02:00", US),
        ("2023-12-31T18:30:00.123456-0530", US),
        ("2024-01-01T00:00:00", 1_704_067_200_000_000),
    ],
)
def test_a_time_is_read_however_it_is_written(value: object, expected: int) -> None:
    assert one(value) == (expected, Status.OK)


@pytest.mark.parametrize(
    ("value", "unit", "status"),
    [
        (None, "auto", Status.ABSENT),
        ("yesterday", "auto", Status.BAD),
        ("", "auto", Status.BAD),
        ("nan", "auto", Status.BAD),
        (float("nan"), "auto", Status.BAD),
        (True, "auto", Status.BAD),
        ({}, "auto", Status.BAD),
        ("2024-13-01T00:00:00Z", "auto", Status.BAD),
        ("0001-01-01T00:00:00+14:00", "auto", Status.OUT_OF_RANGE),
        ("1" * 41, "auto", Status.BAD),
        (0, "auto", Status.OUT_OF_RANGE),
        (-1, "auto", Status.OUT_OF_RANGE),
        (10**30, "auto", Status.OUT_OF_RANGE),
        (float("inf"), "auto", Status.OUT_OF_RANGE),
        ("1999-12-31T23:59:59Z", "auto", Status.OUT_OF_RANGE),
        ("2100-01-01T00:00:00Z", "auto", Status.OUT_OF_RANGE),
        (1_704_067_200, "ms", Status.OUT_OF_RANGE),
        (2**62, "s", Status.OUT_OF_RANGE),
    ],
)
def test_what_is_no_time_says_why(value: object, unit: Unit, status: Status) -> None:
    assert one(value, unit) == (NO_TIME, status)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_edges_of_the_range_are_the_same_in_every_unit(unit: Unit) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    first, last = 946_684_800 * per_second, 4_102_444_800 * per_second
    for declared in (unit, "auto"):
        assert one(first, declared) == (timestamps.EARLIEST_US, Status.OK)
        assert one(first - 1, declared)[1] == Status.OUT_OF_RANGE
        assert one(last - 1, declared)[1] == Status.OK
        assert one(last, declared)[1] == Status.OUT_OF_RANGE


@given(
    st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 30)),
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["s", "ms", "us", "ns"]),
)
def test_all_ways_agree(moment: datetime, offset: int, unit: Unit) -> None:
    aware = moment.replace(tzinfo=UTC)
    expected = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    text = aware.astimezone(timezone(timedelta(minutes=offset))).isoformat()
    assert one(text) == (expected, Status.OK)
    count = expected * 1000 // {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}[unit]
    whole = {"s": 10**6, "ms": 1000, "us": 1, "ns": 1}[unit]
    assert one(count) == one(str(count)) == one(count, unit) == (expected // whole * whole, Status.OK)
    assert one(expected / 1e6, "s") == (expected, Status.OK)


def test_the_unit_of_a_sample_is_told_by_the_size_of_its_numbers() -> None:
    assert unit_of([1_700_000_000, "1700000001.5"]) == "s"
    assert unit_of([1_700_000_000_000, None, "1700000000001"]) == "ms"
    assert unit_of([1_700_000_000_000_000]) == "us"
    assert unit_of([1_700_000_000_000_000_000]) == "ns"
    assert unit_of([1_700_000_000, 1_700_000_000_000]) is None
    assert unit_of(["2024-01-01T00:00:00Z", True, None]) is None
