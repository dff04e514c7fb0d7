"""Records sent on keyed by entity: each once in peace, none lost in a crash, by one daemon at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import MagicMock

import msgspec
import numpy as np
import pytest
from rigs.daemon import until
from rigs.fixtures import TopicFactory
from tocsin.detector import rekeying
from tocsin.detector.clocks import Clocks
from tocsin.detector.learning import from_topics
from tocsin.detector.rekeying import Rekeyer
from tocsin.detector.settings import Decode, Stream
from tocsin.detector.stopping import Stopping
from tocsin.errors import DeliveryFailed, UnknownTopic
from tocsin.pipelines.brokers import Broker
from tocsin.pipelines.brokers.base import Batch, CommitRefused, Events, StillWaiting

T = 1_700_000_000_000
HOSTS = ("a", "b", "c", "d")


class Stage:
    """A stream whose three input partitions lie as a random key leaves them, and daemons that rekey it."""

    def __init__(self, broker: Broker, topic: TopicFactory) -> None:
        self.broker = broker
        name = topic(3)
        self.stream = Stream(
            name="s",
            topics=(name,),
            entity="host",
            time="ts",
            rekey=True,
            rekeyed=topic(2),
            group_id=f"g.{name}",
        )
        self.ledger = MagicMock()

    def send(self, first: int, last: int) -> None:
        producer = self.broker.producer()
        for i in range(first, last):
            content = {"ts": T + 1000 * i, "host": HOSTS[i % 4], "cpu": i}
            producer.produce(
                self.stream.topics[0],
                json.dumps(content).encode(),
                b"%08x" % (i * 2654435761 % 2**32),
                partition=i * 7 % 3,
                headers=[("n", b"%d" % i)],
                timestamp_ms=T + 1000 * i,
            )
        producer.flush(30)
        producer.close()

    @contextmanager
    def rekeyer(self) -> Iterator[Rekeyer]:
        stopping = Stopping(time.monotonic)
        one = Rekeyer(self.broker, self.stream, Decode(), self.ledger, Clocks(), stopping, 1.0)
        one.thread.start()
        try:
            yield one
        finally:
            stopping.ask()
            one.stop()
            assert not one.thread.is_alive()
            one.check()

    def read(self) -> Batch:
        """All that was sent on."""
        consumer = self.broker.consumer()
        parts = [(self.stream.rekeyed, p) for p in range(2)]
        ends = consumer.end_offsets(parts)
        consumer.assign([(*part, 0) for part in parts])
        found = Batch([], [], [], [], [], [], [])
        while len(found.offset) < sum(ends.values()):
            for column, more in zip(found, consumer.consume(1000, 0.2), strict=True):
                column.extend(more or [])  # type: ignore[union-attr]
        consumer.close()
        return found

    def numbers(self) -> list[int]:
        return [json.loads(value or b"{}")["cpu"] for value in self.read().value]

    def committed(self) -> int:
        parts = [(self.stream.topics[0], p) for p in range(3)]
        found = self.broker.committed(self.stream.rekey_group, parts)
        return sum(offset or 0 for offset in found.values())


@pytest.fixture
def stage(broker: Broker, topic: TopicFactory) -> Stage:
    return Stage(broker, topic)


def test_scattered_records_come_once_keyed_in_order_and_untouched(stage: Stage) -> None:
    stage.send(0, 900)
    with stage.rekeyer() as one:
        until(lambda: stage.committed() == 900, "all to be committed")
        caught_up = {"topic": stage.stream.rekeyed, "reading": True, "behind": 0}
        until(lambda: one.report() == caught_up, "the count, which follows the commit")
        stage.send(900, 1000)
        until(lambda: len(stage.read().offset) == 1000, "what came later")
    assert stage.committed() == 1000  # by the end, which settles
    found = stage.read()
    homes: dict[str, set[int]] = {}
    numbers: dict[str, list[int]] = {}
    for row in range(found.size):
        content = json.loads(found.value[row] or b"")
        assert found.key[row] == content["host"].encode()
        assert found.timestamp_ms[row] == content["ts"]
        assert found.headers is not None
        assert list(found.headers[row] or ()) == [("n", b"%d" % content["cpu"])]
        homes.setdefault(content["host"], set()).add(found.partition[row])
        numbers.setdefault(content["host"], []).append(content["cpu"])
    assert all(len(parts) == 1 for parts in homes.values())
    # The 900 lay there and were merged; what arrives is sent on as it arrives.
    assert all(
        [n for n in mine if n < 900] == list(range(i, 900, 4))
        for i, mine in enumerate(numbers[h] for h in HOSTS)
    )
    assert sorted(n for mine in numbers.values() for n in mine) == list(range(1000))


def test_the_next_goes_on_where_the_last_one_committed(stage: Stage) -> None:
    stage.send(0, 300)
    with stage.rekeyer():
        until(lambda: stage.committed() == 300, "the first")
    stage.send(300, 400)
    with stage.rekeyer():
        until(lambda: stage.committed() == 400, "the second")
    assert sorted(stage.numbers()) == list(range(400))


@pytest.mark.kafka
def test_one_daemon_rekeys_and_another_takes_over(kafka_broker: Broker, kafka_topic: TopicFactory) -> None:
    stage = Stage(kafka_broker, kafka_topic)
    stage.send(0, 300)
    with stage.rekeyer() as second:
        until(lambda: second.report()["reading"], "the first alone")
        with stage.rekeyer() as first:
            until(lambda: stage.committed() == 300, "the first records")
            stage.send(300, 600)
            until(lambda: stage.committed() == 600, "more of them")
            assert first.report()["reading"] != second.report()["reading"]
        until(lambda: second.report()["reading"], "the one that stays")
        stage.send(600, 700)
        until(lambda: stage.committed() == 700, "the last ones")
    assert sorted(stage.numbers()) == list(range(700))


@pytest.mark.kafka
def test_new_partitions_are_read_from_their_beginning(
    kafka_broker: Broker, kafka_topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rekeying, "LOOK_S", 0.5)
    stage = Stage(kafka_broker, kafka_topic)
    stage.send(0, 30)
    with stage.rekeyer():
        until(lambda: stage.committed() == 30, "the old partitions")
        admin = kafka_broker.admin()
        admin.grow(stage.stream.topics[0], 4)
        admin.close()
        producer = kafka_broker.producer()
        producer.produce(stage.stream.topics[0], b'{"host": "a", "cpu": 30}', partition=3)
        producer.flush(30)
        until(lambda: sorted(stage.numbers()) == list(range(31)), "the new one")


class Fake:
    """A rekeyer on fakes: one partition with messages 0 to 4, and a producer that may owe acknowledgements."""

    def __init__(self, *values: bytes | None) -> None:
        self.broker = MagicMock()
        self.seat, reading = MagicMock(), MagicMock()
        self.broker.consumer.side_effect = lambda group=None, **_: self.seat if group else reading
        self.seat.assignment = [("t", 0)]
        self.seat.committed.return_value = {("t", 0): None}
        reading.position.return_value = {}
        reading.begin_offsets.return_value = {("t", 0): 0}
        reading.end_offsets.return_value = {("t", 0): len(values)}
        reading.events.return_value = Events([], {}, 0)
        n = len(values)
        batches = iter([Batch(["t"] * n, [0] * n, list(range(n)), [T] * n, [b"k"] * n, list(values), None)])
        reading.consume.side_effect = lambda *_: next(batches, Batch([], [], [], [], [], [], None))
        self.broker.admin.return_value.topics.return_value = {"t": MagicMock(partitions=1)}
        self.producer = self.broker.producer.return_value
        self.producer.waiting = 0
        self.stopping = Stopping(lambda: 0.0)
        stream = Stream(name="s", topics=("t",), entity="host", rekey=True)
        clock: Callable[[], float] = iter(range(10**6)).__next__
        self.one = Rekeyer(
            self.broker, stream, Decode(), MagicMock(), Clocks(monotonic=clock), self.stopping, 1.0
        )

    def turn(self, times: int = 3) -> None:
        for _ in range(times):
            self.one._turn()

    def sent(self) -> list[tuple[bytes | None, bytes | None]]:
        return [(call.args[2], call.args[1]) for call in self.producer.produce.call_args_list]


@pytest.fixture
def fake() -> Fake:
    return Fake(b'{"host": "a"}', b'{"host": "b"}')


def test_offsets_are_committed_only_after_what_they_stand_for_is_acknowledged(fake: Fake) -> None:
    fake.producer.flush.side_effect = StillWaiting("the leader is away")
    fake.turn()
    assert fake.sent() == [(b"a", b'{"host": "a"}'), (b"b", b'{"host": "b"}')]
    fake.seat.commit.assert_not_called()
    fake.one._revoked([("t", 0)])  # not even where the partitions go to another
    fake.seat.commit.assert_not_called()


def test_nothing_more_is_read_while_too_much_waits_for_its_acknowledgement(fake: Fake) -> None:
    fake.producer.waiting = rekeying.MOST_WAITING
    fake.turn()
    fake.producer.produce.assert_not_called()
    fake.producer.waiting = rekeying.MOST_WAITING - 1
    fake.turn()
    fake.producer.produce.assert_called()


def test_what_was_acknowledged_is_committed_and_what_was_refused_ends_it(fake: Fake) -> None:
    fake.turn()
    fake.seat.commit.assert_called_with({("t", 0): 2})
    fake.producer.flush.side_effect = DeliveryFailed("too large")
    fake.one._input.next_offsets[("t", 0)] = 3  # type: ignore[union-attr]
    with pytest.raises(DeliveryFailed):
        fake.turn()


def test_after_a_failure_nothing_more_is_committed(fake: Fake) -> None:
    """The second message of a batch is not taken: leaving the group must not commit what was read."""
    fake.producer.produce.side_effect = [None, DeliveryFailed("too large")]
    fake.seat.close.side_effect = lambda: fake.one._revoked([("t", 0)])
    fake.one._guarded()
    assert len(fake.sent()) == 2
    fake.seat.commit.assert_not_called()
    with pytest.raises(DeliveryFailed):
        fake.one.check()


def test_a_commit_that_is_refused_is_tried_again(fake: Fake) -> None:
    fake.seat.commit.side_effect = [CommitRefused("rebalance"), None]
    fake.turn()
    fake.turn()
    assert [call.args for call in fake.seat.commit.call_args_list] == [({("t", 0): 2},)] * 2


def test_lost_partitions_are_left_without_a_commit(fake: Fake) -> None:
    fake.turn(2)
    fake.seat.commit.reset_mock()
    fake.one._lost([("t", 0)])
    fake.seat.commit.assert_not_called()
    assert fake.one.report()["reading"] is False


def test_what_names_no_entity_goes_on_as_it_came() -> None:
    values = [
        b"{",
        None,
        b'{"cpu": 1}',
        b'{"host": " "}',
        b'{"host": "\\ud800"}',
        b'{"host": true}',
        b'{"host": 7}',
    ]
    fake = Fake(*values)
    fake.turn()
    assert fake.sent() == [(b"k", value) for value in values[:6]] + [(b"7", values[6])]


def test_a_training_before_anything_was_sent_on_reads_the_input_as_it_will_be(
    broker: Broker, topic: TopicFactory
) -> None:
    stage = Stage(broker, topic)
    stage.send(0, 900)
    stream = msgspec.structs.replace(stage.stream, features=("cpu",))
    before = from_topics(broker, stream, Decode(), None, T + 800_000)
    with stage.rekeyer():
        until(lambda: stage.committed() == 900, "all to be committed")
    after = from_topics(broker, stream, Decode(), None, T + 800_000)
    assert before.counts == after.counts
    assert [one.entity for one in before.series] == list(HOSTS)
    for one, other in zip(before.series, after.series, strict=True):
        assert one.entity == other.entity
        np.testing.assert_array_equal(one.time_us, other.time_us)
        np.testing.assert_array_equal(one.values, other.values)
    assert before.counts.read == 800
    assert before.counts.late + before.counts.out_of_order == 0


def test_a_training_on_a_topic_that_is_not_there_says_so(broker: Broker, topic: TopicFactory) -> None:
    stage = Stage(broker, topic)
    for rekey in (False, True):
        stream = msgspec.structs.replace(
            stage.stream, topics=("nowhere",), rekeyed="nowhere.rekeyed", rekey=rekey
        )
        with pytest.raises(UnknownTopic, match="'nowhere' does not exist"):
            from_topics(broker, stream, Decode(), None, None)


def test_a_training_on_an_input_that_holds_nothing_finds_nothing(broker: Broker, topic: TopicFactory) -> None:
    stage = Stage(broker, topic)
    found = from_topics(
        broker, msgspec.structs.replace(stage.stream, features=("cpu",)), Decode(), None, None
    )
    assert (found.series, found.counts.read) == ([], 0)
