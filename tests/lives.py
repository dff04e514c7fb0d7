"""A daemon's life without a broker: the same records in any cuts and interleavings, killed and restored at will.

    diary = Diary(feed)
    life = Life(stand, rulings, feed, written, diary, order)
    life.take({0: 500, 2: 31}, rng)     # so many records of those partitions in one batch, mixed at random
    life.snapshot(0); life.leave(0)     # to the changelog; the partition goes to another member
    life.recover(0, committed)          # the product's own recovery: snapshot, then a silent replay

What comes out is written in the diary by partition and offset, so two lives of the same records can be compared
to the bit whatever their batches were. The changelog is messages in memory, written and read by the product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from tocsin.detector import alerts, announcing
from tocsin.detector.acting import act
from tocsin.detector.alerts import Alert
from tocsin.detector.chain import Outcome
from tocsin.detector.changelog import Applied, Marker, encode_applied, encode_decision, encode_snapshot
from tocsin.detector.changelog_fold import Restorer
from tocsin.detector.changes import Change, Versioned
from tocsin.detector.reading import Reader
from tocsin.detector.recovery import Recovery
from tocsin.detector.restore import recovered
from tocsin.detector.rulings import Rulings
from tocsin.pipelines.brokers.base import Batch, Consumer, Part
from tocsin.pipelines.records import NO_TIME
from versions import TOPIC, Feed, Stand

COLUMNS = {
    "score": np.float64,
    "p": np.float64,
    "threshold": np.float64,
    "anomalous": np.bool_,
    "onset": np.int64,
    "held": np.bool_,
    "epoch": np.int32,
    "caution": np.uint8,
    "basis": np.uint8,
    "excused": np.bool_,
    "observed": np.float32,
    "expected": np.float32,
    "shares": np.float32,
}
WIDE = ("observed", "expected", "shares")
Written = dict[int, list[tuple[int, int]]]
"""Partition -> (first offset, version) of the changes that act there, ascending."""


class Page(NamedTuple):
    """What came out of one partition."""

    columns: dict[str, NDArray[Any]]
    """By offset; NaN, 0 and NO_TIME where a record was not scored."""
    said: list[tuple[int, bytes]]
    """Alerts and decisions as they go to their topics, with their offsets, in order."""
    drifts: list[tuple[int, str, int, float, float]]


class Diary:
    """All that a stream's lives have put out; a record that is scored again overwrites what it had."""

    def __init__(self, feed: Feed) -> None:
        width = len(feed.fleet.features)
        self.pages = [_page(end, width) for end in feed.ends]

    def note(self, outcome: Outcome, names: announcing.Names) -> None:
        records = outcome.records
        np.testing.assert_array_equal(outcome.window[:, -1], outcome.observed)
        partition = np.array([part[1] for part in names.parts])[records.part]
        for p in np.unique(partition).tolist():
            page, mine = self.pages[p], partition == p
            page.columns["verdict"][records.offset[mine]] = outcome.verdict[mine]
            rows = np.flatnonzero(mine[outcome.row])
            at = records.offset[outcome.row[rows]]
            for name in COLUMNS:
                page.columns[name][at] = getattr(outcome, name)[rows]
            known = np.array([int(label.encode().hex(), 16) % (2**31) for label in outcome.labels])
            page.columns["label"][at] = known[outcome.label[rows]]
        self.say(announcing.announcements(outcome, names, 0, 0), names)
        for flag in outcome.drifts:
            offset = int(records.offset[outcome.row[flag.row]])
            self.pages[names.parts[flag.part][1]].drifts.append((offset, *flag[2:]))

    def say(self, said: Sequence[announcing.Said], names: announcing.Names) -> None:
        for one in said:
            if isinstance(one.message, Alert):
                message = alerts.message_of(one.message).value
            else:
                message = encode_decision(TOPIC, one.message)[1]
            assert message is not None
            self.pages[names.parts[one.part][1]].said.append((one.offset, message))

    def rewind(self, partition: int, offset: int) -> None:
        """Forget what a partition said from `offset` on: it will be said again."""
        page = self.pages[partition]
        page.said[:] = [one for one in page.said if one[0] < offset]
        page.drifts[:] = [one for one in page.drifts if one[0] < offset]


