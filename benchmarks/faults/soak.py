"""An hour at half load with random faults: whether memory, descriptors and threads stay, and nothing is lost.

    python -m benchmarks.faults.soak --out build/soak.json [--minutes 60] [--seed N] [--guarantee G] [--record]

Daemons are disturbed in the first quarter only, so that the rest is one process. Exits 1 where a bar is not met.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from confluent_kafka import Producer
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from rigs.daemon import Daemon, Home
from rigs.kafka import Rig, missing

from .. import report
from ..report import Bar, at_most, say
from .abuse import abuse
from .oracle import Planted, Verdict, judge
from .stage import GUARANTEES, SESSION_MS, Crowd, Guarantee, Stage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "soak.md"
MARK = "<!-- what follows is written by `make soak` -->\n"
CROWD = Crowd(entities=200, every=2_000, turns=4)
BROKER_KILLED = "broker killed (-9)"
COMPRESSION = "lz4"
"""Of records and scores: an hour of them is tens of gigabytes."""
TICK_S, SAMPLE_S, SCRAPES = 0.01, 2.0, 7
"""How often records are sent and the process is looked at; every so many looks it is scraped, too."""
SHAKEN, LOOKED_AT = 0.2, 0.25
"""The share of the time in which daemons are disturbed, and from which on the last one's memory is looked at."""
OFTEN_S, SELDOM_S = (20.0, 60.0), (90.0, 240.0)
"""From one fault to the next, in that time and after it."""
STALL_S, AWAY_S, ABUSE_S = 8.0, 5.0, 10.0
MIB = 1 << 20
SLOPE_MIB_H = 4.0
BLOCK, RESAMPLES = 5, 2_000
"""Minutes of a block, and how often blocks are drawn anew."""


class Look(NamedTuple):
    """A process at one moment."""

    at_s: float
    rss: int
    descriptors: int
    threads: int


class Slope(NamedTuple):
    """A line through the medians of minutes: MiB an hour, with a 95 % interval."""

    middle: float
    low: float
    high: float


