"""`tocsin alerts group`: from the alert topics to a topic of groups, and never back.

Whoever holds the first partition in the consumer group reads all of them, because the entities of a group lie in any.
What follows from a message is acknowledged before its offset is committed, and an alert whose window is not decided
holds the offsets back. So a crash repeats, under the same ids, and never loses.

Which groups are open is no state of its own: it is worked out anew, from what the topics still hold before the
committed offsets, whenever reading begins. Where the topics of groups say otherwise, as after a change of the rules,
they are put right.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import NamedTuple

from ..errors import BrokerUnavailable, DataError, NewerSchema, UnknownTopic
from ..pipelines.brokers.base import END, Batch, Broker, CommitRefused, Part, Start
from ..pipelines.collect import Span, read
from . import grouping
from .acknowledgements import Acknowledgements
from .alerts import Status
from .checkpoints import SETTLE_S
from .clocks import Clocks
from .group_messages import Grouped, decode_grouped, decode_word, message_of, regrouped
from .grouping import Heard, Rules, State
from .outbox import settle
from .settings import Settings, Stream
from .standing import stand
from .stopping import Stopping
from .tide import Tide
from .wire import rfc3339

log = logging.getLogger(__name__)

BATCH = 1000
WAIT_S = 0.5
LOOK_S = 60.0
"""How often it is looked whether the topics have more partitions than before."""


class Plan(NamedTuple):
    """What to group, and how."""

    alerts: tuple[str, ...]
    """The topics to read."""
    groups: Mapping[str, str]
    """Where the groups of each stream are told. Alerts of other streams on these topics are passed over."""
    group: str
    start: Start
    rules: Rules


def plan(settings: Settings, streams: Sequence[Stream]) -> Plan:
    """What is grouped for these streams. The consumer group bears the name of the stream, where there is one."""
    chosen = settings.group
    stem = streams[0].group_id if len(streams) == 1 else "tocsin"
    return Plan(
        alerts=tuple(sorted({stream.alerts for stream in streams})),
        groups={stream.name: stream.groups for stream in streams},
        group=chosen.group_id or f"{stem}.groups",
        start=chosen.start,
        rules=Rules(int(chosen.wait), chosen.least, chosen.members, chosen.q),
    )


def run(settings: Settings, streams: Sequence[Stream]) -> None:
    """Group until SIGTERM or SIGINT.

    Raises:
        TocsinError: what a person must see to.
    """
    chosen = plan(settings, streams)
    stand(
        "group",
        settings,
        lambda broker, stopping, clocks: Grouper(broker, chosen, stopping, clocks).run(),
    )


class Read(NamedTuple):
    """A message of an alert topic; in the place of an alert why it is none that can be grouped."""

    part: Part
    offset: int
    heard: Heard | DataError | None
    """None where it is an empty one."""


class Grouper:
    """One member of a consumer group of which one at a time works. `run` belongs to one thread."""

    def __init__(self, broker: Broker, plan: Plan, stopping: Stopping, clocks: Clocks | None = None) -> None:
        self.counts = Counter(told=0, unreadable=0)
        self._broker, self._plan, self._stopping = broker, plan, stopping
        self._clocks = clocks or Clocks()
        self._first: Part = (plan.alerts[0], 0)
        self._seat = broker.consumer(plan.group, headers=False)
        self._producer = broker.producer()
        self._fresh: list[Part] = []
        self._tide: Tide | None = None
        self._state: State = grouping.init()
        self._progress = Acknowledgements(remember=0)
        self._held: set[str] = set()  # alerts that hold offsets back
        self._before: dict[str, Grouped] = {}  # told to be open when reading began
        self._since: set[str] = set()  # told since then
        self._agreed_at_us: int | None = None  # when these and the state are to agree
        self._looked_at = self._clocks.monotonic()

    def run(self) -> None:
        """Group until a stop is asked for; then commit and leave the consumer group.

        Raises:
            BrokerError: a topic does not exist or may not be used, or nobody answers at the start.
            DeliveryFailed: a topic of groups does not take a message.
            NewerSchema: an alert needs a newer tocsin. All before it are dealt with or come again.
        """
        plan = self._plan
        try:
            self._demand(set(plan.groups.values()))
            self._seat.subscribe(plan.alerts, self._assigned, self._revoked, self._lost)
            log.info("grouping alerts", extra={"topics": ", ".join(plan.alerts), "group": plan.group})
            while not self._stopping.asked():
                self._turn()
            self._seat.close()  # revokes, and so commits
        finally:
            self._drop()  # after a failure something may not have been told: nothing more is committed
            self._seat.close()
            self._producer.close()
            log.info("stopped grouping", extra=dict(self.counts))

    def _turn(self) -> None:
        self._seat.consume(1, WAIT_S if self._tide is None else 0)
        if self._fresh:  # the seat only says who works
            self._seat.pause(part for part in self._fresh if part in self._seat.assignment)
            self._fresh = []
        if self._first not in self._seat.assignment:
            return
        if self._tide is None:
            self._tide = self._opened()
        if self._tide is None:
            return
        newer = self._hear(self._tide)
        self._checkpoint()
        if newer is not None:
            raise newer
        now = self._clocks.monotonic()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look(self._tide)

    # -- hearing and telling -------------------------------------------------------------------

    def _hear(self, tide: Tide) -> NewerSchema | None:
        """Read on, decide, and tell; returns what ends it."""
        batch = tide.read(BATCH, WAIT_S)
        newer: NewerSchema | None = None
        reads: list[Read] = []
        for one in self._reads(batch):
            if isinstance(one.heard, NewerSchema):
                newer = one.heard
                break
            reads.append(one)
        heard = [one.heard for one in reads if isinstance(one.heard, Heard)]
        self._state, messages = grouping.update(self._state, heard, tide.time_us(), self._plan.rules)
        waiting = grouping.unsettled(self._state)
        for one in reads:
            self._keep(one, waiting)
        for grouped in messages:
            self._tell(grouped)
        if self._agreed_at_us is not None and tide.time_us() >= self._agreed_at_us:
            self._agree()
        return newer

    def _reads(self, batch: Batch) -> Iterator[Read]:
        latest = int(self._clocks.wall() * 1e6) + self._plan.rules.wait_us
        for topic, number, offset, stamp, value in zip(
            batch.topic, batch.partition, batch.offset, batch.timestamp_ms, batch.value, strict=True
        ):
            part = (topic, number)
            if value is None:
                yield Read(part, offset, None)
                continue
            try:
                word = decode_word(value, f"the alert {topic}[{number}] at offset {offset}")
            except DataError as fault:
                yield Read(part, offset, fault)
                continue
            ours = word.labels.stream in self._plan.groups
            # A sender whose clock is far ahead must not hold the offsets back until its time comes.
            yield Read(part, offset, Heard(min(stamp * 1000, latest), word) if ours else None)

    def _keep(self, one: Read, waiting: frozenset[str]) -> None:
        """Note how far a message lets the offsets move."""
        if isinstance(one.heard, Heard) and one.heard.word.alert_id in waiting:
            self._held.add(one.heard.word.alert_id)
            self._progress.offer(one.part, one.offset, one.heard.word.alert_id)
            return
        self._progress.passed(one.part, one.offset)
        if isinstance(one.heard, DataError):
            self.counts["unreadable"] += 1
            log.error(f"passed over, for it is no alert: {one.heard}")

    def _tell(self, grouped: Grouped) -> None:
        message, notes = message_of(grouped), grouped.annotations
        topic = self._plan.groups[grouped.labels.stream]
        self._producer.produce(topic, message.value, message.key, headers=message.headers)
        if self._agreed_at_us is not None:
            self._since.add(grouped.group_id)
        self.counts["told"] += 1
        log.info(
            "grouped",
            extra={
                "group_id": grouped.group_id,
                "status": grouped.status.value,
                "entities": notes.entities,
                "open": notes.open,
            },
        )

    def _agree(self) -> None:
        """Tell the end of what was told to be a group and is none, and what is one and was never told."""
        standing, now = grouping.standing(self._state), rfc3339(int(self._clocks.wall() * 1e6))
        for name in sorted(self._before.keys() - standing - self._since):
            self._tell(regrouped(self._before[name], now))
        self._state = grouping.renewed(self._state, standing - self._before.keys() - self._since)
        self._before, self._since, self._agreed_at_us = {}, set(), None

    def _checkpoint(self) -> None:
        """Wait until all that was told is acknowledged, then commit; what is not taken now will be later."""
        if not settle(self._producer, self._clocks.monotonic, self._stopping, SETTLE_S):
            return
        for name in self._held - grouping.unsettled(self._state):
            self._progress.acknowledge(name)
            self._held.discard(name)
        due = self._progress.due()
        if not due:
            return
        try:
            self._seat.commit(due)
        except (CommitRefused, BrokerUnavailable) as fault:
            log.warning("offsets are not committed yet", extra={"why": str(fault)})
        else:
            self._progress.committed(due)

    # -- who reads, and from where -------------------------------------------------------------

    def _assigned(self, parts: list[Part]) -> dict[Part, int]:
        self._fresh += parts
        return dict.fromkeys(parts, END)

    def _revoked(self, parts: list[Part]) -> None:
        if self._first in parts and self._tide is not None:
            self._checkpoint()
            self._drop()

    def _lost(self, parts: list[Part]) -> None:
        if self._first in parts:
            self._drop()

    def _opened(self) -> Tide | None:
        """Begin to read all partitions, with what went before in mind; None while nobody answers."""
        consumer = self._broker.consumer(headers=False)
        try:
            parts = self._parts(self._plan.alerts)
            stored = self._seat.committed(parts)
            begins, ends = consumer.begin_offsets(parts), consumer.end_offsets(parts)
            known = {part[0] for part, at in stored.items() if at is not None}
            starts = {}
            for part, at in stored.items():
                # A partition that was added later begins with its first message, whatever a new group would do.
                early = self._plan.start == "earliest" or part[0] in known
                starts[part] = at if at is not None else begins[part] if early else ends[part]
            spans = [Span(part, begins[part], at) for part, at in starts.items() if begins[part] < at]
            come_us = self._recall(spans)
            self._before, self._since = self._told_open(), set()
            # By then whatever lies there now is decided, also what bears a time up to a wait ahead.
            self._agreed_at_us = int(self._clocks.wall() * 1e6) + 3 * self._plan.rules.wait_us
        except BrokerUnavailable as fault:
            consumer.close()
            log.warning("grouping waits for the broker", extra={"why": str(fault)})
            return None
        except BaseException:
            consumer.close()
            raise
        for part, at in starts.items():
            # Where a group begins is committed at once: one that begins at the end would, after a crash, begin at a
            # later end and pass over what came between.
            self._progress.begin(part, at, stored[part])
        return Tide(consumer, starts, come_us, self._clocks)

    def _recall(self, spans: list[Span]) -> dict[Part, int]:
        """Hear again what lies before; returns how far each partition had come."""
        self._state, come_us = grouping.init(), dict[Part, int]()
        consumer = self._broker.consumer(headers=False)
        try:
            for batch in read(consumer, spans):
                heard = []
                for one in self._reads(batch):
                    if isinstance(one.heard, NewerSchema):
                        raise one.heard
                    if isinstance(one.heard, Heard):
                        heard.append(one.heard._replace(past=True))
                        come_us[one.part] = max(one.heard.at_us, come_us.get(one.part, 0))
                self._state = grouping.listened(self._state, heard)
        finally:
            consumer.close()
        return come_us

    def _told_open(self) -> dict[str, Grouped]:
        """The groups of these streams whose last message on the topics of groups calls them open."""
        found: dict[str, Grouped] = {}
        consumer = self._broker.consumer(headers=False)
        try:
            parts = self._parts(set(self._plan.groups.values()))
            begins, ends = consumer.begin_offsets(parts), consumer.end_offsets(parts)
            spans = [Span(part, begins[part], ends[part]) for part in parts if begins[part] < ends[part]]
            for value in chain.from_iterable(batch.value for batch in read(consumer, spans)):
                with suppress(DataError):  # of a stranger, or of a newer version: theirs to end
                    one = decode_grouped(value, "the group")
                    found[one.group_id] = one
        finally:
            consumer.close()
        return {
            name: one
            for name, one in found.items()
            if one.status is Status.FIRING and one.labels.stream in self._plan.groups
        }

    def _drop(self) -> None:
        if self._tide is not None:
            self._progress.drop(self._tide.parts)
            self._tide.close()
            self._tide = None
        self._held.clear()

    def _look(self, tide: Tide) -> None:
        try:
            grown = set(self._parts(self._plan.alerts)) != tide.parts
        except BrokerUnavailable:
            return
        if grown:
            self._drop()  # opened anew, with all of them

    # -- topics --------------------------------------------------------------------------------

    def _parts(self, names: Iterable[str]) -> list[Part]:
        admin = self._broker.admin()
        try:
            topics = admin.topics()
        finally:
            admin.close()
        held = [topic for topic in names if topic in topics]
        return [(topic, number) for topic in held for number in range(topics[topic].partitions)]

    def _demand(self, wanted: set[str]) -> None:
        admin = self._broker.admin()
        try:
            missing = sorted(wanted - admin.topics().keys())
        finally:
            admin.close()
        if missing:
            raise UnknownTopic(
                f"The topic of groups {missing[0]!r} does not exist at {self._broker.bootstrap}. `tocsin check "
                "--create-topics --groups` makes it; [stream] groups names it."
            )