def _page(end: int, width: int) -> Page:
    columns: dict[str, NDArray[Any]] = {
        "verdict": np.full(end, 255, np.uint8),
        "label": np.zeros(end, np.int64),
    }
    for name, kind in COLUMNS.items():
        empty = np.nan if kind in (np.float64, np.float32) else NO_TIME if name == "onset" else 0
        columns[name] = np.full((end, width) if name in WIDE else end, empty, kind)
    return Page(columns, [], [])


def differences(one: Diary, other: Diary) -> list[str]:
    """Where two diaries differ in any bit; the first offset of each column."""
    found = []
    for p, (a, b) in enumerate(zip(one.pages, other.pages, strict=True)):
        for name in a.columns:
            x, y = (np.ascontiguousarray(page.columns[name]) for page in (a, b))
            bits = (x.view(np.uint8) != y.view(np.uint8)).reshape(len(x), -1).any(axis=1)
            if bits.any():
                at = int(np.argmax(bits))
                found.append(
                    f"partition {p}: {name} of {int(bits.sum())} records, first {at}: {x[at]} {y[at]}"
                )
        for name in ("said", "drifts"):
            if getattr(a, name) != getattr(b, name):
                pairs = zip(getattr(a, name), getattr(b, name), strict=False)
                first = next((pair for pair in pairs if pair[0] != pair[1]), "one is longer")
                found.append(f"partition {p}: what it {name}, first {first}")
    return found