def slope(at_s: Sequence[float], size: Sequence[float], seed: int) -> Slope:
    """The least-squares slope of bytes over seconds, one median a minute; the interval by moving blocks of residuals.

    Raises ValueError where it spans less than two blocks.
    """
    minute = (np.asarray(at_s) - at_s[0]) // 60
    x = np.unique(minute)
    y = np.array([np.median(np.asarray(size, np.float64)[minute == one]) for one in x]) / MIB
    if len(x) < 2 * BLOCK:
        raise ValueError(f"{len(x)} minutes are no {2 * BLOCK}")
    hours = x / 60

    def fitted(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.polyfit(hours, values, 1)

    line = fitted(y)
    left = y - np.polyval(line, hours)
    rng, found = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        begin = rng.integers(0, len(x) - BLOCK + 1, -(-len(x) // BLOCK))
        drawn = np.concatenate([left[first : first + BLOCK] for first in begin])[: len(x)]
        found.append(fitted(np.polyval(line, hours) + drawn)[0])
    low, high = np.percentile(found, [2.5, 97.5])
    return Slope(float(line[0]), float(low), float(high))


class Sender:
    """Sends stretches of records at a pace, from the second on, in a thread of its own."""

    def __init__(self, stage: Stage, topic: str, records_per_s: float) -> None:
        self.planted: list[Planted] = []
        self.records = 0
        self._stage, self._topic, self._pace = stage, topic, records_per_s
        self._over = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Send the stretch that was begun to its end, and wait until all of it is acknowledged."""
        self._over.set()
        self._thread.join()
        if self._fault is not None:
            raise self._fault

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as fault:  # for whoever waits for the end
            self._fault = fault

    def _run(self) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self._stage.rig.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                "compression.type": COMPRESSION,
                "queue.buffering.max.messages": 2_000_000,
                "log_level": 0,  # that the broker is away is what is being tried
            }
        )
        began, number = time.monotonic(), 0
        while not self._over.is_set():
            number += 1
            sent, at = self._stage.stretch(number), 0
            while at < len(sent.values):
                due = int((time.monotonic() - began) * self._pace) - self.records
                for value, key in zip(sent.values[at : at + due], sent.keys[at : at + due], strict=True):
                    producer.produce(self._topic, value, key)
                step = min(max(due, 0), len(sent.values) - at)
                at += step
                self.records += step
                producer.poll(0)
                time.sleep(TICK_S)
            self.planted += sent.planted
        if left := producer.flush(120):
            raise RuntimeError(f"{left} records were not acknowledged")


class Watch:
    """Looks at the daemon that runs now, and scrapes it, in a thread of its own."""

    def __init__(self, home: Home) -> None:
        self.looks: dict[int, list[Look]] = {}
        """By process."""
        self._home = home
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        nth = 0
        while not self._over.wait(SAMPLE_S):
            daemon, nth = self._home.daemons[-1], nth + 1
            with contextlib.suppress(psutil.Error, OSError):  # it was killed meanwhile
                process = psutil.Process(daemon.process.pid)
                look = Look(
                    time.monotonic(),
                    process.memory_info().rss,
                    process.num_fds(),
                    process.num_threads(),
                )
                self.looks.setdefault(process.pid, []).append(look)
                if nth % SCRAPES == 0 and daemon.said("listening"):
                    daemon.get("/metrics")


class Faults:
    """What is done, by a seed. The last of the home's daemons is the one that runs."""

    def __init__(self, home: Home, rig: Rig, chance: random.Random) -> None:
        self.done: list[tuple[float, str]] = []
        """Each at the end of it, by the monotonic clock."""
        self._home, self._rig, self._random = home, rig, chance
        self._to_broker: dict[str, Callable[[], None]] = {
            "broker suspended": self._stall,
            BROKER_KILLED: self._broker_killed,
            "HTTP abused": self._abuse,
        }
        self._to_all = {
            "daemon killed (-9)": self._killed,
            "daemon ended (SIGTERM)": self._ended,
            "daemon suspended": self._suspended,
            **self._to_broker,
        }

    @property
    def daemon(self) -> Daemon:
        return self._home.daemons[-1]

    def until(self, over: float, *, daemons: bool) -> None:
        """One fault after the other until a moment; before it the daemon runs undisturbed for a while."""
        choice = self._to_all if daemons else self._to_broker
        while True:
            pause = self._random.uniform(*(OFTEN_S if daemons else SELDOM_S))
            left = over - time.monotonic()
            time.sleep(max(min(pause, left), 0.0))
            if left <= pause:
                return
            self.do(self._random.choice(sorted(choice)))

    def do(self, name: str) -> None:
        """One fault, by its name."""
        self._to_all[name]()
        self.done.append((time.monotonic(), name))
        assert self.daemon.code is None, f"after `{name}`: {self.daemon.tail()}"

    def _killed(self) -> None:
        self.daemon.kill()
        self._home.start()

    def _ended(self) -> None:
        self.daemon.stop(30)
        self._home.start()

    def _suspended(self) -> None:
        self.daemon.signal(signal.SIGSTOP)
        time.sleep(self._random.uniform(1.0, 2 * SESSION_MS / 1e3))
        self.daemon.signal(signal.SIGCONT)

    def _stall(self) -> None:
        self._rig.nodes[0].signal(signal.SIGSTOP)
        time.sleep(self._random.uniform(1.0, STALL_S))
        self._rig.nodes[0].signal(signal.SIGCONT)

    def _broker_killed(self) -> None:
        self._rig.stop(kill=True)
        time.sleep(self._random.uniform(0.0, AWAY_S))
        self._rig.start()

    def _abuse(self) -> None:
        with abuse(self.daemon.url):
            time.sleep(ABUSE_S)


def full_rate(home: Home) -> float:
    """Records/s of the daemon over what the topic holds, which must be all unread."""
    held = sum(home.ends().values())
    home.start()
    seen: list[tuple[float, int]] = []
    while not seen or seen[-1][1] < held:
        seen.append((time.monotonic(), sum(home.committed().values())))
        time.sleep(0.2)
    steady = [one for one in seen if 0.1 * held <= one[1] <= 0.95 * held]
    (begun, before), (ended, after) = steady[0], steady[-1]
    return (after - before) / (ended - begun)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.faults.soak", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/soak.json"))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guarantee", choices=GUARANTEES, default=GUARANTEES[0])
    parser.add_argument("--record", action="store_true", help="write what was found into docs/soak.md")
    told = parser.parse_args()
    if why := missing():
        print(f"cannot run: {why}", file=sys.stderr)
        return 2
    where = report.machine()
    with tempfile.TemporaryDirectory() as name, Rig(Path(name) / "kafka", quick=False) as rig:
        stage = Stage(Path(name), rig, told.seed, fast=False, crowd=CROWD)
        bars, measured = soak(stage, told.minutes * 60, told.guarantee)
    measured |= {"seed": told.seed, "minutes": told.minutes, "guarantee": told.guarantee}
    report.write(told.out, "soak", "full" if told.minutes >= 60 else "short", where, bars, measured)
    lines = [
        *report.head(where),
        f"{time.strftime('%-d %B %Y', time.gmtime())}, {told.minutes:g} minutes, `{told.guarantee}`, seed {told.seed}.",
        "",
        *(f"- {note}" for note in measured["notes"]),
        "",
        *report.table(bars),
    ]
    print("\n".join(lines))
    if told.record:
        PAGE.write_text(PAGE.read_text().partition(MARK)[0] + MARK + "\n" + "\n".join(lines) + "\n")
    return 0 if all(bar.met for bar in bars) else 1


def soak(stage: Stage, seconds: float, guarantee: Guarantee) -> tuple[list[Bar], dict[str, Any]]:
    """Measure the full rate, send half of it for so long while faults happen, and look at what is left."""
    home = stage.home("soak", guarantee, **{"compression.type": COMPRESSION})
    first = stage.stretch(0)
    home.send(first.values, first.keys)
    say(f"{len(first.values):,} records as fast as it goes")
    rate = full_rate(home)
    say(f"{rate:,.0f} records/s; half of it for {seconds / 60:.0f} minutes")
    sender, watch = Sender(stage, home.topic("input"), rate / 2), Watch(home)
    faults, began = Faults(home, stage.rig, stage.random), time.monotonic()
    faults.until(began + SHAKEN * seconds, daemons=True)
    say(f"the last daemon from here on; so far {len(faults.done)} faults")
    survivor = faults.daemon
    faults.do(BROKER_KILLED)  # what a daemon keeps of an outage it keeps once
    faults.until(began + LOOKED_AT * seconds, daemons=False)
    calm = time.monotonic()
    faults.until(began + seconds, daemons=False)
    watch.end()
    sender.end()
    home.caught_up(600 + sender.records / 2000)
    assert survivor.code is None, survivor.tail()
    survivor.stop(30)
    looks = [look for look in watch.looks[survivor.process.pid] if look.at_s >= calm]
    memory = slope([one.at_s for one in looks], [one.rss for one in looks], stage.seed)
    say(
        f"resident memory {memory.middle:+.2f} MiB/h ({memory.low:+.2f} to {memory.high:+.2f}); is all there?"
    )
    state = stage.again(home, 600 + sender.records / 2000, changed=False)
    say("the replay, and what is on the topics")
    verdict = judge(home, first.planted + sender.planted, state)
    return told_of(looks, memory, verdict, rate, faults.done, once=guarantee == "exactly_once")


def told_of(
    looks: list[Look],
    memory: Slope,
    verdict: Verdict,
    rate: float,
    done: list[tuple[float, str]],
    *,
    once: bool,
) -> tuple[list[Bar], dict[str, Any]]:
    """The bars, and what people and the JSON file are told."""
    grown = {}
    for name in ("descriptors", "threads"):
        counts = [getattr(one, name) for one in looks]
        fifth = max(len(counts) // 5, 1)
        # A client that connects anew has two at once for a while; what leaks is there at the best of times.
        grown[name] = min(counts[-fifth:]) - min(counts[:fifth])
    bars = [
        at_most(
            "slope of resident memory, upper end of the 95 % interval", memory.high, "MiB/h", SLOPE_MIB_H
        ),
        *(
            at_most(f"{name}, least of the last fifth less of the first", n, "", 0)
            for name, n in grown.items()
        ),
        at_most("records lost", verdict.lost, "", 0),
        at_most("planted alerts missed", verdict.missed, "", 0),
        at_most("alerts lost or not the replay's", verdict.alerts_lost + verdict.alerts_foreign, "", 0),
        at_most("scores that differ from the replay's", verdict.differing, "", 0),
        at_most("state differs from the undisturbed run's", float(not verdict.state_equal), "", 0),
    ]
    if once:
        bars.append(
            at_most("alerts, scores or letters doubled", verdict.alerts_doubled + verdict.doubled, "", 0)
        )
    minutes = (looks[-1].at_s - looks[0].at_s) / 60
    resident = [one.rss / MIB for one in looks]
    one_process = (
        f"one process for the last {minutes:.0f} minutes: resident {resident[0]:,.0f} MiB at first, "
        f"{resident[-1]:,.0f} at last, {max(resident):,.0f} at most; slope {memory.middle:+.2f} MiB/h "
        f"({memory.low:+.2f} to {memory.high:+.2f}); {looks[0].descriptors} and {looks[-1].descriptors} descriptors, "
        f"{looks[0].threads} and {looks[-1].threads} threads"
    )
    alerts = (
        f"alerts: {verdict.alerts:,}; planted {verdict.expected:,}, of them missed {verdict.missed}; told again "
        f"{verdict.alerts_doubled}, and {verdict.doubled:,} scores and dead letters"
    )
    often = sorted(Counter(name for _, name in done).items())
    notes = [
        f"{verdict.records:,} records, {rate / 2:,.0f} a second: half of what the daemon took ({rate:,.0f}/s)",
        f"faults: {', '.join(f'{name} {count} times' for name, count in often)}",
        one_process,
        alerts,
    ]
    return bars, {
        "notes": notes,
        "slope": memory._asdict(),
        "verdict": verdict._asdict(),
        "faults": [[round(at_s, 1), name] for at_s, name in done],
        "looks": [[round(one.at_s, 1), *one[1:]] for one in looks],
    }


if __name__ == "__main__":
    sys.exit(main())
