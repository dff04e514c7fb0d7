"""The feature schema: its hash is its order, and it survives JSON."""

from __future__ import annotations

import json

import pytest
from tocsin.errors import DataError
from tocsin.pipelines.schema import FeatureSchema

SCHEMA = FeatureSchema(("cpu", "disk.free", "bytes"), ("bytes", "cpu"))


def test_the_hash_is_pinned_and_sees_order_names_and_counters() -> None:
    assert SCHEMA.hash == "1b0e4d3a9ae13262d6d2d89dbd0404c79e14b81b6987e412218d711272a922b3"
    others = [
        FeatureSchema(("disk.free", "cpu", "bytes"), SCHEMA.counters),
        FeatureSchema(("cpu", "disk.used", "bytes"), SCHEMA.counters),
        FeatureSchema(SCHEMA.names, ("bytes",)),
    ]
    assert len({SCHEMA.hash, *(other.hash for other in others)}) == 4
    assert FeatureSchema(SCHEMA.names, ("cpu", "bytes")).hash == SCHEMA.hash


def test_it_survives_json() -> None:
    back = FeatureSchema.from_json(json.loads(json.dumps(SCHEMA.to_json())))
    assert back == SCHEMA
    assert back.counter_index.tolist() == [0, 2]
    assert back.index["bytes"] == 2
    assert len(back) == 3


@pytest.mark.parametrize(
    ("names", "counters", "words"),
    [
        ((), (), "at least one"),
        (("a", ""), (), "empty name"),
        (("a", "a"), (), "'a' is listed twice"),
        (("a",), ("b",), "counter 'b' is not among"),
    ],
)
def test_what_makes_no_schema(names: tuple[str, ...], counters: tuple[str, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        FeatureSchema(names, counters)


@pytest.mark.parametrize(
    "content", [None, [], {"names": ["a"]}, {"names": "a", "counters": []}, {"names": [1], "counters": []}]
)
def test_json_that_is_no_schema(content: object) -> None:
    with pytest.raises(DataError):
        FeatureSchema.from_json(content)
