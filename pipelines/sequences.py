"""Records to learn from: per entity one series, under the same rules as in the chain.

Duplicates, late and far-off records are judged by `windows.accept`, counters become rates there, and the
jumps are the very ones that the scorer will see. What is kept of a record is its row and its jumps, in
float32; the lag windows are views of the rows. Records that the chain does not score are left out of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..models.scaling import floored_sd, phase_of_day
from . import slots, windows
from .records import Records

VALUES_LIMIT = 2**29
"""Most values kept, twice (rows and jumps): 4 GiB. More history than that teaches nothing new."""


class Series(NamedTuple):
    """The usable history of one entity, in the order of its event time; n rows, F features, L lags."""

    entity: str
    time_us: NDArray[np.int64]
    """[n]"""
    values: NDArray[np.float32]
    """[n + L - 1, F], NaN is missing: row i of the others is row i + L - 1 here, after its past."""
    jump: NDArray[np.float32]
    """[n, F] value less the running mean of its past, NaN where missing."""
    span_us: int
    """Event time from the first to the last accepted record, those included that are not scored."""

    @property
    def records(self) -> int:
        """n, the records that can be scored."""
        return len(self.time_us)

    @property
    def accepted(self) -> int:
        """Records with a place in time, those included that only fill the first window."""
        return len(self.values)

    @property
    def lags(self) -> int:
        """L."""
        return len(self.values) - len(self.time_us) + 1

    @property
    def rows(self) -> NDArray[np.float32]:
        """[n, F] the values of the records themselves."""
        return self.values[self.lags - 1 :]

    def windows(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[len(rows), L, F] lag windows, oldest record first."""
        view = np.lib.stride_tricks.sliding_window_view(self.values, self.lags, axis=0)
        return np.ascontiguousarray(view[rows].transpose(0, 2, 1))

    def phase(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[len(rows)] how much of its day has passed at each."""
        return phase_of_day(self.time_us[rows])

    def location(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[4, F] mean, floored sd, jump mean and floored jump sd of `rows`; 0 and the floor if missing."""
        return _location(_moments(self.rows[rows]), _moments(self.jump[rows]))


def pooled_location(series: Sequence[Series]) -> NDArray[np.float32]:
    """[4, F] the location of a group: every entity weighs the same, and how they differ adds to the sd."""
    return _location(
        _together([_moments(one.rows) for one in series]), _together([_moments(one.jump) for one in series])
    )


class Counts(NamedTuple):
    """What became of the records that were read."""

    read: int
    scored: int
    warming: int
    all_missing: int
    duplicate: int
    out_of_order: int
    late: int
    far_ahead: int


def collect(
    batches: Iterable[Records],
    name_of: Callable[[int], str],
    features: int,
    counters: NDArray[np.int32],
    lags: int,
    window: int,
    far_ahead_us: int,
) -> tuple[list[Series], Counts]:
    """Read all batches; the series in the order of the entities' names.

    Args:
        batches: decoded records, the order within an entity being that of arrival.
        name_of: an entity's name by slot.
        features: F.
        counters: indices of the features that are counters.
        lags: L, records per window.
        window: W, records that the ring buffer of the chain holds.
        far_ahead_us: as in the chain.

    Raises:
        DataError: more history than `VALUES_LIMIT` values.
    """
    state, fresh = (
        windows.init(0, window, features, len(counters)),
        windows.init(1, window, features, len(counters)),
    )
    kept: list[_Kept] = []
    heads: dict[int, NDArray[np.float32]] = {}
    first_us: dict[int, int] = {}
    tally = np.zeros(len(Counts._fields) - 1, np.int64)
    values = 0
    for records in batches:
        if not len(records.slot):
            continue
        state = slots.grow(state, fresh, int(records.slot.max()) + 1)
        for one, row in _firsts(records.slot):
            first_us.setdefault(one, int(records.time_us[row]))  # nothing is before it: always accepted
        accepted = windows.accept(state, records, counters, lags, far_ahead_us)
        tally += np.bincount(accepted.verdict, minlength=len(tally))
        kept.append(_keep(records, accepted, heads))
        values += kept[-1].values.size
        if values > VALUES_LIMIT:
            raise DataError(
                f"there are more than {VALUES_LIMIT // features} records of {features} features to train on. "
                f"Take a shorter range, for instance --since 24h"
            )
    counts = Counts(int(tally.sum()), *(int(n) for n in tally))
    spans = {one: windows.newest_of(state, one) - first for one, first in first_us.items()}
    return _series(kept, heads, spans, name_of), counts


def _firsts(slot: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Each slot of [B] slots, and the first row that has it."""
    found, first = np.unique(slot, return_index=True)
    return list(zip(found.tolist(), first.tolist(), strict=True))


class _Kept(NamedTuple):
    slot: NDArray[np.int32]
    time_us: NDArray[np.int64]
    values: NDArray[np.float32]
    jump: NDArray[np.float32]


def _keep(records: Records, accepted: windows.Accepted, heads: dict[int, NDArray[np.float32]]) -> _Kept:
    """The rows that can be scored; the past of an entity's first one goes into `heads`."""
    slot = records.slot[accepted.row]
    for one, row in _firsts(slot):
        if one not in heads:
            heads[one] = accepted.window[row, :-1].astype(np.float32, copy=True)
    return _Kept(slot, records.time_us[accepted.row], accepted.window[:, -1].copy(), accepted.jump)


def _series(
    kept: list[_Kept],
    heads: dict[int, NDArray[np.float32]],
    spans: dict[int, int],
    name_of: Callable[[int], str],
) -> list[Series]:
    if not heads:
        return []
    slot, time_us, values, jump = (np.concatenate(column) for column in zip(*kept, strict=True))
    order = np.argsort(slot, kind="stable")
    bounds = np.searchsorted(slot[order], np.arange(slot.max() + 2))
    best: dict[str, Series] = {}
    for one, head in heads.items():
        rows = order[bounds[one] : bounds[one + 1]]
        whole = np.concatenate([head, values[rows]])
        series = Series(name_of(one), time_us[rows], whole, jump[rows], spans[one])
        # One entity in two partitions has two histories; neither is whole, and the longer one says more.
        if series.entity not in best or series.records > best[series.entity].records:
            best[series.entity] = series
    return [best[name] for name in sorted(best)]


class _Moments(NamedTuple):
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    largest: NDArray[np.float64]


def _location(values: _Moments, jumps: _Moments) -> NDArray[np.float32]:
    rows = (
        np.nan_to_num(values.mean),
        floored_sd(values.sd, values.largest),
        np.nan_to_num(jumps.mean),
        floored_sd(jumps.sd, values.largest),
    )
    return np.stack(rows).astype(np.float32)


def _together(moments: Sequence[_Moments]) -> _Moments:
    """Moments of several entities; a column that one of them never has counts nothing there."""
    mean, sd, largest = (np.stack(column) for column in zip(*moments, strict=True))
    known = np.isfinite(mean)
    weight = known / np.maximum(known.sum(axis=0), 1)
    middle = (weight * np.where(known, mean, 0.0)).sum(axis=0)
    square = np.where(known, sd * sd + (mean - middle) ** 2, 0.0)
    return _Moments(middle, np.sqrt((weight * square).sum(axis=0)), largest.max(axis=0))


def _moments(values: NDArray[np.float32]) -> _Moments:
    """Mean, sd and largest magnitude per column, of what is present; a mean of nothing is NaN."""
    exact = values.astype(np.float64)
    present = np.isfinite(exact)
    count = present.sum(axis=0)
    mean = np.where(present, exact, 0.0).sum(axis=0) / np.maximum(count, 1)
    spread = np.where(present, exact - mean, 0.0)
    largest = np.abs(np.where(present, exact, 0.0)).max(axis=0, initial=0.0)
    sd = np.sqrt((spread * spread).sum(axis=0) / np.maximum(count, 1))
    return _Moments(np.where(count > 0, mean, np.nan), sd, largest)
