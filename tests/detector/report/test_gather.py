"""What is gathered from the real chain agrees with its outcomes, record by record."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from telemetry import Fleet
from tocsin.detector.alerts import Status
from tocsin.detector.replay import Cut, Replay, Step, Tape, Written
from tocsin.detector.report import facts, page
from tocsin.detector.report.gather import Gathered
from tocsin.pipelines.records import NO_TIME
from tocsin.pipelines.windows import Verdict
from versions import OWN_TRAINED, Feed, Stand, after


def steps_of(stand: Stand, fleet: Fleet, rows: int) -> tuple[Gathered, list[Step]]:
    """A replay with labels in batches of so many rows, gathered and kept."""
    chosen = np.flatnonzero(fleet.time_us >= after(fleet, OWN_TRAINED))
    feed = Feed(fleet, chosen, 1)
    chain = stand.chain()
    replay = Replay(chain, stand.rulings(), stand.stream.name, [Written(feed.parts[0], 0, 0)])

    def batches():
        for first in range(0, feed.ends[0], rows):
            offsets = np.arange(first, min(first + rows, feed.ends[0]))
            records = feed.records(chain, np.zeros(len(offsets), np.int64), offsets)
            label = fleet.label[feed.rows[0][offsets]].astype(np.int8)
            yield Cut(records, chain.state.table.take_new(), label)

    gathered, steps = Gathered(chain.state), []
    for step in replay.run(Tape(feed.parts[0], 0, feed.ends[0], batches())):
        gathered.take(step)
        steps.append(step)
    return gathered, steps


@pytest.fixture(scope="module")
def ran(own_stand: Stand, own_fleet: Fleet) -> tuple[Gathered, list[Step]]:
    return steps_of(own_stand, own_fleet, 700)


def test_the_tallies_are_those_of_the_records(ran: tuple[Gathered, list[Step]]) -> None:
    gathered, steps = ran
    outcomes = [step.outcome for step in steps if step.outcome is not None]
    verdicts: Counter[int] = Counter()
    tallies: dict[str, Counter[str]] = defaultdict(Counter)
    excess: dict[str, float] = {}
    for outcome in outcomes:
        verdicts.update(outcome.verdict.tolist())
        for i, row in enumerate(outcome.row.tolist()):
            name = gathered.state.table.name(int(outcome.records.slot[row]))
            judged = np.isfinite(outcome.p[i])
            tallies[name]["scored"] += 1
            tallies[name]["judged"] += judged
            tallies[name]["anomalous"] += judged and bool(outcome.anomalous[i])
            tallies[name]["inside"] += judged and outcome.onset[i] != NO_TIME
            if judged:
                excess[name] = max(excess.get(name, -np.inf), outcome.score[i] - outcome.threshold[i])
    assert {
        verdict: int(gathered.verdicts[verdict]) for verdict in Verdict if gathered.verdicts[verdict]
    } == verdicts
    assert len(tallies) == 10
    for name, expected in tallies.items():
        slot = gathered.state.table.lookup(0)[name]
        assert {key: int(gathered.tally[slot][key]) for key in expected} == expected, name
        assert gathered.tally[slot]["excess"] == excess[name]


def test_the_incidents_are_those_of_the_alerts(ran: tuple[Gathered, list[Step]]) -> None:
    gathered, steps = ran
    alerts = [alert for step in steps for alert in step.alerts]
    opened = {alert.alert_id: alert for alert in alerts if alert.status is Status.FIRING}
    held = {key: one for incidents in gathered.incidents.values() for key, one in incidents.items()}
    assert held.keys() == opened.keys()
    assert len(held) > 5
    for alert in alerts:
        if alert.status is Status.RESOLVED:
            assert held[alert.alert_id].peak == alert.annotations.peak
            assert held[alert.alert_id].reason == alert.annotations.reason
    firing = sum(alert.status is Status.FIRING for alert in alerts)
    assert int(gathered.tally["openings"].sum()) == firing


def test_where_batches_are_cut_changes_nothing(
    ran: tuple[Gathered, list[Step]], own_stand: Stand, own_fleet: Fleet
) -> None:
    other, _ = steps_of(own_stand, own_fleet, 4096)
    pages = [page.page(facts.report(gathered, "fleet")) for gathered in (ran[0], other)]
    assert pages[0] == pages[1]


def test_the_labels_find_the_planted_faults(ran: tuple[Gathered, list[Step]], own_fleet: Fleet) -> None:
    found = facts.report(ran[0], "fleet").quality
    assert found is not None
    assert found.events >= len(own_fleet.faults)
    assert found.found > 0
    assert found.auc_pr > 2 * found.base_rate


def test_drift_blocks_are_gathered(ran: tuple[Gathered, list[Step]]) -> None:
    gathered, steps = ran
    blocks = [block for step in steps if step.outcome for block in step.outcome.blocks]
    scored = int(gathered.tally["scored"].sum())
    assert len(blocks) == scored // 256
    report = facts.report(gathered, "fleet")
    assert len(report.drifts[0].series.time_us) > 0
    decided = sum(len(step.outcome.drifts) for step in steps if step.outcome)
    assert report.drifts[0].decided == decided
