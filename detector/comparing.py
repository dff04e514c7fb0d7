"""What `tocsin drift` compares: two windows of records through the chain, and their features by entity laid together.

A window is kept as an evenly strided sample, so that memory is bounded however long it is. Both windows are scaled by
the same location of each entity: the model version's where it knows the entity, else that of the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..models import scaling
from ..models.latent import encode
from ..models.members.vae import MEMBER
from ..models.version import Version
from ..pipelines.location import FEWEST
from ..pipelines.windows import Verdict
from ..thresholds.compare import Comparison, Window, compare
from ..thresholds.shapes import Shapes, shapes
from .outcome import Outcome, unscored
from .replay import Step
from .replay_setup import prepare
from .rulings import Rulings
from .settings import Settings, Stream

LEAST: Final = 200
"""Scored records that a window needs."""
ROWS: Final = 200_000
WINDOWS: Final = 20_000
NUMBERS: Final = 2**25
"""Numbers that a sample may hold: with many features it has fewer rows."""


class Sample:
    """Rows of columns, every so many of each entity, and at most `limit` in all."""

    def __init__(self, limit: int) -> None:
        self.stride = 1
        self._limit = limit
        self._seen = np.zeros(0, np.int64)
        self._held = 0
        self._chunks: list[tuple[NDArray[Any], ...]] = []

    def add(self, slot: NDArray[np.int32], *columns: NDArray[Any]) -> None:
        """Take rows in order. Entities count for themselves, so that no stride can miss one of two that alternate."""
        phase = self._phases(slot)
        self._keep(phase % self.stride == 0, (phase, slot, *columns))
        while self._held > self._limit:
            self.stride *= 2
            whole, self._chunks, self._held = self._chunks, [], 0
            for chunk in whole:
                self._keep(chunk[0] % self.stride == 0, chunk)

    def columns(self) -> list[NDArray[Any]]:
        """What is kept: slots, then the columns given, in order."""
        return [np.concatenate(parts) for parts in zip(*self._chunks, strict=True)][1:]

    def _keep(self, kept: NDArray[np.bool_], columns: tuple[NDArray[Any], ...]) -> None:
        self._chunks.append(tuple(column[kept] for column in columns))
        self._held += int(kept.sum())

    def _phases(self, slot: NDArray[np.int32]) -> NDArray[np.int64]:
        """[n] the number of each row among its entity's, begun at another count for each entity."""
        top = int(slot.max(initial=-1)) + 1
        if top > len(self._seen):
            self._seen = np.concatenate([self._seen, np.arange(len(self._seen), 2 * top)])
        order = np.argsort(slot, kind="stable")
        sorted_ = slot[order]
        first = np.searchsorted(sorted_, sorted_, side="left")
        phase = np.empty(len(slot), np.int64)
        phase[order] = self._seen[sorted_] + np.arange(len(slot)) - first
        np.add.at(self._seen, slot, 1)
        return phase


class Source(NamedTuple):
    """Where a window comes from: files, or what the input topics hold of a span of time."""

    what: str
    paths: Sequence[Path]
    since: str | None
    until: str | None


class Gathered(NamedTuple):
    """One window after its replay, in the input's units."""

    what: str
    features: tuple[str, ...]
    counts: dict[str, int]
    """Records by verdict, all that came."""
    trained: int
    """Scored records that the model was trained on."""
    first_us: int
    last_us: int
    entity: NDArray[np.object_]
    time_us: NDArray[np.int64]
    score: NDArray[np.float64]
    values: NDArray[np.float32]
    """[n, F] the sample: scored records, and those with no feature present (NaN throughout, no score)."""
    seen_entity: NDArray[np.object_]
    seen_us: NDArray[np.int64]
    seen: NDArray[np.float32]
    """[m, L, F] the sample of windows that the model looked at."""


class Entities(NamedTuple):
    """Who is in the windows."""

    reference: int
    present: int
    new: int
    """Neither the model nor the reference knows them: left out, for nothing says where they ordinarily stand."""
    gone: int
    """In the reference alone."""


class Compared(NamedTuple):
    """The two windows, and what they say of each other."""

    found: Comparison
    entities: Entities
    hours: float
    """Share of the records of both windows that lie in the same hours of the day."""
    shapes: Shapes


