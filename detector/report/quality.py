"""Quality on data with labels: which labelled events were found, how many incidents were false, how well scores rank.

What counts, of an entity's records that are judged and labelled, in their order:

    event             a longest run of records labelled 1
    found             an incident opened at one of its records or at one of the EARLY judged records before its first
    false opening     an incident that opened and found no event; those that a digest holds count as well
    entity-days       the time from the first to the last of the records, of all entities together
    inside incidents  the share of the records labelled 0 at which an incident was open
    AUC-PR            average precision of the bare score: the sum over its values, from above, of precision times the
                      recall gained; scores in one bin of BIN_WIDTH count as equal
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...pipelines.records import NO_TIME

EARLY: Final = 10
LOWEST, HIGHEST, BINS = -8.0, 24.0, 4096
BIN_WIDTH: Final = (HIGHEST - LOWEST) / BINS
DAY_US: Final = 86_400_000_000

TALLY = np.dtype(
    [
        ("judged", np.int64),  # judged records so far, labelled or not: the running number of the next
        ("normal", np.int64),
        ("normal_inside", np.int64),  # of those, at which an incident was open
        ("first_us", np.int64),
        ("last_us", np.int64),
        ("label", np.int8),  # of the last judged record
    ]
)


class Quality(NamedTuple):
    """The figures of one entity, or of several together."""

    events: int
    found: int
    openings: int
    false_openings: int
    days: float
    normal: int
    normal_inside: int
    delays_us: NDArray[np.int64]
    """[found] from an event's first record to the incident; negative where it opened before."""
    auc_pr: float
    """Of several entities the mean over those that have both labels; NaN without any."""
    base_rate: float
    """Share of labelled records that are 1: the AUC-PR of a score that knows nothing; the mean likewise."""

    @property
    def recall(self) -> float:
        """Share of events found."""
        return self.found / self.events if self.events else float("nan")

    @property
    def precision(self) -> float:
        """Share of openings that found an event."""
        return 1.0 - self.false_openings / self.openings if self.openings else float("nan")

    @property
    def false_per_day(self) -> float:
        """False openings per entity-day."""
        return self.false_openings / self.days if self.days > 0 else float("nan")

    @property
    def inside(self) -> float:
        """Share of normal records inside incidents."""
        return self.normal_inside / self.normal if self.normal else float("nan")


