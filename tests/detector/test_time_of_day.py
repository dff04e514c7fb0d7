"""A model that knows the time of day, in the chain: it reads the hour of each record, live and from what is held."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from lives import Diary, Life
from numpy.typing import NDArray
from telemetry import DAY_US, generate
from tocsin.pipelines import location
from versions import Feed, Stand, after, make_stand, promotion

PERIOD_S = 1200.0
TRAINED, SEEN = 300, 60


class Scores(NamedTuple):
    live: NDArray[np.float64]
    promoted: NDArray[np.float64]
    """of the first record after a promotion: smoothed over those that were held"""


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    fleet = generate(seed=3, entities=2, records=TRAINED, features=4, period_s=PERIOD_S)
    return make_stand(
        tmp_path_factory.mktemp("hours"), fleet, after(fleet, TRAINED, PERIOD_S), time_of_day=True
    )


def scores(stand: Stand, later_us: int) -> Scores:
    """Of records after the training, all told to be `later_us` later than they are."""
    fleet = generate(seed=3, entities=2, records=TRAINED + SEEN, features=4, period_s=PERIOD_S)
    feed = Feed(fleet, np.flatnonzero(fleet.time_us >= after(fleet, TRAINED, PERIOD_S)), 1)
    feed.fleet = fleet._replace(time_us=fleet.time_us + later_us)
    diary, random = Diary(feed), np.random.default_rng(0)
    life = Life(
        stand, stand.rulings([promotion(stand.names[1])]), feed, {0: [(2 * SEEN - 2, 1)]}, diary, random
    )
    life.begin(0)
    life.take({0: 2 * SEEN})
    life.take({0: 2 * SEEN})
    told = diary.pages[0].columns["score"]
    return Scores(told[: 2 * SEEN - 2], told[2 * SEEN - 2 :])


def test_the_hour_counts_and_the_day_does_not(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    # Locations follow by periods of absolute time, which other days cut elsewhere.
    monkeypatch.setattr(location, "follow", lambda *given: None)
    now, tomorrow, at_night = (scores(stand, later) for later in (0, DAY_US, DAY_US // 2))
    assert np.isfinite(now.live).sum() > SEEN
    for mine, same, other in zip(now, tomorrow, at_night, strict=True):
        np.testing.assert_array_equal(mine, same)
        there = np.isfinite(mine)
        assert (mine[there] != other[there]).all()
