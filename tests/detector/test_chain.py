"""The chain in one process: what it calls, what it says of itself, and what its stages promise together."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import numpy as np
import pytest
from lives import Diary, Life, differences, state_differences
from telemetry import Fleet
from tocsin.detector import alerts, announcing, view
from tocsin.detector.chain import Chain, Outcome
from tocsin.detector.changelog import encode_snapshot
from tocsin.detector.changelog_fold import Restorer
from tocsin.detector.changes import Resolve, Revert, unpack_arrays
from tocsin.detector.ruling import NO_ROW, OF_MODEL
from tocsin.detector.rulings import loaded, rules_of
from tocsin.detector.settings import Incidents
from tocsin.detector.state import decision_of
from tocsin.errors import StateError
from tocsin.pipelines import location, windows
from tocsin.pipelines.records import NO_TIME, Records
from tocsin.pipelines.windows import Verdict
from tocsin.thresholds.constants import PRIOR_WEIGHT, Basis, Learning, Phase
from tocsin.thresholds.state import CORE
from tocsin.thresholds.warm import warm
from versions import STAMP, TOPIC, TRAINED, Feed, Stand, after, promotion

GOLDEN = Path(__file__).parent.parent / "golden" / "describe.txt"


def feed_of(fleet: Fleet, entities: range, first: int, last: int, partitions: int = 1) -> Feed:
    """The records of some entities, from one record's time up to before another's."""
    mine = np.isin(fleet.entity, np.array(entities))
    mine &= (fleet.time_us >= after(fleet, first)) & (fleet.time_us < after(fleet, last))
    return Feed(fleet, np.flatnonzero(mine), partitions)


def life_of(stand: Stand, feed: Feed, written: Any = None, changes: Any = ()) -> Life:
    life = Life(stand, stand.rulings(changes), feed, written or {}, Diary(feed), np.random.default_rng(0))
    for partition in range(len(feed.ends)):
        life.begin(partition)
    return life


def row_of(chain: Chain, fleet: Fleet, entity: int, time_us: int, values: Any) -> Records:
    """One record of an entity that the chain knows already."""
    slot = chain.state.table.lookup(0)[fleet.names[entity]]
    return Records(
        np.array([slot], np.int32),
        np.zeros(1, np.int32),
        np.array([10**6]),
        np.array([time_us]),
        np.array([values], np.float64),
    )


NONE = np.zeros(0, np.int32)


# -- what it calls ---------------------------------------------------------------------------------


def calls(run: Any) -> tuple[Counter[str], int]:
    """Python functions called from the chain's stages up to `learn`, and in all of its last, which looks at blocks
    of records for drift."""
    inside, drift = Counter[str](), 0
    depth = 0

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal depth, drift
        name = frame.f_code.co_qualname
        if event == "call":
            depth += bool(depth) or name == "_drift"
            if depth:
                drift += 1
            else:
                inside[f"{Path(frame.f_code.co_filename).name}:{name}"] += 1
        elif event == "c_call" and not depth:
            inside[str(argument)] += 1
        elif event == "return" and depth:
            depth -= 1

    gc.disable()
    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(None)
        gc.enable()
    return inside, drift


def test_no_call_is_made_per_record(shared_stand: Stand, shared_fleet: Fleet) -> None:
    feed = feed_of(shared_fleet, range(80, 200), TRAINED, 500)
    life = life_of(shared_stand, feed)
    life.take({0: 3000})
    chain, counted = life.chain, {}
    start = life.position[0]
    for size in (100, 10_000, 100, 10_000):  # the second of each finds everything warm
        rows = np.arange(start, start + size)
        start += size
        records = feed.records(chain, np.zeros(size, np.int64), rows)
        outcomes: list[Outcome] = []
        counted[size] = calls(
            lambda records=records, into=outcomes: into.append(chain.process(records, NONE))
        )
        assert len(outcomes[0].row) > 0.95 * size
    few, many = counted[100][0], counted[10_000][0]
    print(
        f"{sum(few.values())} calls for 100 records, {sum(many.values())} for 10,000; drift {counted[10_000][1]}"
    )
    python = [{name: n for name, n in c.items() if ".py:" in name} for c in (few, many)]
    # the turn of a period of event time may cut the longer batch in two, and each part is scored in halves,
    # whose four results are put together
    assert all(n <= 4 * python[0].get(name, 0) + 12 for name, n in python[1].items())
    assert sum(python[0].values()) > 20
    # C functions too, but for what the scorer's blocks and freed arrays bring
    assert sum(many.values()) <= 2 * sum(few.values()) + 20


# -- what it says of itself ------------------------------------------------------------------------


@pytest.mark.parametrize("follow", [16.0, 0.0])
def test_a_location_follows_or_stays_as_trained(
    shared_stand: Stand, shared_fleet: Fleet, follow: float
) -> None:
    models = {
        name: loaded(model.version, shared_stand.schema, follow)
        for name, model in shared_stand.models.items()
    }
    life = life_of(shared_stand._replace(models=models), feed_of(shared_fleet, range(1), 0, 600))
    while life.left(0):
        life.take({0: 100})
    model = models[shared_stand.names[0]]
    trained = model.location[model.version.entities[shared_fleet.names[0]]]
    assert (life.chain.state.location.location[0] == trained).all() == (follow == 0.0)


def test_every_number_of_incidents_reaches_the_machine() -> None:
    given = Incidents(k=3, m=5, exit_k=7, exit_margin=0.2, fast_margin=1.5, flap_after=4)
    rules = rules_of(given, {"incidents.k": 4}, 10)
    assert (rules.k, rules.m, rules.exit_k, rules.exit_margin) == (4, 5, 7, 0.2)
    assert (rules.fast_margin, rules.flap_after, rules.cap) == (1.5, 4, 10)


def test_describe_is_as_written(shared_stand: Stand) -> None:
    assert shared_stand.chain().describe() + "\n" == GOLDEN.read_text()


def tocsin(*args: str, cwd: Path) -> str:
    command = [sys.executable, "-m", "tocsin.detector.cli", *args]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_prints_the_same_with_and_without_a_model(shared_stand: Stand, tmp_path: Path) -> None:
    stages = GOLDEN.read_text().splitlines()
    config = '[stream]\nname = "fleet"\nentity = "host"\n'
    (tmp_path / "tocsin.toml").write_text(config)
    without = tocsin("describe", cwd=tmp_path).splitlines()
    assert without[0].startswith("fleet: all features, no model yet, profile auto, members vae,")
    assert [line.strip() for line in without[2:-1]] == stages
    assert without[1].strip() == "read    fleet, json_wide; entity at host, time at timestamp"
    assert without[-1].strip().startswith("write   alerts to fleet.alerts")
    registry = shared_stand.settings.registry
    public = Path(registry.private_key or "").with_name("signing-key.pub.pem")
    config += f'window = 32\n[registry]\npath = "{registry.path}"\npublic_keys = ["{public}"]\n'
    (tmp_path / "tocsin.toml").write_text(config)
    trained = tocsin("describe", cwd=tmp_path).splitlines()
    assert trained[0].startswith(f"fleet: 8 features, model {shared_stand.names[0]}, profile shared")
    assert [line.strip() for line in trained[4:-1]] == stages[2:]
    assert trained[3].strip() == stages[1].replace("ring of 16", "ring of 32")


# -- rulings, training range, new entities ---------------------------------------------------------


def test_partitions_under_different_rulings_share_a_batch(shared_stand: Stand, shared_fleet: Fleet) -> None:
    feed = feed_of(shared_fleet, range(12), TRAINED, 800, partitions=3)
    second = shared_stand.names[1]
    known = list(shared_stand.models[second].version.entities)
    changes = [promotion(second), shared_stand.recalibration(second, "9/day", known[:20], 0.2)]
    written = {0: [(200, 1), (600, 2)], 1: [(2200, 1), (2210, 2)], 2: [(500, 1), (1900, 2)]}
    mixed = life_of(shared_stand, feed, written, changes)
    apart = life_of(shared_stand, feed, written, changes)
    labels = set()
    while any(mixed.left(p) or mixed.due(p) for p in range(3)):
        outcome = mixed.take({0: 130, 1: 170, 2: 150})
        labels.add(outcome.labels if outcome else ())
    for p in range(3):
        while apart.left(p) or apart.due(p):
            apart.take({p: 777})
    assert max(len(some) for some in labels) == 3  # all three calibrations judged in one batch
    assert differences(mixed.diary, apart.diary) == []
    assert state_differences(mixed, apart) == []


def test_the_training_range_warms_and_opens_nothing(shared_stand: Stand, shared_fleet: Fleet) -> None:
    feed = feed_of(shared_fleet, range(20), 0, TRAINED + 20)
    life = life_of(shared_stand, feed)
    times = shared_fleet.time_us[feed.rows[0]]
    within = int(np.argmax(times >= after(shared_fleet, TRAINED - 2)))  # what was scored in training
    fresh = {}
    for part in (0, 1):
        outcome = life.take({0: 10**6 if part else within})
        assert outcome is not None
        core = life.chain.state.decision.core[life.chain.state.slots_of(0)]
        state = life.chain.state
        trained = state.rulings[0].model.trained_to[state.assigned.row[outcome.records.slot[outcome.row]]]
        inside = outcome.records.time_us[outcome.row] <= trained
        assert np.isfinite(outcome.score).all()
        assert np.isnan(outcome.p[inside]).all()
        assert np.isfinite(outcome.threshold[inside]).all()
        assert not outcome.anomalous[inside].any()
        fresh[part] = core.copy(), inside
    before, after_it = fresh[0][0], fresh[1][0]
    assert fresh[0][1].sum() > 2000
    assert (before["S"] != 0).all()  # warmed
    assert (before["phase"] == Phase.NORMAL).all()
    assert (before["waiting"] == 0).all()
    assert (after_it["waiting"] + after_it["fill"] > 0).all()  # judged from there on
    assert not fresh[1][1].all()


def test_a_new_entity_becomes_its_own(shared_stand: Stand, shared_fleet: Fleet) -> None:
    stranger = 150
    feed = feed_of(shared_fleet, range(stranger, stranger + 1), TRAINED, 1700)
    life = life_of(shared_stand, feed)
    state, model = life.chain.state, shared_stand.models[shared_stand.names[0]]
    group = model.location[-1]
    seen: list[tuple[int, int]] = []
    clean = 0
    while life.left(0):
        outcome = life.take({0: 1})
        assert outcome is not None
        core, where = state.decision.core[0], state.location
        if clean == 0 and len(outcome.row):
            np.testing.assert_array_equal(where.location[0], group)
            assert outcome.basis[0] == Basis.PRIOR
        clean += len(outcome.row)
        phase = int(core["learning"]), int(core["epoch"])
        if not seen or seen[-1] != phase:
            seen.append(phase)
            if phase[0] == Learning.LOCATION:
                assert "own location after" in (view.warming(state, 0, 16, 5) or "")
            if phase[0] == Learning.MEDIANS:
                assert where.learnt[0] == location.LIMIT
                assert clean >= location.LIMIT
                medians = state.decision.median[0].copy()
                own = where.location[0].copy()
                assert (own != group).any(axis=0).all()
                assert "own scale" in (view.warming(state, 0, 16, 5) or "")
    assert seen == [(Learning.LOCATION, 1), (Learning.MEDIANS, 2), (Learning.OWN, 3)]
    assert (state.decision.median[0] != medians).all()
    assert (state.location.location[0] != own).any()  # it follows the entity from there on
    assert view.warming(state, 0, 16, 5) is None
    first = shared_fleet.values[feed.rows[0][: location.LIMIT], 0]
    assert own[0, 0] == pytest.approx(np.nanmean(first), rel=0.05)


# -- snapshots -------------------------------------------------------------------------------------


def run_in(stand: Stand, fleet: Fleet) -> Life:
    feed = feed_of(fleet, range(20, 60), TRAINED - 20, 900, partitions=2)
    life = life_of(stand, feed)
    life.take({0: 6000, 1: 5000})
    while (life.chain.state.decision.core["phase"] == Phase.NORMAL).all():
        life.take({0: 20, 1: 20})
    return life


def test_a_snapshot_holds_every_array(shared_stand: Stand, shared_fleet: Fleet) -> None:
    life = run_in(shared_stand, shared_fleet)
    state = life.chain.state
    assert (state.decision.core["phase"] != Phase.NORMAL).any()
    assert state.drift.held.any()
    snapshot = state.snapshot(1, life.position[1])
    pairs, _ = encode_snapshot(TOPIC, 1, snapshot, None, 1, 0)
    restorer = Restorer()
    for key, value in pairs:
        restorer.feed(key, value)
    found = restorer.restored(TOPIC, 1).snapshot
    assert found is not None
    other = shared_stand.chain().state
    other.table.intern_all(other.part(TOPIC, 0), ["someone", "else"])
    index = other.part(TOPIC, 1)
    other.restore(index, found, state.rulings[1])
    here, there = (one.table.lookup(i) for one, i in ((state, 1), (other, index)))
    assert not here.items() & there.items()  # other slots
    assert here.keys() == there.keys()
    for which in ("window", "location", "decision", "assigned"):
        a, b = getattr(state, which), getattr(other, which)
        for name in a._fields:
            x = getattr(a, name)[[here[one] for one in sorted(here)]]
            y = getattr(b, name)[[there[one] for one in sorted(here)]]
            assert x.dtype == y.dtype
            assert name == "owner" or x.tobytes() == y.tobytes(), f"{which}.{name}"
    for which in ("progress", "drift"):
        a, b = getattr(state, which), getattr(other, which)
        for name in a._fields:
            assert getattr(a, name)[1].tobytes() == getattr(b, name)[index].tobytes(), f"{which}.{name}"


def test_restored_into_other_slots_it_goes_on_the_same(shared_stand: Stand, shared_fleet: Fleet) -> None:
    straight, moved = run_in(shared_stand, shared_fleet), run_in(shared_stand, shared_fleet)
    before = [dict(moved.chain.state.table.lookup(p)) for p in (0, 1)]
    for p in (0, 1):
        moved.snapshot(p)
    for p in (1, 0):
        moved.leave(p)
    for p in (1, 0):
        assert moved.recover(p, moved.changelog.markers[p].next_offset) == 0
    assert [moved.chain.state.table.lookup(p) for p in (0, 1)] != before
    for life in (straight, moved):
        life.take({0: 10**6, 1: 10**6})
    assert differences(straight.diary, moved.diary) == []
    assert state_differences(straight, moved) == []


def test_a_snapshot_of_other_features_is_refused(
    shared_stand: Stand, own_stand: Stand, shared_fleet: Fleet
) -> None:
    life = run_in(shared_stand, shared_fleet)
    snapshot = life.chain.state.snapshot(0, life.position[0])
    other = own_stand.chain().state
    with pytest.raises(StateError, match="made for other features"):
        other.restore(other.part(TOPIC, 0), snapshot, life.chain.state.rulings[0])
    earlier = snapshot._replace(note={**snapshot.note, "format": 1})
    said = "has the format 1; this program reads 3. Go back to the version of tocsin that wrote it, or start a stream"
    with pytest.raises(StateError, match=said):
        other.restore(other.part(TOPIC, 0), earlier, life.chain.state.rulings[0])
    with pytest.raises(StateError, match=said):
        decision_of(earlier, (TOPIC, 0), shared_fleet.names[0])
    fields = {k: v for k, v in snapshot.slots.items() if k != "decision.core.S"}
    same = shared_stand.chain().state
    with pytest.raises(StateError, match=r"no usable field .*decision\.core\.S"):
        same.restore(same.part(TOPIC, 0), snapshot._replace(blocks=[fields]), life.chain.state.rulings[0])


def test_an_incident_closed_at_the_committed_offset_is_told_after_a_crash(
    shared_stand: Stand, shared_fleet: Fleet
) -> None:
    """The change is written, acts, and the process dies before its alert is acknowledged: it is told again."""
    feed = feed_of(shared_fleet, range(8), TRAINED, 1000)
    life = life_of(shared_stand, feed)
    state = life.chain.state
    while not (state.decision.core["phase"] == Phase.FIRING).any():
        assert life.take({0: 5})
    slot = int(np.argmax(state.decision.core["phase"] == Phase.FIRING))
    entity = state.table.name(slot)
    onset = int(state.decision.core["onset"][slot])
    opened = alerts.alert_id("fleet", entity, alerts.Kind.ANOMALY, onset)
    change = Resolve(alert_id=opened, entity=entity, topic=TOPIC, partition=0, **STAMP)
    assert life.add_change(1, change) == ""
    at = life.position[0]
    life.snapshot(0)
    life.written[0] = [(at, 1)]
    life.take({0: 1})
    told = [message for offset, message in life.diary.pages[0].said if offset == at]
    assert b'"operator"' in told[0]
    life.leave(0)
    life.recover(0, at)
    life.take({0: 1})
    assert [message for offset, message in life.diary.pages[0].said if offset == at] == told


# -- promotion -------------------------------------------------------------------------------------


def test_promotion_starts_smoothing_from_ordinary_over_what_is_held(
    shared_stand: Stand, shared_fleet: Fleet
) -> None:
    """What lies before the records held has no part in it: a long past and a short one end at the same bits."""
    last = 600
    long, short = (
        life_of(shared_stand, feed_of(shared_fleet, range(30, 40), first, last))
        for first in (TRAINED, last - 30)
    )
    ruling = shared_stand.rulings([promotion(shared_stand.names[1])]).ruling()
    smoothed = []
    for life in (long, short):
        life.take({0: 10**6})
        state, names = life.chain.state, sorted(life.chain.state.table.lookup(0))
        epochs = state.decision.core["epoch"].copy()
        life.chain.promote(0, ruling)
        slots = np.array([state.table.lookup(0)[name] for name in names], np.int32)
        assert (state.decision.core["epoch"][slots] == epochs[slots] + 1).all()
        decision = state.decision
        smoothed.append((decision.fast[slots], decision.slow[slots], decision.core["S"][slots]))
        np.testing.assert_array_equal(
            decision.median[slots],
            ruling.model.calibration.median[[ruling.model.version.entity_row(name) for name in names]],
        )
    held = long.chain.state.window.held[long.chain.state.slots_of(0)]
    assert (held == 16).all()
    for one, other in zip(*smoothed, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(np.unique(smoothed[0][2])) > 5


def test_promotion_of_an_entity_without_a_window_is_ordinary(
    shared_stand: Stand, shared_fleet: Fleet
) -> None:
    feed = feed_of(shared_fleet, range(30, 31), TRAINED, TRAINED + 3)
    life = life_of(shared_stand, feed)
    life.take({0: 10**6})
    life.chain.promote(0, shared_stand.rulings([promotion(shared_stand.names[1])]).ruling())
    decision = life.chain.state.decision
    np.testing.assert_array_equal(decision.fast[0], 0.5 * np.exp(decision.median[0]))
    np.testing.assert_array_equal(decision.slow[0], decision.fast[0])
    assert decision.core["S"][0] == 0
    # and a record at its median leaves it there
    warm(
        decision,
        np.zeros(1, np.int32),
        np.zeros(1, np.int64),
        np.exp(decision.median[:1]).astype(np.float32) / 2,
    )
    np.testing.assert_allclose(decision.fast[0], 0.5 * np.exp(decision.median[0]), rtol=1e-6)


# -- recalibration ---------------------------------------------------------------------------------


def decided(life: Life) -> dict[str, dict[str, np.ndarray]]:
    """Copies of what is decided by, per entity and field; `share`, which all entities get, is left out."""
    state = life.chain.state
    whole = state.decision._asdict() | {name: state.decision.core[name] for name in CORE.names or ()}
    del whole["core"], whole["share"]
    slots = state.table.lookup(0).items()
    return {entity: {name: array[slot].copy() for name, array in whole.items()} for entity, slot in slots}


def altered(before: dict[str, dict[str, np.ndarray]], after: dict[str, dict[str, np.ndarray]]) -> set[str]:
    return {
        one for one in before if any(v.tobytes() != after[one][k].tobytes() for k, v in before[one].items())
    }


def test_a_recalibration_touches_only_what_it_names(shared_stand: Stand, shared_fleet: Fleet) -> None:
    """Two entities of each kind, trained and new; one of each is named, then reverted. The budget is everyone's."""
    names = [shared_fleet.names[i] for i in (38, 39, 40, 41)]
    life = life_of(shared_stand, feed_of(shared_fleet, range(38, 42), TRAINED, 1700))
    state, model = life.chain.state, shared_stand.names[0]
    life.take({0: 5000})
    assert (state.decision.core["accepted"][state.slots_of(0)] > 100).all()
    rows = shared_stand.recalibration(model, "9/day", names[:2], 0.2)
    over = msgspec.structs.replace(rows, names=[names[0], names[2]])
    budget = shared_stand.recalibration(model, "1/week", [], 0.0)
    changes = (over, budget, Revert(version=1, **STAMP))
    seen = [decided(life)]
    for version, change in enumerate(changes, 1):
        assert life.add_change(version, change) == ""
        life.written[0] = [(life.position[0], version)]
        life.take({0: 0})
        seen.append(decided(life))
        ruling = state.rulings[0]
        assert ruling.change == version
        assert (state.decision.core["share"][state.slots_of(0)] == ruling.share).all()
    start, named, rebudgeted, reverted = seen
    assert altered(start, named) == {names[0], names[2]}
    assert altered(named, rebudgeted) == set()
    assert altered(rebudgeted, reverted) == {names[0], names[2]}
    levels = calibration_of(over)["level"].tolist()
    for name, level in zip((names[0], names[2]), levels, strict=True):
        assert named[name]["epoch"] == start[name]["epoch"] + 1
        assert named[name]["level"] == level
        assert named[name]["S"] == start[name]["S"]
    own = shared_stand.models[model].calibration
    assert (
        reverted[names[0]]["total"] == own.counts[shared_stand.models[model].version.entities[names[0]]].sum()
    )
    assert reverted[names[2]]["total"] == pytest.approx(min(own.counts[-1].sum(), PRIOR_WEIGHT))
    assert reverted[names[2]]["borrowed"]


