"""From settings to a trained and registered model version: what `tocsin train` does, without its talking."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..errors import UnknownTopic
from ..models import devices
from ..models.checkpoints import Checkpoints, left_beside
from ..models.signing import ensure_pair, public_path
from ..pipelines import collect, formats, sequences
from ..pipelines.brokers import Broker
from ..pipelines.crossfit import Step
from ..pipelines.files import DataFiles
from ..pipelines.readers import Columns
from ..pipelines.schema import FeatureSchema
from ..pipelines.sequences import Counts, Series
from ..pipelines.slots import SlotTable
from ..pipelines.training import Options, Trained, encoded, manifest, train
from ..thresholds.budget import parse_budget
from .compiled import kept, machine
from .reading import how_of
from .registry import open_registry, private_key
from .rulings import rules_of
from .settings import Decode, Settings, Stream
from .startup import alignment_of, members_of

log = logging.getLogger(__name__)


class Gathered(NamedTuple):
    """Records to learn from."""

    series: list[Series]
    counts: Counts
    schema: FeatureSchema
    rejected: Counter[str]
    """Messages that could not be read, by reason."""
    spans: tuple[collect.Span, ...] = ()
    """Where they were read from, of topics."""


class Registered(NamedTuple):
    """A version that is now in the registry."""

    name: str
    path: Path
    champion: bool
    """It is what the local pointer names."""
    key_made: Path | None
    """The private key, where it was made for this version."""
    public_key: Path


_SPANS = msgspec.json.Decoder(tuple[collect.Span, ...])


def from_files(stream: Stream, paths: Sequence[Path]) -> Gathered:
    """Read data files; without [stream] features every numeric column is one.

    Raises:
        DataError: a file cannot be used.
    """
    columns = Columns(
        time=stream.time or Columns().time,
        entity=stream.entity or Columns().entity,
        time_unit=stream.time_unit,
    )
    schema = FeatureSchema(stream.features, stream.counters) if stream.features else None
    files = DataFiles(list(paths), schema=schema, columns=columns)
    schema = schema or FeatureSchema(files.schema.names, stream.counters)
    table = SlotTable()
    batches = (batch.records for batch in files.batches(table))
    series, counts = sequences.collect(
        batches,
        table.name,
        len(schema),
        schema.counter_index,
        stream.lags,
        stream.window,
        int(stream.far_ahead),
    )
    return Gathered(series, counts, schema, Counter())


def from_topics(
    broker: Broker,
    stream: Stream,
    decode: Decode,
    since_ms: int | None,
    until_ms: int | None,
    again: Sequence[collect.Span] = (),
) -> Gathered:
    """Read what the input topics hold; without [stream] features a sample of them shows which there are.

    Where `again` are given and all still held, they are read and nothing else.

    Raises:
        BrokerError: a topic does not exist, or nobody answers.
        DataError: nothing in it is a number.
    """
    how = decoding_of(stream, decode)
    wanted, read = _source(broker, stream, since_ms, until_ms)
    if again and collect.held(again, wanted):
        wanted = list(again)
    if stream.features:
        schema = FeatureSchema(stream.features, stream.counters)
    else:
        schema = _discovered(broker, wanted, how, stream, since_ms)
    collector = collect.Collector(schema, how)
    consumer = broker.consumer(headers=False)
    try:
        batches = read(consumer, wanted, since_ms, until_ms)
        series, counts = sequences.collect(
            collector.records(batches),
            collector.table.name,
            len(schema),
            schema.counter_index,
            stream.lags,
            stream.window,
            int(stream.far_ahead),
        )
    finally:
        consumer.close()
    return Gathered(series, counts, schema, collector.rejected, tuple(wanted))


def decoding_of(stream: Stream, decode: Decode) -> collect.Decoding:
    """How the stream's messages become records."""
    return collect.Decoding(formats.of(stream.format), how_of(stream, decode), alignment_of(stream))


