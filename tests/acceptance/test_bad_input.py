"""What the daemon makes of bad input, on a real Kafka: every bad message goes between good ones."""

from __future__ import annotations

import itertools
import json
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rigs.daemon import Daemon, Home, Message, assert_same, replayed, scored, until
from rigs.kafka import free_ports
from telemetry import keys, messages
from tocsin.detector.changes import Promotion
from tocsin.detector.control import artefacts_of, publish
from tocsin.detector.settings import load
from tocsin.models import signing
from tocsin.models.registry import Registry

pytestmark = pytest.mark.kafka

LIMIT = 16_384
DAY_MS = 86_400_000
NOW = 1_704_067_200_000
"""An event time within the telemetry, milliseconds."""


def record(**other: object) -> bytes:
    content = {"ts": NOW, "host": "host-00", "f00": 1.0, "f01": 2.0, "f02": 3.0, "f03": 4.0, **other}
    return json.dumps({name: value for name, value in content.items() if value is not ...}).encode()


class Case(NamedTuple):
    """A bad message, and what becomes of it."""

    value: bytes | None
    reason: str
    key: bytes | None = b"host-00"


LETTERS = {
    "no value": Case(None, "empty"),
    "bytes that are no text": Case(b"\xff\xfe\x00\x01", "bad_utf8"),
    "text that is no JSON": Case(b"cpu=0.4 mem=0.3", "not_json"),
    "half a message": Case(record()[:-9], "not_json"),
    "a list": Case(b"[1, 2, 3]", "not_object"),
    "nested without end": Case(b'{"f00":' * 1500 + b"1" + b"}" * 1500, "too_deep"),
    "oversized": Case(record(note="x" * LIMIT), "oversized"),
    "as large as the topic takes": Case(record(note="x" * 1_048_400), "oversized"),
    "a feature of a wrong type": Case(record(f01=[1]), "wrong_type"),
    "a feature that is words": Case(record(f01="much"), "wrong_type"),
    "no entity": Case(record(host=...), "missing_entity", None),
    "an entity of a wrong type": Case(record(host=["a"]), "bad_entity"),
    "a time that is words": Case(record(ts="yesterday"), "bad_time"),
    "a time before computers": Case(record(ts="1815-12-10T00:00:00Z"), "time_out_of_range"),
    "a time far ahead": Case(record(ts=NOW + 90 * DAY_MS), "time_far_ahead"),
    "unknown features only": Case(record(f00=..., f01=..., f02=..., f03=..., volts=230.0), "no_features"),
}
KEPT = {
    "late": (record(ts=NOW), "late"),
    "unknown features beside known ones": (record(host="host-new", volts=230.0), "warming"),
    "no time, so the broker's counts": (record(host="host-timeless", ts=...), "warming"),
}
FLOOD = 60
"""Records of one entity, one after the other, with NaN in every feature."""


class Played(NamedTuple):
    home: Home
    daemon: Daemon
    places: dict[str, tuple[int, int]]
    """Case -> partition and offset of its message."""
    good: int
    letters: list[Message]
    live: dict[tuple[int, int], dict[str, Any]]
    metrics: dict[str, float]


@pytest.fixture(scope="module")
def played(make_home: Callable[..., Home], trained: Any) -> Played:
    home = make_home("bad-input")
    home.write(decode={"max_message_bytes": LIMIT, "breaker_records": 400})
    home.make_topics()
    daemon = home.start()
    values, names = messages(trained.live)[:6000], keys(trained.live)[:6000]
    bad: list[tuple[str, bytes | None, bytes | None]] = [
        *((name, case.value, case.key) for name, case in LETTERS.items()),
        *((name, value, json.loads(value)["host"].encode()) for name, (value, _) in KEPT.items()),
    ]
    flood = (
        b'{"ts": %d, "host": "host-flood", "f00": NaN, "f01": NaN, "f02": NaN, "f03": NaN}' % (NOW + i)
        for i in range(FLOOD)
    )
    bad += [("flood", value, b"host-flood") for value in flood]
    # The bad ones in the order of the table, in the second half, each between good ones of its own partition.
    half = len(values) // 2
    sent: list[tuple[bytes | None, bytes | None]] = list(zip(values[:half], names[:half], strict=True))
    rest = list(zip(values[half:], names[half:], strict=True))
    step = len(rest) // len(bad)
    for number, (_, value, key) in enumerate(bad):
        sent += rest[number * step : (number + 1) * step]
        sent.append((value, key))
    sent += rest[len(bad) * step :]
    home.send([value for value, _ in sent], [key for _, key in sent])
    home.caught_up()
    places: dict[str, tuple[int, int]] = {}
    wanted = {value: name for name, value, _ in bad if name != "flood"}
    for message in home.read("input"):
        if message.value in wanted:
            places[wanted[message.value]] = (message.partition, message.offset)
    metrics: dict[str, float] = {}
    for (name, labels), value in daemon.metrics().items():
        kind = dict(labels).get("reason") or dict(labels).get("verdict")
        if kind:
            metrics[f"{name} {kind}"] = value
    return Played(
        home, daemon, places, len(values), home.read("dead_letter"), scored(home.read("scores")), metrics
    )


