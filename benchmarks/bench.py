"""What the cases of `make bench` share: a broker, filled topics with a model for each, and loops run by turns."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka.admin import AdminClient
from tocsin.detector.settings import Settings

from . import feed, service
from .feed import MAIN, PARTITIONS, Filled, Message, Shape, Size
from .report import Bar, say
from .service import Rate

NUMBERS = itertools.count(1)
"""Of the groups that read the topics."""
Loop = Callable[[], float]
Spread = dict[str, Any]
"""Records/s: median, least, most and all, in the order of the turns."""


class Found(NamedTuple):
    """What a case found: bars, and for people and the JSON file `rates`, `notes`, `stages` and whatever else."""

    bars: list[Bar]
    measured: dict[str, Any]


class Bench(NamedTuple):
    """A topic with records of one shape, and a folder with the model that scores them."""

    size: Size
    shape: Shape
    bootstrap: str
    folder: Path
    topic: str
    fleet: feed.Fleet
    filled: Filled
    before: int = 0
    """Messages at the topic's beginning that no rate is taken over."""

    def settings(self, run: str, topic: str = "", state: str = "") -> Settings:
        """Settings of a fresh group on this topic or another."""
        topic = topic or self.topic
        name = f"{topic}-{run}"
        return service.settings_of(self.folder, self.bootstrap, topic, name, self.size, self.shape, state)

    def beside(self, topic: str, messages: Iterable[Message], **other: Any) -> Bench:
        """Another topic for the same model."""
        service.make_topic(self.bootstrap, topic)
        say(f"filling {topic}")
        filled = feed.fill(self.bootstrap, topic, messages)
        return self._replace(topic=topic, filled=filled, **other)

    def drop(self) -> None:
        """Delete the topic: it takes room on disk."""
        client = AdminClient({"bootstrap.servers": self.bootstrap})  # its answers come while it is held
        client.delete_topics([self.topic])[self.topic].result(30)

    def loop(self, module: str, *more: str, python: str = sys.executable) -> dict[str, Any]:
        """What a program that reads the topic prints, as JSON. Raises RuntimeError with its last word if it fails."""
        told = ["--bootstrap", self.bootstrap, "--topic", self.topic, "--partitions", str(PARTITIONS)]
        told += ["--records", str(self.filled.messages), "--features", str(self.shape.features)]
        done = subprocess.run([python, "-m", module, *told, *more], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{module}: {done.stderr.strip().splitlines()[-1:]}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def limit(self, *more: str, module: str = "benchmarks.limit") -> float:
        """Records/s of a pinned loop: with `--decode` the limit."""
        return float(self.loop(module, "--before", str(self.before), *more)["records_per_s"])

    def daemon(self, state: str = "", environment: Mapping[str, str] | None = None) -> Rate:
        """A fresh group over the topic; rates are of messages."""
        with service.running(self.settings(f"run-{next(NUMBERS)}", state=state), environment) as running:
            readings = running.through(self.filled.messages)
        return service.rate(readings, self.filled.messages, self.before)


class Suite:
    """One run of the benchmark."""

    def __init__(self, bootstrap: str, folder: Path, size: Size, *, fast: bool) -> None:
        self.bootstrap, self.folder, self.size, self.fast = bootstrap, folder, size, fast
        self.rate = 0.0
        """Records/s of the daemon, once a case has measured it."""

    @cached_property
    def main(self) -> Bench:
        """The main shape."""
        return self.bench("filled", self.size, MAIN)

    def bench(self, topic: str, size: Size, shape: Shape) -> Bench:
        """Train on the clean rows of a fleet and fill a topic with the rest."""
        fleet = feed.fleet_of(size, shape)
        bench = self.trained(topic, size, shape, fleet)
        return bench.beside(topic, feed.messages(fleet, feed.tested_rows(fleet, size), shape))

    def trained(self, topic: str, size: Size, shape: Shape, fleet: feed.Fleet) -> Bench:
        """A model, and a topic that is not there yet."""
        folder = self.folder / topic
        folder.mkdir()
        bench = Bench(size, shape, self.bootstrap, folder, topic, fleet, Filled(0, 0.0))
        say(f"{topic}: training on {size.entities} entities of {size.trained} records, {shape}")
        feed.train(bench.settings("training"), fleet, feed.trained_rows(fleet, size))
        return bench


def spread(values: list[float]) -> Spread:
    """The middle and the ends."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "all": values}


def by_turns(loops: Mapping[str, Loop], repetitions: int) -> dict[str, Spread]:
    """Run the loops one after the other, so many times over: what else the machine does weighs on all."""
    found: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(repetitions):
        for name, loop in loops.items():
            found[name].append(loop())
        told = ", ".join(f"{name} {rates[-1]:,.0f}/s" for name, rates in found.items())
        say(f"{number + 1}/{repetitions}: {told}, load {os.getloadavg()[0]:.1f}")
    return {name: spread(rates) for name, rates in found.items()}


def share(rates: Mapping[str, Spread], of: str, by: str) -> float:
    """How many times faster, median over the turns."""
    return statistics.median(a / b for a, b in zip(rates[of]["all"], rates[by]["all"], strict=True))
