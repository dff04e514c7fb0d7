"""A key explosion, on a real Kafka: twenty times as many names as there is room for, among a fleet that reports on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import psutil
import pytest
from rigs.daemon import Daemon, Home, assert_same, replayed, scored
from telemetry import keys, messages

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ROOM = 200
"""Places in each of three partitions."""
REQUESTS = 20 * 3 * ROOM
MIB = 1 << 20


class Played(NamedTuple):
    home: Home
    daemon: Daemon
    memory: list[int]
    """Resident bytes after each quarter, of two processes: the first was killed in the middle."""
    records: int


def mixed(values: list[bytes], names: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Between two records of the fleet two requests, each of a name of its own, at the same event time."""
    sent = []
    each = REQUESTS // len(values)
    for number, (value, name) in enumerate(zip(values, names, strict=True)):
        sent.append((value, name))
        content = json.loads(value)
        for request in range(number * each, (number + 1) * each):
            key = f"request-{request:05}"
            sent.append((json.dumps({**content, "host": key}).encode(), key.encode()))
    return sent


@pytest.fixture(scope="module")
def played(make_home: Callable[..., Home], trained: Any) -> Played:
    home = make_home("explosion")
    home.write(state={"max_entities": ROOM})
    home.make_topics()
    daemon = home.start()
    sent = mixed(messages(trained.live)[:6000], keys(trained.live)[:6000])
    memory = []
    for quarter in range(4):
        if quarter == 2:
            daemon.kill()
            daemon = home.start()
        part = sent[quarter * len(sent) // 4 : (quarter + 1) * len(sent) // 4]
        home.send([value for value, _ in part], [key for _, key in part])
        home.caught_up()
        memory.append(psutil.Process(daemon.process.pid).memory_info().rss)
    return Played(home, daemon, memory, len(sent))


def test_memory_stays_where_it_is_and_who_gives_way_is_counted(played: Played) -> None:
    daemon, memory = played.daemon, played.memory
    print(f"resident MiB after each quarter: {[size // MIB for size in memory]}")
    assert memory[1] - memory[0] < 48 * MIB
    assert memory[3] - memory[2] < 48 * MIB
    assert daemon.metric("tocsin_entities", stream="hosts") <= 3 * ROOM
    evicted = daemon.metric("tocsin_entities_evicted_total", stream="hosts", reason="limit")
    assert evicted >= REQUESTS // 2 - 3 * ROOM
    assert daemon.metric("tocsin_dead_letters_total", stream="hosts") == 0
    (stream,) = daemon.status()["streams"]
    assert stream["entities_known"] <= 3 * ROOM


def test_the_fleet_is_scored_as_if_nothing_had_happened_and_a_replay_says_the_same(
    played: Played, trained: Any
) -> None:
    live = scored(played.home.read("scores"))
    assert len(live) == played.records
    fleet = set(trained.live.names)
    scores = [one for one in live.values() if one["entity"] in fleet]
    assert len(scores) == 6000
    warming = sum(one.get("reason") == "warming" for one in scores)
    assert warming == 4 * len(fleet), "none of them has given way"
    rows, _ = replayed(played.home)
    assert_same(live, rows)