@pytest.mark.parametrize("name", LETTERS)
def test_what_cannot_be_used_is_a_dead_letter_with_its_reason(played: Played, name: str) -> None:
    case, (partition, offset) = LETTERS[name], played.places[name]
    (letter,) = [
        one
        for one in played.letters
        if (one.header("tocsin.error.partition"), one.header("tocsin.error.offset"))
        == (str(partition), str(offset))
    ]
    assert letter.header("tocsin.error.reason") == case.reason
    assert letter.header("tocsin.error.topic") == played.home.topic("input")
    assert letter.header("tocsin.error.detail")
    assert (letter.value, letter.key) == (case.value, case.key)
    assert (partition, offset) not in played.live or case.reason == "time_far_ahead"
    counted = sum(other.reason == case.reason for other in LETTERS.values())
    assert played.metrics[f"tocsin_dead_letters_total {case.reason}"] == counted


@pytest.mark.parametrize("name", KEPT)
def test_what_is_readable_but_not_scored_says_why(played: Played, name: str) -> None:
    reason = KEPT[name][1]
    assert played.live[played.places[name]].get("reason") == reason
    assert played.metrics[f"tocsin_records_unscored_total {reason}"] >= 1


def test_a_flood_of_nan_is_no_incident(played: Played) -> None:
    mine = [one for one in played.live.values() if one["entity"] == "host-flood"]
    assert len(mine) == FLOOD
    assert {one.get("reason") for one in mine} == {"all_missing"}
    assert played.metrics["tocsin_records_unscored_total all_missing"] == FLOOD
    alerts = [message.json() for message in played.home.read("alerts")]
    assert all(alert["labels"]["entity"] != "host-flood" for alert in alerts)


def test_nothing_readable_is_lost(played: Played) -> None:
    """Every offset has a score record or a dead letter, and the good ones score as a replay says."""
    places = set(played.live)
    places |= {
        (int(one.header("tocsin.error.partition") or -1), int(one.header("tocsin.error.offset") or -1))
        for one in played.letters
    }
    ends = played.home.ends()
    assert places == {(number, offset) for (_, number), end in ends.items() for offset in range(end)}
    assert len(played.letters) == len(LETTERS)
    assert_same(played.live, replayed(played.home)[0])


def promote(home: Home, version: str) -> int:
    """Publish a promotion as somebody would who does not look first."""
    settings = load(home.config, {"XDG_CONFIG_HOME": str(home.folder / "config"), "HOME": str(home.folder)})
    change = Promotion(
        model=version,
        id=str(uuid.uuid4()),
        author="somebody",
        reason="test",
        created_at="2026-01-01T00:00:00Z",
    )
    return publish(home.broker, home.topic("control"), change, artefacts_of(settings, settings.stream()))


def resigned(home: Home, version: str, signer: signing.Signer) -> str:
    """The same version once more, signed by another key; its name."""
    registry = Registry(home.folder / "registry", "hosts")
    trusted = signing.load_trusted([home.folder / "config/tocsin/signing-key.pub.pem"])
    found = registry.load(version, trusted)
    files = {name: (found.path / name).read_bytes() for name in found.manifest.files}
    return registry.register(found.manifest, files, signer)


