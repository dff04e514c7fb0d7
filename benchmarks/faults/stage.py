"""What the cases share: a trained version, telemetry with planted alerts, homes on a broker, and the seed."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from rigs.daemon import Daemon, Home, Message, write_files
from rigs.kafka import Rig
from telemetry import Fleet, generate, keys, messages
from tocsin.pipelines.brokers.kafka import KafkaBroker

from ..report import say
from .oracle import Planted, Verdict, judge, stands_at, state_of

FEATURES, PERIOD_S, TRAINED = 6, 300, 400
LIVE, FAST_LIVE = 2_000, 500
"""Records of an entity after those that were trained on."""
LENGTH = 6
"""So many records a planted alert lasts."""
BUDGET = {"budget": "1/week per entity"}
"""So that hardly an incident is open when a planted one is to open."""
STRANGE = 40.0
"""Standard deviations by which all features of a planted record are off."""
POISON = (b"{not json", b"[1,2]", b'{"ts":1,"host":"host-00"', b"\xff\xfe", b"")
POISON_EVERY = 500
SNAPSHOTS = {"snapshot_every": "2s"}
SESSION_MS = 6_000
"""How long a member that was killed holds its partitions: the least that Kafka allows."""

Sections = dict[str, dict[str, Any]]
Guarantee = Literal["at_least_once", "exactly_once"]
GUARANTEES: tuple[Guarantee, ...] = ("at_least_once", "exactly_once")


class Sent(NamedTuple):
    """The records of a run, in the order in which they are sent."""

    values: list[bytes]
    keys: list[bytes]
    planted: list[Planted]


class Crowd(NamedTuple):
    """Who sends, and what is planted in it."""

    entities: int = 24
    every: int = 250
    """An alert is planted in an entity every so many records,"""
    turns: int = 1
    """in one of so many stretches."""


class Row(NamedTuple):
    """What one fault did under one guarantee."""

    fault: str
    guarantee: str
    injected: int
    verdict: Verdict
    recovery_s: list[float]
    """From the end of the fault to ready, each time; where a broker was away, until all is committed."""


class Again(Home):
    """A home that reads the input and the changes of another."""

    def __init__(self, folder: Path, broker: KafkaBroker, caches: Path, first: Home) -> None:
        super().__init__(folder, broker, caches)
        self._first = first

    def topic(self, role: str) -> str:
        return self._first.topic(role) if role in ("input", "control") else super().topic(role)


def beginning(changelog: Iterable[Message]) -> Iterator[Message]:
    """Of a changelog the first snapshot of each partition, and where changes act."""
    begun = set()
    for message in changelog:
        kind = (message.key or b"").split(b"/")[2:]
        if kind[:1] == [b"change"] or (kind[:1] == [b"snapshot"] and message.partition not in begun):
            yield message
        if kind[:1] == [b"snapshot"] and len(kind) == 2:  # the marker
            begun.add(message.partition)


class Stage:
    """One run of the suite on one cluster."""

    def __init__(self, folder: Path, rig: Rig, seed: int, *, fast: bool, crowd: Crowd | None = None) -> None:
        self.folder, self.rig, self.seed, self.fast = folder, rig, seed, fast
        self._crowd = crowd or Crowd()
        self.random = random.Random(seed)
        self.broker = KafkaBroker(rig.bootstrap)
        self.numbers = itertools.count(1)
        self._sections: dict[str, Sections] = {}
        self._homes: list[Home] = []

    @cached_property
    def fleet(self) -> Fleet:
        """Clean telemetry, with duplicates, lateness and disorder."""
        return generate(
            seed=5,
            entities=self._crowd.entities,
            records=TRAINED + (FAST_LIVE if self.fast else LIVE),
            features=FEATURES,
            period_s=PERIOD_S,
            duplicates=0.01,
            late=0.005,
            disordered=0.01,
            missing=0.01,
        )

    @cached_property
    def trained(self) -> Path:
        """A home with a version trained on the first records."""
        home = Home(self.folder / "trained", self.broker, self.folder / "xla")
        home.folder.mkdir()
        home.write(thresholds=BUDGET, train={"min_records": 100, "steps": 200})
        first = self.fleet.time_us < self._border_us
        write_files(self.fleet, first, home.folder / "train.parquet")
        say("training")
        for seed in ("1", "2"):
            home.run("train", "--data", "train.parquet", wait_s=600, TOCSIN__TRAIN__SEED=seed)
        return home.folder

    @cached_property
    def versions(self) -> list[str]:
        """The two versions, oldest first."""
        home = Home(self.trained, self.broker, self.folder / "xla")
        listed = json.loads(home.run("models", "list", "--json").stdout)
        return [one["version"] for one in listed]

    @cached_property
    def sent(self) -> Sent:
        """The records of a case."""
        return self.stretch(0)

    def stretch(self, number: int) -> Sent:
        """The live records: planted alerts among them, and messages that nobody can read.

        Stretches follow one another in event time, each the one before it backwards, so that nothing jumps.
        """
        fleet, planted, period_us = self.fleet, [], PERIOD_S * 1_000_000
        live = np.flatnonzero(fleet.time_us >= self._border_us)
        entity, step = fleet.entity[live], (fleet.time_us[live] - self._border_us) // period_us
        count = int(step.max()) + 1
        time_us = fleet.time_us[live] + number * count * period_us
        values = fleet.values[live]
        if number % 2:
            series = np.full((len(fleet.names), count, FEATURES), np.nan)
            series[entity, step] = values
            values = series[entity, count - 1 - step]
        spread = np.nanstd(fleet.values, axis=0)
        every, turns = self._crowd.every, self._crowd.turns
        for nth, name in enumerate(fleet.names):
            if (nth + number) % turns:
                continue
            for first in range(100 + 7 * nth % every, count - LENGTH, every):
                rows = (entity == nth) & (step >= first) & (step < first + LENGTH)
                values[rows] += STRANGE * spread
                planted.append(Planted(name, int(time_us[rows].min()), int(time_us[rows].max())))
        columns = {name: getattr(fleet, name)[live] for name in ("arrival_us", "label", "kind")}
        chosen = fleet._replace(values=values, entity=entity, time_us=time_us, **columns)
        found, names = list(messages(chosen)), list(keys(chosen))
        for nth, at in enumerate(range(POISON_EVERY, len(found), POISON_EVERY)):
            found.insert(at, POISON[nth % len(POISON)])
            names.insert(at, b"poison-%d" % nth)
        return Sent(found, names, planted)

    @cached_property
    def reference(self) -> dict[int, str]:
        """The state after all records, by one daemon that nobody disturbs."""
        say("the uninterrupted run")
        home = self.home("reference", "at_least_once")
        daemon = home.start()
        home.send(self.sent.values, self.sent.keys)
        home.caught_up(600)
        daemon.stop()
        return state_of(home)

    @property
    def _border_us(self) -> int:
        return int(self.fleet.time_us.min()) + TRAINED * PERIOD_S * 1_000_000

    def on(self, rig: Rig) -> Stage:
        """The same on another cluster."""
        other = Stage(self.folder, rig, self.seed, fast=self.fast)
        other.random, other.numbers, other._homes = self.random, self.numbers, self._homes
        other.trained, other.versions, other.reference = self.trained, self.versions, self.reference
        return other

    def home(
        self, name: str, guarantee: Guarantee, sections: Sections | None = None, **librdkafka: Any
    ) -> Home:
        """A fresh home with topics of its own; `sections` of its configuration beside what all have."""
        folder = self.folder / f"{name}-{next(self.numbers)}"
        shutil.copytree(self.trained, folder)
        home = Home(folder, self.broker, self.folder / "xla")
        stream = home.stream(guarantee=guarantee)
        client = {"librdkafka": {"session.timeout.ms": SESSION_MS, **librdkafka}}
        self._sections[home.name] = {"state": SNAPSHOTS, "thresholds": BUDGET, **(sections or {})}
        home.write(stream, kafka=client, **self._sections[home.name])
        home.make_topics()
        self._homes.append(home)
        return home

    def last_words(self) -> str:
        """What the daemons of the last case have logged at last."""
        return "\n".join(daemon.tail() for daemon in self._homes[-1].daemons[-3:])

    def chunks(self, count: int) -> list[slice]:
        """The records in so many pieces."""
        edges = [round(len(self.sent.values) * i / count) for i in range(count + 1)]
        return [slice(a, b) for a, b in itertools.pairwise(edges)]

    def feed(self, home: Home, piece: slice) -> None:
        """Send a piece of the records."""
        home.send(self.sent.values[piece], self.sent.keys[piece])

    def again(self, home: Home, wait_s: float = 600.0, *, changed: bool = True) -> dict[int, str]:
        """The state by one more daemon that nobody disturbs; `changed`: under the changes written to `home`."""
        say("the uninterrupted run on the same records")
        folder = self.folder / f"{home.name}-again"
        shutil.copytree(home.folder, folder)
        again = Again(folder, self.broker, self.folder / "xla", home)
        stream = {name: value for name, value in again.stream().items() if name != "scores"}
        again.write(stream, **self._sections[home.name])
        again.make_topics()
        producer = self.broker.producer()
        for message in beginning(home.read("changelog")) if changed else ():
            producer.produce(again.topic("changelog"), message.value, message.key, message.partition)
        producer.flush(60)
        producer.close()
        daemon = again.start()
        again.caught_up(wait_s)
        daemon.stop()
        return state_of(again)

    def judged(
        self,
        home: Home,
        fault: str,
        guarantee: Guarantee,
        injected: int,
        recovery_s: list[float],
        *,
        planted: bool = True,
        alone: bool = False,
    ) -> Row:
        """Let the stream catch up, stop what runs, and look.

        `alone`: no other case has its records and changes, so it takes an undisturbed run of its own.
        """
        home.caught_up(600)
        for daemon in home.daemons:
            if daemon.code is None and daemon.forgiven:
                daemon.end()  # it was asked to: asked once more, it would end at once
            elif daemon.code is None:
                daemon.stop()
        state = self.again(home) if alone else self.reference
        verdict = judge(home, self.sent.planted if planted else [], state)
        say(f"{fault}, {guarantee}: {injected} times; {verdict}")
        if not verdict.state_equal:
            say(f"its last snapshots stand at {stands_at(home)}, the input ends at {home.ends()}")
        return Row(fault, guarantee, injected, verdict, recovery_s)

    def pause(self, most_s: float) -> None:
        """A random while."""
        time.sleep(self.random.uniform(0, most_s))


def timed(begin: Callable[[], Daemon]) -> tuple[Daemon, float]:
    """A daemon, and the seconds until it was ready."""
    began = time.monotonic()
    daemon = begin()
    return daemon, time.monotonic() - began