def test_who_comes_after_recalibrations_starts_from_the_last_that_names_it(shared_stand: Stand) -> None:
    model = shared_stand.names[0]
    a, b, c = list(shared_stand.models[model].version.entities)[:3]
    changes = [
        shared_stand.recalibration(model, "9/day", some, shift) for some, shift in (([a, b], 1), ([b], 2))
    ]
    changes[1] = msgspec.structs.replace(changes[1], budget=None, entities=None, prior=None)
    changes[0] = msgspec.structs.replace(changes[0], names=[a, "a stranger"])
    chain, ruling = shared_stand.chain(), shared_stand.rulings(changes).ruling()
    assert ruling.origins([a, b, c, "a stranger", "another"]).tolist() == [1, 2, OF_MODEL, 1, NO_ROW]
    assert (ruling.budget.text, ruling.entities) == ("9/day", 2)
    state = chain.state
    state.rulings[state.part(TOPIC, 0)] = ruling
    slots = state.table.intern_all(0, [a, b, c, "a stranger", "another"])
    state.admit(state.table.take_new())
    core = state.decision.core[slots]
    first, second = calibration_of(changes[0]), calibration_of(changes[1])
    own = shared_stand.models[model].calibration.level[2]
    expected = [first["level"][0], second["level"][0], own, first["level"][1], ruling.prior.level[0]]
    assert core["level"].tolist() == expected
    assert core["epoch"].tolist() == [1] * 5
    assert core["learning"].tolist() == [Learning.CALIBRATED] * 3 + [Learning.LOCATION] * 2
    assert core["borrowed"].tolist() == [0, 0, 0, 0, 1]


