"""What must be there after faults: by the broker's offsets, a replay, an uninterrupted run, and the planted list."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rigs.daemon import Home, Message
from tocsin.detector.changelog import Snapshot
from tocsin.detector.changelog_fold import Restorer
from tocsin.detector.scores import decode
from tocsin.pipelines.brokers.base import Batch

OWN = ("assigned.owner",)
"""Fields that name a place in one process."""
ROW = np.dtype(
    [("score", "f8"), ("p", "f8"), ("threshold", "f8"), ("anomalous", "?"), ("words", "i8"), ("there", "?")]
)
"""What is compared of a record's score, byte by byte; `words` stands for the incident and the reason."""
Rows = NDArray[np.void]
Column = Sequence[float | None] | NDArray[Any]


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
    wanted, incidents = _replayed(home)
    seen = {partition: np.zeros(len(rows), np.int64) for partition, rows in wanted.items()}
    differing = 0
    for batch in home.batches("scores", headers=False):
        differing += _compared(batch, wanted, seen)
    for letter in home.read("dead_letter"):
        partition, offset = _place_of(letter)
        seen[partition][offset] += 1
    alerts = home.read("alerts")
    ids = Counter(message.header("ce_id") for message in alerts)
    told = {(m.json()["alert_id"], m.json()["status"]) for m in alerts}
    known = {(one["alert_id"], one["status"]) for one in incidents}
    return Verdict(
        records=sum(map(len, seen.values())),
        lost=sum(int(np.count_nonzero(times == 0)) for times in seen.values()),
        doubled=sum(int(np.maximum(times - 1, 0).sum()) for times in seen.values()),
        differing=differing,
        expected=len(planted),
        missed=_missed(planted, alerts),
        alerts=len(ids),
        alerts_lost=len(known - told),
        alerts_doubled=sum(ids.values()) - len(ids),
        alerts_foreign=len(told - known),
        state_equal=state is None or state_of(home) == state,
    )


def _replayed(home: Home) -> tuple[dict[int, Rows], list[dict[str, Any]]]:
    """`replay --since start`: its rows by partition, each at its offset, and its alerts."""
    told = ("--out", "scores.parquet", "--alerts", "alerts.ndjson")
    home.run("replay", "--since", "start", *told, wait_s=7200)
    found = {part[1]: np.zeros(end, ROW) for part, end in home.ends().items()}
    numbers = ("partition", "offset", "score", "p_value", "threshold", "anomalous")
    words = ("incident", "null_reason")
    for batch in pq.ParquetFile(home.folder / "scores.parquet").iter_batches(columns=[*numbers, *words]):
        partition, offset, *row = (batch.column(name).to_numpy(zero_copy_only=False) for name in numbers)
        _put(found, partition, offset, _rows(*row, *(batch.column(name).to_pylist() for name in words)))
    lines = (home.folder / "alerts.ndjson").read_text().splitlines()
    return found, [json.loads(line) for line in lines]


def _put(
    into: dict[int, Rows], partition: NDArray[np.integer], offset: NDArray[np.integer], rows: Rows
) -> None:
    for number in np.unique(partition):
        mine = partition == number
        into[int(number)][offset[mine]] = rows[mine]


def _rows(
    score: Column,
    p: Column,
    threshold: Column,
    anomalous: Column,
    incident: Sequence[str | None],
    reason: Sequence[str | None],
) -> Rows:
    """Columns as rows that can be compared byte by byte: there is one NaN."""
    found = np.zeros(len(score), ROW)
    for name, column in (("score", score), ("p", p), ("threshold", threshold)):
        numbers = np.array(column, np.float64)
        found[name] = np.where(np.isnan(numbers), np.nan, numbers)
    found["anomalous"], found["there"] = anomalous, True
    found["words"] = [hash(words) for words in zip(incident, reason, strict=True)]
    return found


def _compared(batch: Batch, wanted: dict[int, Rows], seen: dict[int, NDArray[np.int64]]) -> int:
    """How many scores of a batch are not the replay's; counts each in `seen`."""
    records = [decode(value) for value in batch.value]
    rows = _rows(
        [one.score for one in records],
        [one.p for one in records],
        [one.threshold for one in records],
        [one.anomalous for one in records],
        [one.incident for one in records],
        [one.reason for one in records],
    )
    partition = np.array([one.partition for one in records])
    offset = np.array([one.offset for one in records])
    differing = 0
    for number in np.unique(partition):
        mine = partition == number
        np.add.at(seen[int(number)], offset[mine], 1)
        differing += int(np.count_nonzero(_bytes(wanted[int(number)][offset[mine]]) != _bytes(rows[mine])))
    return differing


def _bytes(rows: Rows) -> NDArray[np.void]:
    return rows.view(f"V{ROW.itemsize}")


def state_of(home: Home) -> dict[int, str]:
    """A digest of each partition's last snapshot, whatever order its entities came to lie in."""
    return {number: _digest(one) for number, one in _snapshots(home).items()}


def stands_at(home: Home) -> dict[int, int]:
    """The offset of each partition's last snapshot."""
    return {number: one.next_offset for number, one in _snapshots(home).items()}


def _snapshots(home: Home) -> dict[int, Snapshot]:
    restorer = Restorer()
    for message in home.read("changelog"):
        restorer.feed(message.key, message.value)
    found = {part[1]: restorer.restored(*part).snapshot for part in home.parts()}
    return {number: one for number, one in found.items() if one is not None}


def _digest(snapshot: Snapshot) -> str:
    order = np.argsort(np.array(snapshot.entities))
    digest = hashlib.sha256(f"{snapshot.next_offset} {sorted(snapshot.entities)}".encode())
    for name, array in sorted(snapshot.slots.items()):
        if name not in OWN:
            digest.update(name.encode() + np.ascontiguousarray(array[order]).tobytes())
    for name in sorted(snapshot.part):
        digest.update(name.encode() + np.ascontiguousarray(snapshot.part[name]).tobytes())
    return digest.hexdigest()


def _place_of(letter: Message) -> tuple[int, int]:
    return int(letter.header("tocsin.error.partition") or -1), int(letter.header("tocsin.error.offset") or -1)


def _missed(planted: Iterable[Planted], alerts: Iterable[Message]) -> int:
    """How many planted alerts opened no incident while they lasted."""
    opened: dict[str, list[int]] = {}
    for message in alerts:
        alert = message.json()
        if alert["status"] == "firing":
            at_us = round(datetime.fromisoformat(alert["event_time"]).timestamp() * 1e6)
            opened.setdefault(alert["labels"]["entity"], []).append(at_us)
    for times in opened.values():
        times.sort()
    missed = 0
    for one in planted:
        times = opened.get(one.entity, [])
        at = bisect_left(times, one.first_us)
        missed += at == len(times) or times[at] > one.last_us
    return missed
