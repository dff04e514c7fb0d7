"""The time up to which all has been read: of the partition that has come least far."""

import pytest
from rigs.daemon import until
from rigs.fixtures import TopicFactory, topics_on
from tocsin.detector import tide
from tocsin.detector.clocks import Clocks
from tocsin.detector.tide import Tide
from tocsin.pipelines.brokers.base import Part
from tocsin.pipelines.brokers.embedded import EmbeddedBroker

NOW_S = 1_700_000_000.0


@pytest.fixture
def topic(embedded: EmbeddedBroker, request: pytest.FixtureRequest) -> str:
    make: TopicFactory = topics_on(embedded, request.node.name)
    return make(2)


def send(broker: EmbeddedBroker, topic: str, *messages: tuple[int, float]) -> None:
    """Messages by partition and seconds from now."""
    producer = broker.producer()
    for partition, seconds in messages:
        producer.produce(topic, b"x", b"k", partition, timestamp_ms=int((NOW_S + seconds) * 1000))
    producer.flush(10)
    producer.close()


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The wall clock, which the test sets; the ends are asked for each time."""
    monkeypatch.setattr(tide, "LOOK_S", 0.0)
    return [NOW_S]


def opened(broker: EmbeddedBroker, topic: str, now: list[float], come_us: dict[Part, int]) -> Tide:
    clocks = Clocks(wall=lambda: now[0])
    starts = {(topic, 0): 0, (topic, 1): 0}
    return Tide(broker.consumer(headers=False), starts, come_us, clocks)


def after(one: Tide) -> float:
    return one.time_us() / 1e6 - NOW_S


def test_a_backlog_is_lived_again_and_the_end_is_now(
    embedded: EmbeddedBroker, topic: str, ticking: list[float]
) -> None:
    send(embedded, topic, (0, -500), (0, -400), (1, -450), (0, -300))
    one = opened(embedded, topic, ticking, {(topic, 1): int((NOW_S - 460) * 1e6)})
    times, read = [after(one)], 0
    assert times == [-NOW_S]  # nothing is known of the first
    while read < 4:
        read += one.read(1, 5.0).size
        times.append(after(one))
    assert times == sorted(times)
    assert set(times[:-1]) <= {-NOW_S, -500, -460, -450, -400}
    assert times[-1] == 0  # both are at their ends
    ticking[0] += 10
    assert after(one) == 10
    send(embedded, topic, (1, 3))
    ticking[0] += 10
    assert after(one) == 10  # something lies there that was not read
    until(lambda: one.read(1, 0.5).size, "it")
    assert after(one) == 20
    one.close()


def test_a_message_from_the_future_does_not_bring_it_nearer(
    embedded: EmbeddedBroker, topic: str, ticking: list[float]
) -> None:
    send(embedded, topic, (0, 3600), (0, -5), (1, 3600), (1, -5))
    one = opened(embedded, topic, ticking, dict.fromkeys([(topic, 0), (topic, 1)], int((NOW_S + 60) * 1e6)))
    assert after(one) == 0
    until(lambda: one.read(1, 0.5).size, "one of them")
    assert after(one) == 0
    one.close()


def test_it_stands_still_while_nobody_answers(
    embedded: EmbeddedBroker, topic: str, ticking: list[float]
) -> None:
    one = opened(embedded, topic, ticking, {})
    until(lambda: after(one) == 0, "the ends of empty partitions")
    embedded.down()
    ticking[0] += 100
    one.read(1, 2.0)
    assert after(one) == 0
    embedded.up()
    until(lambda: one.read(1, 0.2) is not None and after(one) == 100, "the broker to be back")
    one.close()
