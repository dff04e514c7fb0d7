"""`guarantee = "exactly_once"` on a real Kafka: killed, fenced and stopped, and each thing is there once.

One timeline is played once; the tests look at what it left behind.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from rigs.daemon import Daemon, Home, Message, assert_same, replayed, scored, until
from telemetry import keys, messages

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

POISON = b"{not json"
RECORDS = 9000


class Told(NamedTuple):
    """The timeline's end."""

    home: Home
    scores: list[Message]
    alerts: list[Message]
    letters: list[Message]
    replayed: dict[tuple[int, int], dict[str, Any]]
    incidents: list[dict[str, Any]]
    given_up: float
    aborted: int
    """Records of the scores topic that were written and are not to be seen."""


def in_the_midst(home: Home, values: list[bytes], names: list[bytes]) -> None:
    """Send records, wait until some of them are committed, and for a random while."""
    before = home.committed()
    home.send(values, names)
    until(lambda: home.committed() != before, "a part to be committed", every_s=0.01)
    time.sleep(random.uniform(0, 0.4))


def suspended_in_the_midst(
    home: Home, daemon: Daemon, first: int, values: list[bytes], names: list[bytes]
) -> int:
    """Send records from `first` on until the daemon is caught, and suspended, with scores that are not committed."""
    parts, readers = home.parts("scores"), [home.broker.consumer(uncommitted=one) for one in (True, False)]

    def under_way() -> bool:
        return readers[0].end_offsets(parts) != readers[1].end_offsets(parts)

    for at in range(first, RECORDS - 500, 100):
        home.send(values[at : at + 100], names[at : at + 100])
        until(under_way, "a transaction under way", every_s=0.005)
        daemon.signal(signal.SIGSTOP)
        if under_way():
            for reader in readers:
                reader.close()
            return at + 100
        daemon.signal(signal.SIGCONT)
    pytest.fail("it was never caught in the midst of a transaction")


@pytest.fixture(scope="module")
def told(make_home: Callable[..., Home], trained: Any) -> Told:
    home = make_home("once")
    stream = home.stream(guarantee="exactly_once", transactional_id=home.topic("daemon"))
    # Rarely committed, so that there is something to give up whenever it ends.
    home.write(stream, state={"commit_every": "2s", "snapshot_every": "1s"})
    home.make_topics()
    values, names = messages(trained.live)[:RECORDS], keys(trained.live)[:RECORDS]
    for at in range(500, RECORDS, 1000):
        values[at] = POISON
    third = RECORDS // 3
    daemon = home.start()
    in_the_midst(home, values[:third], names[:third])
    daemon.kill()
    daemon = home.start()
    in_the_midst(home, values[third : 2 * third], names[third : 2 * third])
    sent = suspended_in_the_midst(home, daemon, 2 * third, values, names)
    home.broker.transactions(
        home.topic("daemon")
    ).close()  # as the broker does when a transaction takes too long
    daemon.signal(signal.SIGCONT)
    home.send(values[sent:], names[sent:])
    home.caught_up()
    given_up = daemon.metric("tocsin_transactions_given_up_total")
    assert daemon.get("/-/ready")[0] == 200
    daemon.stop()
    return Told(
        home,
        *(home.read(role) for role in ("scores", "alerts", "dead_letter")),
        *replayed(home),
        given_up,
        unseen(home),
    )


def unseen(home: Home) -> int:
    whole = home.broker.consumer(uncommitted=True)
    ends = whole.end_offsets(home.parts("scores"))
    whole.assign([(*part, 0) for part in ends])
    found = 0
    while any(whole.position().get(part, -1) < end for part, end in ends.items() if end):
        found += whole.consume(10_000, 0.2).size
    whole.close()
    return found - len(home.read("scores"))


def test_every_record_is_scored_once_as_by_a_replay(told: Told) -> None:
    places = Counter((m.json()["partition"], m.json()["offset"]) for m in told.scores)
    assert set(places.values()) == {1}
    assert_same(scored(told.scores), told.replayed)
    assert len(places) + len(told.letters) == sum(told.home.ends().values())


def test_every_alert_is_there_once(told: Told) -> None:
    found = Counter(message.header("ce_id") for message in told.alerts)
    assert set(found.values()) == {1}
    assert len(found) > 20
    assert {(m.json()["alert_id"], m.json()["status"]) for m in told.alerts} == {
        (a["alert_id"], a["status"]) for a in told.incidents
    }


def test_every_dead_letter_is_there_once(told: Told) -> None:
    found = Counter(message.header("tocsin.error.offset") for message in told.letters)
    places = Counter(
        (m.header("tocsin.error.partition"), m.header("tocsin.error.offset")) for m in told.letters
    )
    assert sum(found.values()) == RECORDS // 1000
    assert set(places.values()) == {1}


def test_a_transaction_was_given_up_without_a_restart(told: Told) -> None:
    assert told.given_up == 1
    assert told.aborted > 0
