"""`tocsin alerts resolve --rebase`: what an entity shows becomes its new ordinary, its location included."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from lives import Diary, Life, differences, state_differences
from telemetry import Fleet
from tocsin.detector import alerts
from tocsin.detector.changes import Resolve
from tocsin.pipelines import location
from tocsin.pipelines.records import NO_TIME
from tocsin.thresholds.constants import Phase
from versions import STAMP, TOPIC, TRAINED, Feed, Stand, after

ENTITIES = 4
STEP, SAID, END = TRAINED + 60, TRAINED + 80, 1600
"""Records of an entity at which its channels move for good, at which an operator speaks, and where it ends."""


class Lived(NamedTuple):
    life: Life
    diary: Diary
    slot: int
    mine: np.ndarray
    """Offsets of the entity's records."""


@pytest.fixture(scope="module")
def moved(shared_fleet: Fleet) -> tuple[Fleet, int]:
    """A fleet of which one entity that the model knows moves, and which: its fault comes later."""
    entity = next(one.entity for one in shared_fleet.faults if one.first_us > after(shared_fleet, END))
    values = shared_fleet.values.copy()
    own = shared_fleet.entity == entity
    late = own & (shared_fleet.time_us >= after(shared_fleet, STEP))
    values[late, :4] += 8 * np.nanstd(values[own, :4], axis=0)
    return shared_fleet._replace(values=values), entity


def live(stand: Stand, moved: tuple[Fleet, int], *, rebase: bool, size: int) -> Lived:
    fleet, entity = moved
    chosen = np.isin(fleet.entity, np.arange(entity, entity + ENTITIES))
    chosen &= (fleet.time_us >= after(fleet, TRAINED)) & (fleet.time_us < after(fleet, END))
    feed = Feed(fleet, np.flatnonzero(chosen), 1)
    said_at = int(np.searchsorted(fleet.time_us[feed.rows[0]], after(fleet, SAID)))
    diary = Diary(feed)
    life = Life(stand, stand.rulings(), feed, {}, diary, np.random.default_rng(0))
    life.begin(0)
    while life.position[0] < said_at:
        life.take({0: min(size, said_at - life.position[0])})
    state = life.chain.state
    slot = state.table.lookup(0)[fleet.names[entity]]
    assert state.decision.core["phase"][slot] == Phase.FIRING
    onset = int(state.decision.core["onset"][slot])
    change = Resolve(
        alert_id=alerts.alert_id(stand.stream.name, fleet.names[entity], alerts.Kind.ANOMALY, onset),
        entity=fleet.names[entity],
        topic=TOPIC,
        partition=0,
        rebase=rebase,
        **STAMP,
    )
    assert life.add_change(1, change) == ""
    life.written[0] = [(said_at, 1)]
    while life.left(0) or life.due(0):
        life.take({0: size})
    return Lived(life, diary, slot, np.flatnonzero(fleet.entity[feed.rows[0]] == entity))


def test_an_entity_is_watched_as_before_once_it_has_learned_its_new_ordinary(
    shared_stand: Stand, moved: tuple[Fleet, int]
) -> None:
    kept, rebased = (live(shared_stand, moved, rebase=told, size=200) for told in (False, True))
    said = SAID - TRAINED

    def told(lived: Lived, column: str) -> np.ndarray:
        return lived.diary.pages[0].columns[column][lived.mine]

    def middle(values: np.ndarray) -> float:
        return float(np.nanmedian(values))

    before, stepped = (
        middle(told(kept, "score")[20:40]),
        middle(told(rebased, "score")[said + 20 : said + 120]),
    )
    assert stepped > before + 1.5
    assert (told(kept, "onset")[said + 5 : said + 20] > NO_TIME).all(), (
        "closed without it, the incident opens again"
    )
    assert (told(rebased, "onset")[said:] == NO_TIME).mean() > 0.98
    learned = slice(said + location.LIMIT + 100, said + location.LIMIT + 200)
    assert middle(told(kept, "score")[learned]) > before + 0.5, "nothing but the threshold has moved"
    assert middle(told(rebased, "score")[learned]) < before + 0.2
    assert middle(told(rebased, "threshold")[-300:]) < stepped - 1.5, "such a step would be told again"
    state = rebased.life.chain.state
    assert state.location.phase[rebased.slot] == location.OWN
    counted = [
        np.flatnonzero(one.life.chain.state.decision.openings[one.slot]).max() for one in (kept, rebased)
    ]
    assert counted[1] < counted[0] - 2, "the alert that told of it does not count where it opened"


def test_no_bit_depends_on_how_batches_are_cut(shared_stand: Stand, moved: tuple[Fleet, int]) -> None:
    one, other = (live(shared_stand, moved, rebase=True, size=size) for size in (37, 5000))
    assert differences(one.diary, other.diary) == []
    assert state_differences(one.life, other.life) == []
