"""Promise 2, same input, same answer: the same records and changes give the same bits, however they come.

One life takes partition after partition in large batches. Others take the same records in random batches and
interleavings, are killed and restored from the changelog, lose partitions and get them back. Scores, p-values,
thresholds, incidents, alerts, drift decisions and the whole state at the end are compared to the bit.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from lives import Diary, Life, differences, state_differences
from telemetry import Fleet
from tocsin.detector.alerts import Alert, Kind, Resolution, Status
from tocsin.detector.changes import BudgetChange, Change, Resolve, Revert
from tocsin.detector.judging import feedback_of
from tocsin.detector.settings import Duration, State
from tocsin.detector.settings_stream import Band
from tocsin.pipelines.windows import Verdict
from tocsin.thresholds.constants import REFRESH
from versions import OWN_TRAINED, STAMP, TRAINED, Feed, Stand, after, promotion

PARTITIONS = 4
RESOLVE = 4


class Case(NamedTuple):
    """Records, and where which change acts. Change 4 is made by the first life: it closes an open incident."""

    stand: Stand
    feed: Feed
    changes: list[Change]
    written: dict[int, list[tuple[int, int]]]
    learned: dict[tuple[str, int], int]
    """Records learned by entity and epoch, as seen between the batches of the plain life."""


def make_case(stand: Stand, fleet: Fleet, rows: np.ndarray, shares: list[list[float]], budget: str) -> Case:
    feed = Feed(fleet, rows, PARTITIONS)
    second = stand.names[1]
    known = list(stand.models[second].version.entities)
    changes: list[Change] = [
        promotion(second),
        stand.recalibration(second, budget, known[::2], 0.1),
        BudgetChange(budget="30/day per entity", max_incidents=3, **STAMP),
    ]
    written = {
        p: [(int(end * share), version) for version, share in enumerate(shares[p], 1)]
        for p, end in enumerate(feed.ends)
    }
    return Case(stand, feed, changes, written, {})


def plain_life(case: Case, size: int) -> tuple[Life, Diary]:
    """Partition after partition in batches of `size`, without a fault; makes change 4 on the way."""
    diary = Diary(case.feed)
    rulings = case.stand.rulings(case.changes)
    life = Life(case.stand, rulings, case.feed, case.written, diary, np.random.default_rng(0))
    for p in range(PARTITIONS):
        life.begin(p)
        while life.left(p) or life.due(p):
            acts = life.due(p)
            life.take({p: size if acts else min(size, 500)})
            note_learned(case, life, p)
            if acts is None and len(case.written[p]) < RESOLVE:
                close_an_incident(case, life, p)
    return life, diary


def note_learned(case: Case, life: Life, partition: int) -> None:
    state = life.chain.state
    slots = state.slots_of(life.index(partition))
    core = state.decision.core[slots]
    names = [state.table.name(slot) for slot in slots.tolist()]
    keys = zip(names, core["epoch"].tolist(), strict=True)
    case.learned.update(zip(keys, core["accepted"].tolist(), strict=True))


def close_an_incident(case: Case, life: Life, partition: int) -> None:
    """Let an operator close the first incident that is open now, or go without."""
    state = life.chain.state
    if len(case.changes) == RESOLVE:
        case.written[partition].append((life.position[partition], RESOLVE))
        return
    open_now = alerts_of(life.diary, partition)
    for alert in reversed(open_now):
        if alert.status is Status.FIRING and alert.kind is Kind.ANOMALY:
            slot = state.table.lookup(life.index(partition))[alert.labels.entity]
            if state.decision.core["phase"][slot] == 2 and not state.decision.core["held"][slot]:
                topic, number = life.feed.parts[partition]
                change = Resolve(
                    alert_id=alert.alert_id,
                    entity=alert.labels.entity,
                    topic=topic,
                    partition=number,
                    **STAMP,
                )
                case.changes.append(change)
                case.written[partition].append((life.position[partition], RESOLVE))
                assert life.add_change(RESOLVE, change) == ""
                return


def spoken_life(case: Case, size: int) -> tuple[Life, Diary]:
    """The same, but that operators speak of incidents of the first partition: after some batches, one thing each."""
    diary = Diary(case.feed)
    life = Life(
        case.stand, case.stand.rulings(case.changes), case.feed, case.written, diary, np.random.default_rng(0)
    )
    for p in range(PARTITIONS):
        life.begin(p)
        unsaid = list(SPEECHES)
        while life.left(p) or life.due(p):
            life.take({p: size})
            if not unsaid or life.due(p):
                continue
            version = 2 + len(SPEECHES) - len(unsaid)
            if p == 0:
                change = spoken(case, diary, unsaid[0])
                if change is None:
                    continue
                case.changes.append(change)
                assert life.add_change(version, change) == ""
            unsaid.pop(0)
            case.written[p].append((life.position[p], version))
        assert not unsaid
    return life, diary


SPEECHES = ("expected", "true", "revert", "true", "expected", "true", "false")


def spoken(case: Case, diary: Diary, speech: str) -> Change | None:
    """What is said next: "expected" of an incident that is open, "false" of a strong one that is over, "true" of the
    one that was told last, or the change before it taken back; None where there is no such incident now."""
    if speech == "revert":
        return Revert(version=len(case.changes) - 1, **STAMP)
    newest = {alert.alert_id: alert for alert in alerts_of(diary, 0) if alert.kind is Kind.ANOMALY}
    strong = {alert.alert_id: alert for alert in newest.values() if alert.annotations.escalation}
    among = {"false": strong, "expected": newest, "true": newest}[speech]
    is_open = speech == "expected"
    found = [alert for alert in among.values() if not is_open or alert.status is Status.FIRING]
    if not found:
        return None
    until = "10m" if is_open else None
    return feedback_of([found[-1]], case.stand.stream.name, speech, until, "ada", "why")


def hard_life(case: Case, seed: int, largest: int) -> tuple[Life, Diary, dict[str, int]]:
    """Random cuts and interleavings, snapshots, kills, and partitions that move away and come back."""
    rng = np.random.default_rng(seed)
    diary, rulings = Diary(case.feed), case.stand.rulings(case.changes)
    life = Life(case.stand, rulings, case.feed, case.written, diary, rng)
    for p in rng.permutation(PARTITIONS).tolist():
        life.begin(p)
    done = {"batches": 0, "kills": 0, "moves": 0, "replayed": 0}
    away: dict[int, int] = {}
    while True:
        going = [p for p in life.position if life.left(p) or life.due(p)]
        if not going and not away:
            return life, diary, done
        if going:
            some = rng.permutation(going)[: rng.integers(1, len(going) + 1)]
            size = int(np.exp(rng.uniform(0, np.log(largest))))
            weights = rng.dirichlet(np.ones(len(some)))
            life.take(dict(zip(some.tolist(), (1 + weights * size).astype(int).tolist(), strict=True)))
            done["batches"] += 1
        luck = rng.random()
        if luck < 0.10 and life.position:
            life.snapshot(int(rng.choice(list(life.position))))
        elif luck < 0.14 and life.position:
            p = int(rng.choice(list(life.position)))
            away[p] = life.position[p]
            if rng.random() < 0.5:
                life.snapshot(p)
            life.leave(p)
        elif luck < 0.24 and away:
            p, committed = away.popitem()
            done["replayed"] += life.recover(p, committed)
            done["moves"] += 1
        elif luck < 0.27 and done["kills"] < 6:
            reached = life.position | away
            life = Life(case.stand, rulings, case.feed, case.written, diary, rng, life.changelog)
            away = {}
            for p in rng.permutation(PARTITIONS).tolist():
                marker = life.changelog.markers[p]
                committed = int(rng.integers(marker.next_offset, reached[p] + 1))
                done["replayed"] += life.recover(p, committed)
            done["kills"] += 1


def alerts_of(diary: Diary, partition: int) -> list[Alert]:
    found = []
    for _, message in diary.pages[partition].said:
        if b'"alert_id"' in message:
            found.append(msgspec.json.decode(message, type=Alert))
    return found


def agree(case: Case, seeds: range, largest: int, plain: tuple[Life, Diary]) -> None:
    """Hard lives of all seeds against the plain one."""
    life, diary = plain
    for seed in seeds:
        other, its, done = hard_life(case, seed, largest)
        print(f"seed {seed}: {done}")
        assert done["kills"]
        assert done["replayed"]
        assert differences(diary, its) == [], f"seed {seed}"
        assert state_differences(life, other) == [], f"seed {seed}"


def watchful(stand: Stand) -> Stand:
    """The stand, where it also matters how records come, and where of two features not every deviation does."""
    waits = {"absent_after": "8m", "behind_after": "5m", "partial_after": "20s"}
    spans = {name: Duration.parse(text) for name, text in waits.items()}
    bands = {stand.stream.features[0]: Band(direction="up"), stand.stream.features[1]: Band(dead=3.0)}
    return stand._replace(
        settings=msgspec.structs.replace(
            stand.settings,
            incidents=msgspec.structs.replace(stand.settings.incidents, **spans),
            streams=(msgspec.structs.replace(stand.stream, bands=bands),),
        )
    )


@pytest.fixture(scope="module")
def case(shared_stand: Stand, shared_fleet: Fleet) -> Case:
    """200 entities of which the first version knows 40; the stream begins within its training range.

    Some entities come late, some fall silent in the middle, some records of one have all values missing.
    """
    fleet = shared_fleet._replace(values=shared_fleet.values.copy())
    rng = np.random.default_rng(3)
    begins = np.where(rng.random(200) < 0.15, rng.uniform(0, 400, 200), 0.0) * 10_000_000
    ends = np.where(rng.random(200) < 0.1, rng.uniform(1000, 1600, 200), 1e9) * 10_000_000
    since = fleet.time_us - after(fleet, TRAINED - 20)
    rows = np.flatnonzero((since >= begins[fleet.entity]) & (since < ends[fleet.entity]))
    fleet.values[rng.choice(rows, len(rows) // 300, replace=False)] = np.nan
    shares = [[0.18, 0.36, 0.8], [0.185, 0.375, 0.78], [0.19, 0.37, 0.76], [0.195, 0.38, 0.82]]
    return make_case(watchful(shared_stand), fleet, rows, shares, "100/day")


@pytest.fixture(scope="module")
def plain(case: Case) -> tuple[Life, Diary]:
    return plain_life(case, 4000)


def test_what_is_compared_is_worth_comparing(case: Case, plain: tuple[Life, Diary]) -> None:
    """The counts that the issue asks for, and that every path of the chain was gone."""
    life, diary = plain
    verdict = np.concatenate([page.columns["verdict"] for page in diary.pages])
    counts = {kind.name.lower(): int((verdict == kind).sum()) for kind in Verdict}
    state = life.chain.state
    found = [alert for p in range(PARTITIONS) for alert in alerts_of(diary, p)]
    opened = {a.alert_id for a in found if a.status is Status.FIRING and a.kind is Kind.ANOMALY}
    digests = {a.alert_id for a in found if a.kind is Kind.DIGEST}
    reasons = {a.annotations.reason for a in found if a.annotations.reason}
    refreshes = sum(n // REFRESH for n in case.learned.values()) / len(state.table)
    print(
        f"{len(verdict)} records, {len(state.table)} entities, {counts}, {len(opened)} incidents, {len(digests)} "
        f"digests, {len(found)} alerts, reasons {sorted(reasons)}, {refreshes:.2f} refreshes an entity, "
        f"{sum(len(page.drifts) for page in diary.pages)} drift decisions"
    )
    assert len(verdict) >= 50_000
    assert len(state.table) == 200
    assert len(opened) >= 20
    assert digests
    assert reasons == set(Resolution)
    assert {a.kind for a in found} >= {Kind.ABSENCE, Kind.PARTIAL}
    assert any(a.annotations.in_a_row > 2 for a in found)
    assert sum(int(page.columns["excused"].sum()) for page in diary.pages) > 10
    assert refreshes >= 3
    assert counts["not_admitted"] == 0
    for kind in (Verdict.ALL_MISSING, Verdict.DUPLICATE, Verdict.OUT_OF_ORDER, Verdict.LATE, Verdict.WARMING):
        assert counts[kind.name.lower()] > 100, kind
    learning = state.decision.core["learning"][np.concatenate([state.slots_of(p) for p in range(PARTITIONS)])]
    assert (learning == 0).sum() == 40
    assert (learning == 3).sum() > 50  # have taken over their own location and their own medians
    assert any(page.drifts for page in diary.pages)
    starts = [offset for p in range(PARTITIONS) for offset, _ in case.written[p]]
    assert len(set(starts)) == len(starts) >= 3 * PARTITIONS


def test_cuts_interleavings_and_restarts_change_no_bit(case: Case, plain: tuple[Life, Diary]) -> None:
    agree(case, range(2), 20_000, plain)


def test_entities_that_give_way_change_no_bit(case: Case) -> None:
    """The same records where there is room for a part of the entities, and strangers come for a while by turns."""
    fleet = case.feed.fleet
    rows = np.sort(np.concatenate(case.feed.rows))
    period = (fleet.time_us[rows] - after(fleet, TRAINED)) // 10_000_000
    of = fleet.entity[rows]
    turn = 120 * (of // 40 - 1)  # of three crowds, for 150 records each, and then again
    comes = (of < 40) | ((period - turn) % 600 < 150)
    kept = State(max_entities=30, forget_after=Duration.parse("40m"), max_new_entities=6)
    stand = case.stand._replace(settings=msgspec.structs.replace(case.stand.settings, state=kept))
    shares = [[0.18, 0.36, 0.8], [0.185, 0.375, 0.78], [0.19, 0.37, 0.76], [0.195, 0.38, 0.82]]
    narrow = make_case(stand, fleet, rows[comes], shares, "100/day")
    plain = plain_life(narrow, 4000)
    verdict = np.concatenate([page.columns["verdict"] for page in plain[1].pages])
    print(
        f"{len(verdict)} records, {dict(plain[0].evicted)}, {(verdict == Verdict.NOT_ADMITTED).sum()} turned away"
    )
    assert plain[0].evicted["limit"] > 50
    assert plain[0].evicted["ttl"] > 10
    assert (verdict == Verdict.NOT_ADMITTED).sum() > 100
    assert sum(len(alerts_of(plain[1], p)) for p in range(PARTITIONS)) >= 20
    agree(narrow, range(2), 20_000, plain)


def test_one_panel_per_entity_is_as_exact(own_stand: Stand, own_fleet: Fleet) -> None:
    rows = np.flatnonzero(own_fleet.time_us >= after(own_fleet, OWN_TRAINED - 20))
    shares = [[0.2, 0.5, 0.8], [0.25, 0.55, 0.75], [0.3, 0.45, 0.7], [0.15, 0.6, 0.9]]
    case = make_case(own_stand, own_fleet, rows, shares, "2/day per entity")
    plain = plain_life(case, 500)
    assert sum(len(alerts_of(plain[1], p)) for p in range(PARTITIONS)) >= 10
    agree(case, range(2), 1000, plain)


def test_what_operators_say_changes_no_bit_either(shared_stand: Stand, shared_fleet: Fleet) -> None:
    """Feedback on incidents that are over and open, expected ones and what opens under them, and one taken back."""
    rows = np.flatnonzero((shared_fleet.time_us >= after(shared_fleet, TRAINED)) & (shared_fleet.entity < 40))
    feed = Feed(shared_fleet, rows, PARTITIONS)
    first: list[Change] = [BudgetChange(budget="12/day per entity", max_incidents=50, **STAMP)]
    case = Case(shared_stand, feed, first, {p: [(3 + p, 1)] for p in range(PARTITIONS)}, {})
    plain = spoken_life(case, 150)
    said = [change for change in case.changes if getattr(change, "verdict", None)]
    assert len(said) == len(SPEECHES) - 1
    told = alerts_of(plain[1], 0)
    expected = [alert for alert in told if alert.annotations.expected]
    assert {alert.status for alert in expected} == set(Status)
    assert Resolution.OPERATOR in {
        alert.annotations.reason for alert in told if not alert.annotations.expected
    }
    agree(case, range(3), 3000, plain)