def calibration_of(change: Any) -> dict[str, np.ndarray]:
    return unpack_arrays(change.calibration, "the change")


# -- missing values --------------------------------------------------------------------------------


@pytest.fixture
def settled(shared_stand: Stand, shared_fleet: Fleet) -> tuple[Life, np.ndarray, int]:
    """A life of one entity, its last values and the time of its next record."""
    fleet, feed = shared_fleet, feed_of(shared_fleet, range(30, 31), TRAINED, 300)
    life = life_of(shared_stand, feed)
    life.take({0: 10**6})
    state = life.chain.state
    head = int(state.window.head[0])
    values = state.window.values[0, (head - 1) % 16].astype(np.float64)
    values = np.where(np.isnan(values), fleet.values[feed.rows[0][-1]], values)
    values[-1] = fleet.values[feed.rows[0], -1][~np.isnan(fleet.values[feed.rows[0], -1])].max()
    return life, values, windows.newest_of(state.window, 0) + 10_000_000


def test_a_record_without_any_value_moves_only_time(shared_fleet: Fleet, settled: Any) -> None:
    life, values, time_us = settled
    state = life.chain.state
    decision = {name: array.tobytes() for name, array in state.decision._asdict().items()}
    where = {name: array.tobytes() for name, array in state.location._asdict().items()}
    trend = state.window.trend.tobytes()
    outcome = life.chain.process(row_of(life.chain, shared_fleet, 30, time_us, np.full(8, np.nan)), NONE)
    assert outcome.verdict.tolist() == [Verdict.ALL_MISSING]
    assert len(outcome.row) == 0
    rows = announcing.score_rows(outcome, life.names)
    assert (rows.null_reason, np.isnan(rows.score).all()) == (["all_missing"], True)
    assert {name: array.tobytes() for name, array in state.decision._asdict().items()} == decision
    assert {name: array.tobytes() for name, array in state.location._asdict().items()} == where
    assert state.window.trend.tobytes() == trend
    assert windows.newest_of(state.window, 0) == time_us
    again = life.chain.process(row_of(life.chain, shared_fleet, 30, time_us, values), NONE)
    assert again.verdict.tolist() == [Verdict.DUPLICATE]  # its time is taken
    after_it = life.chain.process(row_of(life.chain, shared_fleet, 30, time_us + 10_000_000, values), NONE)
    assert np.isfinite(after_it.score).all()


