"""Several streams in one process, settings read again, and topics that are not as they were."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from rigs.daemon import Daemon, Home, assert_same, replayed, scored, until
from telemetry import keys, messages
from tocsin.models import signing
from tocsin.models.registry import Registry

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def also_for(home: Home, version: str, stream: str) -> None:
    """Register a version of hosts for another stream, with the same key."""
    root, private = home.folder / "registry", home.folder / "config/tocsin/signing-key.pem"
    signer = signing.load_signer(private)
    found = Registry(root, "hosts").load(version, [signing.trust(signer)])
    files = {name: (found.path / name).read_bytes() for name in found.manifest.files}
    Registry(root, stream).register(found.manifest, files, signer)


def reload(daemon: Daemon) -> None:
    daemon.signal(signal.SIGHUP)


def test_two_streams_in_one_process_and_settings_read_again(
    make_home: Callable[..., Home], trained: Any
) -> None:
    home = make_home("streams")
    also_for(home, trained.versions[0], "pumps")
    pumps = {
        **{
            role: f"{home.name}.pumps.{role}"
            for role in ("alerts", "scores", "dead_letter", "changelog", "control")
        },
        "topics": [f"{home.name}.pumps.input"],
        "group_id": f"{home.name}.pumps.group",
    }
    hosts = home.stream()
    hosts.pop("name")
    home.write(streams={"hosts": hosts, "pumps": {**hosts, **pumps}})
    home.make_topics()
    daemon = home.start()
    values, names = messages(trained.live)[:5000], keys(trained.live)[:5000]
    home.send(values[:2500], names[:2500])
    home.send(values[:2500], names[:2500], "pumps.input")
    status = until(
        lambda: (found := daemon.status())["streams"][1].get("entities_known") == 12 and found,
        "pumps to be known",
    )
    assert [(one["stream"], one["phase"]) for one in status["streams"]] == [
        ("hosts", "live"),
        ("pumps", "live"),
    ]
    home.caught_up()
    # SIGHUP: what the file changes of what decides is published for both streams, and acts.
    budget = "tocsin_budget_openings_per_day"
    until(lambda: daemon.metric(budget) == 2 * 72, "6 a day for each of 12 entities of two streams")
    good = home.config.read_text()
    home.config.write_text(good.replace('"6/day per entity"', '"12/day per entity"'))
    reload(daemon)
    until(lambda: daemon.metric(budget) == 2 * 144, "both budgets to double")
    # A broken file changes nothing, and says so.
    home.config.write_text(good.replace('"6/day per entity"', '"lots"'))
    reload(daemon)
    until(
        lambda: daemon.said("the configuration was not reloaded; the last good one stays"), "a word about it"
    )
    home.send(values[2500:], names[2500:])
    home.send(values[2500:], names[2500:], "pumps.input")
    home.caught_up()
    until(lambda: daemon.metric("tocsin_records_consumed_total", stream="pumps") == 5000, "pumps to catch up")
    assert daemon.metric(budget) == 2 * 144
    daemon.stop()
    home.config.write_text(good)
    live = {
        stream: scored(home.read(role)) for stream, role in (("hosts", "scores"), ("pumps", "pumps.scores"))
    }
    for stream, found in live.items():
        assert_same(found, replayed(home, "--stream", stream)[0])
    # The same records under the same rules: the same scores, but incidents of their own.
    assert {p: one.get("score") for p, one in live["hosts"].items()} == {
        p: one.get("score") for p, one in live["pumps"].items()
    }
    ids = [{one["incident"] for one in found.values() if one.get("incident")} for found in live.values()]
    assert ids[0]
    assert not ids[0] & ids[1]
    # The file says 6 again, the control topic 12: the topic wins, and the start says so.
    again = home.start()
    until(lambda: again.metric(budget) == 2 * 144, "the budget that is in force")
    (said,) = {line["setting"] for line in again.lines() if "in_force" in line}
    assert said == "thresholds.budget"
    again.stop()


def test_entities_in_several_partitions_are_refused_with_the_fix(
    make_home: Callable[..., Home], trained: Any
) -> None:
    home = make_home("torn")
    home.write()
    home.make_topics()
    daemon = home.start()
    values = messages(trained.live)[:2000]
    home.send(values, [b"key-%d" % i for i in range(len(values))])
    assert daemon.end() == 1
    assert "produce with the entity as the message key" in daemon.tail()


def test_a_changed_partition_count_is_refused_until_it_is_accepted(
    make_home: Callable[..., Home], trained: Any
) -> None:
    home = make_home("grown")
    home.write()
    home.make_topics()
    values, names = messages(trained.live), keys(trained.live)
    daemon = home.start()
    home.send(values[:3000], names[:3000])
    home.caught_up()
    daemon.stop()
    admin = home.broker.admin()
    admin.grow(home.topic("input"), 4)
    admin.close()
    home.send(values[3000:5000], names[3000:5000])
    assert "tocsin check --accept-partitions" in home.run("run", code=2).stderr
    assert "--accept-partitions" in home.run("check", "--connect", code=1).stdout
    # A changelog that is wide enough is not all: the state in it is of the old count.
    admin = home.broker.admin()
    admin.grow(home.topic("changelog"), 4)
    admin.close()
    assert "had 3 and has 4" in home.run("run", code=1).stderr
    assert "where its state was made for 3" in home.run("check", "--connect", code=1).stdout
    said = home.run("check", "--accept-partitions").stderr
    assert "counts with 4 partitions now, 3 before" in said
    daemon = home.start()
    home.caught_up()
    assert len(scored(home.read("scores"))) == 5000
    assert daemon.metric("tocsin_entities_torn") == 0
    daemon.stop()
    home.run("check", "--connect")
    home.run("check", "--accept-partitions")
