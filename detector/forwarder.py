"""`tocsin alerts forward`: from the alert topic to an Alertmanager or a webhook, each alert until it is accepted.

One loop: consume, post, commit. An offset is committed only once the target has taken (or refused for good) what
lies before it, so a crash repeats and never loses. While the target does not answer nothing more is read, but the
consumer is asked on, which keeps its place in the group.

Which incidents are open is no state of its own: it is read anew, from what the topic still holds before the
committed offset, whenever a partition comes.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from ..errors import BrokerUnavailable, DataError, NewerSchema
from ..pipelines.brokers.base import Batch, Broker, CommitRefused, Consumer, Part, Start
from ..pipelines.collect import Span, read
from .clocks import Clocks
from .forward_payload import Envelope, Rules, alertmanager_body, decode
from .forward_target import Answer, Target, Verdict, pause_s, post
from .stopping import Stopping

log = logging.getLogger(__name__)

BATCH = 100
"""Messages read at once, and alerts told to an Alertmanager in one request."""
WAIT_S = 0.5
GRACE_S = 3.0
"""From a stop to the moment when a request that is under way is given up; what it told will be told again."""


class Told(NamedTuple):
    """A message of the alert topic; in the place of an alert why it is none that can be forwarded."""

    part: Part
    offset: int
    value: bytes
    alert: Envelope | DataError


class Plan(NamedTuple):
    """What to forward, and how."""

    topics: tuple[str, ...]
    group: str
    start: Start
    rules: Rules | None
    """For an Alertmanager; None for a webhook."""
    resend_s: float


class Forwarder:
    """One member of a consumer group that posts alerts. `run` belongs to one thread."""

    def __init__(
        self,
        broker: Broker,
        plan: Plan,
        target: Target,
        stopping: Stopping,
        clocks: Clocks | None = None,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self.counts = Counter(accepted=0, refused=0, unreadable=0, expected=0, resent=0)
        self._broker, self._plan, self._target = broker, plan, target
        self._stopping, self._clocks, self._luck = stopping, clocks or Clocks(), luck
        self._consumer: Consumer = broker.consumer(plan.group, start=plan.start, headers=False)
        self._waiting: deque[Told] = deque()
        self._paused: set[Part] = set()
        self._active: dict[str, Told] = {}  # the newest word of every open incident
        self._new: dict[Part, int] = {}  # have come, and begin there; what is open in them is not yet known
        self._done: dict[Part, int] = {}  # next offsets that are not yet committed
        self._failures = 0
        self._not_before = self._resend_at = self._clocks.monotonic()

    def run(self) -> None:
        """Forward until a stop is asked for; then commit and leave the group.

        Raises:
            BrokerError: the topic does not exist or may not be read, or nobody answers at the start.
            NewerSchema: an alert needs a newer tocsin. All before it are forwarded; the next start begins with it.
        """
        plan, shown = self._plan, self._target.shown
        try:
            self._consumer.subscribe(plan.topics, self._assigned, self._gone)
            log.info(
                "forwarding alerts",
                extra={"topics": ", ".join(plan.topics), "group": plan.group, "target": shown},
            )
            while not self._stopping.asked():
                self._turn()
        finally:
            self._commit()
            self._consumer.close()
            log.info("stopped forwarding", extra=dict(self.counts))

    def _turn(self) -> None:
        self._hold_back()
        self._take(self._consumer.consume(BATCH, self._idle_s()))
        if self._new:
            self._recall()
        self._commit()
        now = self._clocks.monotonic()
        if now < self._not_before:
            return
        if self._plan.rules is not None and now >= self._resend_at:
            self._resend()
        elif self._waiting:
            self._forward()
        self._commit()

    def _idle_s(self) -> float:
        """How long to wait for messages: until something is to be done."""
        now = self._clocks.monotonic()
        if now < self._not_before:
            return min(WAIT_S, self._not_before - now)
        if self._waiting:
            return 0.0
        return min(WAIT_S, max(0.0, self._resend_at - now)) if self._plan.rules else WAIT_S

    def _hold_back(self) -> None:
        """Read nothing more while something waits."""
        wanted = set(self._consumer.assignment) if self._waiting else set()
        # Only what changes: each call drops what was fetched ahead.
        if wanted - self._paused:
            self._consumer.pause(wanted - self._paused)
        if self._paused - wanted:
            self._consumer.resume(self._paused - wanted)
        self._paused = wanted

    def _take(self, batch: Batch) -> None:
        self._waiting.extend(_told(batch))

    # -- partitions ----------------------------------------------------------------------------

    def _assigned(self, parts: Sequence[Part]) -> Mapping[Part, int]:
        consumer = self._consumer
        stored = consumer.committed(parts)
        fresh = [part for part, at in stored.items() if at is None]
        first = (
            consumer.begin_offsets(fresh) if self._plan.start == "earliest" else consumer.end_offsets(fresh)
        )
        begin = {part: first[part] if at is None else at for part, at in stored.items()}
        self._new |= begin
        # Where a group begins is committed at once: one that begins at the end would, after a crash, begin at a later
        # end and pass over what came between.
        self._done |= {part: begin[part] for part in fresh}
        return begin

    def _gone(self, parts: Sequence[Part]) -> None:
        lost = set(parts)
        self._waiting = deque(one for one in self._waiting if one.part not in lost)
        self._active = {name: one for name, one in self._active.items() if one.part not in lost}
        self._paused -= lost
        for known in (self._new, self._done):
            for part in lost & known.keys():
                del known[part]

    def _recall(self) -> None:
        """Learn which incidents were open where the partitions that have come begin."""
        new, self._new = self._new, {}
        if self._plan.rules is None:
            return
        consumer = self._broker.consumer(headers=False)
        try:
            begin = consumer.begin_offsets(new)
            spans = [Span(part, begin[part], end) for part, end in new.items() if begin[part] < end]
            for one in itertools.chain.from_iterable(map(_told, read(consumer, spans))):
                if isinstance(one.alert, NewerSchema):
                    raise one.alert
                self._remember(one)
        finally:
            consumer.close()
        if self._active:
            log.info("incidents are open from before", extra={"open": len(self._active)})
        self._resend_at = self._clocks.monotonic()

    def _remember(self, one: Told) -> None:
        if isinstance(one.alert, DataError) or one.alert.expected:
            return
        if one.alert.resolved:
            self._active.pop(one.alert.identity[1], None)
        else:
            self._active[one.alert.identity[1]] = one

    # -- posting -------------------------------------------------------------------------------

    def _forward(self) -> None:
        """Post the next of what waits, several at once to an Alertmanager."""
        head = self._waiting[0]
        if isinstance(head.alert, NewerSchema):
            raise head.alert
        if isinstance(head.alert, DataError):
            self.counts["unreadable"] += 1
            log.error(f"passed over, for it is no alert: {head.alert}")
            self._settle(head)
            return
        if head.alert.expected:
            self.counts["expected"] += 1
            log.info("not forwarded, for it is expected", extra=_named(head))
            self._settle(head)
            return
        most = BATCH if self._plan.rules else 1
        ahead = itertools.islice(self._waiting, most)
        together = list(itertools.takewhile(_goes_out, ahead))
        for one, answer in self._offered(together):
            if self._accepted(one, answer):
                self.counts["accepted"] += 1
                self._remember(one)
                log.info("forwarded", extra=_named(one))
            self._settle(one)

    def _settle(self, one: Told) -> None:
        """The head of what waits is done with."""
        self._waiting.popleft()
        self._done[one.part] = one.offset + 1

    def _resend(self) -> None:
        """Tell of every open incident again, or the target would in time take it as over."""
        known, done = list(self._active.values()), 0
        for first in range(0, len(known), BATCH):
            for one, answer in self._offered(known[first : first + BATCH]):
                done += 1
                if self._accepted(one, answer):
                    self.counts["resent"] += 1
                elif isinstance(one.alert, Envelope):
                    del self._active[one.alert.identity[1]]
            if done < min(first + BATCH, len(known)):
                return
        self._resend_at = self._clocks.monotonic() + self._plan.resend_s

    def _offered(self, group: Sequence[Told]) -> Iterator[tuple[Told, Answer]]:
        """Post together and, where that is refused, one by one to find which; ends where the target cannot decide."""
        answer = self._post(group)
        if not self._decided(answer):
            return
        if answer.verdict is Verdict.ACCEPTED or len(group) == 1:
            yield from ((one, answer) for one in group)
            return
        for one in group:
            answer = self._post([one])
            if not self._decided(answer):
                return
            yield one, answer

    def _accepted(self, one: Told, answer: Answer) -> bool:
        assert isinstance(one.alert, Envelope)
        if answer.verdict is Verdict.ACCEPTED:
            return True
        self.counts["refused"] += 1
        # The id in the text, not beside it: repeats of one text are rationed, and each of these is to be seen.
        log.error(
            f"the target refuses the alert {one.alert.identity[1]}, it is not sent again: {answer.why}",
            extra={"topic": one.part[0], "partition": one.part[1], "offset": one.offset},
        )
        return False

    def _decided(self, answer: Answer) -> bool:
        """Whether the target has said yes or no; else it is left alone for a while."""
        if answer.verdict is not Verdict.AGAIN:
            if self._failures:
                log.info("the target takes alerts again", extra={"failures": self._failures})
            self._failures = 0
            return True
        self._failures += 1
        wait = max(pause_s(self._failures, self._luck()), answer.wait_s)
        self._not_before = self._clocks.monotonic() + wait
        log.warning(
            "the target does not take alerts; they are kept and tried again until it does",
            extra={
                "target": self._target.shown,
                "why": answer.why,
                "failures": self._failures,
                "again_in_s": round(wait, 1),
            },
        )
        return False

    def _post(self, group: Sequence[Told]) -> Answer:
        """One request, in a thread of its own: neither a name server nor a trickling answer may hold the loop."""
        body = group[0].value
        if self._plan.rules is not None:
            alerts = [one.alert for one in group if isinstance(one.alert, Envelope)]
            body = alertmanager_body(alerts, int(self._clocks.wall() * 1e6), self._plan.rules)
        future: Future[Answer] = Future()
        threading.Thread(target=_into, args=(future, self._target, body), name="post", daemon=True).start()
        give_up = self._clocks.monotonic() + self._target.timeout_s
        while self._clocks.monotonic() < give_up and self._stopping.left(GRACE_S) > 0:
            try:
                return future.result(0.05)
            except TimeoutError:
                continue
        return Answer(Verdict.AGAIN, f"no answer within {self._target.timeout_s:g} s")

    def _commit(self) -> None:
        """Write down what is done with. What cannot be written now is tried again at the next turn."""
        if not self._done:
            return
        try:
            self._consumer.commit(self._done)
        except CommitRefused as fault:
            log.warning(
                "another member takes over, and repeats what was not committed", extra={"why": str(fault)}
            )
        except BrokerUnavailable as fault:
            log.warning("offsets are not committed yet", extra={"why": str(fault)})
            return
        self._done = {}


def _told(batch: Batch) -> Iterator[Told]:
    rows = zip(batch.topic, batch.partition, batch.offset, batch.value, strict=True)
    for topic, number, offset, value in rows:
        alert: Envelope | DataError
        try:
            alert = decode(value, f"the alert {topic}[{number}] at offset {offset}")
        except DataError as fault:
            alert = fault
        yield Told((topic, number), offset, value or b"", alert)


def _goes_out(one: Told) -> bool:
    return isinstance(one.alert, Envelope) and not one.alert.expected


def _named(one: Told) -> dict[str, str]:
    alert = one.alert
    return dict([alert.identity], status=alert.status) if isinstance(alert, Envelope) else {}


def _into(future: Future[Answer], target: Target, body: bytes) -> None:
    try:
        future.set_result(post(target, body))
    except BaseException as bug:
        future.set_exception(bug)  # raised where the answer is awaited