def test_a_missing_channel_adds_nothing_and_is_not_blamed(shared_fleet: Fleet, settled: Any) -> None:
    life, values, time_us = settled
    state = life.chain.state
    trend = state.window.trend[0].copy()
    holed = values.copy()
    holed[2] = np.nan
    outcome = life.chain.process(row_of(life.chain, shared_fleet, 30, time_us, holed), NONE)
    assert outcome.verdict.tolist() == [Verdict.SCORED]
    assert np.isfinite(outcome.score).all()
    assert np.isnan(outcome.observed[0, 2])
    assert outcome.shares[0, 2] == 0
    assert outcome.shares[0].sum() == pytest.approx(1, abs=1e-5)
    assert np.isfinite(outcome.expected[0, 2])  # what it would have been is still known
    assert state.window.trend[0, 2] == trend[2]  # its running mean stands still
    assert (state.window.trend[0, [0, 1, 3]] != trend[[0, 1, 3]]).all()
    assert np.isnan(state.window.values[0, (int(state.window.head[0]) - 1) % 16, 2])  # never the last value
    row = announcing.score_rows(outcome, life.names)
    assert shared_fleet.features[2] not in (row.top_features[0] or [])
    assert (
        announcing.score_rows(outcome, life.names, top=1).top_features[0] == (row.top_features[0] or [])[:1]
    )


