"""What must be there after faults: by the broker's offsets, a replay, an uninterrupted run, and the planted list."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from rigs.daemon import Home, Message, replayed
from tocsin.detector.changelog import Snapshot
from tocsin.detector.changelog_fold import Restorer

OWN = ("assigned.owner",)
"""Fields that name a place in one process."""


class Planted(NamedTuple):
    """Records so strange that they have to open an incident."""

    entity: str
    first_us: int
    last_us: int


class Verdict(NamedTuple):
    """What came of a stream's records."""

    records: int
    """Offsets of the input that Kafka held."""
    lost: int
    """Of them, those in neither scores nor dead letters."""
    doubled: int
    """Scores and dead letters that were told again."""
    differing: int
    """Scores that are not those of the replay, to the bit."""
    expected: int
    """Alerts that were planted."""
    missed: int
    alerts: int
    alerts_lost: int
    """Of the replay's, those that nobody was told."""
    alerts_doubled: int
    alerts_foreign: int
    """Alerts that the replay does not know."""
    state_equal: bool
    """Whether the last snapshots are those of the uninterrupted run, to the bit."""

    @property
    def good(self) -> bool:
        """Nothing lost and nothing different; repeats are for the guarantee to say."""
        wrong = (self.lost, self.differing, self.missed, self.alerts_lost, self.alerts_foreign)
        return not any(wrong) and self.state_equal


def judge(home: Home, planted: list[Planted], state: dict[int, str] | None) -> Verdict:
    """Look at all topics of a stream that has caught up and was stopped."""
    scores, letters, alerts = (home.read(role) for role in ("scores", "dead_letter", "alerts"))
    rows, incidents = replayed(home)
    places = Counter((m.json()["partition"], m.json()["offset"]) for m in scores)
    places.update(_place_of(letter) for letter in letters)
    held = {(part[1], offset) for part, end in home.ends().items() for offset in range(end)}
    ids = Counter(message.header("ce_id") for message in alerts)
    told = {(m.json()["alert_id"], m.json()["status"]) for m in alerts}
    known = {(one["alert_id"], one["status"]) for one in incidents}
    return Verdict(
        records=len(held),
        lost=len(held - places.keys()),
        doubled=sum(places.values()) - len(places),
        differing=sum(_differs(m.json(), rows) for m in scores),
        expected=len(planted),
        missed=sum(not _found(one, alerts) for one in planted),
        alerts=len(ids),
        alerts_lost=len(known - told),
        alerts_doubled=sum(ids.values()) - len(ids),
        alerts_foreign=len(told - known),
        state_equal=state is None or state_of(home) == state,
    )


def state_of(home: Home) -> dict[int, str]:
    """A digest of each partition's last snapshot, whatever order its entities came to lie in."""
    restorer = Restorer()
    for message in home.read("changelog"):
        restorer.feed(message.key, message.value)
    found = {part[1]: restorer.restored(*part).snapshot for part in home.parts()}
    return {number: _digest(one) for number, one in found.items() if one is not None}


def _digest(snapshot: Snapshot) -> str:
    order = np.argsort(np.array(snapshot.entities))
    digest = hashlib.sha256(f"{snapshot.next_offset} {sorted(snapshot.entities)}".encode())
    for name in sorted(snapshot.slots):
        if name not in OWN:
            digest.update(name.encode() + np.ascontiguousarray(snapshot.slots[name][order]).tobytes())
    for name in sorted(snapshot.part):
        digest.update(name.encode() + np.ascontiguousarray(snapshot.part[name]).tobytes())
    return digest.hexdigest()


def _differs(record: dict[str, Any], rows: dict[tuple[int, int], dict[str, Any]]) -> bool:
    row = rows.get((record["partition"], record["offset"]))
    if row is None:
        return True
    found = (record.get("score"), record.get("p"), record.get("threshold"), record.get("anomalous", False))
    wanted = (row["score"], row["p_value"], row["threshold"], row["anomalous"])
    return found != wanted or (record.get("incident"), record.get("reason")) != (
        row["incident"],
        row["null_reason"],
    )


def _place_of(letter: Message) -> tuple[int, int]:
    return int(letter.header("tocsin.error.partition") or -1), int(letter.header("tocsin.error.offset") or -1)


def _found(one: Planted, alerts: list[Message]) -> bool:
    for message in alerts:
        alert = message.json()
        if alert["labels"]["entity"] == one.entity and alert["status"] == "firing":
            at_us = round(datetime.fromisoformat(alert["event_time"]).timestamp() * 1e6)
            if one.first_us <= at_us <= one.last_us:
                return True
    return False
