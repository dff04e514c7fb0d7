"""The faults: each case sends all records while it does harm, and has the oracle look at what is left."""

from __future__ import annotations

import itertools
import re
import signal
import time
from collections import deque
from collections.abc import Callable

from rigs.daemon import WAIT_S, Daemon, Home, alter, until
from rigs.kafka import Rig
from tocsin.errors import BrokerUnavailable

from .abuse import abuse
from .stage import GUARANTEES, POISON, SNAPSHOTS, Guarantee, Row, Stage, timed

LEFT_OUT_S = 12.0
STORM_S, STORM_EVERY_S, GUESTS = 60.0, 2.0, 3
STALLED_S = 8.0
DOWN_S = 30.0
HOST = re.compile(rb'"host-\d+"')


def _each(case: Callable[[Stage, Guarantee], Row]) -> Callable[[Stage], list[Row]]:
    return lambda stage: [case(stage, guarantee) for guarantee in GUARANTEES]


def _fed(stage: Stage, home: Home, piece: slice) -> None:
    """Send a piece, and wait until something of it is committed and a while longer, so that a fault falls into work.

    Not at once: a broker that is killed while a transaction ends may lose its end (see `lost_markers`).
    """
    before = home.committed()
    stage.feed(home, piece)
    until(lambda: home.committed() != before, "something to be committed", every_s=0.02)
    stage.pause(1.0)


def _whole(home: Home) -> float:
    """Seconds until all that was sent is committed."""
    began = time.monotonic()

    def done() -> bool:
        ended = [daemon for daemon in home.daemons if daemon.code is not None and not daemon.forgiven]
        assert not ended, ended[-1].tail()
        try:
            return home.committed() == home.ends()
        except BrokerUnavailable:  # leaders are being chosen
            return False

    until(done, "all to be committed", WAIT_S)
    return time.monotonic() - began


def _ended(stage: Stage, guarantee: Guarantee, fault: str, how: signal.Signals, times: int) -> Row:
    home = stage.home(fault.split()[0], guarantee)
    daemon, recovery = home.start(), []
    for piece in stage.chunks(times + 1)[:-1]:
        stage.feed(home, piece)
        stage.pause(1.0)
        if how == signal.SIGKILL:
            daemon.kill()
        else:
            daemon.stop()
        daemon, seconds = timed(home.start)
        recovery.append(seconds)
    stage.feed(home, stage.chunks(times + 1)[-1])
    return stage.judged(home, fault, guarantee, times, recovery)


def kill(stage: Stage, guarantee: Guarantee) -> Row:
    """The daemon is killed at random points, of starting and restoring too."""
    return _ended(stage, guarantee, "daemon killed (-9)", signal.SIGKILL, 4 if stage.fast else 100)


def sigterm(stage: Stage, guarantee: Guarantee) -> Row:
    """The daemon is asked to end under load."""
    return _ended(stage, guarantee, "sigterm under load", signal.SIGTERM, 2 if stage.fast else 10)


def broker(stage: Stage, guarantee: Guarantee) -> Row:
    """The only broker is killed under load and comes back."""
    times = 1 if stage.fast else 5
    home, recovery = stage.home("broker", guarantee), []
    home.start()
    for piece in stage.chunks(times + 1)[:-1]:
        _fed(stage, home, piece)
        stage.rig.stop(kill=True)
        stage.pause(5.0)
        stage.rig.start()
        recovery.append(_whole(home))
    stage.feed(home, stage.chunks(times + 1)[-1])
    return stage.judged(home, "broker killed (-9)", guarantee, times, recovery)


def zombie(stage: Stage, guarantee: Guarantee) -> Row:
    """A daemon is suspended until the group has given its partitions to another, then goes on where it was."""
    times = 1 if stage.fast else 5
    home, recovery = stage.home("zombie", guarantee), []
    pair = [home.start(), home.start(live=False)]
    until(lambda: pair[1].metric("tocsin_partitions_assigned") > 0, "the partitions to be shared")
    for nth, piece in enumerate(stage.chunks(times + 1)[:-1]):
        suspended, other = pair[nth % 2], pair[(nth + 1) % 2]
        _fed(stage, home, piece)
        suspended.signal(signal.SIGSTOP)
        began = time.monotonic()
        until(lambda other=other: other.metric("tocsin_partitions_assigned") == 3, "the other to own all")
        recovery.append(time.monotonic() - began)
        time.sleep(LEFT_OUT_S / 4)
        suspended.signal(signal.SIGCONT)
        until(lambda one=suspended: one.metric("tocsin_partitions_assigned") > 0, "it to take part again")
    stage.feed(home, stage.chunks(times + 1)[-1])
    return stage.judged(home, "suspended past its session", guarantee, times, recovery)


