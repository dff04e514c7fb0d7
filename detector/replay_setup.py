"""What `tocsin replay` runs: tapes from files or from Kafka, and the changes that go with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, SettingsError
from ..pipelines.brokers import Broker, open_broker
from ..pipelines.brokers.base import Part
from ..pipelines.files import DataFiles
from ..pipelines.readers import Columns
from ..pipelines.schema import FeatureSchema
from .announcing import Names
from .changes import Change, Promotion, Versioned, apply, fold
from .control import Unloadable, artefacts_of, read_all
from .garbage import look_seldom
from .reading import Reader
from .registry import open_registry
from .replay import Replay, Step, Tape, Written, file_tape, kafka_tape, of_changelog, read_changes
from .restore import read_changelog
from .rulings import Rulings
from .settings import Settings, Stream
from .signed import signed_by
from .startup import make_chain, model_loader, schema_of
from .state import StreamState
from .when import When, parse_when


class Prepared(NamedTuple):
    """A replay ready to run."""

    steps: Callable[[], Iterator[Step]]
    names: Names
    model: str
    state: StreamState
    """What the chain knows; it grows while the steps run."""


@contextmanager
def prepare(
    settings: Settings,
    stream: Stream,
    paths: Sequence[Path],
    *,
    since: str | None,
    until: str | None,
    changes: Path | None,
    model: str | None,
    in_force: Rulings | None = None,
) -> Iterator[Prepared]:
    """Open what is needed, closing it at the end.

    With `in_force` the newest of those rulings decides from the first record on, whatever was written.

    Raises:
        DataError: the files cannot be read, or the changes name no model.
        ModelNotFound: there is no model.
        BrokerUnavailable: nobody answers.
    """
    with ExitStack() as stack:
        registry = open_registry(settings, stream)
        schema = schema_of(stream, registry, settings)
        load = model_loader(registry, settings, stream, schema)
        broker = None
        if not paths:
            broker = stack.enter_context(opened(settings))
        rulings = in_force or Rulings(settings, load)
        known: list[Versioned | Unloadable] = []
        written: list[Written] = []
        if changes is not None:
            of_file, written = read_changes(changes)
            known += of_file
            if _first_model(known) is None:
                raise DataError(
                    f"{changes} lets no model serve. Begin it with a promotion, as a control topic begins."
                )
        elif broker is not None and in_force is None:
            known += _control(broker, settings, stream)
        known = [rulings.checked(one) for one in known]
        if in_force is None and (model is not None or _first_model(known) is None):
            name = registry.resolve(model or "champion")
            first = Promotion(model=name, **signed_by(None, "replay"))
            known, written = [Versioned(0, first)], []
        for one in known:
            rulings.take(one)
        first_model = rulings.model(_first_model(known) or rulings.ruling().model.name)
        chain = make_chain(stream, schema, first_model, settings.state)
        tapes: list[Tape] = []
        if broker is None:
            tapes.append(file_tape(_files(paths, stream, schema), chain, stream.scored[0]))
        else:
            reader = Reader(stream, settings.decode, chain.state)
            spans = _spans(broker, stream, parse_when(since), parse_when(until))
            if model is None and changes is None and in_force is None:
                found = read_changelog(broker, stream.changelog, list(spans), lambda: None)
                for part in spans:
                    written += of_changelog(part, found.restored(*part).applied)
            tapes += [
                kafka_tape(broker, reader, part, begin, end, lambda: None)
                for part, (begin, end) in spans.items()
            ]
        replay = Replay(chain, rulings, stream.name, written, stream.runbook)

        def steps() -> Iterator[Step]:
            look_seldom()
            for tape in tapes:
                yield from replay.run(tape)

        yield Prepared(steps, replay.names, rulings.ruling().model.name, chain.state)


def rulings_now(broker: Broker, settings: Settings, stream: Stream) -> Rulings:
    """What is in force by the control topic; before any daemon ran, the champion under the file's settings.

    Raises:
        ModelNotFound: there is no model.
    """
    registry = open_registry(settings, stream)
    load = model_loader(registry, settings, stream, schema_of(stream, registry, settings))
    rulings = Rulings(settings, load)
    known = [rulings.checked(one) for one in _control(broker, settings, stream)]
    if _first_model(known) is None:
        known = [Versioned(0, Promotion(model=registry.current(), **signed_by(None, "champion")))]
    for one in known:
        rulings.take(one)
    return rulings


def rulings_of(settings: Settings, stream: Stream, model: str = "champion") -> Rulings:
    """One version from the first record on, under the file's settings, whatever is in force.

    Raises:
        ModelNotFound: there is no such version.
    """
    registry = open_registry(settings, stream)
    named = Promotion(model=registry.resolve(model), **signed_by(None, "named"))
    rulings = Rulings(
        settings, model_loader(registry, settings, stream, schema_of(stream, registry, settings))
    )
    rulings.take(Versioned(0, named))
    return rulings


def refusal(broker: Broker, settings: Settings, stream: Stream, change: Change) -> str:
    """Why a change would have no effect if it were published now, or an empty text."""
    effective = fold([one for one in _control(broker, settings, stream) if isinstance(one, Versioned)])
    return apply(effective, Versioned(effective.version + 1, change)).refused


@contextmanager
def opened(settings: Settings) -> Iterator[Broker]:
    """The broker of the settings, closed at the end."""
    broker = open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)
    try:
        yield broker
    finally:
        broker.close()


def _control(broker: Broker, settings: Settings, stream: Stream) -> list[Versioned | Unloadable]:
    return read_all(broker, stream.control, artefacts_of(settings, stream))


def _first_model(known: Sequence[Versioned | Unloadable]) -> str | None:
    """The model of the first promotion that acts."""
    changes = (one.change for one in known if isinstance(one, Versioned))
    return next((change.model for change in changes if isinstance(change, Promotion)), None)


def _files(paths: Sequence[Path], stream: Stream, schema: FeatureSchema) -> DataFiles:
    columns = Columns(
        time=stream.time or "timestamp", entity=stream.entity or "entity", time_unit=stream.time_unit
    )
    return DataFiles(paths, schema=schema, columns=columns)


def _spans(
    broker: Broker, stream: Stream, since: When | None, until: When | None
) -> dict[Part, tuple[int, int]]:
    """First offset and the one behind the last, of each input partition."""
    admin, consumer = broker.admin(), broker.consumer()
    try:
        topics = admin.topics()
        missing = [topic for topic in stream.scored if topic not in topics]
        if missing:
            raise SettingsError(f"stream {stream.name}: the input topic {missing[0]!r} does not exist.")
        parts = [(topic, p) for topic in stream.scored for p in range(topics[topic].partitions)]
        begins, ends = consumer.begin_offsets(parts), consumer.end_offsets(parts)
        for when, into in ((since, begins), (until, ends)):
            if when is not None and when.ms is not None:
                into.update(consumer.offsets_for_time(parts, when.ms))
        return {part: (begins[part], ends[part]) for part in parts}
    finally:
        consumer.close()
        admin.close()