def spoil(folder: Path) -> None:
    """Flip one bit in the middle of the weights."""
    weights = folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)


@pytest.fixture
def stranger(tmp_path: Path) -> signing.Signer:
    """Somebody else's key."""
    return signing.ensure_pair(tmp_path / "other" / "signing-key.pem")[0]


def test_a_running_daemon_keeps_the_last_good_model(
    played: Played, trained: Any, stranger: signing.Signer
) -> None:
    home, daemon = played.home, played.daemon
    foreign = resigned(home, trained.versions[1], stranger)
    spoil(home.folder / "registry" / "hosts" / trained.versions[1])
    for number, version in enumerate((foreign, trained.versions[1], "v0099-00000000"), 1):
        change = promote(home, version)
        until(lambda: daemon.metric("tocsin_change_version") == change, f"{version} to be refused")  # noqa: B023
        assert daemon.metric("tocsin_model_load_failures_total") == number
        assert daemon.metric("tocsin_model_info", version=trained.versions[0]) == 1
        assert daemon.metric("tocsin_model_info") == 1
    said = [line["why"] for line in daemon.said("a change has no effect here")]
    assert len(said) == 3
    assert "not signed by" in said[0] or "trust" in said[0]
    before = daemon.metric("tocsin_records_scored_total")
    home.send(messages(trained.live)[6000:7000], keys(trained.live)[6000:7000])
    home.caught_up()
    assert daemon.metric("tocsin_records_scored_total") > before + 950
    assert_same(scored(home.read("scores")), replayed(home)[0])


def test_the_breaker_stops_before_the_topic_has_drained_into_the_dead_letters(played: Played) -> None:
    """The last act of this daemon: its topic turns to rubbish."""
    home, daemon = played.home, played.daemon
    letters = len(home.read("dead_letter"))
    home.send([b"rubbish %d" % i for i in range(2000)], itertools.repeat(b"host-00", 2000))
    assert daemon.end() == 1
    (said,) = [line["text"] for line in daemon.lines() if "has become unreadable" in line.get("text", "")]
    assert "not_json" in said
    assert "correct [stream] format" in said
    assert len(home.read("dead_letter")) - letters <= 2000
    committed, ends = home.committed(), home.ends()
    assert committed != ends


@pytest.fixture
def fresh(make_home: Callable[..., Home]) -> Home:
    """A home whose topics are made."""
    home = make_home("refused")
    home.write()
    home.make_topics()
    return home


def test_refused_at_the_start(fresh: Home, trained: Any, stranger: signing.Signer) -> None:
    """One thing wrong after the other, each said clearly, with the code that scripts look at."""
    folder = fresh.folder / "registry" / "hosts"
    first, second = trained.versions
    champion = json.loads((folder / "champion.json").read_text())

    def serve(version: str) -> None:
        (folder / "champion.json").write_text(json.dumps({**champion, "version": version}))

    serve(resigned(fresh, first, stranger))
    assert "sign" in fresh.run("run", code=1).stderr
    shutil.copytree(folder / second, fresh.folder / "kept")
    spoil(folder / second)
    serve(second)
    said = fresh.run("run", code=1).stderr
    assert second in said
    assert "checksum" in said or "altered" in said
    shutil.rmtree(folder / second)
    assert f"names {second}, which is not there" in fresh.run("run", code=1).stderr
    serve(first)
    good = fresh.config.read_text()
    fresh.config.write_text(good.replace('"6/day per entity"', '"lots"'))
    said = fresh.run("run", code=2).stderr
    assert "tocsin.toml" in said
    assert "budget" in said
    assert "5/day" in said
    fresh.config.write_text(good.replace(fresh.topic("input"), fresh.topic("absent")))
    said = fresh.run("run", code=2).stderr
    assert fresh.topic("absent") in said
    assert "does not exist" in said
    assert "--create-topics" in said
    (port,) = free_ports(1)
    fresh.config.write_text(good.replace(fresh.broker.bootstrap, f"127.0.0.1:{port}"))
    begun = time.monotonic()
    said = fresh.run("run", code=1).stderr
    assert f"no broker answers at 127.0.0.1:{port}" in said
    assert time.monotonic() - begun < 40