def storm(stage: Stage, guarantee: Guarantee) -> Row:
    """Members join and leave all the time, by SIGTERM and by SIGKILL, in the midst of restoring too."""
    home = stage.home("storm", guarantee)
    home.start()
    pieces, guests, times = iter(stage.chunks(10)), deque[Daemon](), 0
    over = time.monotonic() + (15.0 if stage.fast else STORM_S)
    while time.monotonic() < over:
        if (piece := next(pieces, None)) is not None:
            stage.feed(home, piece)
        guests.append(home.start(live=False))
        time.sleep(STORM_EVERY_S)
        if len(guests) == GUESTS:
            _leave(stage, guests.popleft())
            times += 1
    for guest in guests:
        _leave(stage, guest)
    for piece in pieces:
        stage.feed(home, piece)
    return stage.judged(home, "members that come and go", guarantee, times + len(guests), [])


def _leave(stage: Stage, guest: Daemon) -> None:
    """One way or the other."""
    if stage.random.random() < 0.5:
        guest.kill()
    else:
        guest.signal(signal.SIGTERM)
        guest.forgiven = True


def stalled(stage: Stage, guarantee: Guarantee) -> Row:
    """The broker stands still for some seconds and answers all that was asked when it goes on."""
    times = 1 if stage.fast else 5
    home, recovery = stage.home("stalled", guarantee), list[float]()
    home.start()
    for piece in stage.chunks(times + 1)[:-1]:
        _fed(stage, home, piece)
        stage.rig.nodes[0].signal(signal.SIGSTOP)
        stage.pause(STALLED_S)
        stage.rig.nodes[0].signal(signal.SIGCONT)
        recovery.append(_whole(home))
    stage.feed(home, stage.chunks(times + 1)[-1])
    return stage.judged(home, "broker suspended", guarantee, times, recovery)


def _then_killed(stage: Stage, home: Home, times: int, harm: Callable[[int, slice], object]) -> list[float]:
    """Send all, do harm after each piece but the last, and kill the daemon soon after; seconds to ready each time."""
    daemon, recovery = home.start(), list[float]()
    *pieces, last = stage.chunks(times + 1)
    for nth, piece in enumerate(pieces):
        stage.feed(home, piece)
        harm(nth, piece)
        stage.pause(1.0)
        daemon.kill()
        daemon, seconds = timed(home.start)
        recovery.append(seconds)
    stage.feed(home, last)
    return recovery


def changes(stage: Stage, guarantee: Guarantee) -> Row:
    """Budgets, recalibrations and models change while records flow, and the daemon is killed after each."""
    home, times = stage.home("changes", guarantee), 4 if stage.fast else 20
    first, second = stage.versions
    said = (
        ("recalibrate", "--budget", "0.5/week per entity"),
        ("models", "promote", second),
        ("models", "promote", first),
        ("recalibrate", "--since", "start"),
    )
    recovery = _then_killed(stage, home, times, lambda nth, _: home.run(*said[nth % len(said)]))
    # Where budgets change it is they that decide what opens, not the planted list.
    fault = "changes, each with a kill (-9)"
    return stage.judged(home, fault, guarantee, times, recovery, planted=False, alone=True)


def flood(stage: Stage, guarantee: Guarantee) -> Row:
    """Messages that nobody can read come by thousands, and the daemon is killed in the midst of them."""
    # By default such a flood ends the daemon: here it is told to bear it.
    home = stage.home("flood", guarantee, {"decode": {"breaker_share": 1.0}})
    times, count = (1, 3_000) if stage.fast else (5, 50_000)

    def harm(_nth: int, _piece: slice) -> None:
        poison = itertools.islice(itertools.cycle(POISON), count)
        home.send(poison, (b"flood-%d" % number for number in range(count)))

    recovery = _then_killed(stage, home, times, harm)
    return stage.judged(home, "flood of unreadable messages", guarantee, times * count, recovery, alone=True)


