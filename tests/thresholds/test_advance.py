"""The decision kernel as a whole: no dependence on cuts and interleavings, what is learned and when."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.thresholds.constants import DAY_US, LEARN_RECORDS, REFRESH, WAIT, Basis, Caution, Kind, Learning
from tocsin.thresholds.histogram import bin_of
from tocsin.thresholds.state import DecisionState, PartState, Rows, Rules

MINUTE = 60_000_000
OWNER = [0, 0, 0, 1, 1, 2]
LATE = 180 * MINUTE  # of the second entity
COLUMNS = Rows._fields


def stream(seed, length, members=3):
    """`length` rows per entity in one order per partition: calm, with bursts, gaps, level shifts and days."""
    rng = np.random.default_rng(seed)
    rows = []
    for slot, part in enumerate(OWNER):
        step = int(rng.choice([MINUTE, 10 * MINUTE, 60 * MINUTE]))
        times = np.cumsum(rng.integers(1, step, length)) + rng.integers(0, DAY_US)
        times[length // 2 :] += int(rng.choice([0, 2 * DAY_US]))
        members_of = 0.45 * np.exp(rng.normal(0, 0.4, (length, members)))
        for first in rng.integers(0, length, 4):
            members_of[first : first + rng.integers(1, 30)] *= np.exp(rng.uniform(1, 6))
        members_of[length * 3 // 4 :] *= 0.6
        missing = 0.2 * rng.random(length)
        missing[length * 6 // 10 : length * 7 // 10] += 0.7
        rows += [
            (times[i], slot, part, members_of[i], missing[i], rng.normal(), i % 3) for i in range(length)
        ]
    rows.sort(key=lambda row: (row[0] + LATE * (row[1] == 1), row[1]))
    offset = dict.fromkeys(OWNER, 0)
    out = []
    for time_us, slot, part, member, missing, level, late in rows:
        out.append((slot, part, offset[part], time_us, member, missing, level, late))
        offset[part] += 1
    return out


def table(rows):
    kinds = (np.int32, np.int32, np.int64, np.int64, np.float32, np.float32, np.float32, np.float32)
    columns = zip(*rows, strict=True)
    return Rows(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


def interleave(rows, rng):
    """The same rows with the partitions mixed anew."""
    queues = {part: [row for row in rows if row[1] == part] for part in set(OWNER)}
    order = rng.permutation([row[1] for row in rows])
    heads = dict.fromkeys(queues, 0)
    out = []
    for part in order:
        out.append(queues[part][heads[part]])
        heads[part] += 1
    return out


def outcome(bench, given_calibration, rows, cuts, settings, room=256):
    """Everything that came of it, ordered by (part, offset), and the state left behind."""
    one = bench(given_calibration, settings, owner=OWNER, share=30.0, learning=Learning.MEDIANS)
    one.parts.block_records[:] = 97
    found, events, blocks = [], [], []
    for first, last in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        if first == last:
            continue
        batch = table(rows[first:last])
        decided, happened, closed = one.advance(batch, room, lacking=batch.missing > 0.5)
        for i in range(last - first):
            row = tuple(column[i].tobytes() for column in decided)
            found.append((int(batch.part[i]), int(batch.offset[i]), row))
        for event in happened:
            event["row"] = 0
            events.append((int(event["part"]), int(event["offset"]), event.tobytes()))
        for block in closed:
            at = int(batch.offset[block["row"]])
            block["row"] = 0
            blocks.append((int(block["part"]), at, block.tobytes()))
    by_place = [sorted(kept, key=lambda entry: entry[:2]) for kept in (found, events, blocks)]
    states = [array.tobytes() for array in (*one.state, *one.parts)]
    return by_place, dict(zip(DecisionState._fields + PartState._fields, states, strict=True))


RULES = Rules(
    k=3,
    m=5,
    cap=1,
    level_change_us=DAY_US // 4,
    gone_after_us=DAY_US // 2,
    absent_after_us=DAY_US // 8,
    behind_after_us=120 * MINUTE,
    partial_after_us=1,
)


@pytest.fixture(scope="module")
def cold(calibrated):
    return calibrated(np.random.default_rng(3).normal(0, 0.3, 2000), level=0.6, members=3, half_life=50.0)


@pytest.fixture(scope="module")
def long_run(bench, cold):
    rows = stream(7, 1500)
    return rows, outcome(bench, cold, rows, [], RULES)


def test_the_long_run_has_something_of_everything(long_run, bench, cold):
    rows, ((_, events, blocks), _) = long_run
    kinds = {np.frombuffer(event[2], np.uint8)[12] for event in events}
    assert kinds == {int(kind) for kind in Kind}
    assert len(blocks) == 4500 // 97 + 3000 // 97 + 1500 // 97
    one = bench(cold, RULES, owner=OWNER, share=30.0, learning=Learning.MEDIANS)
    one.advance(table(rows))
    assert (one.core("learning", slice(None)) == Learning.OWN).all()
    assert one.core("accepted", slice(None)).max() > 2 * REFRESH


@pytest.mark.parametrize("seed", range(6))
def test_neither_cuts_nor_interleaving_nor_room_change_a_bit(long_run, bench, cold, seed):
    rows, expected = long_run
    rng = np.random.default_rng(seed)
    mixed = interleave(rows, rng)
    cuts = sorted(rng.integers(0, len(rows), rng.integers(1, 60)).tolist())
    assert outcome(bench, cold, mixed, cuts, RULES, room=int(rng.choice([1, 17, 300]))) == expected


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_short_runs_of_any_shape_do_not_depend_on_cuts(bench, cold, seed, data):
    rows = stream(seed, 40)
    mixed = interleave(rows, np.random.default_rng(seed + 1))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=20)))
    assert outcome(bench, cold, mixed, cuts, RULES) == outcome(bench, cold, rows, [], RULES)


def test_no_rows_no_harm(bench, cold):
    one = bench(cold)
    empty = Rows(*(np.zeros((0, 3) if name == "members" else 0) for name in COLUMNS))
    decided, events, blocks = one.advance(empty)
    assert len(decided.score) == len(events) == len(blocks) == 0


def learned(one):
    """Bins of everything learned that was not in the calibration given."""
    return one.state.recent[0, : one.core("fill")].tolist()


def test_a_record_is_learned_once_m_newer_ones_are_normal(bench, calibrated):
    one = bench(calibrated(level=1.0))
    values = [0.1 * i for i in range(10)]
    for i, value in enumerate(values):
        one.push(value - 0.5, i * MINUTE)
        assert one.core("accepted") == max(0, i + 1 - 5)
    assert learned(one) == [bin_of(value - 0.5) for value in values[:5]]


def test_nothing_of_an_incident_is_learned_nor_what_led_to_it(bench, calibrated):
    one = bench(calibrated(level=1.0))
    values = [-0.3] * 8 + [0.5, 1.5, 0.6, 1.5, 0.7, 1.6] + [0.9] * 4 + [-0.2] * 3 + [-0.1] * 20
    for i, value in enumerate(values):
        one.push(value, i * MINUTE)
    assert [int(event["kind"]) for event in one.events] == [Kind.OPENED, Kind.RESOLVED]
    kept = learned(one)
    # 9 were normal when the pending began: the 5 newest of them were still waiting, and are forgotten with it
    assert kept == [bin_of(-0.3)] * 4 + [bin_of(-0.1)] * 15


def test_a_pending_that_comes_to_nothing_is_learned_when_it_is_over(bench, calibrated):
    one = bench(calibrated(level=1.0))
    values = [0.0] * 6 + [1.5, 1.5] + [0.2] * 4
    for i, value in enumerate(values):
        one.push(value, i * MINUTE)
    assert one.core("accepted") == 1  # pending: nothing more
    one.push(0.2, len(values) * MINUTE)
    assert learned(one) == [bin_of(0.0)] * 6 + [bin_of(1.5)] * 2
    assert not one.events


def test_an_endless_pending_keeps_no_more_than_its_room(bench, calibrated):
    one = bench(calibrated(level=1.0))
    for i in range(500):
        one.push(1.5 if i % 5 == 0 else 0.0, i * MINUTE)
    assert one.core("accepted") == 0
    assert one.core("waiting") == WAIT


def test_refresh_is_at_exactly_the_256th_accepted_record(bench, calibrated):
    rng = np.random.default_rng(0)
    one = bench(calibrated(rng.normal(0, 0.3, 500), level=2.0))
    before = [array.copy() for array in (one.state.counts, one.state.above)]
    frozen = one.core("total"), one.core("tail_sigma")
    for i in range(REFRESH + 5 - 1):
        one.push(0.9, i * MINUTE)
    assert one.core("accepted") == REFRESH - 1
    assert (one.state.counts == before[0]).all()
    assert (one.state.above == before[1]).all()
    assert (one.core("total"), one.core("tail_sigma")) == frozen
    p = one.push(0.9, 10_000 * MINUTE)["p"]
    assert p < 0.02  # judged by what was frozen before
    assert one.core("accepted") == REFRESH
    assert one.core("total") == 500 + REFRESH
    assert one.push(0.9, 10_001 * MINUTE)["p"] > 0.2


def test_refreshes_go_by_the_count_not_by_the_batch(bench, calibrated):
    rng = np.random.default_rng(1)
    one = bench(calibrated(rng.normal(0, 0.1, 300), level=3.0), share=100.0)
    n = 3 * REFRESH + 5
    rows = Rows(
        np.zeros(n),
        np.zeros(n),
        np.arange(n),
        np.arange(n) * MINUTE,
        np.exp(rng.normal(-0.7, 0.03, (n, 1))),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
    )
    decided, _, _ = one.advance(rows)
    assert one.core("accepted") == 3 * REFRESH
    thresholds = decided.threshold
    moved = np.flatnonzero(np.diff(thresholds)) + 1
    # the first refresh follows record REFRESH + 5 (the five newest still wait), and acts from the next one on
    assert moved.tolist()[:1] == [REFRESH + 5]
    assert set(moved.tolist()) <= {REFRESH + 5, 2 * REFRESH + 5}


def test_short_history_is_said_and_keeps_the_level_of_the_start(bench, calibrated):
    one = bench(calibrated(np.zeros(500), level=1.3, days=0.5))
    caution, level = [], []
    for i in range(1200):
        caution.append(one.push(0.0, i * MINUTE)["caution"])
        level.append(one.core("level"))
    # half a day given and half a day seen: from the first refresh after that on
    first = int(np.argmin(caution))
    assert first == 3 * REFRESH + 5
    assert caution == [Caution.SHORT_HISTORY] * first + [Caution.NONE] * (1200 - first)
    assert level[: first - 1] == [1.3] * (first - 1)
    assert level[-1] < 1.3


def test_basis_says_what_the_p_value_stands_on(bench, calibrated):
    one = bench(calibrated(np.zeros(500), level=3.0))
    assert one.push(0.0, 0)["basis"] == Basis.EMPIRICAL
    assert one.push(1.0, 1)["basis"] == Basis.EXTRAPOLATED
    one.state.core["borrowed"] = 1
    assert one.push(1.0, 2)["basis"] == Basis.PRIOR


def test_drift_blocks_close_at_their_record_and_average_what_is_in_them(bench, calibrated):
    one = bench(calibrated(level=1.0, members=2), entities=2)
    one.parts.block_records[0] = 4
    n = 10
    rows = Rows(
        np.arange(n) % 2,
        np.zeros(n),
        np.arange(n),
        np.arange(n) * MINUTE,
        np.full((n, 2), np.nan),
        np.arange(n) / 8,
        np.arange(n) * 2.0,
        np.arange(n) % 2,
    )
    _, _, blocks = one.advance(rows)
    assert blocks["row"].tolist() == [3, 7]
    assert blocks["missing"].tolist() == [1.5 / 8, 5.5 / 8]
    assert blocks["level"].tolist() == [3.0, 11.0]
    assert blocks["late"].tolist() == [2 / 6, 2 / 6]
    assert one.parts.rows[0] == 2


def test_a_block_of_a_crowd_is_long_for_each_takes_a_look_when_it_closes(bench, calibrated):
    """However few the model was trained on; from the second block on, when it is known how many there are."""
    entities = 60
    one = bench(calibrated(level=1.0), entities=entities)
    one.parts.block_records[0] = 4
    n = 50
    rows = Rows(
        np.arange(n) + entities - n,
        np.zeros(n),
        np.arange(n),
        np.arange(n) * 1_000_000,
        np.full((n, 1), np.nan),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
    )
    one.state.core["seen_us"] = 0
    _, _, blocks = one.advance(rows)
    assert blocks["row"].tolist() == [3, 18, 33, 48]
    assert blocks["entities"].tolist() == [entities] * 4


def test_own_medians_take_over_after_exactly_500_clean_records(bench, calibrated):
    rng = np.random.default_rng(5)
    given = calibrated(rng.normal(0, 0.2, 4000), level=2.0, half_life=100.0)
    one = bench(given, share=0.01, learning=Learning.MEDIANS)
    level = rng.normal(0.8, 0.1, LEARN_RECORDS)
    for i in range(LEARN_RECORDS - 1):
        one.push(level[i], i * MINUTE)
    assert one.core("learning") == Learning.MEDIANS
    assert one.core("learned") == LEARN_RECORDS - 1
    assert one.state.median[0, 0] == 0.0
    slow = one.core("S")
    row = one.push(level[-1], LEARN_RECORDS * MINUTE)
    assert row["epoch"] == 1
    assert one.core("learning") == Learning.OWN
    assert one.core("epoch") == 2
    assert one.state.median[0, 0] == pytest.approx(np.median(level), abs=0.02)
    assert one.state.floor[0, 0] == pytest.approx(0.01 * np.exp(level).mean(), rel=0.05)
    assert one.core("S") == pytest.approx(slow - one.state.median[0, 0], abs=0.01)
    assert one.core("total") == pytest.approx(500)
    assert one.core("accepted") == 0