class Labelled:
    """What the figures need, gathered batch by batch: an event or an opening is a number, a score a count."""

    def __init__(self) -> None:
        self._tally = np.zeros(0, TALLY)
        self._starts: list[NDArray[np.int64]] = []
        self._ends: list[NDArray[np.int64]] = []
        self._openings: list[NDArray[np.int64]] = []
        self._counts: dict[int, NDArray[np.int64]] = {}

    def take(
        self,
        slot: NDArray[np.int32],
        time_us: NDArray[np.int64],
        label: NDArray[np.int8],
        score: NDArray[np.float64],
        inside: NDArray[np.bool_],
        opened: NDArray[np.int64],
    ) -> None:
        """Take n judged records in order: labels 0, 1 or -1 (none); `opened` are rows that opened an incident."""
        if not len(slot):
            return
        self._reserve(int(slot.max()) + 1)
        tally = self._tally
        order = np.argsort(slot, kind="stable")
        mine, labels = slot[order].astype(np.int64), label[order]
        first = np.flatnonzero(np.r_[True, mine[1:] != mine[:-1]])
        sizes = np.diff(np.r_[first, len(mine)])
        heads = mine[first]
        number = np.arange(len(mine)) - np.repeat(first, sizes) + np.repeat(tally["judged"][heads], sizes)
        before = np.r_[np.int8(0), labels[:-1]]
        before[first] = tally["label"][heads]
        begun, ended = (labels == 1) & (before != 1), (labels != 1) & (before == 1)
        self._starts.append(np.stack([mine[begun], number[begun], time_us[order][begun]]))
        self._ends.append(np.stack([mine[ended], number[ended] - 1]))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        at = place[opened[label[opened] >= 0]]
        self._openings.append(np.stack([mine[at], number[at], time_us[order][at]]))

        tally["judged"][heads] += sizes
        tally["label"][heads] = labels[first + sizes - 1]
        normal = label == 0
        np.add.at(tally["normal"], slot[normal], 1)
        np.add.at(tally["normal_inside"], slot[normal & inside], 1)
        known = label >= 0
        np.minimum.at(tally["first_us"], slot[known], time_us[known])
        np.maximum.at(tally["last_us"], slot[known], time_us[known])
        self._count(slot[known], label[known], score[known])

    def figures(self) -> dict[int, Quality]:
        """By slot, the figures of each entity that has a labelled record."""
        moments = [_joined(parts) for parts in (self._starts, self._ends, self._openings)]
        return {slot: self._of(slot, *moments) for slot in sorted(self._counts)}

    def _of(self, slot: int, *moments: NDArray[np.int64]) -> Quality:
        tally, counts = self._tally[slot], self._counts[slot]
        starts, ends, openings = (table[1:, table[0] == slot] for table in moments)
        last = ends[0] if len(ends[0]) == len(starts[0]) else np.r_[ends[0], int(tally["judged"]) - 1]
        found, delays = 0, []
        true = np.zeros(len(openings[0]), np.bool_)
        for begin, end, time_us in zip(starts[0], last, starts[1], strict=True):
            hits = (openings[0] >= begin - EARLY) & (openings[0] <= end)
            true |= hits
            if hits.any():
                found += 1
                delays.append(int(openings[1][np.argmax(hits)] - time_us))
        total = counts.sum()
        return Quality(
            events=len(starts[0]),
            found=found,
            openings=len(true),
            false_openings=int(np.count_nonzero(~true)),
            days=float(tally["last_us"] - tally["first_us"]) / DAY_US,
            normal=int(tally["normal"]),
            normal_inside=int(tally["normal_inside"]),
            delays_us=np.array(delays, np.int64),
            auc_pr=average_precision(counts),
            base_rate=float(counts[1].sum() / total),
        )

    def _reserve(self, slots: int) -> None:
        more = slots - len(self._tally)
        if more > 0:
            fresh = np.zeros(more, TALLY)
            fresh["label"] = -1
            fresh["first_us"], fresh["last_us"] = np.iinfo(np.int64).max, NO_TIME
            self._tally = np.concatenate([self._tally, fresh])

    def _count(self, slot: NDArray[np.int32], label: NDArray[np.int8], score: NDArray[np.float64]) -> None:
        bins = np.clip((score - LOWEST) / BIN_WIDTH, 0, BINS - 1).astype(np.int64)
        for one in np.unique(slot).tolist():
            mine = slot == one
            both = np.bincount(bins[mine] + BINS * (label[mine] == 1), minlength=2 * BINS).reshape(2, BINS)
            self._counts[one] = self._counts.get(one, 0) + both


def together(each: list[Quality]) -> Quality:
    """The figures of several entities together."""
    ranked = [one for one in each if np.isfinite(one.auc_pr)]
    return Quality(
        events=sum(one.events for one in each),
        found=sum(one.found for one in each),
        openings=sum(one.openings for one in each),
        false_openings=sum(one.false_openings for one in each),
        days=sum(one.days for one in each),
        normal=sum(one.normal for one in each),
        normal_inside=sum(one.normal_inside for one in each),
        delays_us=np.concatenate([np.zeros(0, np.int64), *(one.delays_us for one in each)]),
        auc_pr=float(np.mean([one.auc_pr for one in ranked])) if ranked else float("nan"),
        base_rate=float(np.mean([one.base_rate for one in ranked])) if ranked else float("nan"),
    )


def average_precision(counts: NDArray[np.int64]) -> float:
    """Of records counted by label (axis 0) and bin of the score [2, bins]; NaN where a label never occurs."""
    normal, strange = (np.cumsum(side[::-1]) for side in counts)
    if not normal[-1] or not strange[-1]:
        return float("nan")
    gained = counts[1][::-1] / strange[-1]
    precision = np.divide(strange, strange + normal, out=np.zeros(len(gained)), where=strange + normal > 0)
    return float((gained * precision).sum())


def _joined(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts, axis=1) if parts else np.zeros((3, 0), np.int64)
