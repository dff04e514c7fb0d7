"""Owning partitions that were just assigned: each restored to its committed offset, or begun where nothing is known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from ..errors import BrokerUnavailable, UnknownTopic
from ..pipelines.brokers.base import Broker, Consumer, Part
from .applying import Applier
from .changelog import Applied, Decision, encode_owner, key_of
from .checkpoints import SETTLE_S, Checkpoints
from .clocks import Clocks
from .outbox import Outbox
from .owned import Owned
from .recovery import Recovery
from .restore import STABLE_S, read_changelog, recovered
from .stopping import Stopping

log = logging.getLogger(__name__)


class Takeover(NamedTuple):
    """What partitions are taken over with. Belongs to the loop's thread; nothing may be under way in the chain."""

    broker: Broker
    consumer: Consumer
    """The group's member."""
    changelog: str
    recovery: Recovery
    applier: Applier
    checkpoints: Checkpoints
    outbox: Outbox
    clocks: Clocks
    stopping: Stopping
    same_layout: Callable[[], object]
    """See `Setup`."""

    def take(self, parts: list[Part]) -> tuple[dict[Part, Owned], int]:
        """The partitions, each in the state that its changelog and the committed offset say; the records replayed.

        Raises:
            StopAsked: a stop was asked for before all were ready.
            StateError: a state does not fit, or a topic has another number of partitions than at the start.
            BrokerUnavailable: the broker does not answer, or does not acknowledge who owns them.
        """
        self.same_layout()
        ids = self.topic_ids({topic for topic, _ in parts})
        # In this order: once the offsets are stable, no transaction of an earlier owner can write any more state; and
        # without transactions none of its changes counts once the new owner is written down. With them that comes
        # last: what is open could not be read back, and may not stay open for as long as a restore takes.
        stored = self._stored(parts)
        if not self.outbox.transactional:
            self._own(parts)
        changelog = read_changelog(self.broker, self.changelog, parts, self.recovery.beat)
        # Last, for the input grows, and with it what an earlier owner writes down as read.
        ends = self.consumer.end_offsets(parts)
        self.recovery.make_room([changelog.entities(*part) for part in parts])
        owned: dict[Part, Owned] = {}
        fresh: list[Owned] = []
        anew: list[Owned] = []
        old: list[tuple[Part, list[Decision], Sequence[Applied]]] = []
        replayed = 0
        for part in parts:  # one after another: what is restored of one is gone before the next is unpacked
            restored = changelog.restored(*part)
            found = recovered(restored)
            begin = 0 if found.snapshot is None else found.snapshot.next_offset
            another = found.of_another(ids[part[0]]) or ends[part] < begin
            committed = stored[part]
            reached = committed if committed is None else min(committed, ends[part])
            one, count = self.recovery.recover(part, found, None if another else reached, anew=another)
            one.snapshot_at, one.topic_id = self.clocks.monotonic(), ids[part[0]]
            # In transactions the word was not written yet, and an earlier one may be this process's.
            one.term = changelog.term(*part, None if self.outbox.transactional else self.outbox.writer)
            one.superseded = restored.snapshot_keys
            owned[part] = one
            replayed += count
            if restored.torn:
                log.warning(
                    "the newest snapshot was not whole; the one before it is used", extra={"part": part}
                )
            anew += [one] if another or reached != committed else []
            fresh += [one] if restored.snapshot is None else []
            old.append((part, restored.decisions, restored.overruled))
            del restored, found
        if self.outbox.transactional:
            self._own(parts)
        for one in anew:
            self.begin_anew(one, self.consumer.begin_offsets([one.part])[one.part])
        for one in owned.values():
            self.applier.act_pending(one, one.next_offset)
        for part, decisions, overruled in old:
            self.outbox.decided(part, decisions)
            for change in overruled:
                self.outbox.record(part, (key_of(part[0], change), None))
        self._begin(fresh)
        return owned, replayed

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """What the cluster calls these topics; empty where that is not known."""
        found = dict.fromkeys(topics, "")
        if not self.broker.capabilities.topic_ids:
            return found
        admin = self.broker.admin()
        try:
            for topic in found:
                with suppress(UnknownTopic):  # the node that is asked may not have heard of it yet
                    found[topic] = admin.topic_id(topic)
        finally:
            admin.close()
        return found

    def begin_anew(self, one: Owned, offset: int) -> None:
        """Go on in a topic that was deleted and made again, or that lost its end, with what is known of its entities.

        Records of the old one that were not read are gone; those that were are late now and change nothing. The state
        is written at once: were anything of the new topic committed before its id is known, a restart would take that
        for the old one's, and read all again. Then the offset is: the one that is stored may lie ahead, and once the
        topic is longer than that, a restart would take all before it for read.

        Raises:
            BrokerUnavailable: what was sent before is not acknowledged.
        """
        log.error(
            "the topic was made anew, or its log was cut off before what was read: it is read from its beginning",
            extra={
                "topic": one.part[0],
                "partition": one.part[1],
                "was_at": one.next_offset,
                "begins_at": offset,
            },
        )
        one.begin_anew(offset, self.topic_ids([one.part[0]])[one.part[0]])
        self.applier.act_pending(one, offset)
        if not self.outbox.transactional:
            self._settle("what was sent before its topic was made anew")
        self.checkpoints.snapshot([one])
        if not self.outbox.transactional:
            one.committed = -1
            self.checkpoints.commit([one], {})

    def _own(self, parts: Sequence[Part]) -> None:
        for topic, partition in parts:
            self.outbox.record((topic, partition), encode_owner(topic, partition, self.outbox.writer))
        self._settle("who owns partitions")

    def _stored(self, parts: list[Part]) -> dict[Part, int | None]:
        """The committed offsets; while a transaction of a crashed owner holds them up they are waited for."""
        give_up = self.clocks.monotonic() + STABLE_S
        while True:
            try:
                return self.consumer.committed(parts)
            except BrokerUnavailable:
                if self.consumer.broker_down or self.clocks.monotonic() > give_up:
                    raise
            self.recovery.beat()

    def _begin(self, fresh: Sequence[Owned]) -> None:
        """Write where partitions begin of which nothing was known, before their first record is read."""
        for one in fresh:
            self.applier.write(one, self.recovery.chain.state.rulings[one.index].change)
        self.checkpoints.snapshot(fresh)
        if fresh:
            self._settle("where new partitions begin")

    def _settle(self, what: str) -> None:
        if not self.outbox.settle(SETTLE_S):
            self.stopping.check()
            raise BrokerUnavailable(
                f"The changelog {self.changelog} does not acknowledge {what}. Check that the brokers at "
                f"{self.broker.bootstrap} which lead it are up."
            )
