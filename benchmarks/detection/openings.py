"""Events found, other openings and normal time inside incidents: what an operator would have seen."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import data

EARLY = 10
"""An incident that opened up to so many records before an event has found it."""
GAP = 10
"""Records below a threshold that end an alert of a detector which has no incidents of its own."""
DAY_US = 86_400_000_000


class Seen(NamedTuple):
    """What became of labelled records: of one entity, or of several together."""

    events: int
    found: int
    others: int
    days: float
    normal: int
    normal_inside: int
    delays_us: NDArray[np.int64]

    @property
    def recall(self) -> float:
        return self.found / self.events if self.events else float("nan")

    @property
    def others_per_day(self) -> float:
        return self.others / self.days

    @property
    def inside(self) -> float:
        return self.normal_inside / self.normal if self.normal else float("nan")

    def told(self) -> dict[str, Any]:
        """As plain numbers."""
        delay = float(np.median(self.delays_us)) / 60e6 if len(self.delays_us) else None
        return {
            "events": self.events,
            "recall": self.recall,
            "others_per_day": self.others_per_day,
            "inside": self.inside,
            "median_delay_min": delay,
        }


def of_incidents(time_us: NDArray[np.int64], label: NDArray[np.int8], incident: NDArray[np.object_]) -> Seen:
    """Of records in order, each with the incident that is open at it; those of the first are not counted as opened."""
    inside = np.array([one is not None for one in incident])
    known: set[str] = set()
    opened = []
    for row in np.flatnonzero(inside).tolist():
        if incident[row] not in known:
            known.add(incident[row])
            opened.append(row)
    return _seen(time_us, label, inside, np.array(opened, np.int64))


def of_threshold(
    time_us: NDArray[np.int64], label: NDArray[np.int8], score: NDArray[np.float64], threshold: float
) -> Seen:
    """Of a bare score above a threshold; what lies within GAP records is one alert."""
    inside, opened = _merged(score > threshold)
    return _seen(time_us, label, inside, opened)


def threshold_of(time_us: NDArray[np.int64], score: NDArray[np.float64], per_day: float) -> float:
    """The lowest level over the train scores at which they open at most `per_day` times a day."""
    allowed = per_day * (time_us[-1] - time_us[0]) / DAY_US
    levels = np.unique(np.quantile(score, 1 - np.geomspace(1e-6, 0.2, 200)))
    return float(next((v for v in levels if len(_merged(score > v)[1]) <= allowed), levels[-1]))


def together(each: list[Seen]) -> Seen:
    """Pooled."""
    sums = [sum(column) for column in zip(*(one[:-1] for one in each), strict=True)]
    return Seen(*sums, np.concatenate([one.delays_us for one in each]))


def _merged(above: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    rows = np.flatnonzero(above)
    starts = rows[np.diff(rows, prepend=-GAP - 2) > GAP]
    return above, starts


def _seen(
    time_us: NDArray[np.int64], label: NDArray[np.int8], inside: NDArray[np.bool_], opened: NDArray[np.int64]
) -> Seen:
    found, delays = 0, []
    true = np.zeros(len(opened), bool)
    for first, last in data.events(label):
        hits = (opened >= first - EARLY) & (opened <= last)
        true |= hits
        if hits.any():
            found += 1
            delays.append(int(time_us[opened[np.argmax(hits)]] - time_us[first]))
    normal = label == 0
    days = float(time_us[-1] - time_us[0]) / DAY_US
    return Seen(
        len(data.events(label)),
        found,
        int((~true).sum()),
        days,
        int(normal.sum()),
        int((normal & inside).sum()),
        np.array(delays, np.int64),
    )
