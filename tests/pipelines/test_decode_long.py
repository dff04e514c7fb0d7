"""Long JSON: one measurement a message, and what is not one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tocsin.errors import SettingsError
from tocsin.pipelines.decode_long import LongDecoder
from tocsin.pipelines.decoding import DecodedPoints, Reason
from tocsin.pipelines.records import Messages
from tocsin.pipelines.schema import FeatureSchema
from tocsin.pipelines.slots import SlotTable

T = 1_704_067_200


def read(*values: bytes | None, table: SlotTable | None = None, **options: object) -> DecodedPoints:
    defaults: dict = {"entity": "host", "time": "ts", "name": "name"}
    long = LongDecoder(FeatureSchema(("cpu", "disk")), **(defaults | options))
    rows = len(values)
    columns = (np.zeros(rows, np.int32), np.arange(10, 10 + rows), np.zeros(rows, np.int64))
    return long.decode(Messages(*columns, [None] * rows, values), SlotTable() if table is None else table)


def message(**fields: object) -> bytes:
    content = {"ts": T, "host": "a", "name": "cpu", "value": 1.5} | fields
    return json.dumps({key: value for key, value in content.items() if value is not ...}).encode()


def test_measurements_come_in_order_with_their_features() -> None:
    got = read(message(), message(name="disk", value=3), message(name="fan"), message(value="0.5"))
    assert got.rejected == []
    assert got.points.feature.tolist() == [0, 1, 0]
    assert got.points.value.tolist() == [1.5, 3.0, 0.5]
    assert got.points.offset.tolist() == [10, 11, 13]
    assert got.message.tolist() == [0, 1, 3]
    assert got.tally.unknown == 1


def test_missing_values_stay_measurements() -> None:
    got = read(message(value=None), message(value="NaN"), message(value="+Inf"), message(value=float("-inf")))
    assert np.isnan(got.points.value).tolist() == [True] * 4
    assert got.tally.infinite == 2


def test_paths_and_names_can_be_declared() -> None:
    names = {"cpu": "node_cpu"}
    content = {
        "labels": {"__name__": "node_cpu", "instance": "x"},
        "v": "2",
        "timestamp": "2024-01-01T00:00:00Z",
    }
    table = SlotTable()
    got = read(
        json.dumps(content).encode(),
        table=table, entity="labels.instance", time="timestamp", name="labels.__name__", value="v",
        metric_names=names,
    )  # fmt: skip
    assert got.points.value.tolist() == [2.0]
    assert got.points.time_us.tolist() == [T * 1_000_000]
    assert table.name(0) == "x"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"[]", Reason.NOT_OBJECT),
        (message(name=...), Reason.NO_FEATURES),
        (message(value=...), Reason.NO_FEATURES),
        (message(name=7), Reason.WRONG_TYPE),
        (message(value=True), Reason.WRONG_TYPE),
        (message(value="fast"), Reason.WRONG_TYPE),
        (message(host=1.5), Reason.BAD_ENTITY),
        (message(host=...), Reason.MISSING_ENTITY),
        (message(ts=[]), Reason.BAD_TIME),
        (message(ts=...), Reason.BAD_TIME),
        (message(ts=5), Reason.TIME_OUT_OF_RANGE),
    ],
)
def test_each_reason(value: bytes, reason: Reason) -> None:
    got = read(message(), value, message())
    assert [(one.message, one.reason) for one in got.rejected] == [(1, reason)]
    assert got.message.tolist() == [0, 2]


def test_a_name_and_a_value_at_one_path_are_refused() -> None:
    with pytest.raises(SettingsError, match="cannot both be read"):
        read(name="value")
