"""Small trained versions, registered and signed, and chains that run on them: what tests of the chain start from.

    fleet = telemetry.generate(...)
    stand = make_stand(folder, fleet, train_until_us)     # settings, a registry with two versions, their models
    chain, rulings = stand.chain(), stand.rulings()       # under Promotion of the first version
    feed = Feed(fleet, partitions=4)                      # the fleet as a topic: partitions and offsets

Training is quick and poor (few steps): these tests ask whether answers are the same, not whether they are good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from telemetry import START_US, Fleet, generate
from tocsin.detector.chain import Chain
from tocsin.detector.changes import Change, Promotion, Recalibration, Versioned, pack_arrays
from tocsin.detector.learning import Gathered, learn, register
from tocsin.detector.registry import open_registry
from tocsin.detector.ruling import Model
from tocsin.detector.rulings import Rulings
from tocsin.detector.settings import Duration, Incidents, Registry, Settings, Stream, Thresholds, Train
from tocsin.detector.startup import make_chain, model_loader
from tocsin.pipelines import sequences
from tocsin.pipelines.brokers.base import Part
from tocsin.pipelines.records import Records
from tocsin.pipelines.schema import FeatureSchema
from tocsin.thresholds import calibration

TOPIC = "fleet"
TRAINED, OWN_TRAINED = 120, 540
"""Records of each entity that the versions of the fixtures were trained on."""
STAMP = {"id": "0", "author": "test", "reason": "test", "created_at": "2024-01-01T00:00:00Z"}


class Stand(NamedTuple):
    """A configured stream with its models loaded."""

    settings: Settings
    schema: FeatureSchema
    models: dict[str, Model]

    @property
    def stream(self) -> Stream:
        return self.settings.streams[0]

    @property
    def names(self) -> list[str]:
        """The versions, oldest first."""
        return list(self.models)

    def rulings(self, changes: Sequence[Change] = ()) -> Rulings:
        """The fold over a promotion of the first version (change 0) and `changes` (1, 2, ...)."""
        rulings = Rulings(self.settings, self.models.__getitem__)
        for version, change in enumerate((promotion(self.names[0]), *changes)):
            assert rulings.take(Versioned(version, change)) == ""
        return rulings

    def chain(self) -> Chain:
        """An empty chain."""
        return make_chain(self.stream, self.schema, self.models[self.names[0]], self.settings.state)

    def recalibration(self, model: str, budget: str, names: Sequence[str], shift: float) -> Recalibration:
        """A change that gives `names` half of their counted history and moves every level by `shift`."""
        table, version = self.models[model].calibration, self.models[model].version
        rows = np.array([version.entities[name] for name in names], np.int64)

        def packed(chosen: NDArray[np.int64]) -> Any:
            own = calibration.take(table, chosen)
            own = own._replace(counts=own.counts // 2, level=own.level + shift)
            return pack_arrays(own._asdict())

        return Recalibration(
            model=model,
            budget=budget,
            entities=len(names),
            names=list(names),
            calibration=packed(rows),
            prior=packed(np.array([len(version.entities)])),
            **STAMP,
        )


def promotion(model: str) -> Promotion:
    return Promotion(model=model, **STAMP)


def settings_for(folder: Path, fleet: Fleet, profile: str, least: int, **incidents: Any) -> Settings:
    """A stream over the fleet's features; durations among `incidents` as text."""
    spans = {name: Duration.parse(v) if isinstance(v, str) else v for name, v in incidents.items()}
    return Settings(
        streams=(
            Stream(
                name="fleet",
                topics=(TOPIC,),
                entity="host",
                time="ts",
                features=fleet.features,
                counters=fleet.counters,
                profile=profile,
            ),
        ),
        registry=Registry(
            path=str(folder / "registry"), private_key=str(folder / "keys" / "signing-key.pem")
        ),
        thresholds=Thresholds(budget="1/hour per entity", max_incidents=2),
        incidents=Incidents(**spans),
        train=Train(min_records=least, steps=20),
    )