def options_of(settings: Settings, stream: Stream, profile: str | None = None) -> Options:
    """What a training is told by the settings."""
    told, text = settings.train, settings.thresholds.budget
    given = Options(
        profile=stream.profile,
        max_entity_models=stream.max_entity_models,
        min_records=told.min_records,
        min_span_us=int(told.min_span),
        members=members_of(stream),
        steps=told.steps,
        seed=told.seed,
        time_of_day=told.time_of_day,
        stack=told.stack,
        precision=told.precision,
        budget=parse_budget(text) if text else None,
        rules=rules_of(settings.incidents, {}, 0),
    )
    return given if profile is None else given._replace(profile=profile)  # type: ignore[arg-type]


def learn(
    settings: Settings,
    stream: Stream,
    gathered: Gathered,
    progress: Callable[[Step], None] | None = None,
    say: Callable[[str], None] = log.warning,
) -> Trained:
    """Train on what was gathered; one like it that was cut off is gone on with, which `say` is told.

    Raises:
        DataError: it is too little.
    """

    def checkpoints(digest: str) -> Checkpoints:
        return _checkpoints(settings, stream, digest, say, gathered.spans)

    with kept():
        return train(
            gathered.series,
            gathered.counts,
            gathered.schema,
            options_of(settings, stream),
            progress,
            checkpoints,
        )


def cut_off(settings: Settings, stream: Stream) -> tuple[collect.Span, ...]:
    """What a training of the stream was on that began and never ended; nothing where there is none."""
    data = left_beside(open_registry(settings, stream).folder)
    try:
        return _SPANS.decode(data) if data else ()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()


def _checkpoints(
    settings: Settings,
    stream: Stream,
    digest: str,
    say: Callable[[str], None],
    spans: Sequence[collect.Span] = (),
) -> Checkpoints:
    where = f"{digest} {machine()} {devices.kind()}"
    registry = open_registry(settings, stream)
    return Checkpoints(
        registry.folder,
        hashlib.sha256(where.encode()).hexdigest(),
        say,
        time.monotonic,
        time.time,
        msgspec.json.encode(spans) if spans else b"",
        registry.ciphers,
    )


def register(
    settings: Settings, stream: Stream, trained: Trained, schema: FeatureSchema, created: str, seconds: float
) -> Registered:
    """Sign a version and put it into the registry; makes the key pair where there is none.

    Args:
        settings: for the registry and the key.
        stream: whose version it is.
        trained: the version.
        schema: the stream's features.
        created: now, RFC 3339.
        seconds: what the training took.

    Raises:
        ArtefactError: the key is refused, or the registry cannot be written.
    """
    key = private_key(settings)
    signer, made = ensure_pair(key)
    registry = open_registry(settings, stream)
    said = manifest(trained, schema, stream.name, created, seconds)
    name = registry.register(said, encoded(trained), signer)
    _checkpoints(settings, stream, trained.digest, lambda text: None).remove()
    pointer = registry.champion()
    return Registered(
        name,
        registry.folder / name,
        pointer is not None and pointer.version == name,
        key if made else None,
        public_path(key),
    )


def _source(
    broker: Broker, stream: Stream, since_ms: int | None, until_ms: int | None
) -> tuple[list[collect.Span], collect.Reader]:
    """What is scored; where records are rekeyed and none of that time were sent on yet, the input itself."""
    try:
        wanted = collect.spans(broker, stream.scored, since_ms, until_ms)
    except UnknownTopic:
        if not stream.rekey:
            raise
        wanted = []
    if wanted or not stream.rekey:
        return wanted, collect.read
    return collect.spans(broker, stream.topics, since_ms, until_ms), collect.read_in_line


def _discovered(
    broker: Broker,
    wanted: Sequence[collect.Span],
    how: collect.Decoding,
    stream: Stream,
    since_ms: int | None,
) -> FeatureSchema:
    consumer = broker.consumer(headers=False)
    try:
        return collect.discover(collect.read(consumer, wanted, since_ms), how, stream.counters)
    finally:
        consumer.close()
