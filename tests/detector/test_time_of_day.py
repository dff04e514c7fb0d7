"""The chain tells the scorer the time of day of each record: of those that come, and of those that are held."""

from __future__ import annotations

import numpy as np
import pytest
from lives import Diary, Life
from numpy.typing import NDArray
from telemetry import Fleet
from tocsin.models.panel import Scored, Scorer
from tocsin.models.scaling import phase_of_day
from versions import TRAINED, Feed, Stand, after, promotion

RECORDS = 60


def test_the_hour_of_each_record_is_told(
    shared_stand: Stand, shared_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[NDArray[np.float32]] = []
    score = Scorer.score

    def listen(self: Scorer, *given: NDArray[np.float32]) -> Scored:
        told.append(given[-1])
        return score(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Scorer, "score", listen)
    fleet = shared_fleet
    mine = (fleet.entity < 3) & (fleet.time_us >= after(fleet, TRAINED))
    feed = Feed(fleet, np.flatnonzero(mine)[: 2 * RECORDS], 1)
    rulings = shared_stand.rulings([promotion(shared_stand.names[1])])
    life = Life(shared_stand, rulings, feed, {0: [(RECORDS, 1)]}, Diary(feed), np.random.default_rng(0))
    life.begin(0)
    first = life.take({0: RECORDS})
    assert first is not None
    live = phase_of_day(first.records.time_us[first.row])
    assert len(np.unique(live)) > RECORDS / 4
    np.testing.assert_array_equal(np.concatenate(told), live)
    told.clear()
    second = life.take({0: RECORDS})  # promoted before it: the records that are held are scored anew
    assert second is not None
    held = told.pop(0)
    assert len(held) > 10
    assert set(held.tolist()) <= set(live.tolist())
    np.testing.assert_array_equal(np.concatenate(told), phase_of_day(second.records.time_us[second.row]))
