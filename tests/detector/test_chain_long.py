"""The long format through the chain: single measurements, from JSON to scores, however they are cut."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from telemetry import Fleet
from tocsin.detector.chain import Chain
from tocsin.detector.outcome import Outcome
from tocsin.detector.reading import Reader
from tocsin.detector.settings import Decode, Duration, State, Stream
from tocsin.detector.startup import make_chain
from tocsin.pipelines.admission import Turned
from tocsin.pipelines.brokers.base import Batch
from versions import TOPIC, Stand

ENTITIES, RECORDS = 6, 60
PERIOD = Duration.parse("10s")
EVERYBODY = State()


def long_stream(stand: Stand) -> Stream:
    return msgspec.structs.replace(
        stand.stream, format="json_long", entity="host", time="ts", period=PERIOD, wait=PERIOD
    )


def messages(fleet: Fleet, first: int = 0) -> Batch:
    """The first records of some entities, one message per measurement, in order of time."""
    mine = [
        row
        for entity in range(first, first + ENTITIES)
        for row in np.flatnonzero((fleet.entity == entity) & (fleet.kind == 0))[:RECORDS]
    ]
    mine.sort(key=lambda row: int(fleet.time_us[row]))
    values, keys, stamps = [], [], []
    for row in mine:
        name, time_us = fleet.names[fleet.entity[row]], int(fleet.time_us[row])
        for feature, value in zip(fleet.features, fleet.values[row].tolist(), strict=True):
            content = {"ts": time_us // 1000, "host": name, "metric": feature, "value": value}
            values.append(json.dumps(content).encode())
            keys.append(name.encode())
            stamps.append(time_us // 1000)
    count = len(values)
    return Batch([TOPIC] * count, [0] * count, list(range(count)), stamps, keys, values, None)


def taken(batch: Batch, rows: np.ndarray) -> Batch:
    """Some of its messages, as if there were no others."""
    columns = [[column[row] for row in rows.tolist()] for column in batch[:6]]
    columns[2] = list(range(len(rows)))
    return Batch(*columns, None)


def run(stand: Stand, batch: Batch, cuts: list[int], kept: State = EVERYBODY) -> tuple[Chain, list[Outcome]]:
    stream = long_stream(stand)
    chain = make_chain(stream, stand.schema, stand.models[stand.names[0]], kept)
    chain.state.rulings[chain.state.part(TOPIC, 0)] = stand.rulings().ruling()
    reader = Reader(stream, Decode(), chain.state)
    outcomes = []
    for first, last in zip([0, *cuts], [*cuts, batch.size], strict=True):
        read = reader.read(batch.rows(first, last))
        outcomes.append(chain.process(read.records, read.admitted))
    return chain, outcomes


def joined(outcomes: list[Outcome], name: str) -> np.ndarray:
    return np.concatenate([getattr(outcome, name) for outcome in outcomes])


def test_measurements_become_records_and_scores(shared_stand: Stand, shared_fleet: Fleet) -> None:
    _, (outcome,) = run(shared_stand, messages(shared_fleet), [])
    # The last period of an entity and the one it waits for are still open.
    assert len(outcome.verdict) == ENTITIES * (RECORDS - 2)
    assert len(outcome.row) == ENTITIES * (RECORDS - 2 - (shared_stand.stream.lags - 1))
    assert np.isfinite(outcome.score).all()
    assert (outcome.records.time_us % int(PERIOD) == 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_no_bit_depends_on_how_measurements_are_cut(
    shared_stand: Stand, shared_fleet: Fleet, seed: int
) -> None:
    batch = messages(shared_fleet)
    cuts = np.sort(np.random.default_rng(seed).choice(np.arange(1, batch.size), 25, replace=False)).tolist()
    (_, whole), (_, pieces) = run(shared_stand, batch, []), run(shared_stand, batch, cuts)
    for name in ("score", "p", "threshold", "onset", "shares", "expected"):
        assert joined(whole, name).tobytes() == joined(pieces, name).tobytes(), name


def test_open_periods_survive_a_snapshot(shared_stand: Stand, shared_fleet: Fleet) -> None:
    batch = messages(shared_fleet)
    half = batch.size // 2 + 3
    _, whole = run(shared_stand, batch, [half])
    first, _ = run(shared_stand, batch.rows(0, half), [])
    ruling = first.state.rulings[0]
    stream = long_stream(shared_stand)
    other = make_chain(stream, shared_stand.schema, shared_stand.models[shared_stand.names[0]], EVERYBODY)
    other.state.restore(other.state.part(TOPIC, 0), first.state.snapshot(0, half), ruling)
    read = Reader(stream, Decode(), other.state).read(batch.rows(half, batch.size))
    outcome = other.process(read.records, read.admitted)
    assert outcome.score.tobytes() == whole[1].score.tobytes()


@pytest.mark.parametrize("cut", [1, 7, 8, 100, 999])
def test_measurements_of_entities_that_give_way_are_as_exact(
    shared_stand: Stand, shared_fleet: Fleet, cut: int
) -> None:
    """Two of six come by turns where there is room for one of them; one begins where the bound on new ones is met."""
    first = 100  # the model knows none of them
    batch = messages(shared_fleet, first)
    turn = np.arange(batch.size) // (batch.size // 6) % 2
    hosts = np.array([shared_fleet.names.index(key.decode()) for key in batch.key if key]) - first
    batch = taken(batch, np.flatnonzero((hosts < 4) | (hosts == 4 + turn)))
    kept = State(max_entities=5, max_new_entities=5)
    cuts = list(range(cut, batch.size, max(cut, batch.size // 40)))
    (chain, whole), (other, pieces) = (run(shared_stand, batch, some, kept) for some in ([], cuts))
    for name in ("score", "p", "threshold", "onset", "shares", "expected", "verdict"):
        assert joined(whole, name).tobytes() == joined(pieces, name).tobytes(), name
    (outcome,) = whole
    assert outcome.evicted.limit > 0
    assert sum(piece.evicted.limit for piece in pieces) == outcome.evicted.limit
    assert {Turned(why) for why in outcome.why.tolist()} == {Turned.TOO_MANY}
    starts = zip([0, *cuts], pieces, strict=True)
    assert outcome.turned.tolist() == [start + row for start, one in starts for row in one.turned.tolist()]
    assert len(outcome.row) > 4 * 40
    for name in ("slots", "part"):
        a, b = (getattr(one.state.snapshot(0, 0), name) for one in (chain, other))
        assert all(a[key].tobytes() == b[key].tobytes() for key in a), name


def test_describe_names_the_alignment(shared_stand: Stand) -> None:
    chain = make_chain(
        long_stream(shared_stand), shared_stand.schema, shared_stand.models[shared_stand.names[0]], EVERYBODY
    )
    assert (
        chain.describe().splitlines()[1] == "align   one record an entity and 10 s, closed 10 s after its end"
    )
