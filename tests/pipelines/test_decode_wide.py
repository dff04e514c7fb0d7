"""Wide JSON: good records to the bit, every reason for a dead letter, and no input that breaks a batch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import telemetry
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.errors import SettingsError
from tocsin.pipelines.decode_wide import WideDecoder
from tocsin.pipelines.decoding import Decoded, Reason
from tocsin.pipelines.records import Messages
from tocsin.pipelines.schema import FeatureSchema
from tocsin.pipelines.slots import SlotTable

T = 1_704_067_200
NAN = float("nan")
KAFKA = T * 1000  # a broker's timestamp


def batch(
    values: list[bytes | None], keys: list[bytes | None] | None = None, timestamp_ms: int = 0
) -> Messages:
    rows = len(values)
    return Messages(
        np.zeros(rows, np.int32),
        np.arange(100, 100 + rows),
        np.full(rows, timestamp_ms, np.int64),
        keys or [None] * rows,
        values,
    )


def decoder(**options: object) -> WideDecoder:
    defaults: dict = {"entity": "host", "time": "ts"}
    return WideDecoder(FeatureSchema(("cpu", "disk.free")), **(defaults | options))


def read(*values: bytes | None, table: SlotTable | None = None, **options: object) -> Decoded:
    return decoder(**options).decode(batch(list(values)), SlotTable() if table is None else table)


def message(**fields: object) -> bytes:
    return json.dumps({"ts": T, "host": "a", "cpu": 1.5, "disk": {"free": 2}} | fields).encode()


def test_a_fleet_comes_back_to_the_bit() -> None:
    fleet = telemetry.generate(1, entities=7, records=50, features=25, missing=0.05, duplicates=0.02)
    table = SlotTable()
    wide = WideDecoder(FeatureSchema(fleet.features), entity="host", time="ts")
    got = wide.decode(batch(list(telemetry.messages(fleet))), table)
    assert got.rejected == []
    np.testing.assert_array_equal(got.records.values, fleet.values)
    np.testing.assert_array_equal(got.records.time_us, fleet.time_us)
    np.testing.assert_array_equal(got.records.offset, np.arange(100, 100 + len(fleet.entity)))
    assert [table.name(slot) for slot in got.records.slot] == [fleet.names[e] for e in fleet.entity]


def test_numbers_in_strings_null_and_nan_are_read() -> None:
    got = read(
        message(cpu="0.25"),
        message(cpu=None),
        message(cpu=NAN),
        message(cpu="NaN", disk={"free": " 7 "}),
        message(cpu=float("inf")),
        message(cpu="-Inf"),
        b'{"ts":1704067200,"host":"a","cpu":1e999,"disk":{"free":1e300}}',
        message(cpu=10**400),
        message(disk=None),
        message(disk={}, cpu=3),
    )
    assert got.rejected == []
    expected = [
        [0.25, 2],
        [NAN, 2],
        [NAN, 2],
        [NAN, 7],
        [NAN, 2],
        [NAN, 2],
        [NAN, NAN],
        [NAN, 2],
        [1.5, NAN],
        [3, NAN],
    ]
    np.testing.assert_array_equal(got.records.values, expected)
    assert got.tally.infinite == 5


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        (None, Reason.EMPTY, "no value"),
        (b"", Reason.EMPTY, "no value"),
        (b" " * 2000, Reason.OVERSIZED, "2000 bytes, 1000 are allowed"),
        (b"{", Reason.NOT_JSON, "not JSON"),
        (b'{"ts":1} {"ts":2}', Reason.NOT_JSON, "not JSON"),
        (b"\xff\xfe", Reason.BAD_UTF8, "byte 0"),
        (b'{"host":"\xff"}', Reason.BAD_UTF8, "byte 9"),
        (b"[1]", Reason.NOT_OBJECT, "an array"),
        (b"17", Reason.NOT_OBJECT, "a number"),
        (message(host=None), Reason.MISSING_ENTITY, "neither"),
        (message(host="  "), Reason.MISSING_ENTITY, "neither"),
        (message(host=[1]), Reason.BAD_ENTITY, "an array"),
        (message(host=True), Reason.BAD_ENTITY, "a boolean"),
        (message(host="h" * 513), Reason.BAD_ENTITY, "513 bytes"),
        (message(host="\ud800", cpu="1"), Reason.BAD_ENTITY, "Unicode"),
        (message(ts="soon"), Reason.BAD_TIME, "'soon'"),
        (message(ts=False), Reason.BAD_TIME, "a boolean"),
        (message(ts=None), Reason.BAD_TIME, "neither the message nor Kafka"),
        (message(ts=17), Reason.TIME_OUT_OF_RANGE, "'17'"),
        (message(cpu=True), Reason.WRONG_TYPE, "feature 'cpu' is a boolean"),
        (message(cpu={}), Reason.WRONG_TYPE, "feature 'cpu' is an object"),
        (message(cpu="fast"), Reason.WRONG_TYPE, "feature 'cpu' is a string that holds no number"),
        (message(cpu="1_0"), Reason.WRONG_TYPE, "feature 'cpu'"),
        (message(disk=3), Reason.WRONG_TYPE, "'disk.free'"),
        (json.dumps({"ts": T, "host": "a", "temp": 1}).encode(), Reason.NO_FEATURES, "none of"),
        (b"{}", Reason.BAD_TIME, "neither"),
    ],
)
def test_each_reason(value: bytes | None, reason: Reason, words: str) -> None:
    table = SlotTable()
    got = read(message(host="first"), value, message(host="last"), table=table, max_bytes=1000)
    assert [(one.message, one.reason) for one in got.rejected] == [(1, reason)]
    assert words in got.rejected[0].detail
    assert len(got.rejected[0].detail) <= 200
    assert got.message.tolist() == [0, 2]
    assert got.records.offset.tolist() == [100, 102]
    assert len(table) == 2, "a message that cannot be used makes no entity"


def test_nesting_without_end_is_refused() -> None:
    got = read(b'{"x":' * 100_000, b"[" * 100_000)
    assert {one.reason for one in got.rejected} <= {Reason.TOO_DEEP, Reason.NOT_JSON}
    assert Reason.TOO_DEEP in {one.reason for one in got.rejected}


def test_a_record_with_all_features_null_is_a_record() -> None:
    got = read(message(cpu=None, disk=None))
    assert got.rejected == []
    assert np.isnan(got.records.values).all()


def test_key_and_broker_time_stand_in() -> None:
    table = SlotTable()
    wide = decoder()
    got = wide.decode(
        batch(
            [message(host=None), message(ts=None, host=7), message(host=None)],
            [b"k", None, b"\xff"],
            KAFKA,
        ),
        table,
    )
    assert [table.name(slot) for slot in got.records.slot] == ["k", "7"]
    assert got.records.time_us.tolist() == [T * 1_000_000] * 2
    assert [one.reason for one in got.rejected] == [Reason.BAD_ENTITY]
    keyed = decoder(entity=None, time=None).decode(batch([b'{"cpu":1}'], [b"k"], KAFKA), table)
    assert keyed.records.slot.tolist() == [0]


def test_the_last_of_repeated_keys_counts_and_others_are_ignored() -> None:
    got = read(
        b'{"ts":1704067200,"host":"a","cpu":1,"cpu":2,"x":{"cpu":[9]},"disk":{"free":1},"disk":{"used":1}}'
    )
    np.testing.assert_array_equal(got.records.values, [[2, NAN]])


def test_keys_with_dots_and_paths_of_their_own() -> None:
    wide = WideDecoder(
        FeatureSchema(("load", "free")),
        entity="a.host",
        feature_paths={"load": r"cpu\.load", "free": "a.free"},
    )
    got = wide.decode(
        batch([b'{"cpu.load": 3, "a": {"free": 4, "host": "x"}}'], timestamp_ms=KAFKA), SlotTable()
    )
    assert got.records.values.tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize(
    ("features", "entity"),
    [(("a", "a.b"), None), (("a.b", "a"), None), (("a",), "a"), (("a..b",), None), ((".",), None)],
)
def test_paths_that_cannot_be_read_together_are_refused(
    features: tuple[str, ...], entity: str | None
) -> None:
    with pytest.raises(SettingsError, match="path"):
        WideDecoder(FeatureSchema(features), entity=entity)


def test_a_single_feature_and_an_empty_batch() -> None:
    wide = WideDecoder(FeatureSchema(("cpu",)), entity="host", time="ts")
    assert wide.decode(batch([message(), message(cpu=2)]), SlotTable()).records.values.tolist() == [
        [1.5],
        [2.0],
    ]
    empty = wide.decode(batch([]), SlotTable())
    assert empty.records.values.shape == (0, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["ts", "host", "cpu", "disk", "free", "x"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON.map(lambda v: json.dumps(v).encode()) | st.binary(max_size=20) | st.none(), max_size=12))
def test_whatever_arrives_each_message_is_a_record_or_has_a_reason(values: list[bytes | None]) -> None:
    got = decoder().decode(batch(values, timestamp_ms=KAFKA), SlotTable())
    assert sorted([*got.message.tolist(), *(one.message for one in got.rejected)]) == list(range(len(values)))
    assert not np.isinf(got.records.values).any()
    alone = [decoder().decode(batch([value], timestamp_ms=KAFKA), SlotTable()) for value in values]
    assert [one.rejected[0].reason for one in alone if one.rejected] == [one.reason for one in got.rejected]
    for row, message_ in enumerate(got.message):
        assert alone[message_].records.values.tobytes() == got.records.values[row].tobytes()