def gather(settings: Settings, stream: Stream, rulings: Rulings, source: Source) -> Gathered:
    """Run a window through the chain as a replay does, under the newest of the rulings, and keep what is compared.

    Raises:
        DataError: it has too few scored records.
    """
    what, paths, since, until = source
    with prepare(
        settings, stream, paths, since=since, until=until, changes=None, model=None, in_force=rulings
    ) as prepared:
        names = prepared.names
        return gathered(what, prepared.steps(), names.features, names.entity)


def gathered(
    what: str, steps: Iterable[Step], features: tuple[str, ...], name: Callable[[int], str]
) -> Gathered:
    """What is compared of the steps of a replay.

    Raises:
        DataError: they have too few scored records.
    """
    rows: Sample | None = None
    windows: Sample | None = None
    counts = dict.fromkeys(Verdict, 0)
    trained = 0
    for outcome in (step.outcome for step in steps if step.outcome is not None):
        if rows is None or windows is None:
            rows = Sample(min(ROWS, NUMBERS // len(features)))
            windows = Sample(min(WINDOWS, NUMBERS // (len(features) * outcome.window.shape[1])))
        _take(outcome, rows, windows)
        for verdict, count in unscored(outcome).items():
            counts[verdict] += count
        counts[Verdict.SCORED] += len(outcome.row)
        trained += int(np.isnan(outcome.p).sum())
    if counts[Verdict.SCORED] < LEAST or rows is None or windows is None:
        raise DataError(_too_few(what, counts))
    slot, time_us, score, values = rows.columns()
    seen_slot, seen_us, seen = windows.columns()
    return Gathered(
        what,
        features,
        {verdict.name.lower(): count for verdict, count in counts.items()},
        trained,
        int(time_us.min()),
        int(time_us.max()),
        _named(slot, name),
        time_us,
        score,
        values,
        _named(seen_slot, name),
        seen_us,
        seen,
    )


def weigh(reference: Gathered, present: Gathered, version: Version) -> Compared:
    """Compare two windows that one version has scored.

    Raises:
        DataError: hardly a present record is of an entity that the model or the reference knows.
    """
    known = set(version.entities)
    names, place = np.unique(reference.entity.astype(str), return_inverse=True)
    location, enough = _locations(reference.values, place, len(names))
    told = {name for name, one in zip(names.tolist(), enough.tolist(), strict=True) if one} | known
    everybody = sorted(told)
    index = {name: i for i, name in enumerate(everybody)}
    table = _merged(everybody, version, reference.features, dict(zip(names.tolist(), location, strict=True)))
    here, there = set(names.tolist()), set(present.entity.tolist())
    entities = Entities(len(here), len(there), len(there - told), len(here - there))
    before, now = (_window(one, index, table, version) for one in (reference, present))
    for one, window in ((reference, before), (present, now)):
        if int(np.isfinite(window.score).sum()) < LEAST:
            raise DataError(
                f"{one.what}: fewer than {LEAST} scored records are of entities that the model was trained on or that "
                f"the reference has {FEWEST} records of. Take a longer reference, or one with the same entities."
            )
    levelled = _window(present, index, table, version, _levels(now.values) - _levels(before.values))
    hours = _same_hours(reference.time_us, present.time_us)
    found = compare(before, now, levelled)
    return Compared(found, entities, hours, shapes(before, now, found))


def _take(outcome: Outcome, rows: Sample, windows: Sample) -> None:
    """The outcome's scored records, and those that no feature was present in."""
    records = outcome.records
    chosen = np.flatnonzero((outcome.verdict == Verdict.SCORED) | (outcome.verdict == Verdict.ALL_MISSING))
    place = np.searchsorted(chosen, outcome.row)
    score = np.full(len(chosen), np.nan)
    values = np.full((len(chosen), records.values.shape[1]), np.nan, np.float32)
    score[place], values[place] = outcome.score, outcome.observed
    rows.add(records.slot[chosen], records.time_us[chosen], score, values)
    windows.add(records.slot[outcome.row], records.time_us[outcome.row], outcome.window)


def _too_few(what: str, counts: dict[Verdict, int]) -> str:
    total = sum(counts.values())
    if not total:
        return f"{what} holds no record. Look at its times or its files."
    others = ", ".join(f"{count:,} {verdict.name.lower()}" for verdict, count in counts.items() if count)
    return (
        f"{what} has too few scored records to compare: {counts[Verdict.SCORED]:,}, needed are {LEAST}. Of its "
        f"{total:,} records: {others}. Take a longer one."
    )


def _named(slot: NDArray[np.int32], name: Callable[[int], str]) -> NDArray[np.object_]:
    found, inverse = np.unique(slot, return_inverse=True)
    return np.array([name(int(one)) for one in found], object)[inverse]


def _locations(
    values: NDArray[np.float32], place: NDArray[np.int64], entities: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean and floored sd [E, 2, F] of each entity's records, and which entities have enough of them."""
    location = np.zeros((entities, 2, values.shape[1]))
    for f in range(values.shape[1]):
        there = np.isfinite(values[:, f])
        x, whose = values[there, f].astype(np.float64), place[there]
        count = np.maximum(np.bincount(whose, minlength=entities), 1)
        mean = np.bincount(whose, x, entities) / count
        square = np.bincount(whose, (x - mean[whose]) ** 2, entities)
        largest = np.zeros(entities)
        np.maximum.at(largest, whose, np.abs(x))
        location[:, scaling.MEAN, f] = mean
        location[:, scaling.SD, f] = scaling.floored_sd(np.sqrt(square / count), largest)
    return location, np.bincount(place, minlength=entities) >= FEWEST


def _merged(
    names: list[str],
    version: Version,
    features: tuple[str, ...],
    fitted: dict[str, NDArray[np.float64]],
) -> NDArray[np.float64]:
    """[E, 2, F] the location of each entity: the version's where it has one, else as fitted to the reference."""
    used = list(version.positions(features))
    usual = np.asarray(np.mean(list(fitted.values()), axis=0))
    table = np.stack([fitted.get(name, usual) for name in names])
    for i, name in enumerate(names):
        if name in version.entities:
            table[i][:, used] = version.location[version.entities[name], : scaling.SD + 1]
    return table


def _window(
    given: Gathered,
    index: dict[str, int],
    table: NDArray[np.float64],
    version: Version,
    back: NDArray[np.float64] | None = None,
) -> Window:
    """A window's records of the entities in `index`, scaled and encoded; moved `back` [F] by so many sd if given."""
    row, seen_row = (_rows(names, index) for names in (given.entity, given.seen_entity))
    mine, theirs = row >= 0, seen_row >= 0
    at, places = table[row[mine]], table[seen_row[theirs]]
    values, seen = given.values[mine], given.seen[theirs]
    if back is not None:
        values = (values - back * at[:, scaling.SD]).astype(np.float32)
        seen = (seen - (back * places[:, scaling.SD])[:, None]).astype(np.float32)
    z = scaling.scale(values, at[:, scaling.MEAN], at[:, scaling.SD], np)
    # Rounded, because what is constant in two entities must not differ by the last bit of their means.
    scaled = np.where(np.isfinite(values), np.round(z, 5), np.nan).astype(np.float32)
    used = list(version.positions(given.features))
    location = np.ones((len(seen), 4, len(used)), np.float32)
    location[:, : scaling.SD + 1] = places[:, :, used]
    latent = np.zeros((len(seen), 0), np.float32)
    if MEMBER.name in version.members:
        latent = encode(version, seen[:, :, used], location, scaling.phase_of_day(given.seen_us[theirs]))
    total = given.counts["scored"] + given.counts["all_missing"]
    return Window(
        max(round(total * float(mine.mean())), 1),
        given.trained / given.counts["scored"],
        given.time_us[mine],
        given.score[mine],
        scaled,
        given.seen_us[theirs],
        latent,
    )


def _levels(scaled: NDArray[np.float32]) -> NDArray[np.float64]:
    """[F] medians in standard deviations, before the soft clip; 0 where all is missing."""
    columns = (column[np.isfinite(column)] for column in scaled.T)
    medians = np.array([np.median(one) if len(one) else 0.0 for one in columns], np.float32)
    return np.asarray(scaling.soft_unclip(jnp.asarray(medians)), np.float64)


def _rows(names: NDArray[np.object_], index: dict[str, int]) -> NDArray[np.int64]:
    return np.array([index.get(name, -1) for name in names.tolist()], np.int64)


def _same_hours(one_us: NDArray[np.int64], two_us: NDArray[np.int64]) -> float:
    hours = (np.bincount(us // 3_600_000_000 % 24, minlength=24) / len(us) for us in (one_us, two_us))
    return float(np.minimum(*hours).sum())
