"""Entities that give way to new ones, in the whole chain: what is lost with them, what never is, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from lives import Diary, Life, differences, state_differences
from telemetry import Fleet
from tocsin.detector import alerts
from tocsin.detector.alerts import Alert, Resolution, Status
from tocsin.detector.flights import BATCH
from tocsin.detector.replay import Cut, Replay, Tape, Written
from tocsin.detector.settings import Duration, State
from tocsin.pipelines.records import Records
from tocsin.pipelines.windows import Verdict
from versions import TRAINED, Feed, Stand, after

RESIDENTS, ROOM = 20, 44
ENDS, RETURNS, LAST = 500, 800, 900
"""Half of the residents fall silent at one record's time and come again at another's."""
STUCK = 15
"""One of them falls silent with an incident open."""


def keeping(stand: Stand, **state: object) -> Stand:
    """The stand with those settings of [state]; durations as text."""
    spans = {name: Duration.parse(v) if isinstance(v, str) else v for name, v in state.items()}
    return stand._replace(settings=msgspec.structs.replace(stand.settings, state=State(**spans)))


def crowd(fleet: Fleet) -> tuple[Fleet, np.ndarray]:
    """Residents, of whom some pause, and 140 strangers of 30 records each, a new one every 5 records."""
    fleet = fleet._replace(values=fleet.values.copy())
    at = (fleet.time_us - int(fleet.time_us.min())) // 10_000_000
    stays = fleet.entity < RESIDENTS
    pauses = stays & (fleet.entity >= RESIDENTS // 2) & (at >= ENDS) & (at < RETURNS)
    begins = TRAINED + 5 * (fleet.entity - 60)
    strangers = (fleet.entity >= 60) & (at >= begins) & (at < begins + 30)
    fleet.values[(fleet.entity == STUCK) & (at >= ENDS - 20) & (at < ENDS)] *= 5.0
    chosen = ((stays & ~pauses) | strangers) & (at >= TRAINED) & (at < LAST)
    return fleet, np.flatnonzero(chosen)


@pytest.fixture(scope="module")
def feed(shared_fleet: Fleet) -> Feed:
    fleet, rows = crowd(shared_fleet)
    return Feed(fleet, rows, 1)


@pytest.fixture(scope="module")
def crowded(shared_stand: Stand) -> Stand:
    return keeping(shared_stand, max_entities=ROOM)


def life_of(stand: Stand, feed: Feed) -> Life:
    life = Life(stand, stand.rulings(), feed, {}, Diary(feed), np.random.default_rng(0))
    life.begin(0)
    return life


@pytest.fixture(scope="module")
def whole(crowded: Stand, feed: Feed) -> Life:
    """All records in one batch."""
    life = life_of(crowded, feed)
    life.take({0: 10**9})
    return life


def told(life: Life, entity: str) -> list[Alert]:
    said = [message for _, message in life.diary.pages[0].said if b'"alert_id"' in message]
    found = [msgspec.json.decode(message, type=Alert) for message in said]
    return [alert for alert in found if alert.labels.entity == entity]


def of_entity(feed: Feed, entity: int, since: int = 0) -> np.ndarray:
    """Offsets of an entity's records from one record's time on."""
    fleet, rows = feed.fleet, feed.rows[0]
    return np.flatnonzero((fleet.entity[rows] == entity) & (fleet.time_us[rows] >= after(fleet, since)))


def test_no_more_are_held_than_the_limit_and_those_who_stay_are_not_disturbed(
    whole: Life, shared_stand: Stand, feed: Feed
) -> None:
    state = whole.chain.state
    assert len(state.slots_of(0)) == ROOM
    assert whole.evicted["limit"] > 100
    everybody = life_of(shared_stand, feed)
    everybody.take({0: 10**9})
    stayed = np.concatenate([of_entity(feed, entity) for entity in range(RESIDENTS // 2)])
    for name in ("verdict", "score", "epoch"):
        a, b = (life.diary.pages[0].columns[name][stayed] for life in (whole, everybody))
        assert a.tobytes() == b.tobytes(), name


def test_an_entity_with_an_open_incident_does_not_give_way_before_it_ends(whole: Life, feed: Feed) -> None:
    """It falls silent before the others of its age, and is gone only 20 minutes later."""
    stuck, beside = (feed.fleet.names[entity] for entity in (STUCK, STUCK + 1))
    last = max(told(whole, stuck), key=lambda alert: alert.annotations.reason == Resolution.GONE)
    assert (last.status, last.annotations.reason) == (Status.RESOLVED, Resolution.GONE)
    firing = [alert for alert in told(whole, stuck) if alert.alert_id == last.alert_id]
    assert [alert.status for alert in firing] == [Status.FIRING, Status.RESOLVED]
    columns = whole.diary.pages[0].columns
    for entity, name in ((STUCK, stuck), (STUCK + 1, beside)):
        back = of_entity(feed, entity, RETURNS)
        assert columns["verdict"][back[0]] == Verdict.WARMING, f"{name} has given way meanwhile"


def test_an_entity_that_comes_again_is_new(whole: Life, crowded: Stand, feed: Feed) -> None:
    """It is scored to the bit as if it had never been there."""
    known = 12
    assert feed.fleet.names[known] in crowded.models[crowded.names[0]].version.entities
    again = of_entity(feed, known, RETURNS)
    alone = Feed(feed.fleet, feed.rows[0][again], 1)
    fresh = life_of(crowded, alone)
    fresh.take({0: 10**9})
    before = of_entity(feed, known)[: -len(again)]
    columns, expected = whole.diary.pages[0].columns, fresh.diary.pages[0].columns
    for name in ("verdict", "score", "p", "threshold", "epoch", "basis", "caution"):
        assert columns[name][again].tobytes() == expected[name].tobytes(), name
    assert np.nanmax(np.abs(columns["threshold"][before][-20:] - columns["threshold"][again][5])) > 0.01


def test_it_gives_way_at_the_same_record_however_batches_are_cut(
    whole: Life, crowded: Stand, feed: Feed
) -> None:
    rng = np.random.default_rng(5)
    pieces = life_of(crowded, feed)
    while pieces.left(0):
        pieces.take({0: int(np.exp(rng.uniform(0, 7)))})
        if rng.random() < 0.05:  # another process goes on from a snapshot, some batches old
            pieces.snapshot(0)
        if rng.random() < 0.05:
            reached = pieces.position[0]
            pieces.leave(0)
            pieces.recover(0, reached)
    assert differences(whole.diary, pieces.diary) == []
    assert state_differences(whole, pieces) == []


def test_a_replay_from_empty_state_finds_what_the_daemon_told(
    whole: Life, crowded: Stand, feed: Feed
) -> None:
    """Without releasing slots, so that a report can still name all that it has met."""
    chain = crowded.chain()
    replay = Replay(chain, crowded.rulings(), crowded.stream.name, [Written(feed.parts[0], 0, 0)])

    def batches() -> Iterator[Cut]:
        for first in range(0, feed.ends[0], 700):
            offsets = np.arange(first, min(first + 700, feed.ends[0]))
            records = feed.records(chain, np.zeros(len(offsets), np.int64), offsets)
            yield Cut(records, chain.state.table.take_new())

    steps = list(replay.run(Tape(feed.parts[0], 0, feed.ends[0], batches())))
    found = [alerts.message_of(alert).value for step in steps for alert in step.alerts]
    assert found == [message for _, message in whole.diary.pages[0].said if b'"alert_id"' in message]
    scores = np.concatenate([step.outcome.score for step in steps if step.outcome is not None])
    column = whole.diary.pages[0].columns["score"]
    assert scores.tobytes() == column[np.isfinite(column)].tobytes()
    assert len(chain.state.table) > ROOM + 100


def test_who_was_not_seen_for_long_is_forgotten_in_the_chain_too(shared_stand: Stand, feed: Feed) -> None:
    life = life_of(keeping(shared_stand, forget_after="25m"), feed)
    while life.left(0):
        life.take({0: 777})
    assert life.evicted["limit"] == 0
    assert life.evicted["ttl"] > 100
    assert len(life.chain.state.slots_of(0)) < 80
    columns = life.diary.pages[0].columns
    back = of_entity(feed, 12, RETURNS)
    assert columns["verdict"][back[0]] == Verdict.WARMING
    assert (told(life, feed.fleet.names[STUCK])[-1].status) == Status.RESOLVED


def explosion(life: Life, first: int, rows: int) -> Records:
    """Each record of an entity that was never seen before."""
    table = life.chain.state.table
    slots = table.intern_all(0, [f"request-{number}" for number in range(first, first + rows)])
    times = int(life.feed.fleet.time_us.max()) + np.arange(first, first + rows) * 1000
    values = np.ones((rows, len(life.feed.fleet.features)))
    return Records(slots, np.zeros(rows, np.int32), 10**6 + np.arange(first, first + rows), times, values)


def test_memory_is_flat_under_an_explosion_of_names(shared_stand: Stand, feed: Feed) -> None:
    """20 times as many entities as there is room for, as the daemon takes them: slots are freed as its loop does."""
    room = 1000
    life = life_of(keeping(shared_stand, max_entities=room), feed)
    state = life.chain.state
    sizes = []
    for first in range(0, 20 * room, 1000):
        if len(state.idle) >= BATCH:
            state.release()
        outcome = life.chain.process(explosion(life, first, 1000), state.table.take_new())
        assert len(outcome.verdict) == 1000
        assert len(state.slots_of(0)) <= room
        sizes.append((state.table.size, len(state.assigned.owner), len(state.table.lookup(0))))
    slots, rows, names = np.array(sizes).T
    assert slots.max() == names.max() <= room + BATCH + 1000
    assert len(set(rows[8:].tolist())) == 1, "the arrays grow no more"
