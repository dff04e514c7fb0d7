"""Replay: the chain over records that lie in files or in Kafka, from empty state, through the written changes.

The same records and changes give the same bits and the same incidents as they gave the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..pipelines.brokers.base import Broker, Part
from ..pipelines.files import DataFiles
from ..pipelines.records import Points, Records, take_rows
from .acting import act
from .alerts import Alert
from .announcing import Names, announcements, closures
from .chain import Chain
from .changelog import Applied
from .changes import Change, Versioned
from .outcome import Outcome
from .reading import Reader
from .restore import between
from .rulings import Rulings


class Written(NamedTuple):
    """A change and where it acts."""

    part: Part
    first_offset: int
    version: int


class ChangeLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a file of changes: the change itself, its version, and where it acts."""

    topic: str
    partition: int
    first_offset: int
    version: int
    change: Change


_CHANGE = msgspec.json.Decoder(ChangeLine)


class Step(NamedTuple):
    """One outcome and the alerts that came with it; no outcome where a change closed incidents."""

    outcome: Outcome | None
    alerts: list[Alert]
    label: NDArray[np.int8] | None = None
    """[B] of the outcome's records: 0 or 1, -1 where the data says nothing; None: it has no labels."""


class Cut(NamedTuple):
    """Records in order, and the slots given out while they were decoded."""

    records: Records | Points
    admitted: NDArray[np.int32]
    label: NDArray[np.int8] | None = None
    """[B] 0 or 1, -1 where the data says nothing. Nothing decides by it."""


class Tape(NamedTuple):
    """Records of one partition in order, in batches."""

    part: Part
    begin: int
    end: int | None
    """The offset behind the last record; None: wherever the batches end."""
    batches: Iterator[Cut]


class Replay:
    """Runs tapes through a chain. Alerts are as the daemon published them, less the remark that data was late."""

    def __init__(
        self, chain: Chain, rulings: Rulings, stream: str, written: Iterable[Written], runbook: str = ""
    ) -> None:
        self._chain = chain
        self._rulings = rulings
        self._stream = stream
        self._written: dict[Part, list[Written]] = {}
        for one in sorted(written, key=lambda w: (w.first_offset, w.version)):
            self._written.setdefault(one.part, []).append(one)
        state = chain.state
        self.names = Names(stream, state.schema.names, state.table.name, state.parts, runbook)

    def run(self, tape: Tape, default: int | None = None) -> Iterator[Step]:
        """Outcomes of a partition, in order. It begins under the last change written up to its first offset, or
        under `default` (a version; None: all changes) where none was."""
        index = self._chain.state.part(*tape.part)
        due = self._written.get(tape.part, [])
        begun = [one for one in due if one.first_offset <= tape.begin]
        due = [one for one in due if one.first_offset > tape.begin]
        self._chain.state.rulings[index] = self._rulings.ruling(begun[-1].version if begun else default)
        for records, admitted, label in tape.batches:
            first = 0
            while due and len(records.offset) and due[0].first_offset <= int(records.offset[-1]):
                one = due.pop(0)
                cut = int(np.searchsorted(records.offset, one.first_offset))
                if cut > first:
                    yield self._step(records, slice(first, cut), admitted, label)
                    admitted = admitted[:0]
                    first = cut
                closed = self._act(index, one)
                if closed:
                    yield Step(None, closed)
            if first < len(records.offset):
                yield self._step(records, slice(first, None), admitted, label)
        # What was written behind the last record has acted too, and may have closed incidents.
        for one in due:
            if (tape.end is None or one.first_offset <= tape.end) and (closed := self._act(index, one)):
                yield Step(None, closed)

    def _step(
        self,
        records: Records | Points,
        rows: slice,
        admitted: NDArray[np.int32],
        label: NDArray[np.int8] | None,
    ) -> Step:
        outcome = self._chain.process(take_rows(records, rows), admitted)
        said = announcements(outcome, self.names, 0, 0)
        alerts = [one.message for one in said if isinstance(one.message, Alert)]
        return Step(outcome, alerts, None if label is None else label[rows])

    def _act(self, index: int, one: Written) -> list[Alert]:
        events = act(self._chain, self._rulings, self._stream, index, one.version, one.first_offset)
        label = self._chain.state.rulings[index].label
        return [
            said.message
            for said in closures(events, self.names, label, 0, 0)
            if isinstance(said.message, Alert)
        ]


def file_tape(files: DataFiles, chain: Chain, topic: str, rows: int = 4096) -> Tape:
    """The merged records of data files, as one partition."""
    table = chain.state.table

    def batches() -> Iterator[Cut]:
        for batch in files.batches(table, rows):
            yield Cut(batch.records, table.take_new(), batch.label)

    return Tape((topic, 0), 0, None, batches())


def kafka_tape(
    broker: Broker, reader: Reader, part: Part, begin: int, end: int, beat: Callable[[], None]
) -> Tape:
    """The records of a partition from one offset up to before another, through the stream's decoder."""

    def batches() -> Iterator[Cut]:
        consumer = broker.consumer(headers=False)
        try:
            for batch in between(consumer, part, begin, end, beat):
                read = reader.read(batch)
                yield Cut(read.records, read.admitted)
        finally:
            consumer.close()

    return Tape(part, begin, end, batches())


def of_changelog(part: Part, applied: Iterable[Applied]) -> list[Written]:
    """Where changes acted in a partition, as its changelog says."""
    return [Written(part, one.first_offset, one.version) for one in applied]


def read_changes(path: Path) -> tuple[list[Versioned], list[Written]]:
    """A file of changes, one `ChangeLine` of JSON a line, in the order of their versions.

    Raises:
        DataError: a line is not one; the text names file and line.
    """
    versions: dict[int, Versioned] = {}
    written = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"the changes {path} cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            one = _CHANGE.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            raise DataError(f"{path}:{number} is no change: {wrong}") from None
        versions[one.version] = Versioned(one.version, one.change)
        written.append(Written((one.topic, one.partition), one.first_offset, one.version))
    return [versions[version] for version in sorted(versions)], written
