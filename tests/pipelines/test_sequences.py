from __future__ import annotations

import itertools

import numpy as np
import pytest
from telemetry import DUPLICATE, LATE, generate
from tocsin.errors import DataError
from tocsin.models.scaling import fit_location
from tocsin.pipelines import sequences
from tocsin.pipelines.records import Records
from tocsin.pipelines.sequences import collect, pooled_location

LAGS, WINDOW, FAR = 5, 16, 7 * 86_400_000_000
NO_COUNTERS = np.zeros(0, np.int32)


def records(fleet, rows: slice = slice(None)) -> Records:
    entity = fleet.entity[rows]
    part = np.zeros(len(entity), np.int32)
    return Records(entity, part, np.arange(len(entity)), fleet.time_us[rows], fleet.values[rows])


def read(fleet, cuts: tuple[int, ...] = (), counters=NO_COUNTERS):
    edges = (0, *cuts, len(fleet.entity))
    batches = [records(fleet, slice(a, b)) for a, b in itertools.pairwise(edges)]
    return collect(batches, fleet.names.__getitem__, len(fleet.features), counters, LAGS, WINDOW, FAR)


def test_series_hold_each_entity_in_order_with_its_past() -> None:
    fleet = generate(seed=3, entities=3, records=60, features=4)
    series, counts = read(fleet)
    assert [one.entity for one in series] == list(fleet.names)
    assert counts.scored == 3 * 56
    assert counts.warming == 3 * 4
    one = series[1]
    own = fleet.values[fleet.entity == 1].astype(np.float32)
    np.testing.assert_array_equal(one.values, own)
    np.testing.assert_array_equal(one.rows, own[4:])
    np.testing.assert_array_equal(one.windows(np.array([0, 7, 55])), [own[0:5], own[7:12], own[55:60]])
    assert (one.records, one.lags) == (56, 5)
    assert one.span_us == 59 * 10_000_000  # from the first record, which has no window yet


def test_the_span_is_that_of_all_records_with_a_place_in_time() -> None:
    fleet = generate(seed=3, entities=1, records=60, features=2)
    fleet.values[[0, -1]] = np.nan  # accepted, not scored
    (one,), _ = read(fleet, cuts=(2, 30))
    assert one.records == 60 - 4 - 1
    assert one.span_us == 59 * 10_000_000


def test_cuts_change_nothing_and_repeats_and_late_records_are_left_out() -> None:
    fleet = generate(
        seed=4, entities=4, records=80, features=3, duplicates=0.1, late=0.05, disordered=0.1, missing=0.1
    )
    series, counts = read(fleet)
    again, _ = read(fleet, cuts=(1, 17, 100, 101))
    for one, other in zip(series, again, strict=True):
        for left, right in zip(one[1:], other[1:], strict=True):
            np.testing.assert_array_equal(left, right)
        assert (np.diff(one.time_us) > 0).all()
    assert counts.read == len(fleet.entity)
    assert counts.duplicate + counts.late >= (fleet.kind == DUPLICATE).sum() - 5
    assert counts.late > 0
    assert (fleet.kind == LATE).any()


def test_location_is_that_of_the_scaler_up_to_the_start_of_the_jumps() -> None:
    fleet = generate(seed=5, entities=1, records=400, features=6, missing=0.05)
    (one,), _ = read(fleet)
    location = one.location(np.arange(one.records))
    expected = fit_location([one.rows])
    np.testing.assert_allclose(location[:2], expected[:2], rtol=1e-5)
    np.testing.assert_allclose(location[3], expected[3], rtol=0.05)


def test_a_channel_that_is_missing_throughout_has_a_scale() -> None:
    fleet = generate(seed=6, entities=1, records=50, features=2)
    fleet.values[:, 1] = np.nan
    (one,), _ = read(fleet)
    location = one.location(np.arange(one.records))
    assert location[0, 1] == 0
    assert location[1, 1] == pytest.approx(0.03)
    assert np.isfinite(location).all()


def test_counters_arrive_as_rates() -> None:
    fleet = generate(seed=7, entities=2, records=40, features=3, counters=1)
    series, _ = read(fleet, counters=np.array([2], np.int32))
    own = fleet.values[fleet.entity == 0][:, 2]
    np.testing.assert_allclose(series[0].values[1:, 2], np.diff(own) / 10.0, rtol=1e-5)


def test_the_longer_history_of_an_entity_in_two_partitions_counts() -> None:
    fleet = generate(seed=8, entities=2, records=40, features=2)
    names = ("twin", "twin")
    few = [records(fleet, slice(0, 40))]
    more = records(fleet, slice(40, 80))
    keep = more.slot == 1
    few.append(Records(*(column[keep] for column in more)))
    series, _ = collect(few, names.__getitem__, 2, NO_COUNTERS, LAGS, WINDOW, FAR)
    assert [one.records for one in series] == [36]


def test_nothing_gives_nothing_and_too_much_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert collect([], str, 2, NO_COUNTERS, LAGS, WINDOW, FAR)[0] == []
    monkeypatch.setattr(sequences, "VALUES_LIMIT", 100)
    with pytest.raises(DataError, match="--since"):
        read(generate(entities=2, records=60, features=2))


def test_pooled_location_weighs_entities_alike_and_holds_what_differs_between_them() -> None:
    fleet = generate(seed=9, entities=3, records=90, features=3)
    fleet.values[fleet.entity == 2, 1] = np.nan
    series, _ = read(fleet)
    pooled = pooled_location(series)
    rows = np.stack([one.rows for one in series]).astype(np.float64)
    np.testing.assert_allclose(pooled[0, 0], rows[:, :, 0].mean(), rtol=1e-5)
    np.testing.assert_allclose(pooled[1, 0], rows[:, :, 0].std(), rtol=1e-5)
    np.testing.assert_allclose(pooled[:2, 1], [rows[:2, :, 1].mean(), rows[:2, :, 1].std()], rtol=1e-5)
    assert pooled[1, 0] > series[0].location(np.arange(86))[1, 0]
    assert np.isfinite(pooled).all()