def test_a_counter_that_falls_is_missing_and_counts_on(shared_fleet: Fleet, settled: Any) -> None:
    life, values, time_us = settled
    chain = life.chain
    reset = values.copy()
    reset[-1] = 1.0
    outcome = chain.process(row_of(chain, shared_fleet, 30, time_us, reset), NONE)
    assert np.isnan(outcome.observed[0, -1])
    assert outcome.shares[0, -1] == 0
    reset[-1] = 21.0
    outcome = chain.process(row_of(chain, shared_fleet, 30, time_us + 10_000_000, reset), NONE)
    assert outcome.observed[0, -1] == pytest.approx(2.0)


def test_warming_says_so_until_the_window_is_full(shared_stand: Stand, shared_fleet: Fleet) -> None:
    feed = feed_of(shared_fleet, range(81, 82), TRAINED, TRAINED + 12)
    outcome = life_of(shared_stand, feed).take({0: 8})
    assert outcome is not None
    new = outcome.verdict[np.isin(outcome.verdict, (Verdict.SCORED, Verdict.WARMING))]
    assert new[:4].tolist() == [Verdict.WARMING] * 4
    assert (new[4:] == Verdict.SCORED).all()
    assert outcome.onset.tolist() == [NO_TIME] * len(outcome.row)
