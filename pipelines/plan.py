"""What a training run will learn: which entities and columns, and which panels for whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from ..errors import DataError, TooFewRecords
from ..models.scaling import DEAD_SHARE
from .sequences import Series

LEAST_RECORDS = 100
"""Fewer records of an entity are never trained on, whatever is configured."""
OWN_LEAST = 500
"""Records from which an entity can have a panel of its own; with fewer it is scored by the group's."""
FEW_RECORDS = 1000
MOSTLY = 0.5

Profile = Literal["shared", "per_entity"]


class Plan(NamedTuple):
    """E series of C columns, and who gets a panel."""

    series: tuple[Series, ...]
    """The entities trained on, by name."""
    columns: tuple[int, ...]
    """[C] the features used, by their place in the stream's schema."""
    profile: Profile
    own: tuple[int, ...]
    """The series that get a panel of their own; the group's shared panel is always there."""
    warnings: tuple[str, ...]

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The series behind each panel, in the order of the panels: one each, then the whole group."""
        return (*((one,) for one in self.own), tuple(range(len(self.series))))


def make_plan(
    series: Sequence[Series],
    features: Sequence[str],
    *,
    profile: Literal["auto", "shared", "per_entity"],
    max_entity_models: int,
    min_records: int,
    min_span_us: int,
) -> Plan:
    """Choose what to train on.

    An entity counts that has `min_records` records, or at least `LEAST_RECORDS` over `min_span_us` of event
    time. The others are left out, and said: to the model they are new.

    Raises:
        TooFewRecords: no entity counts.
        DataError: no feature is ever present, or more entities than `max_entity_models` are to have a panel
            each.
    """
    least = max(min_records, LEAST_RECORDS)
    usable = [one for one in series if _enough(one, least, min_span_us)]
    if not usable:
        raise TooFewRecords(_too_few(series, least))
    warnings: list[str] = []
    left_out = [one.entity for one in series if not _enough(one, least, min_span_us)]
    if left_out:
        warnings.append(
            f"{len(left_out)} of {len(series)} entities have fewer than {least} records and are left out, "
            f"as if new: {some(left_out)}"
        )
    few = [one.entity for one in usable if one.records < FEW_RECORDS]
    if few:
        warnings.append(
            f"{len(few)} entities have fewer than {FEW_RECORDS} records, so their thresholds are rough: "
            f"{some(few)}"
        )
    columns, said = _columns(usable, features)
    warnings += said
    if len(columns) < len(features):
        usable = [one._replace(values=one.values[:, columns], jump=one.jump[:, columns]) for one in usable]
    if profile == "per_entity" and len(usable) > max_entity_models:
        raise DataError(
            f"profile = per_entity asks for a model of each of {len(usable)} entities, more than "
            f"max_entity_models = {max_entity_models}. Raise that, or set profile = shared"
        )
    wanted = profile == "per_entity" or (profile == "auto" and len(usable) <= max_entity_models)
    own = tuple(i for i, one in enumerate(usable) if one.records >= OWN_LEAST) if wanted else ()
    if len(usable) == 1 and profile == "auto":
        own = ()  # the group's panel is the entity's own
    return Plan(tuple(usable), columns, "per_entity" if own else "shared", own, tuple(warnings))


def _enough(one: Series, least: int, min_span_us: int) -> bool:
    return one.accepted >= least or (one.accepted >= LEAST_RECORDS and one.span_us >= min_span_us)


def _too_few(series: Sequence[Series], least: int) -> str:
    if not series:
        return "there are no records to train on: nothing that was read could be scored"
    best = max(series, key=lambda one: one.accepted)
    return (
        f"too few records to train on: of {len(series)} entities the longest, {best.entity}, has "
        f"{best.accepted} usable records over {best.span_us / 3.6e9:.2g} h. Needed are {least} ([train] "
        f"min_records), or [train] min_span of event time with at least {LEAST_RECORDS}. Take a longer "
        f"range, or lower [train] min_records"
    )


def _columns(series: Sequence[Series], features: Sequence[str]) -> tuple[tuple[int, ...], list[str]]:
    present = np.zeros(len(features))
    alive = np.zeros(len(features), np.bool_)
    total = 0
    for one in series:
        there = np.isfinite(one.rows)
        present += there.sum(axis=0)
        total += one.records
        largest = np.abs(np.where(there, one.rows, 0.0)).max(axis=0, initial=0.0)
        high = np.where(there, one.rows, -np.inf).max(axis=0, initial=-np.inf)
        low = np.where(there, one.rows, np.inf).min(axis=0, initial=np.inf)
        alive |= high - low > DEAD_SHARE * largest
    used = present > 0
    if not used.any():
        raise DataError("none of the features is ever present in the records to train on")
    groups = {
        "are never present and not used by the model": ~used,
        f"are missing in more than {MOSTLY:.0%} of the records": used & (present < MOSTLY * total),
        "never change; only that they begin to can be noticed": used & ~alive,
    }
    warnings = []
    for what, chosen in groups.items():
        if chosen.any():
            names = [features[i] for i in np.flatnonzero(chosen).tolist()]
            warnings.append(f"{len(names)} features {what}: {some(names)}")
    return tuple(np.flatnonzero(used).tolist()), warnings


def some(names: Sequence[str], most: int = 6) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
