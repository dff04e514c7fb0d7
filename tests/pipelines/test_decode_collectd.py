"""collectd's JSON: what the real one wrote, the names of features, and what is no value list."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tocsin.errors import SettingsError
from tocsin.pipelines import formats
from tocsin.pipelines.decode_collectd import CollectdDecoder, Name, parse
from tocsin.pipelines.decoding import DecodedPoints, How, Reason, Refused
from tocsin.pipelines.records import Messages
from tocsin.pipelines.schema import FeatureSchema
from tocsin.pipelines.slots import SlotTable

GOLDEN = Path(__file__).parents[1] / "golden"
T = 1_704_067_200.5
FEATURES = ("interface-eth0/if_octets/rx", "interface-eth0/if_octets/tx", "load/load/shortterm")
COLLECTD = formats.of("collectd")


def golden(kind: str) -> list[bytes]:
    """What collectd 5.12 of Debian 12 sent, with `StoreRates` false (raw) or left out (rates)."""
    return (GOLDEN / f"collectd-5.12-{kind}.ndjson").read_bytes().splitlines()


def read(
    *values: bytes | None,
    features: tuple[str, ...] = FEATURES,
    counters: tuple[str, ...] = (),
    table: SlotTable | None = None,
) -> DecodedPoints:
    decoder = CollectdDecoder(FeatureSchema(features, counters))
    rows = len(values)
    columns = (np.zeros(rows, np.int32), np.arange(10, 10 + rows), np.full(rows, 1_704_067_200_000))
    return decoder.decode(
        Messages(*columns, [b"0A1B2C3D"] * rows, values), SlotTable() if table is None else table
    )


def value_list(**fields: object) -> dict[str, object]:
    content = {
        "values": [3, 5.5], "dstypes": ["derive", "derive"], "dsnames": ["rx", "tx"], "time": T, "interval": 10.0,
        "host": "web-1", "plugin": "interface", "plugin_instance": "eth0", "type": "if_octets", "type_instance": "",
    }  # fmt: skip
    return {key: value for key, value in (content | fields).items() if value is not ...}


def message(**fields: object) -> bytes:
    return json.dumps([value_list(**fields)]).encode()


@pytest.mark.parametrize("kind", ["raw", "rates"])
def test_every_message_of_the_real_collectd_is_read(kind: str) -> None:
    values = golden(kind)
    found = COLLECTD.propose(values)
    assert found is not None
    table = SlotTable()
    got = read(*values, features=tuple(found["features"]), counters=tuple(found["counters"]), table=table)
    assert got.rejected == []
    assert got.tally == (0, 0)
    assert len(got.points.value) == sum(len(json.loads(value)[0]["values"]) for value in values)
    assert [table.name(slot) for slot in range(len(table))] == ["web-1"]
    assert got.points.time_us.min() == 1_795_637_330_721_000
    first = got.points.feature == found["features"].index("memory/memory-free/value")
    assert got.points.value[first][0] > 1e9


def test_a_sample_of_the_real_collectd_becomes_a_configuration() -> None:
    rates, raw = COLLECTD.propose(golden("rates")), COLLECTD.propose(golden("raw"))
    assert rates is not None
    assert raw is not None
    assert {key: rates[key] for key in ("entity", "time", "period", "wait", "carry_forward", "counters")} == {
        "entity": "host", "time": "time", "period": "1s", "wait": "2s", "carry_forward": "2s", "counters": [],
    }  # fmt: skip
    assert {"cpu-0/cpu-user/value", "df-root/df_complex-free/value", "disk-vda/disk_octets/write"} < set(
        rates["features"]
    )
    assert {"load/load/shortterm", "memory/memory-used/value", "interface-eth0/if_octets/rx"} < set(
        rates["features"]
    )
    assert raw["features"] == rates["features"] == sorted(rates["features"])
    assert {"cpu-0/cpu-user/value", "disk-vda/disk_ops/write"} < set(raw["counters"])
    assert not {"load/load/shortterm", "memory/memory-used/value"} & set(raw["counters"])


def test_other_samples_are_not_collectds() -> None:
    assert COLLECTD.propose([b'{"cpu": 1}', b"[]", b"[1]"]) is None


def test_values_come_in_order_with_their_features() -> None:
    load = value_list(
        plugin="load",
        plugin_instance="",
        type="load",
        values=[0.5],
        dstypes=["gauge"],
        dsnames=["shortterm"],
    )
    got = read(message(), json.dumps([load, value_list(values=[None, 7])]).encode(), message(plugin="cpu"))
    assert got.rejected == []
    assert got.message.tolist() == [0, 0, 1, 1, 1]
    assert got.points.offset.tolist() == [10, 10, 11, 11, 11]
    assert got.points.feature.tolist() == [0, 1, 2, 0, 1]
    np.testing.assert_array_equal(got.points.value, [3, 5.5, 0.5, np.nan, 7])
    assert got.points.time_us.tolist() == [int(T * 1e6)] * 5
    assert got.tally == (0, 2)


def test_what_is_missing_stays_a_measurement() -> None:
    got = read(
        message(values=[float("nan"), float("inf")]),
        message(values=["NaN", "2"]),
        message(values=[1e300, -1]),
    )
    np.testing.assert_array_equal(got.points.value, [np.nan, np.nan, np.nan, 2, np.nan, -1])
    assert (got.rejected, got.tally.infinite) == ([], 2)


def test_counts_since_the_last_reading_are_rates_where_the_stream_has_counters() -> None:
    absolute = message(dstypes=["absolute", "gauge"], values=[30, 4])
    assert read(absolute).points.value.tolist() == [30, 4]
    assert read(absolute, counters=FEATURES[:1]).points.value.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.EMPTY),
        (b"\xff", Reason.BAD_UTF8),
        (b"[{", Reason.NOT_JSON),
        (b"[" * 10_000, Reason.TOO_DEEP),
        (b"{}", Reason.NOT_ARRAY),
        (b"[]", Reason.NO_FEATURES),
        (b"[7]", Reason.WRONG_TYPE),
        (message(values=[1]), Reason.LENGTHS_DIFFER),
        (message(dsnames=["rx"]), Reason.LENGTHS_DIFFER),
        (message(dstypes=["derive"] * 3), Reason.LENGTHS_DIFFER),
        (message(values=[], dstypes=[], dsnames=[]), Reason.NO_FEATURES),
        (message(values=...), Reason.NO_FEATURES),
        (message(values=3), Reason.WRONG_TYPE),
        (message(values=[True, 1]), Reason.WRONG_TYPE),
        (message(values=["fast", 1]), Reason.WRONG_TYPE),
        (message(dstypes=["derive", "histogram"]), Reason.WRONG_TYPE),
        (message(dstypes=["derive", None]), Reason.WRONG_TYPE),
        (message(dsnames=["rx", 4]), Reason.WRONG_TYPE),
        (message(dsnames=["rx", ""]), Reason.NO_FEATURES),
        (message(plugin=...), Reason.NO_FEATURES),
        (message(type=""), Reason.NO_FEATURES),
        (message(plugin_instance=4), Reason.WRONG_TYPE),
        (message(interval=0), Reason.WRONG_TYPE),
        (message(interval=...), Reason.WRONG_TYPE),
        (message(host=...), Reason.MISSING_ENTITY),
        (message(host=" "), Reason.MISSING_ENTITY),
        (message(host=["a"]), Reason.BAD_ENTITY),
        (message(host="a" * 600), Reason.BAD_ENTITY),
        (message(time="soon"), Reason.BAD_TIME),
        (message(time={}), Reason.BAD_TIME),
        (message(time=5), Reason.TIME_OUT_OF_RANGE),
        (json.dumps([value_list(), value_list(time=5)]).encode(), Reason.TIME_OUT_OF_RANGE),
    ],
)  # fmt: skip
def test_each_reason_refuses_the_whole_message(value: bytes | None, reason: Reason) -> None:
    got = read(message(), value, message())
    assert [(one.message, one.reason) for one in got.rejected] == [(1, reason)]
    assert got.message.tolist() == [0, 0, 2, 2]


TEXT = st.text(st.sampled_from("ab-/%2DF.é "), max_size=5)
NAMES = st.builds(Name, TEXT.filter(bool), TEXT, TEXT.filter(bool), TEXT, TEXT.filter(bool))


@given(NAMES, NAMES)
def test_every_name_has_one_text_and_no_two_have_the_same(one: Name, other: Name) -> None:
    assert parse(one.text) == one
    assert (one.text == other.text) == (one == other)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (Name("cpu", "0", "cpu", "user", "value"), "cpu-0/cpu-user/value"),
        (Name("load", "", "load", "", "shortterm"), "load/load/shortterm"),
        (Name("df", "mnt-data", "df_complex", "free", "value"), "df-mnt-data/df_complex-free/value"),
        (Name("a-b", "c/d", "t", "", "5%"), "a%2Db-c%2Fd/t/5%25"),
    ],
)
def test_names_as_they_are_written(name: Name, text: str) -> None:
    assert name.text == text
    assert parse(text) == name


@pytest.mark.parametrize(
    "text", ["cpu", "cpu/user", "a/b/c/d", "/b/c", "a/-x/c", "a/b/", "a-/b/c", "a%2f/b/c"]
)
def test_a_feature_that_nothing_measures_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="names nothing that collectd measures"):
        read(features=(text,))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.sampled_from(sorted(value_list())), JSON, max_size=3)


MESSAGES = st.lists(FIELDS, max_size=3).map(
    lambda some: json.dumps([value_list(**fields) for fields in some]).encode()
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(MESSAGES | st.binary(max_size=20) | st.none(), max_size=8))
def test_a_message_is_used_whole_or_refused_once(values: list[bytes | None]) -> None:
    got = read(*values)
    refused = [one.message for one in got.rejected]
    assert refused == sorted(set(refused))
    assert not set(refused) & set(got.message.tolist())
    alone = [read(value) for value in values]
    assert sum(len(one.points.value) for one in alone) == len(got.points.value)


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6), st.booleans())
def test_a_message_is_split_by_host_without_a_change(hosts: list[str], nan: bool) -> None:
    lists = [value_list(host=host, values=[i, float("nan") if nan else None]) for i, host in enumerate(hosts)]
    whole = json.dumps(lists).encode()
    shares = COLLECTD.shares(whole, How())
    assert sorted(str(share.entity) for share in shares) == sorted(set(hosts))
    if len(shares) == 1:
        assert shares[0].value == whole
    for share in shares:
        mine = [one for one in lists if one["host"] == share.entity]
        assert json.dumps(json.loads(share.value)) == json.dumps(mine)


def test_what_cannot_be_read_cannot_be_split() -> None:
    with pytest.raises(Refused):
        COLLECTD.shares(b"[{}]", How())
