"""From settings to a stream that can run: its model, its rulings, its chain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import ArtefactError, SettingsError
from ..models.members import TABLE
from ..models.packing import unpack
from ..models.registry import Registry
from ..pipelines import formats
from ..pipelines.admission import Limits
from ..pipelines.alignment import Alignment, check
from ..pipelines.records import Records
from ..pipelines.schema import FeatureSchema
from ..thresholds import drift
from ..thresholds.bands import Bands
from .chain import Chain, build_chain
from .changes import START, Versioned
from .compiled import kept
from .intended import first_changes
from .registry import trusted_keys
from .ruling import Model, Ruling
from .rulings import Rulings, loaded
from .settings import Settings, State, Stream, check_bands
from .state import StreamState

log = logging.getLogger(__name__)


def schema_of(stream: Stream, registry: Registry, settings: Settings) -> FeatureSchema:
    """The stream's features: as configured, else those that its champion was trained on.

    Raises:
        SettingsError: none are configured and there is no model that would tell.
    """
    if stream.features:
        return FeatureSchema(stream.features, stream.counters)
    if not registry.versions():
        raise SettingsError(
            f"stream {stream.name}: [stream] features is empty and there is no model yet that would tell them. List "
            "the features, or run `tocsin train`."
        )
    manifest = registry.load(registry.current(), trusted_keys(settings)).manifest
    return FeatureSchema(tuple(manifest.features), stream.counters)


def model_loader(
    registry: Registry, settings: Settings, stream: Stream, schema: FeatureSchema
) -> Callable[[str], Model]:
    """A function that loads, verifies and compiles a version by its name.

    It raises ArtefactError for one that cannot be trusted or does not fit the stream.
    """

    def load(name: str) -> Model:
        version = unpack(registry.load(name, trusted_keys(settings)))
        if version.lags != stream.lags:
            raise ArtefactError(
                f"{name} looks at {version.lags} records, and [stream] lags = {stream.lags}. Set it to {version.lags} "
                "and start again, or train a version with the lags that are set."
            )
        if version.members != members_of(stream):
            raise ArtefactError(
                f"{name} has the members {', '.join(version.members)}, but the stream is scored by "
                f"{', '.join(members_of(stream))}. Train a new version, or set [stream] members."
            )
        try:
            with kept():
                return loaded(version, schema, stream.follow)
        except KeyError as missing:
            raise ArtefactError(
                f"{name} was trained on the feature {missing.args[0]!r}, which stream {stream.name} does not have any "
                "more. Put it back into [stream] features (its values may be missing), or train a new version."
            ) from None

    return load


def members_of(stream: Stream) -> tuple[str, ...]:
    """The members of the panel that scores the stream, in order. Raises SettingsError for an unknown one."""
    unknown = sorted(set(stream.members) - set(TABLE))
    if unknown:
        raise SettingsError(
            f"stream {stream.name}: [stream] members names {', '.join(unknown)}; the panel has {', '.join(TABLE)}."
        )
    return tuple(name for name in TABLE if not stream.members or name in stream.members)


def check_promotable(name: str, registry: Registry, settings: Settings, stream: Stream) -> None:
    """Raises ArtefactError where a version cannot be trusted, or could not score the stream as it stands."""
    try:
        schema = schema_of(stream, registry, settings)
    except ArtefactError:  # of the version that serves now: it must be possible to leave it behind
        unpack(registry.load(name, trusted_keys(settings)))
        return
    model_loader(registry, settings, stream, schema)(name)


def make_chain(stream: Stream, schema: FeatureSchema, model: Model, kept: State) -> Chain:
    """An empty chain for models of that shape. SettingsError for a band of a feature that there is not."""
    alignment = alignment_of(stream)
    state = StreamState(schema, stream.window, len(model.version.members), alignment, limits_of(kept))
    bands = bands_of(stream, schema.names)
    return build_chain(state, model.version.lags, int(stream.far_ahead), alignment, bands)


def bands_of(stream: Stream, features: Sequence[str]) -> Bands | None:
    """Which deviations count, of each feature; None where all do.

    Raises:
        SettingsError: a band is of no feature.
    """
    if not stream.bands:
        return None
    check_bands(stream, features)
    bands = Bands(np.full(len(features), -np.inf), np.full(len(features), -np.inf))
    for place, name in enumerate(features):
        if name in stream.bands:
            band = stream.bands[name]
            bands.rise[place] = np.inf if band.direction == "down" else band.dead
            bands.fall[place] = np.inf if band.direction == "up" else band.dead
    return bands


def limits_of(kept: State) -> Limits:
    """How many entities each partition may hold, and for how long."""
    return Limits(kept.max_entities, int(kept.forget_after or 0), kept.max_new_entities)


def alignment_of(stream: Stream) -> Alignment | None:
    """How single measurements become records; None for a stream whose messages are records."""
    if not formats.of(stream.format).long:
        return None
    return check(
        Alignment(int(stream.period), int(stream.wait), int(stream.carry_forward), int(stream.far_ahead))
    )


def warm(stream: Stream, schema: FeatureSchema, ruling: Ruling) -> None:
    """Compile everything that a record will pass, on a chain that is thrown away, so that none has to wait."""
    chain = make_chain(stream, schema, ruling.model, State())
    part = chain.state.part("", 0)
    chain.state.rulings[part] = ruling
    slots = chain.state.table.intern_all(part, ["a", "b"])
    rows = 2 * stream.window
    records = Records(
        np.tile(slots, rows // 2),
        np.zeros(rows, np.int32),
        np.arange(rows),
        np.arange(rows) * 1_000_000,
        np.zeros((rows, len(schema.names))),
    )
    chain.process(records, chain.state.table.take_new())
    chain.promote(part, ruling)
    drift.decide(np.zeros(2))  # imports river, which takes seconds: the first block must not wait for it


def ahead(
    settings: Settings,
    stream: Stream,
    registry: Registry,
    schema: FeatureSchema,
    load: Callable[[str], Model],
) -> None:
    """Load the version that most likely serves and warm what its records pass: meanwhile the broker can be asked."""
    rulings = Rulings(settings, load)
    for version, change in enumerate(first_changes(START.in_force, settings, registry)):
        rulings.take(Versioned(version, change))
    warm(stream, schema, rulings.ruling())