def make_stand(
    folder: Path,
    fleet: Fleet,
    until_us: int,
    *,
    profile: str = "shared",
    known: int | None = None,
    versions: int = 2,
    **incidents: Any,
) -> Stand:
    """Train versions on the first `known` entities up to `until_us`, each with another seed, and load them."""
    mine = fleet.time_us < until_us
    if known is not None:
        mine &= fleet.entity < known
    settings = settings_for(folder, fleet, profile, 100, **incidents)
    stream, schema = settings.streams[0], FeatureSchema(fleet.features, fleet.counters)
    rows = np.flatnonzero(mine)
    records = Records(
        fleet.entity[rows],
        np.zeros(len(rows), np.int32),
        np.arange(len(rows)),
        fleet.time_us[rows],
        fleet.values[rows],
    )
    series, counts = sequences.collect(
        [records],
        fleet.names.__getitem__,
        len(schema),
        schema.counter_index,
        stream.lags,
        stream.window,
        int(stream.far_ahead),
    )
    gathered = Gathered(series, counts, schema, Counter())
    for seed in range(versions):
        told = msgspec.structs.replace(settings, train=msgspec.structs.replace(settings.train, seed=seed))
        trained = learn(told, stream, gathered)
        register(told, stream, trained, schema, STAMP["created_at"], 0.0)
    registry = open_registry(settings, stream)
    load = model_loader(registry, settings, stream, schema)
    return Stand(settings, schema, {name: load(name) for name in registry.versions()})


class Feed:
    """A fleet as a topic: each entity in one partition, offsets in the order of arrival."""

    def __init__(self, fleet: Fleet, rows: NDArray[np.int64], partitions: int) -> None:
        self.fleet = fleet
        self.parts: list[Part] = [(TOPIC, p) for p in range(partitions)]
        self.rows = [rows[fleet.entity[rows] % partitions == p] for p in range(partitions)]
        """Row of the fleet by offset."""

    @property
    def ends(self) -> list[int]:
        return [len(rows) for rows in self.rows]

    def records(self, chain: Chain, partition: NDArray[np.int64], offset: NDArray[np.int64]) -> Records:
        """The records at those places, decoded into the chain's slots."""
        table = chain.state.table
        index = np.array([chain.state.part(*part) for part in self.parts], np.int32)
        row = np.empty(len(partition), np.int64)
        for p, rows in enumerate(self.rows):
            here = partition == p
            row[here] = rows[offset[here]]
        part = index[partition]
        entity = self.fleet.entity[row]
        names, looks = self.fleet.names, [table.lookup(int(i)) for i in index]
        slot = np.empty(len(row), np.int32)
        for i, (p, e) in enumerate(zip(partition.tolist(), entity.tolist(), strict=True)):
            found = looks[p].get(names[e])
            slot[i] = table.intern(int(index[p]), names[e]) if found is None else found
        return Records(slot, part, offset, self.fleet.time_us[row], self.fleet.values[row])


@pytest.fixture(scope="session")
def shared_fleet() -> Fleet:
    """200 entities whose first 120 records are for training; the last feature is a counter."""
    return generate(
        seed=7,
        entities=200,
        records=1800,
        features=8,
        start_us=START_US + 20 * 3_600_000_000,
        faults=80,
        fault_length=40,
        clean=0.2,
        duplicates=0.01,
        late=0.005,
        disordered=0.01,
        missing=0.01,
        counters=1,
    )


@pytest.fixture(scope="session")
def shared_stand(shared_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """Two versions of one panel for all; 40 of the fleet's entities were trained on."""
    return make_stand(
        tmp_path_factory.mktemp("shared"),
        shared_fleet,
        after(shared_fleet, TRAINED),
        known=40,
        gone_after="20m",
        level_change_after="5m",
    )


@pytest.fixture(scope="session")
def own_fleet() -> Fleet:
    """10 entities whose first 540 records are for training."""
    return generate(
        seed=8,
        entities=10,
        records=1400,
        features=8,
        faults=12,
        fault_length=30,
        clean=0.45,
        duplicates=0.01,
        late=0.005,
        disordered=0.01,
        missing=0.01,
    )


@pytest.fixture(scope="session")
def own_stand(own_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """Two versions with a panel for each of 5 entities of the fleet, and one for the others."""
    return make_stand(
        tmp_path_factory.mktemp("own"),
        own_fleet,
        after(own_fleet, OWN_TRAINED),
        profile="per_entity",
        known=5,
    )


def after(fleet: Fleet, records: int, period_s: float = 10.0) -> int:
    """The event time before which an entity has so many records."""
    return int(fleet.time_us.min()) + round(records * period_s * 1e6)
