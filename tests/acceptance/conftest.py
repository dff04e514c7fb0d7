"""What the tests of the whole chain share: one Kafka, one pair of trained versions, homes made from them."""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from rigs.daemon import Home, write_files
from rigs.kafka import Rig
from telemetry import Fleet, generate
from tocsin.pipelines.brokers.kafka import KafkaBroker

TRAINED = 400
"""Records of each entity that the versions are trained on."""
_numbers = itertools.count(1)


class Trained(NamedTuple):
    """A home with two versions of stream hosts, and the telemetry behind them."""

    folder: Path
    fleet: Fleet
    live: Fleet
    """The records after those that were trained on."""
    versions: tuple[str, str]


MakeHome = Callable[..., Home]


def rows_of(fleet: Fleet, rows: object) -> Fleet:
    """Some rows of a fleet."""
    columns = ("entity", "time_us", "arrival_us", "values", "label", "kind")
    return fleet._replace(**{name: getattr(fleet, name)[rows] for name in columns})


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where XLA keeps what it has compiled, for this session."""
    return tmp_path_factory.mktemp("jax")


@pytest.fixture(scope="session")
def cluster(kafka: Rig) -> Iterator[KafkaBroker]:
    """The session's Kafka, through the product's own client."""
    broker = KafkaBroker(kafka.bootstrap)
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def trained(cluster: KafkaBroker, caches: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two versions trained on the first records of twelve entities; the first is the champion."""
    fleet = generate(
        seed=7,
        entities=12,
        records=1600,
        features=4,
        period_s=30,
        faults=36,
        fault_length=20,
        clean=0.3,
        duplicates=0.01,
        late=0.005,
        disordered=0.01,
        missing=0.01,
    )
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    first = fleet.time_us < fleet.time_us.min() + TRAINED * 30_000_000
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of one run share what the first of them trains
        if not folder.exists():
            folder.mkdir()
            home = Home(folder, cluster, caches)
            home.write()
            write_files(fleet, first, folder / "train.parquet")
            for seed in ("0", "1"):
                home.run("train", "--data", "train.parquet", "--seed", seed, wait_s=280)
    names = sorted(path.name for path in (folder / "registry" / "hosts").glob("v0*"))
    assert len(names) == 2
    return Trained(folder, fleet, rows_of(fleet, ~first), (names[0], names[1]))


@pytest.fixture(scope="module")
def make_home(
    cluster: KafkaBroker,
    caches: Path,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[MakeHome]:
    """Makes homes with copies of the trained versions, or with none; their daemons end with the module."""
    homes: list[Home] = []

    def make(name: str, *, untrained: bool = False) -> Home:
        stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
        folder = tmp_path_factory.mktemp("homes") / f"{stem}-{next(_numbers)}"
        if untrained:
            folder.mkdir()
        else:
            source: Trained = request.getfixturevalue("trained")
            shutil.copytree(source.folder, folder)
        home = Home(folder, cluster, caches)
        homes.append(home)
        return home

    yield make
    for home in homes:
        home.close()
