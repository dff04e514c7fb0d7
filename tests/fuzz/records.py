"""Telemetry as it comes in: the decoders of all formats, times, data files."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzz.limits import Prepared, Target
from rigs.source import ROOT
from tocsin.detector.deadletters import DETAIL_BYTES, PREFIX, Failed, attempt_of, dead_letter
from tocsin.errors import DataError
from tocsin.pipelines import formats, timestamps
from tocsin.pipelines.decoding import MAX_DETAIL, Decoded, How, Refused
from tocsin.pipelines.files import DataFiles
from tocsin.pipelines.records import LARGEST, Messages
from tocsin.pipelines.schema import FeatureSchema
from tocsin.pipelines.slots import SlotTable

TIME_MS = 1_769_860_800_000
GOLDEN = ROOT / "tests" / "golden"


def _one(**content: Any) -> bytes:
    return json.dumps(content).encode()


FLAT = [
    _one(ts=1769860800, host="a", cpu=0.4, free=7),
    _one(ts=1769860800123, host="web-1", cpu=None, free=-1.5e3, other=[1, {"x": None}]),
    b'{"ts": 1769860800, "host": "b", "cpu": NaN, "free": "7.25"}',
]
NESTED = [
    _one(at={"ts": "2026-01-31T12:00:00Z"}, host={"name": "a"}, cpu={"user": 0.4, "idle": 7}),
    _one(at={"ts": 1769860800.5}, host={"name": 17}, cpu={"user": "1e-3", "idle": "NaN"}),
]
LONG = [
    _one(ts=1769860800, host="a", metric="cpu", value=1),
    b'{"ts": "1769860800.25", "host": "b", "metric": "free", "value": Infinity}',
    _one(host="b", metric="cpu", value="0.5"),
]
COLLECTD = [
    *(GOLDEN / "collectd-5.12-raw.ndjson").read_bytes().splitlines()[:3],
    *(GOLDEN / "collectd-5.12-rates.ndjson").read_bytes().splitlines()[:3],
]


def _target(
    name: str, format_: str, schema: FeatureSchema, how: How, seeds: list[bytes], good: bytes
) -> Target:
    """All that is read of a message: alone and between two good ones, which must come out whatever it is."""

    def prepare(folder: Path) -> Prepared:
        found = formats.of(format_)
        decoder = found.decoder(schema, how)

        def read(data: bytes) -> None:
            values = [good, data, good]
            table = SlotTable()
            messages = Messages(
                np.zeros(3, np.int32), np.arange(3), np.full(3, TIME_MS), [b"k", data[:40], None], values
            )
            decoded = decoder.decode(messages, table)
            assert {0, 2} <= set(decoded.message.tolist()), "it took its neighbours with it"
            assert {one.message for one in decoded.rejected} <= {1}
            told = decoded.records.values if isinstance(decoded, Decoded) else decoded.points.value
            assert not (np.abs(told) > LARGEST).any()
            for one in decoded.rejected:
                letter = dead_letter(Failed("t", 0, 0, 0, None, data, None), one.reason, one.detail, "s", "1")
                assert all(len(text or b"") <= DETAIL_BYTES for _, text in letter.headers)
                assert len(one.detail.encode()) <= 4 * MAX_DETAIL
            if found.propose is not None:
                found.propose([data, data])
            for asked in (found.features, found.shares):
                _asked(asked, data, how)

        return Prepared(seeds, read)

    return Target(name, (), prepare)


def _asked(asked: Callable[[bytes, How], object], data: bytes, how: How) -> None:
    try:
        asked(data, how)
    except Refused as refused:
        refused.of(0).detail.encode()


def _times(folder: Path) -> Prepared:
    seeds = [
        b"1769860800",
        b"1769860800.25",
        b"2026-01-31T12:00:00.5+02:00",
        b"1.7e9",
        b"2026-01-31 12:00:00",
    ]

    def read(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        values: list[object] = [text, None]
        with suppress(ValueError):
            values += [float(text), int(text)]
        for unit in ("auto", *timestamps.UNITS):
            found, status = timestamps.parse(values, unit)
            good = found[status == timestamps.Status.OK]
            assert ((good >= timestamps.EARLIEST_US) & (good < timestamps.LATEST_US)).all()
            for value in values[2:]:
                timestamps.parse([value], unit)
        timestamps.unit_of(values)

    return Prepared(seeds, read)


def _attempts(folder: Path) -> Prepared:
    """The header by which a message that comes back again and again is known."""

    def read(data: bytes) -> None:
        assert 0 <= attempt_of([("x", None), (PREFIX + "attempt", data)]) < 10**9
        letter = dead_letter(Failed("t", 0, 0, 0, data, data, [("x", data)]), "empty", "", "s", "1")
        assert letter.value == data

    return Prepared([b"1", b"4", b"12"], read)


def _file(suffix: str, seeds: Callable[[Path], list[bytes]]) -> Callable[[Path], Prepared]:
    """A data file with this ending, found out about and read to its end."""

    def prepare(folder: Path) -> Prepared:
        made = seeds(folder)
        path = folder / f"telemetry{suffix}"

        def read(data: bytes) -> None:
            path.write_bytes(data)
            for _ in DataFiles([path]).batches(SlotTable(), 4096):
                pass

        return Prepared(made, read)

    return prepare


def _csv(folder: Path) -> list[bytes]:
    return [
        b"timestamp,entity,cpu,free,label\n1769860800,a,0.5,7,0\n1769860810,b,,1e3,1\n",
        b'timestamp,entity,cpu\n2026-01-31T12:00:00Z,"a,b",1\n2026-01-31T12:01:00Z,c,2.5\n',
    ]


def _ndjson(folder: Path) -> list[bytes]:
    lines = [
        _one(timestamp=1769860800 + i, entity="a", cpu=i / 3, disk={"free": i}, label=0) for i in range(3)
    ]
    return [b"\n".join(lines), b"\n".join(reversed(lines)) + b"\n"]


def _parquet(folder: Path) -> list[bytes]:
    table = pa.table(
        {"timestamp": [1769860800, 1769860810], "entity": ["a", "b"], "cpu": [0.5, None], "label": [0, 1]}
    )
    path = folder / "seed"
    pq.write_table(table, path, compression="none")
    return [path.read_bytes()]


_FEATURES = FeatureSchema(("cpu", "free"))
TARGETS = [
    _target("json_wide", "json_wide", _FEATURES, How("host", "ts"), FLAT, FLAT[0]),
    _target(
        "json_wide, nested",
        "json_wide",
        FeatureSchema(("cpu.user", "cpu.idle")),
        How("host.name", "at.ts"),
        NESTED,
        NESTED[0],
    ),
    _target("json_long", "json_long", _FEATURES, How("host", "ts"), LONG, LONG[0]),
    _target(
        "collectd",
        "collectd",
        FeatureSchema(
            ("load/load/shortterm", "interface-eth0/if_octets/rx"), ("interface-eth0/if_octets/rx",)
        ),
        How(),
        COLLECTD,
        b'[{"values":[0.5],"dstypes":["gauge"],"dsnames":["shortterm"],"time":1769860800.5,"interval":10,'
        b'"host":"a","plugin":"load","plugin_instance":"","type":"load","type_instance":""}]',
    ),
    Target("times", (), _times),
    Target("dead letters", (), _attempts),
    Target("CSV", (DataError,), _file(".csv", _csv), share=0.5),
    Target("NDJSON", (DataError,), _file(".ndjson", _ndjson), share=0.5),
    Target("Parquet", (DataError,), _file(".parquet", _parquet), share=0.5),
]
