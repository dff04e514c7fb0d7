"""The consumer of both brokers, over confluent-kafka."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ...errors import BrokerError, BrokerUnavailable, UnknownTopic
from .base import BEGINNING, END, Batch, DataLoss, Events, OnAssign, OnRevoke, Part, Start
from .config import NO_GROUP
from .faults import (
    END_OF_PARTITION,
    EVICTED,
    FORBIDDEN,
    GROUP_FORBIDDEN,
    LEADER_MOVES,
    LOG,
    OFFSET_GONE,
    REFUSED_LOGIN,
    UNKNOWN,
    Watch,
    cause,
    setting,
    typed,
)

REQUEST_S = 10.0
"""How long a request to the broker may take."""
LEADER_S, HEARD_S = 0.1, 2.0
"""How soon a request is made again while a leader moves; how long a node may not have heard of a new topic."""


class KafkaConsumer:
    """See `base.Consumer`."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        start: Start,
        headers: bool,
        search_by_time: bool = True,
        request_s: float = REQUEST_S,
    ) -> None:
        self._watch = Watch()
        self._bootstrap = str(settings["bootstrap.servers"])
        self._group = str(settings["group.id"])
        self._start, self._headers = start, headers
        self._search_by_time = search_by_time
        self._request_s = request_s
        try:
            self._client = Consumer({**settings, **self._watch.settings()})
        except KafkaException as exception:
            raise setting(exception) from None
        self._closed = self._subscribed = False
        self._assigned: set[Part] = set()
        self._gone: set[Part] = set()  # taken away since it was last cleared
        self._topics: set[str] = set()
        self._ended: dict[Part, int] = {}  # where the end was when it was last met
        self._astray: dict[Part, int] = {}  # stand still: the offset that was to be read next is gone
        self._losses: list[DataLoss] = []
        self._evictions = 0

    @property
    def broker_down(self) -> bool:
        """Whether no broker could be reached when last polled."""
        return self._watch.down

    @property
    def assignment(self) -> list[Part]:
        """The partitions that are being read, sorted."""
        return sorted(self._assigned)

    # -- what to read --------------------------------------------------------------------------

    def subscribe(
        self,
        topics: Sequence[str],
        on_assign: OnAssign | None = None,
        on_revoke: OnRevoke | None = None,
        on_lost: OnRevoke | None = None,
    ) -> None:
        """Join the group; see `base.Consumer.subscribe`."""
        for topic in topics:
            self._partitions(topic)

        def assigned(client: Consumer, parts: list[TopicPartition]) -> None:
            added = sorted((part.topic, part.partition) for part in parts)
            chosen = dict((on_assign(added) if on_assign else None) or {})
            begin = {**self._begin([part for part in added if part not in chosen]), **chosen}
            client.incremental_assign([TopicPartition(*part, begin[part]) for part in added])
            self._assigned.update(added)

        def taken(told: OnRevoke | None) -> Any:
            def call(client: Consumer, parts: list[TopicPartition]) -> None:
                names = sorted((part.topic, part.partition) for part in parts)
                self._gone.update(names)
                try:
                    if told:
                        told(names)
                finally:
                    self._assigned.difference_update(names)
                    self._astray = {part: at for part, at in self._astray.items() if part in self._assigned}
                    client.incremental_unassign(parts)

            return call

        self._subscribed, self._topics = True, set(topics)
        self._client.subscribe(
            list(topics), on_assign=assigned, on_revoke=taken(on_revoke), on_lost=taken(on_lost or on_revoke)
        )

    def assign(self, offsets: Iterable[tuple[str, int, int]]) -> None:
        """Read exactly these, outside any group; see `base.Consumer.assign`."""
        parts = [TopicPartition(*one) for one in offsets]
        self._topics = {part.topic for part in parts}
        for topic in sorted(self._topics):
            known = self._partitions(topic)
            for part in (one for one in parts if one.topic == topic):
                if part.partition not in known:
                    raise UnknownTopic(
                        f"Reading: topic '{topic}' at {self._bootstrap} has no partition {part.partition}, "
                        f"only {len(known)}. Has it been made anew with fewer?"
                    )
        # Incremental throughout: a single partition can later be moved without fetching the others again.
        if self._assigned:
            self._client.incremental_unassign([TopicPartition(*part) for part in self._assigned])
        self._client.incremental_assign(parts)
        self._assigned = {(part.topic, part.partition) for part in parts}
        self._astray.clear()
        self._ended.clear()

    def seek(self, offsets: Mapping[Part, int]) -> None:
        """Go on at other offsets; see `base.Consumer.seek`."""
        foreign = sorted(set(offsets) - self._assigned)
        if foreign:
            raise BrokerError(f"Seeking: {foreign} is not assigned to this consumer of {self._bootstrap}.")
        for part in offsets:
            self._astray.pop(part, None)
            self._ended.pop(part, None)
        # Not librdkafka's seek: it refuses a partition that stands still because its offset was gone.
        self._client.incremental_unassign([TopicPartition(*part) for part in offsets])
        self._client.incremental_assign([TopicPartition(*part, at) for part, at in offsets.items()])

    def pause(self, parts: Iterable[Part]) -> None:
        """See `base.Consumer.pause`."""
        self._client.pause([TopicPartition(*part) for part in parts])

    def resume(self, parts: Iterable[Part]) -> None:
        """Fetch again from paused partitions."""
        self._client.resume([TopicPartition(*part) for part in parts])

    def _begin(self, parts: list[Part]) -> dict[Part, int]:
        """Where to begin where nobody says so: the committed offset, else by the start policy."""
        if not parts:
            return {}
        stored = self.committed(parts)
        begin = {part: at for part, at in stored.items() if at is not None}
        rest = [part for part in parts if part not in begin]
        if rest and self._start == "error":
            raise BrokerError(
                f"Group '{self._group}' has no committed offset for {rest} at {self._bootstrap}, and the "
                "start policy is `error`. Set `[stream] start` to `earliest` or `latest`."
            )
        # A number, not "the end": what arrives before the first fetch is to be read too.
        return begin | (self.begin_offsets(rest) if self._start == "earliest" else self.end_offsets(rest))

    # -- reading -------------------------------------------------------------------------------

    def consume(self, max_records: int, timeout_s: float) -> Batch:
        """Wait for a first record, then take what is there; see `base.Consumer.consume`."""
        try:
            messages = self._fetch(max_records, timeout_s)
        except KafkaException as exception:  # fatal, or from within a callback
            raise typed(cause(exception), f"Reading as group '{self._group}'", self._bootstrap) from None
        if any(map(Message.error, messages)):
            for one in filter(Message.error, messages):
                self._met(one)
            messages = [one for one in messages if one.error() is None]
        if not self._watch.down:  # a request would wait for its time limit
            if self._astray:
                self._skip()
            if self._watch.doubt:
                self._look()
        if messages:
            self._watch.alive()
        return Batch(  # by columns, without a step of Python a record
            topic=list(map(Message.topic, messages)),  # type: ignore[arg-type]
            partition=list(map(Message.partition, messages)),  # type: ignore[arg-type]
            offset=list(map(Message.offset, messages)),  # type: ignore[arg-type]
            timestamp_ms=[time_ms for _, time_ms in map(Message.timestamp, messages)],
            key=list(map(Message.key, messages)),
            value=list(map(Message.value, messages)),
            headers=list(map(Message.headers, messages)) if self._headers else None,  # type: ignore[arg-type]
        )

    def _fetch(self, max_records: int, timeout_s: float) -> list[Message]:
        first = self._first(timeout_s)
        if first is None or max_records <= 1:
            return [] if first is None else [first]
        self._gone.clear()
        rest = self._client.consume(max_records - 1, 0)
        if not self._gone:
            return [first, *rest]
        # Partitions went after the first was taken: it was not part of what `on_revoke` committed.
        rest = [one for one in rest if (one.topic(), one.partition()) in self._assigned]
        return rest if (first.topic(), first.partition()) in self._gone else [first, *rest]

    def _first(self, timeout_s: float) -> Message | None:
        """Wait for something other than the end of a partition."""
        give_up = time.monotonic() + timeout_s
        while True:
            first = self._client.poll(max(0.0, give_up - time.monotonic()))
            error = None if first is None else first.error()
            if first is None or error is None or error.code() != END_OF_PARTITION:
                return first
            self._met(first)

    def _met(self, message: Message) -> None:
        """Deal with an error that came in place of a record; most pass by themselves and are only counted."""
        error, topic = message.error(), message.topic()
        assert error is not None
        code = error.code()
        if code == END_OF_PARTITION:
            self._ended[str(topic), int(message.partition() or 0)] = int(message.offset() or 0)
            return
        if code in OFFSET_GONE:
            part, wanted = (str(topic), int(message.partition() or 0)), int(message.offset() or 0)
            self._astray |= {part: wanted} if part in self._assigned else {}
        elif code == EVICTED:
            self._evictions += 1
            LOG.warning("the group has dropped this member, it joins again: %s", error.str())
        elif code == GROUP_FORBIDDEN and self._group == NO_GROUP:
            LOG.debug("the client asked for a group, which it does not need: %s", error)
        elif error.fatal() or code in FORBIDDEN | REFUSED_LOGIN:
            what = f"Reading topic '{topic}'" if topic else "Reading"
            raise typed(error, f"{what} as group '{self._group}'", self._bootstrap)
        else:
            self._watch.doubt |= code in UNKNOWN
            self._watch.errors[error.name()] += 1
            LOG.info("passing error while reading: %s", error)

    def _look(self) -> None:
        """Whether the topics are still there: an answer may come from a node that has not yet heard of them."""
        self._watch.doubt = False
        for topic in sorted(self._topics):
            try:
                self._partitions(topic)
            except BrokerUnavailable:
                self._watch.doubt = True  # ask again later

    def _skip(self) -> None:
        """The broker no longer holds what was to be read next: go on with the oldest that it holds."""
        try:
            begin = self.begin_offsets(self._astray)
        except BrokerUnavailable:
            return  # they stand still; the next call tries again
        for part, wanted in self._astray.items():
            loss = DataLoss(*part, wanted, begin[part])
            self._losses.append(loss)
            LOG.error("data loss: %s[%d]: offset %d is gone, going on at %d", *loss)
        self._astray.clear()
        self.seek(begin)

    def events(self) -> Events:
        """What happened since the last call."""
        happened = Events(self._losses, dict(self._watch.errors), self._evictions)
        self._losses, self._watch.errors, self._evictions = [], Counter(), 0
        return happened

    # -- offsets -------------------------------------------------------------------------------

    def commit(self, offsets: Mapping[Part, int]) -> None:
        """Store next offsets and wait; see `base.Consumer.commit`."""
        if not offsets:
            return
        what = f"Committing offsets of group '{self._group}'"
        if self._watch.down:
            # A commit has no time limit short of the session's (45 s); a look at the group has.
            self._stored(offsets, min(1.0, self._request_s))
        try:
            done = self._client.commit(
                offsets=[TopicPartition(*part, at) for part, at in offsets.items()], asynchronous=False
            )
        except KafkaException as exception:
            raise self._watch.explain(cause(exception), what, self._bootstrap) from None
        for one in done or ():
            if one.error is not None:
                where = f"{what} on {one.topic}[{one.partition}]"
                raise self._watch.explain(one.error, where, self._bootstrap)

    def membership(self) -> object:
        """The group, this member and its generation."""
        return self._client.consumer_group_metadata()

    def committed(self, parts: Iterable[Part]) -> dict[Part, int | None]:
        """The group's next offsets."""
        return self._stored(parts, self._request_s)

    def _stored(self, parts: Iterable[Part], timeout_s: float) -> dict[Part, int | None]:
        asked = [TopicPartition(*part) for part in parts]
        if not asked:
            return {}
        what = f"Asking for the committed offsets of group '{self._group}'"
        try:
            answer = self._client.committed(asked, timeout=timeout_s)
        except KafkaException as exception:
            raise self._watch.explain(cause(exception), what, self._bootstrap) from None
        self._watch.alive()
        return {part: at if at >= 0 else None for part, at in self._told(answer, what).items()}

    def position(self) -> dict[Part, int]:
        """The next offsets of the partitions that something was consumed from, or whose end was met."""
        answer = self._client.position([TopicPartition(*part) for part in sorted(self._assigned)])
        at = {(one.topic, one.partition): one.offset for one in answer if one.offset >= 0}
        # Behind the last record there may be marks of transactions, which nobody is shown.
        return {**at, **{part: max(end, at.get(part, end)) for part, end in self._ended.items()}}

    def begin_offsets(self, parts: Iterable[Part]) -> dict[Part, int]:
        """The oldest offsets that are held."""
        return self._listed(parts, BEGINNING)

    def end_offsets(self, parts: Iterable[Part]) -> dict[Part, int]:
        """The offsets that come next."""
        return self._listed(parts, END)

    def offsets_for_time(self, parts: Iterable[Part], time_ms: int) -> dict[Part, int]:
        """The first offsets at or after a time; see `base.Consumer.offsets_for_time`."""
        if not self._search_by_time:
            raise BrokerError(f"The broker at {self._bootstrap} cannot search by time; start from an offset.")
        found = self._listed(list(parts), max(0, time_ms))
        return {**found, **self._listed([part for part, at in found.items() if at < 0], END)}

    def _listed(self, parts: Iterable[Part], time_or_end: int) -> dict[Part, int]:
        """The broker's list of offsets: the protocol keeps -1 and -2 for the end and the beginning."""
        asked = [TopicPartition(*part, time_or_end) for part in parts]
        if not asked:
            return {}
        names = sorted({part.topic for part in asked})
        what = f"Asking for the offsets of {names}"
        give_up = time.monotonic() + self._request_s
        while True:
            fault, answer = self._offsets(asked)
            if fault is None or fault.code() not in LEADER_MOVES or time.monotonic() > give_up:
                break
            # A node is back, or another leads now: what this client knows of leaders is out of date.
            time.sleep(LEADER_S)
            for name in names:
                self._partitions(name)
        if fault is not None:
            for name in names if fault.code() in UNKNOWN else ():
                self._partitions(name)  # says whether nobody answers or the topic is unknown
            raise self._watch.explain(fault, what, self._bootstrap)
        self._watch.alive()
        return self._told(answer, what)

    def _offsets(self, asked: list[TopicPartition]) -> tuple[KafkaError | None, list[TopicPartition]]:
        """One request for offsets: what went wrong with all or one of them, and the answer."""
        try:
            answer = self._client.offsets_for_times(asked, timeout=self._request_s)
        except KafkaException as exception:
            return cause(exception), []
        return next(
            (one.error for one in answer if one.error and one.error.code() in LEADER_MOVES), None
        ), answer

    def _told(self, answer: list[TopicPartition], what: str) -> dict[Part, int]:
        for one in answer:
            if one.error is not None:
                where = f"{what} ({one.topic}[{one.partition}])"
                raise self._watch.explain(one.error, where, self._bootstrap)
        return {(one.topic, one.partition): one.offset for one in answer}

    def _partitions(self, topic: str) -> set[int]:
        """The partitions of a topic, from the broker."""
        what = f"Looking for topic '{topic}'"
        give_up = time.monotonic() + HEARD_S
        while True:
            try:
                found = self._client.list_topics(topic, timeout=self._request_s).topics[topic]
            except KafkaException as exception:
                if not (self._subscribed or self._assigned):
                    self._client.poll(0)  # there can be no record yet, but perhaps a refused login to tell of
                raise self._watch.explain(cause(exception), what, self._bootstrap) from None
            if found.error is None:
                return set(found.partitions)
            if found.error.code() not in UNKNOWN or time.monotonic() > give_up:
                raise typed(found.error, what, self._bootstrap)
            time.sleep(LEADER_S)

    def close(self) -> None:
        """Leave the group and release everything."""
        if not self._closed:
            self._closed = True
            self._client.close()
            self._assigned.clear()
