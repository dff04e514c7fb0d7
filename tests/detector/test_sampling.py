"""A sample of a topic becomes a configuration that reads it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rigs.fixtures import TopicFactory
from tocsin.detector.sampling import Sample, propose, take, understood
from tocsin.detector.settings import load
from tocsin.errors import DataError, UnknownTopic
from tocsin.pipelines.brokers import Broker


def sample(*records: Any, keys: bytes | None = None) -> Sample:
    values: list[bytes | None] = [json.dumps(record).encode() for record in records]
    return Sample([keys] * len(records), values, [("t", 0)] * len(records))


def wide(i: int) -> dict[str, Any]:
    return {
        "@timestamp": f"2024-01-01T00:00:{i:02d}Z",
        "host": {"name": f"h{i % 2}", "uptime": 5 + i},
        "cpu": 0.5 if i % 3 else 0.25,
        "bytes": 1000 * i,
        "load": str(i % 4),
        "ok": True,
        "note": "text",
        "rare": 1.0 if i == 1 else None,
    }


def test_wide_records() -> None:
    assert propose(sample(*map(wide, range(30)))) == {
        "format": "json_wide",
        "time": "@timestamp",
        "entity": "host.name",
        "features": ["host.uptime", "cpu", "bytes", "load"],
        "counters": ["host.uptime", "bytes"],
    }


def test_long_records() -> None:
    records = [
        {"ts": 1_700_000_000 + i, "host": "a", "metric": f"m{i % 3}", "value": i / 3} for i in range(30)
    ]
    assert propose(sample(*records)) == {
        "format": "json_long",
        "time": "ts",
        "time_unit": "s",
        "entity": "host",
        "metric": "metric",
        "value": "value",
        "features": ["m0", "m1", "m2"],
    }


def test_what_the_message_does_not_say_is_taken_from_kafka() -> None:
    found = propose(sample(*({"cpu": i % 3} for i in range(9)), keys=b"h"))
    assert (found["entity"], found["time"], found["features"]) == ("", "", ["cpu"])


def test_collectd_is_recognised_and_its_scattered_hosts_are_rekeyed() -> None:
    golden = Path(__file__).parents[1] / "golden" / "collectd-5.12-rates.ndjson"
    values: list[bytes | None] = list(golden.read_bytes().splitlines())
    parts = [("t", i % 3) for i in range(len(values))]
    found = propose(Sample([b"0A1B2C3D"] * len(values), values, parts))
    assert (found["format"], found["entity"], found["period"], found["rekey"]) == (
        "collectd",
        "host",
        "1s",
        True,
    )
    assert "rekey" not in propose(Sample([None] * len(values), values, [("t", 1)] * len(values)))


def test_scattered_entities_are_rekeyed_whatever_the_format() -> None:
    taken = sample(*map(wide, range(30)))
    apart = taken._replace(parts=[("t", i % 3) for i in range(30)])
    assert propose(apart) == {**propose(taken), "rekey": True}
    assert "rekey" not in propose(taken._replace(parts=[("t", i % 2) for i in range(30)]))  # as the hosts are


def test_what_was_understood_is_shown() -> None:
    records = [
        {"ts": 1_700_000_000_000 + i, "host": f"h{i % 6}", "cpu": i % 5, "sent": i * 10} for i in range(60)
    ]
    taken = sample(*records)._replace(parts=[("t", i % 4) for i in range(60)])
    assert understood(taken, propose(taken)) == [
        ("sample", "the newest 60 messages of 4 partitions"),
        ("format", "json_wide"),
        ("entity", "host: 6 of them, h0, h1, h2, h3, …"),
        ("time", "ts, in ms; the newest is of 2023-11-14 22:13:20 UTC"),
        ("features", "2: cpu, sent"),
        ("counters", "1, watched as rates: sent"),
        (
            "rekey",
            "an entity comes in several partitions, so its records are keyed anew before they are scored",
        ),
    ]
    bare = sample(*({"cpu": i % 3} for i in range(9)), keys=b"h")
    assert understood(bare, propose(bare))[2:4] == [
        ("entity", "the Kafka key: 1 of them, h"),
        ("time", "the Kafka timestamp"),
    ]


def test_what_cannot_be_read_is_said() -> None:
    with pytest.raises(DataError, match="0 of 0 sampled messages are JSON objects"):
        propose(Sample([], [], []))
    with pytest.raises(DataError, match="0 of 2 sampled messages"):
        propose(Sample([None, None], [b"\x00\x01", None], [("t", 0)] * 2))
    with pytest.raises(DataError, match="no numbers to watch; their paths are: a"):
        propose(sample({"a": "x"}))


def test_init_writes_what_reads_the_topic(broker: Broker, topic: TopicFactory, tmp_path: Path) -> None:
    name = topic(3)
    producer = broker.producer()
    for i in range(60):
        producer.produce(name, json.dumps(wide(i)).encode(), partition=i % 3)
    producer.flush(10)
    with pytest.raises(UnknownTopic, match="'nowhere' does not exist"):
        take(broker, "nowhere")
    assert len(take(broker, name, 30).values) == 30
    command = [
        sys.executable,
        "-m",
        "tocsin.detector.cli",
        "init",
        "--bootstrap",
        broker.bootstrap,
        "--topic",
        name,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "features  4: host.uptime, cpu, bytes, load" in done.stderr
    assert max(map(len, done.stderr.splitlines())) <= 80
    assert done.stderr.endswith("Next: `tocsin check --connect --create-topics`.\n")
    settings = load(tmp_path / "tocsin.toml", {})
    assert settings.kafka.bootstrap == broker.bootstrap
    stream = settings.stream()
    assert (stream.name, stream.topics, stream.entity, stream.time) == (
        name,
        (name,),
        "host.name",
        "@timestamp",
    )
    assert set(stream.features) == {"host.uptime", "cpu", "bytes", "load"}
