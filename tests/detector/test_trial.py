"""What a newcomer's configuration gets wrong is said with its fix, from a sample of the topic."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tocsin.detector.sampling import Sample
from tocsin.detector.settings import Stream, load
from tocsin.detector.trial import examine

NOW_US = 1_795_000_000_000_000
RECORD: dict[str, Any] = {"ts": 1_795_000_000_000, "host": "web-1", "cpu": 0.5, "net": {"in": 3}}


def stream(tmp_path: Any, **keys: Any) -> Stream:
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"name": "web", **keys}.items()]
    path = tmp_path / "tocsin.toml"
    path.write_text("[stream]\n" + "\n".join(lines) + "\n")
    return load(path, environ={}).streams[0]


def sample(*records: Any, key: bytes | None = b"web-1") -> Sample:
    values = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in records]
    return Sample([key] * len(values), values, [("web", 0)] * len(values))


GOOD = {"entity": "host", "time": "ts", "features": ["cpu", "net.in"]}


def test_what_fits_gives_no_finding(tmp_path: Any) -> None:
    assert examine(stream(tmp_path, **GOOD), "web", sample(RECORD, RECORD), NOW_US) == []
    assert examine(stream(tmp_path, **(GOOD | {"entity": ""})), "web", sample(RECORD), NOW_US) == []


@pytest.mark.parametrize(
    ("keys", "records", "problem", "fix", "fatal"),
    [
        ({"entity": "hots"}, [RECORD], "no entity at 'hots' in 1 of 1", "entity = 'host'", True),
        ({"entity": "x"}, [RECORD], "no entity at 'x'", "one of: ts, host, cpu, net.in", True),
        ({"time": "tss"}, [RECORD], "no time at 'tss'", "time = 'ts'", True),
        ({"time_unit": "s"}, [RECORD], "times such as 1795000000000", "time_unit = 'ms'", True),
        ({"time": "host"}, [RECORD], "times such as 'web-1'", "path of an event time", True),
        ({}, [RECORD | {"ts": 1_798_000_000_000}], "35 days ahead", "clocks", False),
        (
            {"features": ["cpu", "net.inn"]},
            [RECORD],
            "no 'net.inn' in any of 1",
            "features = 'net.in'",
            False,
        ),
        ({"features": ["gpu"]}, [RECORD], "no 'gpu'", "features = 'cpu'", True),
        ({}, [b"cpu=1", b"[1]"], "0 JSON objects in 2 messages (not JSON", "another [stream] format", True),
        ({}, [], "holds no record", "produce some", False),
    ],
)
def test_each_mistake_is_named_with_its_fix(
    tmp_path: Any, keys: dict[str, Any], records: list[Any], problem: str, fix: str, fatal: bool
) -> None:
    (finding,) = examine(stream(tmp_path, **(GOOD | keys)), "web", sample(*records), NOW_US)
    assert problem in finding.problem
    assert fix in finding.fix
    assert finding.fatal is fatal
    assert finding.subject == "input topic web"


def test_an_entity_from_the_key_needs_keys(tmp_path: Any) -> None:
    (finding,) = examine(stream(tmp_path, **(GOOD | {"entity": ""})), "web", sample(RECORD, key=None), NOW_US)
    assert "without a key" in finding.problem
    assert finding.fatal


def test_a_few_bad_records_are_no_finding(tmp_path: Any) -> None:
    records = [RECORD] * 8 + [b"", {"cpu": 1}]
    assert examine(stream(tmp_path, **GOOD), "web", sample(*records), NOW_US) == []


def test_long_messages_are_tried_by_the_names_of_their_metrics(tmp_path: Any) -> None:
    record = {"ts": 1_795_000_000_000, "host": "web-1", "metric": "cpu", "value": 1}
    keys = {**GOOD, "format": "json_long", "features": ["cpu"]}
    assert examine(stream(tmp_path, **keys), "web", sample(record), NOW_US) == []
    (finding,) = examine(stream(tmp_path, **(keys | {"features": ["cpuu"]})), "web", sample(record), NOW_US)
    assert "no metric 'cpuu'" in finding.problem
    assert finding.fix == "did you mean 'cpu'?"
    (finding,) = examine(stream(tmp_path, **(keys | {"value": "val"})), "web", sample(record), NOW_US)
    assert "no value at 'val'" in finding.problem
