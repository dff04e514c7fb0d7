"""What is kept of a window, and how entities of different size are laid together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from telemetry import Fleet
from tocsin.detector.comparing import Gathered, Sample, gathered, weigh
from tocsin.detector.replay import Cut, Replay, Step, Tape, Written
from tocsin.errors import DataError
from versions import OWN_TRAINED, TRAINED, Feed, Stand, after


def steps(stand: Stand, fleet: Fleet, rows: np.ndarray) -> tuple[Iterator[Step], object]:
    chain = stand.chain()
    feed = Feed(fleet, rows, 1)
    replay = Replay(chain, stand.rulings(), stand.stream.name, [Written(feed.parts[0], 0, 0)])

    def batches() -> Iterator[Cut]:
        for first in range(0, feed.ends[0], 1000):
            offsets = np.arange(first, min(first + 1000, feed.ends[0]))
            records = feed.records(chain, np.zeros(len(offsets), np.int64), offsets)
            yield Cut(records, chain.state.table.take_new())

    return replay.run(Tape(feed.parts[0], 0, feed.ends[0], batches())), replay.names.entity


def of(stand: Stand, fleet: Fleet, first: int, last: int, entities: range) -> Gathered:
    """The fleet's ordinary records from the `first` to before the `last` of some entities, gathered."""
    rows = np.isin(fleet.entity, entities) & (fleet.time_us >= after(fleet, first))
    run, name = steps(stand, fleet, np.flatnonzero(rows & (fleet.time_us < after(fleet, last))))
    return gathered("a window", run, fleet.features, name)


@pytest.mark.parametrize("entities", [1, 2, 7, 5000])
def test_a_sample_is_bounded_even_and_misses_no_entity_of_many_records(entities: int) -> None:
    sample = Sample(1000)
    slot = np.tile(np.arange(entities, dtype=np.int32), 20_000 // entities)
    for part in np.array_split(np.arange(len(slot)), 13):
        sample.add(slot[part], part)
    kept, number = sample.columns()
    assert 500 <= len(kept) <= 1000
    assert (slot[number] == kept).all()
    assert (np.diff(number) > 0).all()
    if entities < 100:
        assert np.ptp(np.bincount(kept, minlength=entities)) <= 1
        apart = np.diff(number[kept == 0])
        assert apart.min() == apart.max() == sample.stride * entities


def test_where_batches_are_cut_changes_no_sample() -> None:
    rng = np.random.default_rng(1)
    slot = rng.integers(0, 9, 5000).astype(np.int32)
    kept = []
    for cuts in (1, 17):
        sample = Sample(700)
        for part in np.array_split(np.arange(len(slot)), cuts):
            sample.add(slot[part], part)
        kept.append(sample.columns()[1].tolist())
    assert kept[0] == kept[1]


def test_windows_of_an_unchanged_fleet_differ_in_nothing_that_is_named(
    own_stand: Stand, own_fleet: Fleet
) -> None:
    """A window beside itself, twice through the chain."""
    version = own_stand.models[own_stand.names[0]].version
    one, two = (of(own_stand, own_fleet, 0, OWN_TRAINED, range(5)) for _ in range(2))
    compared = weigh(one, two, version)
    assert compared.found.score.psi == 0.0
    assert [f.psi for f in compared.found.features] == [0.0] * 8
    assert compared.found.latent.share < 1e-9
    assert compared.hours == pytest.approx(1.0)
    assert one.trained == one.counts["scored"] > 5 * 500


def test_entities_of_other_size_are_laid_together_by_their_own_location(
    shared_stand: Stand, shared_fleet: Fleet
) -> None:
    """The present has the larger half of the entities only: in raw units all features would seem to have moved."""
    version = shared_stand.models[shared_stand.names[0]].version
    means = [np.nanmean(shared_fleet.values[shared_fleet.entity == e][:, 0]) for e in range(40)]
    large = np.argsort(means)[20:]
    rows = shared_fleet.time_us < after(shared_fleet, TRAINED)
    run, name = steps(shared_stand, shared_fleet, np.flatnonzero(rows & (shared_fleet.entity < 40)))
    reference = gathered("the reference", run, shared_fleet.features, name)
    run, name = steps(shared_stand, shared_fleet, np.flatnonzero(rows & np.isin(shared_fleet.entity, large)))
    present = gathered("the present window", run, shared_fleet.features, name)
    found = weigh(reference, present, version).found
    assert [f.feature for f in found.features if f.moved] == []
    assert max(f.psi for f in found.features) < 0.1


def test_who_is_new_is_left_out_and_counted(shared_stand: Stand, shared_fleet: Fleet) -> None:
    version = shared_stand.models[shared_stand.names[0]].version
    reference = of(shared_stand, shared_fleet, TRAINED, TRAINED + 100, range(30, 60))
    present = of(shared_stand, shared_fleet, TRAINED + 100, TRAINED + 200, range(40, 70))
    compared = weigh(reference, present, version)
    # 30 to 39 the model knows, 40 to 59 the reference
    assert compared.entities._asdict() == {"reference": 30, "present": 30, "new": 10, "gone": 10}
    others = of(shared_stand, shared_fleet, TRAINED, TRAINED + 100, range(100, 130))
    with pytest.raises(DataError, match="the model was trained on or that the reference has 50 records of"):
        weigh(reference, others, version)


def test_too_few_records_are_told_by_what_became_of_them(shared_stand: Stand, shared_fleet: Fleet) -> None:
    with pytest.raises(
        DataError, match=r"a window has too few scored records to compare: \d+, needed are 200"
    ):
        of(shared_stand, shared_fleet, 0, 20, range(5))
    with pytest.raises(DataError, match="a window holds no record"):
        of(shared_stand, shared_fleet, 0, 20, range(0))
