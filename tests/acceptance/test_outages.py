"""A broker that does not acknowledge, goes away and comes back; and two daemons that share the work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from rigs.daemon import WAIT_S, Home, alter, assert_same, replayed, scored, until
from rigs.kafka import Rig
from telemetry import keys, messages
from tocsin.detector.changelog_fold import Restorer

pytestmark = pytest.mark.kafka


def snapshots(home: Home) -> dict[tuple[str, int], int]:
    """The next offset of each partition's newest snapshot."""
    restorer = Restorer()
    for message in home.read("changelog"):
        restorer.feed(message.key, message.value)
    found = {part: restorer.restored(*part).snapshot for part in home.parts()}
    return {part: one.next_offset for part, one in found.items() if one is not None}


def alerts_of(home: Home) -> set[tuple[str, str]]:
    return {(one["alert_id"], one["status"]) for one in (message.json() for message in home.read("alerts"))}


def test_nothing_is_committed_before_its_alerts_are_acknowledged(
    make_home: Callable[..., Home], trained: Any
) -> None:
    """The alert topic takes no message: state and offsets stay before the first alert until it does."""
    home = make_home("held")
    home.write()
    home.make_topics()
    alter(home, "alerts", "max.message.bytes", "64")
    home.send(messages(trained.live)[:6000], keys(trained.live)[:6000])
    # Once where offsets alone would be written, once where state would be too.
    for snapshot_every in ("1h", "1s"):
        home.write(state={"snapshot_every": snapshot_every})
        daemon = home.start(live=False)
        assert daemon.end(WAIT_S) == 1
        assert f"most of them for topic '{home.topic('alerts')}'" in daemon.tail()
    assert home.read("alerts") == []
    incidents = replayed(home)[1]
    first: dict[int, int] = {}
    for alert in incidents:
        partition, offset = alert["annotations"]["partition"], alert["annotations"]["last_offset"]
        first[partition] = min(offset, first.get(partition, offset))
    assert first
    for held, what in ((home.committed(), "offsets"), (snapshots(home), "state")):
        for (_, partition), offset in held.items():
            assert offset <= first.get(partition, offset), f"{what} behind an alert that nobody holds"
    alter(home, "alerts", "max.message.bytes", "1000000")
    daemon = home.start()
    home.caught_up()
    assert alerts_of(home) == {(a["alert_id"], a["status"]) for a in incidents}
    assert daemon.metric("tocsin_alerts_total") == len(incidents)
    daemon.stop()


def test_a_broker_that_goes_away_and_comes_back_costs_nothing(
    make_home: Callable[..., Home], trained: Any, kafka: Rig
) -> None:
    home = make_home("away")
    # Who could not leave the group is missed soon, so that the next start need not wait for it.
    home.write(kafka={"librdkafka": {"session.timeout.ms": 6000}})
    home.make_topics()
    daemon = home.start()
    values, names = messages(trained.live), keys(trained.live)
    home.send(values[:4000], names[:4000])
    until(lambda: sum(home.committed().values()) > 0, "work to begin")
    kafka.stop(kill=True)
    try:
        time.sleep(8)
        assert daemon.code is None, daemon.tail()
        assert daemon.get("/-/healthy")[0] == 200
    finally:
        kafka.start()
    home.send(values[4000:6000], names[4000:6000])
    home.caught_up()
    assert daemon.code is None
    # It goes away for good, in the midst of work: what was not acknowledged in time is not committed, but read again.
    home.send(values[6000:8000], names[6000:8000])
    kafka.stop(kill=True)
    try:
        daemon.stop()
    finally:
        kafka.start()
    home.start()
    home.caught_up()
    live = scored(home.read("scores"))
    rows, incidents = replayed(home)
    assert_same(live, rows)
    assert len(live) == 8000
    assert alerts_of(home) == {(a["alert_id"], a["status"]) for a in incidents}
    home.daemons[-1].stop()


def test_two_daemons_share_partitions_and_hand_over_their_state(
    make_home: Callable[..., Home], trained: Any
) -> None:
    home = make_home("pair")
    home.write()
    home.make_topics()
    values, names = messages(trained.live), keys(trained.live)

    def owned() -> list[float]:
        return [one.metric("tocsin_partitions_assigned") for one in home.daemons if one.code is None]

    first = home.start()
    home.send(values[:5000], names[:5000])
    second = home.start(live=False)
    until(lambda: sorted(owned()) == [1, 2], "the partitions to be shared")
    home.send(values[5000:9000], names[5000:9000])
    home.caught_up()
    for daemon in (first, second):
        assert daemon.metric("tocsin_records_scored_total") > 0
    # Cooperative: the first was never without the partitions that it kept.
    assert first.metric("tocsin_rebalances_total", event="lost") == 0
    assert first.metric("tocsin_rebalances_total", event="revoked") == 1
    home.send(values[9000:11000], names[9000:11000])
    first.stop()
    until(lambda: owned() == [3], "the second to own all")
    home.send(values[11000:13000], names[11000:13000])
    home.caught_up()
    live = scored(home.read("scores"))
    rows, incidents = replayed(home)
    assert len(live) == 13_000
    assert_same(live, rows)
    assert alerts_of(home) == {(a["alert_id"], a["status"]) for a in incidents}
    second.stop()
