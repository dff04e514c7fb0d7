"""Replay: changes act where they were written, behind the last record too."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from telemetry import Fleet
from tocsin.detector.alerts import Alert, Kind, Resolution, Status
from tocsin.detector.changes import Change, Resolve, SettingsChange
from tocsin.detector.replay import Cut, Replay, Tape, Written
from versions import STAMP, TRAINED, Feed, Stand, after


def told(stand: Stand, feed: Feed, end: int, changes: list[Change], at: int = 0) -> list[Alert]:
    """The alerts of a replay of a partition up to `end`, with its only change written at `at`."""
    chain = stand.chain()
    written = [Written(feed.parts[0], 0, 0), *[Written(feed.parts[0], at, 1) for _ in changes]]
    replay = Replay(chain, stand.rulings(changes), stand.stream.name, written)

    def batches() -> Iterator[Cut]:
        for first in range(0, end, 1000):
            offsets = np.arange(first, min(first + 1000, end))
            records = feed.records(chain, np.zeros(len(offsets), np.int64), offsets)
            yield Cut(records, chain.state.table.take_new())

    return [alert for step in replay.run(Tape(feed.parts[0], 0, end, batches())) for alert in step.alerts]


def test_a_change_written_behind_the_last_record_acts(shared_stand: Stand, shared_fleet: Fleet) -> None:
    rows = np.flatnonzero(shared_fleet.time_us >= after(shared_fleet, TRAINED))
    feed = Feed(shared_fleet, rows[:60_000], 4)
    whole = told(shared_stand, feed, feed.ends[0], [])
    opened = next(a for a in whole if a.status is Status.FIRING and a.kind is Kind.ANOMALY)
    end = opened.annotations.last_offset + 1
    topic, partition = feed.parts[0]
    close = Resolve(
        alert_id=opened.alert_id,
        entity=opened.labels.entity,
        topic=topic,
        partition=partition,
        **STAMP,
    )
    *before, last = told(shared_stand, feed, end, [close], at=end)
    assert last.alert_id == opened.alert_id
    assert last.status is Status.RESOLVED
    assert last.annotations.reason is Resolution.OPERATOR
    assert before == told(shared_stand, feed, end, []) == told(shared_stand, feed, end, [close], at=end + 1)


def test_an_absence_is_closed_by_hand_at_its_offset(shared_stand: Stand, shared_fleet: Fleet) -> None:
    """Of three entities one falls silent for good: it is told by the others' records."""
    fleet = shared_fleet
    last = after(fleet, 200)
    kept = (fleet.entity < 3) & (fleet.time_us >= after(fleet, TRAINED)) & (fleet.time_us < after(fleet, 300))
    feed = Feed(fleet, np.flatnonzero(kept & ~((fleet.entity == 0) & (fleet.time_us >= last))), 1)
    awaiting = SettingsChange(settings={"incidents.absent_after": "10m"}, **STAMP)

    def absences(changes: list[Change], at: list[int]) -> list[Alert]:
        chain = shared_stand.chain()
        written = [Written(feed.parts[0], 0, 0)]
        written += [Written(feed.parts[0], offset, 1 + i) for i, offset in enumerate(at)]
        replay = Replay(chain, shared_stand.rulings(changes), shared_stand.stream.name, written)
        offsets = np.arange(feed.ends[0])

        def batches() -> Iterator[Cut]:
            records = feed.records(chain, np.zeros(len(offsets), np.int64), offsets)
            yield Cut(records, chain.state.table.take_new())

        steps = replay.run(Tape(feed.parts[0], 0, feed.ends[0], batches()))
        return [alert for step in steps for alert in step.alerts if alert.kind is Kind.ABSENCE]

    assert absences([], []) == []
    (told_of,) = absences([awaiting], [1])
    assert (told_of.labels.entity, told_of.status) == (fleet.names[0], Status.FIRING)
    topic, partition = feed.parts[0]
    close = Resolve(
        alert_id=told_of.alert_id, entity=fleet.names[0], topic=topic, partition=partition, **STAMP
    )
    at = told_of.annotations.last_offset + 1
    first, over = absences([awaiting, close], [1, at])
    assert first == told_of
    assert (over.alert_id, over.annotations.reason) == (told_of.alert_id, Resolution.OPERATOR)
