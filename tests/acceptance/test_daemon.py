"""The daemon on a real Kafka, from its first record through restarts, changes and a crash, against `replay`.

One timeline is played once; the tests look at what it left behind.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from rigs.daemon import Daemon, Home, Message, assert_same, replayed, scored, until
from telemetry import keys, messages
from tocsin.detector.changelog_fold import Restorer

pytestmark = pytest.mark.kafka

SCHEMA = Path(__file__).parents[2] / "detector/schemas/alert.schema.json"


class Held(NamedTuple):
    """What Kafka held at one moment: read in this order, so that each may only be behind the next."""

    committed: dict[tuple[str, int], int]
    snapshots: dict[tuple[str, int], int]
    """Next offset of the newest complete snapshot."""
    alerts: list[Message]
    scores: list[Message]
    letters: list[Message]


class Told(NamedTuple):
    """The timeline's end."""

    home: Home
    held: list[Held]
    seconds_to_stop: list[float]
    changes: dict[str, int]
    """What was published -> its version."""
    replayed: dict[tuple[int, int], dict[str, Any]]
    """Rows of `replay --since start`."""
    incidents: list[dict[str, Any]]
    """The alerts of that replay."""


def look(home: Home) -> Held:
    committed = home.committed()
    restorer = Restorer()
    for message in home.read("changelog"):
        restorer.feed(message.key, message.value)
    restored = {part: restorer.restored(*part).snapshot for part in committed}
    snapshots = {part: one.next_offset if one else 0 for part, one in restored.items()}
    return Held(committed, snapshots, home.read("alerts"), home.read("scores"), home.read("dead_letter"))


def applied(daemon: Daemon, version: int) -> None:
    until(lambda: daemon.metric("tocsin_change_version") >= version, f"change {version} to be applied")


@pytest.fixture(scope="module")
def told(make_home: Callable[..., Home], trained: Any) -> Told:
    home = make_home("daemon")
    home.write()
    home.make_topics()
    values, names = messages(trained.live), keys(trained.live)
    cuts = [round(len(values) * share) for share in (0, 0.2, 0.4, 0.55, 0.7, 0.85, 1)]
    chunks = [(values[a:b], names[a:b]) for a, b in itertools.pairwise(cuts)]
    held, seconds, changes = [], [], {}

    def stop(daemon: Daemon) -> None:
        begun = time.monotonic()
        daemon.stop()
        seconds.append(time.monotonic() - begun)
        held.append(look(home))

    # A first life, ended by SIGTERM in the midst of its work.
    daemon = home.start()
    home.send(*chunks[0])
    held.append(look(home))
    home.caught_up()
    home.send(*chunks[1])
    stop(daemon)
    # A second: feedback, a recalibration and a promotion while records flow; killed at some point of the stream.
    daemon = home.start()
    home.caught_up()
    incidents = [
        one for one in json.loads(home.run("alerts", "list", "--json").stdout) if one["kind"] == "anomaly"
    ]
    for name, word in (("real", ("--true",)), ("expected", ("--expected", "30d"))):
        said = json.loads(home.run("alerts", "feedback", incidents.pop()["alert_id"], *word, "--json").stdout)
        assert said["known"]
        changes[name] = said["change"]
    told = json.loads(
        home.run("recalibrate", "--since", "start", "--budget", "20/day per entity", "--json").stdout
    )
    changes["recalibration"] = told["change"]
    home.send(*chunks[2])
    applied(daemon, changes["recalibration"])
    moved = json.loads(home.run("models", "promote", trained.versions[1], "--json").stdout)
    changes["promotion"] = moved["change"]
    home.send(*chunks[3])
    applied(daemon, changes["promotion"])
    before = home.committed()
    home.send(*chunks[4])
    until(lambda: home.committed() != before, "a part of the chunk to be committed", every_s=0.01)
    time.sleep(random.uniform(0, 0.5))
    daemon.kill()
    held.append(look(home))
    # A third takes over what the second left.
    daemon = home.start()
    home.send(*chunks[5])
    home.caught_up()
    stop(daemon)
    return Told(home, held, seconds, changes, *replayed(home))


