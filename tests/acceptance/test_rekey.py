"""Entities that their senders' keys scatter over partitions: rekeyed, and scored as if they had never been.

The daemon is killed while it sends records on that it has not committed yet. Afterwards every record has been scored
once, with the very bits that a replay of the same records from a file gives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from acceptance.conftest import MakeHome, Trained, rows_of
from rigs.daemon import Home, until, write_files
from telemetry import messages

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PARTITIONS = 3


def group_offset(home: Home, group: str, role: str) -> int:
    found = home.broker.committed(group, home.parts(role))
    return sum(offset or 0 for offset in found.values())


def done(home: Home) -> bool:
    """All of the input is sent on and committed, and all of that scored and committed."""
    for group, role in ((f"{home.topic('group')}.rekey", "input"), (home.topic("group"), "rekeyed")):
        if group_offset(home, group, role) != sum(home.ends(role).values()):
            return False
    return True


def sent_on(home: Home, before: int) -> None:
    until(lambda: sum(home.ends("rekeyed").values()) > before, "records to be sent on", every_s=0)


def of_entity(rows: list[dict[str, Any]], time: str) -> dict[tuple[str, int], dict[str, Any]]:
    """Entity and time -> row, of those that are no repeats; each must be there once."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        if row.get("reason", row.get("null_reason")) not in ("duplicate", "late"):
            at = row[time] if isinstance(row[time], int) else round(row[time].timestamp() * 1e6)
            assert (row["entity"], at) not in found
            found[row["entity"], at] = row
    return found


def test_scattered_and_killed_every_record_is_scored_once(make_home: MakeHome, trained: Trained) -> None:
    home = make_home("rekeyed")
    home.write(home.stream(rekey=True, rekeyed=home.topic("rekeyed")))
    home.make_topics(PARTITIONS)
    fleet = rows_of(trained.live, trained.live.kind == 0)
    fleet = rows_of(fleet, np.lexsort((fleet.entity, fleet.time_us)))
    _, first = np.unique(np.stack([fleet.entity, fleet.time_us]), axis=1, return_index=True)
    fleet = rows_of(fleet, np.sort(first))
    values, rng = messages(fleet), np.random.default_rng(3)
    producer = home.broker.producer()
    for value, time_us in zip(values, fleet.time_us.tolist(), strict=True):
        part = int(rng.integers(PARTITIONS))
        producer.produce(
            home.topic("input"), value, rng.bytes(4).hex().encode(), part, timestamp_ms=time_us // 1000
        )
    producer.flush(60)
    producer.close()

    for _ in range(2):
        before = sum(home.ends("rekeyed").values())
        daemon = home.start(live=False)
        sent_on(home, before)
        daemon.kill()
    daemon = home.start(live=False)
    until(lambda: done(home), "everything to be committed")
    daemon.ready()
    assert sum(home.ends("rekeyed").values()) > len(values)  # it was killed before it had committed
    assert daemon.metric("tocsin_rekeyed_messages_total") > 0
    assert daemon.metric("tocsin_entities_torn") == 0
    expected = {"topic": home.topic("rekeyed"), "reading": True, "behind": 0}
    until(
        lambda: daemon.status()["streams"][0]["rekey"] == expected,
        "the count of those behind, told now and then",
    )
    port = daemon.url.rpartition(":")[2]
    told = home.run("status", TOCSIN__HTTP__PORT=port).stdout
    assert f"rekeying to {home.topic('rekeyed')}: 0 messages behind" in told
    daemon.stop()

    live = of_entity([message.json() for message in home.read("scores")], "time")
    write_files(fleet, slice(None), home.folder / "same.parquet")
    home.call("replay", "--data", "same.parquet", "--out", "same-scores.parquet")
    plain = of_entity(pq.read_table(home.folder / "same-scores.parquet").to_pylist(), "timestamp")
    assert live.keys() == plain.keys()
    assert len(plain) == len(values)
    for at, row in plain.items():
        assert (live[at].get("score"), live[at].get("p")) == (row["score"], row["p_value"]), at
    # What a replay of the topic reads is the rekeyed one, with the offsets that scores and alerts name.
    home.call("replay", "--since", "start", "--out", "again.parquet")
    again = pq.read_table(home.folder / "again.parquet").to_pylist()
    assert {(row["partition"], row["offset"]) for row in again} == {
        (message.partition, message.offset) for message in home.read("rekeyed")
    }


def test_without_rekeying_it_is_refused(make_home: MakeHome, trained: Trained) -> None:
    home = make_home("scattered")
    home.write()
    home.make_topics(PARTITIONS)
    values = messages(rows_of(trained.live, trained.live.kind == 0), slice(0, 600))
    producer = home.broker.producer()
    for number, value in enumerate(values):
        producer.produce(home.topic("input"), value, None, number % PARTITIONS)
    producer.flush(60)
    producer.close()
    daemon = home.start(live=False)
    assert daemon.end(120) == 1
    assert "Set [stream] rekey = true" in daemon.tail()
