"""Series in bounded memory: no peak is lost, whatever the cut and however long they grow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.detector.report.envelope import FIRST_WIDTH_US, LEAST_BUCKETS, Envelope

SECOND = 1_000_000


def column(values: list[float]) -> np.ndarray:
    return np.array(values)[:, None]


def test_lowest_and_highest_of_each_bucket_by_hand() -> None:
    held = Envelope(1, buckets=4)
    keys = np.zeros(8, np.int32)
    held.take(
        keys, np.arange(8) * SECOND, column([3, 1, 4, 1, 5, 9, 2, 6]), np.array([0, 0, 1, 0, 0, 2, 0, 0])
    )
    series = held.series(0)
    # Eight seconds in four buckets: twice the first width.
    assert series.width_us == 2 * FIRST_WIDTH_US
    assert series.time_us.tolist() == [0, 2 * SECOND, 4 * SECOND, 6 * SECOND]
    assert series.low[:, 0].tolist() == [1, 1, 5, 2]
    assert series.high[:, 0].tolist() == [3, 4, 9, 6]
    assert series.marks.tolist() == [0, 1, 2, 0]


@given(
    gaps=st.lists(st.integers(0, 5_000_000_000), min_size=1, max_size=60),
    cuts=st.sets(st.integers(1, 60)),
    seed=st.integers(0, 99),
)
def test_no_peak_is_lost_and_cuts_change_nothing(gaps: list[int], cuts: set[int], seed: int) -> None:
    time_us = np.cumsum(gaps)
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(len(gaps), 2)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    whole, pieces = Envelope(2, buckets=16), Envelope(2, buckets=16)
    key = np.zeros(len(gaps), np.int32)
    whole.take(key, time_us, values)
    for part in np.split(np.arange(len(gaps)), sorted(cut for cut in cuts if cut < len(gaps))):
        pieces.take(key[part], time_us[part], values[part])
    for one, other in zip(whole.series(0), pieces.series(0), strict=True):
        np.testing.assert_array_equal(one, other)
    series = whole.series(0)
    place = np.searchsorted(series.time_us, time_us, side="right") - 1
    assert (time_us < series.time_us[place] + series.width_us).all()
    for b in range(len(series.time_us)):
        mine = values[place == b]
        for c in range(2):
            known = mine[np.isfinite(mine[:, c]), c]
            assert np.isnan(series.high[b, c]) if not len(known) else series.high[b, c] == known.max()
            assert np.isnan(series.low[b, c]) if not len(known) else series.low[b, c] == known.min()


def test_keys_have_widths_of_their_own() -> None:
    held = Envelope(1, buckets=8)
    held.take(np.array([0, 0, 1, 1]), np.array([0, SECOND, 0, 1000 * SECOND]), column([1, 2, 3, 4]))
    assert held.series(0).width_us == FIRST_WIDTH_US
    assert held.series(1).width_us == 128 * FIRST_WIDTH_US
    assert held.series(1).high[:, 0].tolist() == [3, 4]
    assert len(held.series(7).time_us) == 0


def test_many_keys_share_the_memory() -> None:
    held = Envelope(1, buckets=64, cells=6400)
    time_us = np.arange(64) * SECOND
    peaks = []
    for key in range(1000):
        values = np.random.default_rng(key).normal(size=64)
        peaks.append(np.float32(values.max()))
        held.take(np.full(64, key), time_us, values[:, None])
    assert [held.series(key).high.max() for key in range(1000)] == peaks
    assert all(len(held.series(key).time_us) <= LEAST_BUCKETS for key in range(1000))


def test_a_jump_of_years_is_one_step() -> None:
    held = Envelope(1, buckets=16)
    held.take(np.zeros(2, np.int32), np.array([0, 40 * 365 * 86400 * SECOND]), column([1, 2]))
    series = held.series(0)
    assert series.high[:, 0].tolist() == [1, 2]
    assert series.time_us[1] == pytest.approx(40 * 365 * 86400 * SECOND, rel=0.13)