class Changelog:
    """The changelog's messages in memory, and the last marker of each partition."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes | None]] = []
        self.markers: dict[int, Marker] = {}

    def restorer(self) -> Restorer:
        restorer = Restorer()
        for key, value in self.messages:
            restorer.feed(key, value)
        return restorer


class _Tape:
    """As much of a consumer as a silent replay uses, over a feed. Cuts batches where it likes."""

    def __init__(self, feed: Feed, rng: np.random.Generator) -> None:
        self._feed, self._rng = feed, rng
        self._part: Part = feed.parts[0]
        self._next = 0

    def assign(self, parts: Sequence[tuple[str, int, int]]) -> None:
        for topic, partition, self._next in parts:
            self._part = (topic, partition)

    def position(self) -> dict[Part, int]:
        return {self._part: self._next}

    def consume(self, most: int, timeout_s: float) -> Batch:
        end = min(self._next + int(self._rng.integers(1, most)), self._feed.ends[self._part[1]])
        offsets = list(range(self._next, end))
        self._next, n = end, len(offsets)
        topic, partition = self._part
        return Batch([topic] * n, [partition] * n, offsets, [0] * n, [None] * n, [None] * n, None)


class _Late(Executor):
    """A worker that does nothing before somebody waits for it: who should have waited and did not is seen."""

    def submit(self, call: Callable[..., Any], /, *given: Any, **more: Any) -> Future[Any]:
        return _Awaited(lambda: call(*given, **more))


class _Awaited(Future[Any]):
    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self._call = call

    def result(self, timeout: float | None = None) -> Any:
        if not self.done():
            self.set_result(self._call())
        return super().result(timeout)


class Life:
    """One process, from its start to its end."""

    def __init__(
        self,
        stand: Stand,
        rulings: Rulings,
        feed: Feed,
        written: Written,
        diary: Diary,
        rng: np.random.Generator,
        changelog: Changelog | None = None,
    ) -> None:
        self.feed, self.diary, self._rng = feed, diary, rng
        self._rulings, self.written = rulings, written
        self.chain = stand.chain()
        self.changelog = changelog or Changelog()
        self.evicted: Counter[str] = Counter()
        """Entities that gave way, by reason; not those of silent replays."""
        self.position: dict[int, int] = {}
        """Next offset by partition owned."""
        state = self.chain.state
        self._stream = stand.stream.name
        self.names = announcing.Names(self._stream, state.schema.names, state.table.name, state.parts)

    def add_change(self, version: int, change: Change) -> str:
        """A change arrives on the control topic; returns why it has no effect."""
        return self._rulings.take(Versioned(version, change))

    def index(self, partition: int) -> int:
        return self.chain.state.part(*self.feed.parts[partition])

    def begin(self, partition: int) -> None:
        """Own a partition of which nothing is known, under change 0."""
        self.chain.state.rulings[self.index(partition)] = self._rulings.ruling(0)
        self.position[partition] = 0
        self._write(partition, 0, 0)
        self.snapshot(partition)

    def due(self, partition: int) -> tuple[int, int] | None:
        """The next change that acts in a partition: (first offset, version)."""
        now = self.chain.state.rulings[self.index(partition)].change
        return next((one for one in self.written.get(partition, ()) if one[1] > now), None)

    def left(self, partition: int) -> int:
        """Records up to the next change, or to the end."""
        due = self.due(partition)
        end = self.feed.ends[partition] if due is None else due[0]
        return end - self.position[partition]

    def take(self, counts: Mapping[int, int]) -> Outcome | None:
        """One batch of at most so many records of each partition, mixed; less where a change acts before."""
        rng, chosen = self._rng, []
        for partition, count in counts.items():
            self._act_due(partition)
            chosen.append(np.full(min(count, self.left(partition)), partition, np.int64))
        mixed = rng.permutation(np.concatenate(chosen))
        if not len(mixed):
            return None
        offset = np.empty(len(mixed), np.int64)
        for partition in counts:
            here = mixed == partition
            offset[here] = self.position[partition] + np.arange(here.sum())
            self.position[partition] += int(here.sum())
        self.chain.state.release()
        records = self.feed.records(self.chain, mixed, offset)
        outcome = self.chain.process(records, self.chain.state.table.take_new())
        self.diary.note(outcome, self.names)
        self.evicted.update(outcome.evicted._asdict())
        return outcome

    def _act_due(self, partition: int) -> None:
        index = self.index(partition)
        while (due := self.due(partition)) and due[0] == self.position[partition]:
            offset, version = due
            self._write(partition, offset, version)
            events = act(self.chain, self._rulings, self._stream, index, version, offset)
            label = self.chain.state.rulings[index].label
            self.diary.say(announcing.closures(events, self.names, label, 0, 0), self.names)

    def _write(self, partition: int, offset: int, version: int) -> None:
        applied = Applied(partition=partition, first_offset=offset, version=version, config_hash="")
        self.changelog.messages.append(encode_applied(TOPIC, applied))

    def snapshot(self, partition: int) -> None:
        log = self.changelog
        snapshot = self.chain.state.snapshot(self.index(partition), self.position[partition])
        pairs, log.markers[partition] = encode_snapshot(
            TOPIC, partition, snapshot, log.markers.get(partition), 1, 0, compress=False
        )
        log.messages += pairs

    def leave(self, partition: int) -> None:
        """The partition becomes another's."""
        self.chain.state.drop(self.index(partition))
        del self.position[partition]

    def recover(self, partition: int, committed: int) -> int:
        """Own a partition that has been owned before; returns the records replayed."""
        self.diary.rewind(partition, committed)
        part = self.feed.parts[partition]
        recovery = Recovery(
            self.chain,
            cast(Reader, SimpleNamespace(read=self._read)),
            self._rulings,
            self._stream,
            cast(Consumer, _Tape(self.feed, self._rng)),
            lambda part: 0,
            lambda: None,
            _Late(),
        )
        found = self.changelog.restorer().restored(*part)
        owned, replayed = recovery.recover(part, recovered(found), committed)
        self.position[partition] = owned.next_offset
        return replayed

    def _read(self, batch: Batch) -> Any:
        partition, offset = np.array(batch.partition), np.array(batch.offset)
        records = self.feed.records(self.chain, partition, offset)
        admitted = self.chain.state.table.take_new()
        return SimpleNamespace(rows=batch.size, records=records, admitted=admitted, sizes={})

    def snapshots(self) -> list[dict[str, NDArray[Any]]]:
        """The whole state of each partition, but for which index it bears in this process."""
        taken = []
        for partition in sorted(self.position):
            snapshot = self.chain.state.snapshot(self.index(partition), self.position[partition])
            slots = {k: v for k, v in snapshot.slots.items() if k != "assigned.owner"}
            names = np.array(snapshot.entities)
            taken.append({"names": names, **slots, **{f"part.{k}": v for k, v in snapshot.part.items()}})
        return taken


def state_differences(one: Life, other: Life) -> list[str]:
    """Fields of the two lives' states that differ in any bit."""
    found = []
    for p, (a, b) in enumerate(zip(one.snapshots(), other.snapshots(), strict=True)):
        assert a.keys() == b.keys()
        found += [f"partition {p}: {k}" for k in a if a[k].tobytes() != b[k].tobytes()]
    return found
