"""From records to a model version: plan, cross-fit, calibrate, pool.

series, counts = sequences.collect(batches, ...)
trained = train(series, counts, schema, options)
registry.register(manifest(trained, ...), encoded(trained), signer)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..models.artefact import Manifest, encode
from ..models.checkpoints import Checkpoints
from ..models.fitting import Recipe
from ..models.packing import pack
from ..models.panel import member_names
from ..models.scaling import DAY_US
from ..models.version import Version
from ..thresholds import calibration as calibrations
from ..thresholds import opening
from ..thresholds.budget import Budget, default_budget
from ..thresholds.calibration import Calibration
from ..thresholds.state import Rules
from . import crossfit
from .beside import fit_beside
from .crossfit import Crossfit, History, Step
from .epochs import Epoch, Epochs
from .plan import Plan, make_plan, some
from .records import NO_TIME
from .reference import reference
from .schema import FeatureSchema
from .sequences import Counts, Series, pooled_location

SLOW_SHARE = 0.03
LEAST_SLOW = 100.0
LEAST_DAYS = 3
"""A VAE that is conditioned on the time of day and has seen an hour on fewer days knows those days, not the hour."""
LIBRARIES = ("tocsin", "jax", "jaxlib", "flax", "optax", "numpy", "numba", "safetensors")


class Options(NamedTuple):
    """What a training is told; see the settings of the same names."""

    profile: Literal["auto", "shared", "per_entity"] = "auto"
    max_entity_models: int = 200
    min_records: int = 1000
    min_span_us: int = 3_600_000_000
    members: tuple[str, ...] = Recipe().members
    steps: int = 800
    seed: int = 0
    time_of_day: bool = False
    stack: int = Recipe().stack
    precision: Literal["float32", "bfloat16"] = "float32"
    budget: Budget | None = None
    """None: the default for the number of entities."""
    rules: Rules = Rules()
    """Of the incident machine, which the opening levels are found with."""


class Trained(NamedTuple):
    """A version without a name, and what is to be told about it."""

    version: Version
    budget: Budget
    history: tuple[Epoch, ...]
    warnings: tuple[str, ...]
    records: tuple[int, ...]
    """[E] records per entity"""
    range_us: tuple[int, int]
    counts: Counts
    options: Options
    beside: dict[str, NDArray[np.float32]]
    """arrays of the baselines"""
    baselines: dict[str, Any]
    """what their scores are like"""
    digest: str
    """of the records, the options and the libraries: trainings with the same one give the same bytes on a machine"""


def train(
    series: Sequence[Series],
    counts: Counts,
    schema: FeatureSchema,
    options: Options,
    progress: Callable[[Step], None] | None = None,
    checkpoints: Callable[[str], Checkpoints] | None = None,
) -> Trained:
    """Fit and calibrate a model version. The same series, options and machine give the same bytes.

    `checkpoints` gives those of the training with a digest; what they have of it is gone on with.

    Raises:
        DataError: there is too little to train on; the text says how much, and what to do.
    """
    plan = make_plan(
        series,
        schema.names,
        profile=options.profile,
        max_entity_models=options.max_entity_models,
        min_records=options.min_records,
        min_span_us=options.min_span_us,
    )
    epochs = Epochs()

    def hear(step: Step) -> None:
        epochs.hear(step)
        if progress is not None:
            progress(step)

    recipe = Recipe(
        options.members,
        options.steps,
        options.seed,
        time_of_day=options.time_of_day,
        stack=options.stack,
        precision=options.precision,
    )
    digest = _digest(plan, schema, options)
    kept = checkpoints(digest) if checkpoints else None
    fitted = crossfit.fit(plan.series, plan.groups, recipe, hear, kept)
    entities = len(plan.series)
    beside, baselines = fit_beside(plan.series)
    budget = options.budget or default_budget(entities)
    return Trained(
        version=_version(plan, fitted, schema, budget.share(entities), options.rules),
        budget=budget,
        history=epochs.history(),
        warnings=(*plan.warnings, *_few_days(plan, options), *epochs.warnings()),
        records=tuple(one.records for one in plan.series),
        range_us=(
            min(int(one.time_us[0]) for one in plan.series),
            max(int(one.time_us[-1]) for one in plan.series),
        ),
        counts=counts,
        options=options,
        beside=beside,
        baselines=baselines,
        digest=digest,
    )


def manifest(trained: Trained, schema: FeatureSchema, stream: str, created: str, seconds: float) -> Manifest:
    """What the version says of itself. `created` is RFC 3339, `seconds` what the training took."""
    version, options = trained.version, trained.options
    return Manifest(
        stream=stream,
        created=created,
        features=list(schema.names),
        schema_hash=schema.hash,
        columns=list(version.columns),
        profile=version.profile,
        lags=version.lags,
        members=list(version.members),
        entities=list(version.entities),
        trained_entities=version.trained_entities,
        training={
            "from": _rfc3339(trained.range_us[0]),
            "until": _rfc3339(trained.range_us[1]),
            "records": sum(trained.records),
            "records_per_entity": list(trained.records),
            "read": trained.counts._asdict(),
            "counters": list(schema.counters),
            "seed": options.seed,
            "steps": options.steps,
            "time_of_day": options.time_of_day,
            "stack": options.stack,
            "precision": options.precision,
            "min_records": options.min_records,
            "min_span_s": options.min_span_us / 1e6,
            "budget": trained.budget.text,
            "rules": options.rules._asdict(),
            "seconds": round(seconds, 1),
            "warnings": list(trained.warnings),
        },
        history=[epoch.plain() for epoch in trained.history],
        baselines=trained.baselines,
        reference={
            f"{signal}_{what}": float(value)
            for what, values in version.reference.items()
            for signal, value in zip(("score", "level", "missing"), values, strict=True)
        },
        libraries={name: installed(name) for name in LIBRARIES},
    )


def encoded(trained: Trained) -> dict[str, bytes]:
    """The tensor files of the version."""
    return encode(*pack(trained.version, trained.beside))


def slow_half_life(records: int) -> float:
    """Half-life of the slow average S for an entity of so many train records, in records."""
    return max(LEAST_SLOW, SLOW_SHARE * records)


def scores_of(history: History) -> NDArray[np.float64]:
    """The cross-fitted scores [n] of one entity."""
    return opening.scores(history.members, np.zeros(len(history.floor)), history.floor)


def _version(plan: Plan, fitted: Crossfit, schema: FeatureSchema, share: float, rules: Rules) -> Version:
    entities = len(plan.series)
    group = fitted.histories[-1]
    panel = np.full(entities + 1, len(plan.groups) - 1, np.int32)
    panel[list(plan.own)] = np.arange(len(plan.own))
    histories = [fitted.histories[panel[i]][i] for i in range(entities)]
    scores = [scores_of(one) for one in histories]
    rows = [
        _row(one, history, score, share, rules)
        for one, history, score in zip(plan.series, histories, scores, strict=True)
    ]
    # New entities are scored by the group's panel, so the prior comes from its cross-fits alone.
    pooled = [
        rows[i]
        if histories[i] is group[i]
        else _row(plan.series[i], group[i], scores_of(group[i]), share, rules)
        for i in range(entities)
    ]
    prior = calibrations.pool(
        calibrations.stack(pooled),
        share,
        np.median([group[i].final.median for i in range(entities)], axis=0),
        np.median([group[i].final.floor for i in range(entities)], axis=0),
    )
    table: dict[str, NDArray[Any]] = dict(calibrations.stack([*rows, prior])._asdict())
    table["trained_from_us"] = np.array([*(one.time_us[0] for one in plan.series), NO_TIME], np.int64)
    table["trained_to_us"] = np.array([*(one.time_us[-1] for one in plan.series), NO_TIME], np.int64)
    return Version(
        name="",
        columns=tuple(schema.names[i] for i in plan.columns),
        schema_hash=schema.hash,
        lags=plan.series[0].lags,
        profile=plan.profile,
        members=member_names(fitted.params),
        params=fitted.params,
        entities={one.entity: i for i, one in enumerate(plan.series)},
        panel=panel,
        location=np.stack([*(one.final.location for one in histories), pooled_location(plan.series)]),
        calibration=table,
        reference=reference(plan.series, scores, [one.level for one in histories], len(schema)),
        trained_entities=entities,
    )


def _row(
    series: Series, history: History, score: NDArray[np.float64], share: float, rules: Rules
) -> Calibration:
    half_life = slow_half_life(series.records)
    found = opening.opening_level(score, series.time_us, half_life=half_life, share=share, rules=rules)
    return opening.row(found, history.final.median, history.final.floor, half_life)


def _digest(plan: Plan, schema: FeatureSchema, options: Options) -> str:
    libraries = {name: installed(name) for name in LIBRARIES}
    total = hashlib.sha256(repr((options, libraries, schema, plan.columns, plan.groups, plan.own)).encode())
    for one in plan.series:
        total.update(repr((one.entity, one.time_us.shape, one.values.shape, one.jump.shape)).encode())
        for array in (one.time_us, one.values, one.jump):
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _few_days(plan: Plan, options: Options) -> tuple[str, ...]:
    short = [one.entity for one in plan.series if one.span_us < LEAST_DAYS * DAY_US]
    if not (options.time_of_day and short):
        return ()
    text = (
        f"[train] time_of_day: {len(short)} of {len(plan.series)} entities have records of less than "
        f"{LEAST_DAYS} days, so what is ordinary at an hour was seen too seldom: {some(short)}"
    )
    return (text,)


def _rfc3339(time_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