def explosion(stage: Stage, guarantee: Guarantee) -> Row:
    """Entities that nobody has seen come by thousands and push all others out; the daemon is killed meanwhile."""
    home = stage.home("explosion", guarantee, {"state": {**SNAPSHOTS, "max_entities": 500}})
    times, count = (1, 5_000) if stage.fast else (5, 200_000)

    def harm(nth: int, piece: slice) -> None:
        last = next(value for value in reversed(stage.sent.values[piece]) if value not in POISON)
        names = [b"new-%07d" % (nth * count + number) for number in range(count)]
        home.send((HOST.sub(b'"%s"' % name, last) for name in names), names)

    recovery = _then_killed(stage, home, times, harm)
    # An entity that was pushed out begins anew: what is planted soon after opens nothing.
    fault = "explosion of entities"
    return stage.judged(home, fault, guarantee, times * count, recovery, planted=False, alone=True)


def abused(stage: Stage, guarantee: Guarantee) -> Row:
    """Its HTTP server is asked for everything at once, by clients that are slow, large, and not let in."""
    home = stage.home("abused", guarantee)
    daemon = home.start()
    with abuse(daemon.url) as count:
        for piece in stage.chunks(10):
            stage.feed(home, piece)
            stage.pause(2.0)
        home.caught_up(WAIT_S)
    return stage.judged(home, "HTTP abused (requests)", guarantee, count(), [])


def node(stage: Stage, guarantee: Guarantee) -> Row:
    """Of three nodes one after the other is killed under load and comes back."""
    times = 1 if stage.fast else 6
    with Rig(stage.folder / f"three-{next(stage.numbers)}", nodes=3) as rig:
        three = stage.on(rig)
        home, recovery = three.home("node", guarantee), list[float]()
        home.start()
        for nth, piece in enumerate(three.chunks(times + 1)[:-1]):
            _fed(three, home, piece)
            rig.nodes[nth % 3].stop(kill=True)
            recovery.append(_whole(home))
            rig.start()
        three.feed(home, three.chunks(times + 1)[-1])
        return three.judged(home, "one node of three killed (-9)", guarantee, times, recovery)


def cluster(stage: Stage, guarantee: Guarantee) -> Row:
    """All three nodes are killed under load, for half a minute."""
    with Rig(stage.folder / f"three-{next(stage.numbers)}", nodes=3) as rig:
        three = stage.on(rig)
        home = three.home("cluster", guarantee)
        home.start()
        first, last = three.chunks(2)
        _fed(three, home, first)
        rig.stop(kill=True)
        time.sleep(DOWN_S)
        rig.start()
        recovery = [_whole(home)]
        three.feed(home, last)
        return three.judged(home, "three nodes of three killed (-9)", guarantee, 1, recovery)


def refused(stage: Stage, guarantee: Guarantee) -> Row:
    """The alert topic takes no message for a while; who runs ends, and is started again and again."""
    times = 1 if stage.fast else 5
    home, recovery = stage.home("refused", guarantee), list[float]()
    for piece in stage.chunks(times + 1)[:-1]:
        alter(home, "alerts", "max.message.bytes", "64")
        stage.feed(home, piece)
        daemon = home.start(live=False)
        assert daemon.end(WAIT_S) == 1, daemon.tail()
        alter(home, "alerts", "max.message.bytes", "1048588")
        daemon, seconds = timed(home.start)
        recovery.append(seconds)
        home.caught_up(WAIT_S)
        daemon.stop()
    stage.feed(home, stage.chunks(times + 1)[-1])
    home.start()
    return stage.judged(home, "alert topic refuses", guarantee, times, recovery)


CASES: dict[str, Callable[[Stage], list[Row]]] = {
    "kill": _each(kill),
    "sigterm": _each(sigterm),
    "broker": _each(broker),
    "node": _each(node),
    "cluster": _each(cluster),
    "refused": _each(refused),
    "stalled": _each(stalled),
    "changes": _each(changes),
    "flood": _each(flood),
    "explosion": _each(explosion),
    "abused": _each(abused),
    "zombie": _each(zombie),
    "storm": _each(storm),
}