def content(alert: dict[str, Any]) -> dict[str, Any]:
    """An alert without the one remark that depends on when it was told."""
    return {**alert, "annotations": {**alert["annotations"], "late": None}}


def test_a_planted_fault_becomes_an_alert_that_keeps_to_the_schema(told: Told, trained: Any) -> None:
    schema = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    alerts = [message.json() for message in told.held[-1].alerts]
    for alert in alerts:
        schema.validate(alert)
    assert {"firing", "resolved"} == {alert["status"] for alert in alerts}
    spike = next(fault for fault in trained.live.faults if fault.kind == "spike")
    entity = trained.live.names[spike.entity]
    mine = [a for a in alerts if a["labels"]["entity"] == entity and a["status"] == "firing"]
    found = [a for a in mine if spike.first_us <= moment(a["event_time"]) <= spike.last_us]
    assert found, f"{spike} of {entity}: {[(a['starts_at'], a['kind']) for a in mine]}"
    causes = {trained.live.features[i] for i in spike.features}
    assert found[0]["annotations"]["features"][0]["name"] in causes


def moment(text: str) -> int:
    from datetime import datetime

    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def test_scores_are_those_of_a_replay_bit_for_bit(told: Told) -> None:
    assert_same(scored(told.held[-1].scores), told.replayed)
    assert len(told.replayed) == sum(told.home.ends().values())
    assert sum(row["score"] is not None for row in told.replayed.values()) > 0.9 * len(told.replayed)


def test_incidents_are_those_of_a_replay(told: Told) -> None:
    live: dict[str, dict[str, Any]] = {}
    for message in told.held[-1].alerts:
        name = message.header("ce_id")
        assert name is not None
        alert = content(message.json())
        assert live.setdefault(name, alert) == alert, "told twice and not the same"
    replayed = {
        f"{a['alert_id']}-{a['status']}"
        + (f"-{a['annotations']['held']}" if a["kind"] == "digest" else ""): a
        for a in told.incidents
    }
    assert live == {name: content(alert) for name, alert in replayed.items()}
    assert len(live) > 20


def test_changes_acted_where_they_were_written(told: Told, trained: Any) -> None:
    versions = {
        row["calibration_version"].rpartition(".")[0]
        for row in told.replayed.values()
        if row["score"] is not None
    }
    first, second = trained.versions
    assert versions == {first, f"{first}+{told.changes['recalibration']}", second}


def test_what_is_expected_is_told_as_that_and_a_replay_knows_it(told: Told) -> None:
    alerts = [message.json() for message in told.held[-1].alerts]
    expected = [alert for alert in alerts if alert["annotations"]["expected"]]
    assert {alert["annotations"]["expected"]["change"] for alert in expected} == {told.changes["expected"]}
    assert len({alert["labels"]["entity"] for alert in expected}) == 1


def test_committed_is_never_ahead_of_what_was_acknowledged(told: Told) -> None:
    """Alerts before state, state and scores before offsets, at every look, even a kill's."""
    for held in told.held:
        known = scored(held.scores)
        for (_, partition), offset in held.committed.items():
            missing = [at for at in range(offset) if (partition, at) not in known]
            assert missing == []
        told_ids = {(m.json()["alert_id"], m.json()["status"]) for m in held.alerts}
        for alert in told.incidents:
            part = (alert["annotations"]["topic"], alert["annotations"]["partition"])
            behind = max(held.committed[part], held.snapshots[part])
            if alert["annotations"]["last_offset"] < behind:
                assert (alert["alert_id"], alert["status"]) in told_ids


def test_sigterm_ends_it_within_ten_seconds_with_state_at_the_committed_offsets(told: Told) -> None:
    assert max(told.seconds_to_stop) < 10
    for held in (told.held[1], told.held[-1]):
        assert held.snapshots == held.committed
        assert sum(held.committed.values()) > 0


def test_the_kill_fell_into_the_midst_and_was_made_good(told: Told) -> None:
    killed, last = told.held[2], told.held[-1]
    assert killed.committed != last.committed
    assert last.committed == told.home.ends()
