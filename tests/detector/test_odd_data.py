"""Odd data, one asserted outcome a case, as docs/operations.md says: `tocsin train` and `tocsin replay` over files.

Every case is an entity of its own in one replay, so that none can lean on another; `host-calm` goes on as it was.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from telemetry import generate
from tocsin.detector.cli import main

CASES = ("calm", "wakes", "lights-up", "new", "other-unit", "gap", "leap", "huge", "blank", "stops", "ten")
TRAINED, LIVE = 800, 700
FIRST, LAST = 200, 500
"""Live records of an entity between which its oddity lies."""
LEAP = 660
"""From here on one clock is ahead, and so is the watermark."""
PERIOD_US, HOUR_US = 10_000_000, 3_600_000_000
STILL = 40.0
CONFIG = """
[stream]
name = "hosts"
[registry]
path = "registry"
[train]
min_records = 500
steps = 20
[thresholds]
budget = "1/week per entity"
[incidents]
level_change_after = "30m"
"""


class Told(NamedTuple):
    """What a replay said: per entity its rows of scores.parquet, and its alerts."""

    rows: dict[str, dict[str, list[Any]]]
    alerts: dict[str, list[dict[str, Any]]]


class Data(NamedTuple):
    """Records of one entity: time [n], features [n, F], label [n]."""

    time_us: NDArray[np.int64]
    values: NDArray[np.float64]
    label: NDArray[np.int64]


FEATURES = ("f00", "f01", "f02", "f03", "still", "dark")


def call(*args: str) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        main(args)
    return int(left.value.code or 0), out.getvalue() + err.getvalue()


def write(path: Path, data: dict[str, Data]) -> None:
    """A Parquet file with a column `label`, which nobody asked for."""
    columns = {
        "timestamp": pa.array(
            np.concatenate([one.time_us for one in data.values()]), pa.timestamp("us", "UTC")
        ),
        "entity": pa.array([f"host-{name}" for name, one in data.items() for _ in one.time_us]),
        "label": pa.array(np.concatenate([one.label for one in data.values()])),
    }
    values = np.concatenate([one.values for one in data.values()])
    columns |= {
        name: pa.array(values[:, i], from_pandas=True).cast(pa.float64()) for i, name in enumerate(FEATURES)
    }
    order = np.argsort(np.concatenate([one.time_us for one in data.values()]), kind="stable")
    pq.write_table(pa.table(columns).take(pa.array(order)), path)


def made() -> tuple[dict[str, Data], dict[str, Data]]:
    """What there is to learn from, and what comes after, still without any oddity."""
    fleet = generate(seed=33, entities=len(CASES), records=TRAINED + LIVE, features=4)
    rng = np.random.default_rng(4)
    past, live = {}, {}
    for number, name in enumerate(CASES):
        mine = np.flatnonzero(fleet.entity == number)
        extra = np.column_stack([np.full(len(mine), STILL), np.full(len(mine), np.nan)])
        values = np.hstack([fleet.values[mine], extra])
        label = rng.integers(0, 2, len(mine))
        whole = Data(fleet.time_us[mine], values, label)
        past[name], live[name] = (
            Data(*(column[span] for column in whole)) for span in (slice(TRAINED), slice(TRAINED, None))
        )
    past["lights-up"].values[:, 3] = live["lights-up"].values[:, 3] = np.nan
    past["ten"] = Data(*(column[:10] for column in past["ten"]))
    live["ten"] = Data(*(column[:10] for column in live["ten"]))
    return past, live


def oddities(past: dict[str, Data], live: dict[str, Data]) -> dict[str, Data]:
    """The records that came after, each entity with its oddity."""
    odd = {name: Data(one.time_us.copy(), one.values.copy(), 1 - one.label) for name, one in live.items()}
    odd["wakes"].values[FIRST:, 4] = STILL * 1.25
    odd["lights-up"].values[FIRST:, 3] = 5.0
    odd["new"].values[FIRST:, 5] = 5.0
    odd["other-unit"].values[FIRST:, 0] *= 1000.0
    odd["huge"].values[FIRST : FIRST + 5, 1] += 5000 * past["huge"].values[:, 1].std()
    odd["blank"].values[FIRST : FIRST + 30] = np.nan
    odd["stops"].values[FIRST:LAST, 2] = np.nan
    kept = np.r_[0:FIRST, LAST:LIVE]
    odd["gap"] = Data(*(column[kept] for column in odd["gap"]))
    odd["leap"].time_us[LEAP:] += 10 * 24 * HOUR_US
    return odd


BANDS = '{ f00 = { direction = "down" }, still = { dead = 20.0 } }'
"""The other unit only rises, the constant one moves by less."""


def replayed(name: str, data: dict[str, Data]) -> Told:
    write(Path(f"{name}.parquet"), data)
    code, said = call(
        "replay", "--data", f"{name}.parquet", "--out", f"{name}-scores.parquet", "--alerts", f"{name}.ndjson"
    )
    assert code == 0, said
    table = pq.read_table(f"{name}-scores.parquet").to_pydict()
    rows: dict[str, dict[str, list[Any]]] = {}
    for at, entity in enumerate(table["entity"]):
        mine = rows.setdefault(entity.removeprefix("host-"), {column: [] for column in table})
        for column, values in table.items():
            mine[column].append(values[at])
    alerts: dict[str, list[dict[str, Any]]] = {name: [] for name in rows}
    for line in Path(f"{name}.ndjson").read_text().splitlines():
        alert = json.loads(line)
        alerts[alert["labels"]["entity"].removeprefix("host-")].append(alert)
    return Told(rows, alerts)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("odd")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.chdir(folder)
        Path("tocsin.toml").write_text(CONFIG)
        yield folder


@pytest.fixture(scope="module")
def told(home: Path) -> tuple[Told, Told]:
    """One model; a replay of what came after as it would have been, and of what came."""
    past, live = made()
    write(home / "past.parquet", past)
    code, said = call("train", "--data", "past.parquet")
    assert code == 0, said
    return replayed("calm", live), replayed("odd", oddities(past, live))


def judged(told: Told, case: str) -> dict[str, list[Any]]:
    """What became of the entity's records, wherever they stand among those of others."""
    return {name: column for name, column in told.rows[case].items() if name != "offset"}


def opened(told: Told, case: str) -> list[dict[str, Any]]:
    return [alert for alert in told.alerts[case] if alert["status"] == "firing"]


def lasted_us(told: Told, case: str) -> tuple[int, str]:
    """How long the first incident lasted, and why it ended."""
    first, end = told.alerts[case][0], told.alerts[case][1]
    assert first["alert_id"] == end["alert_id"]
    begin, over = (np.datetime64(end[name][:-1], "us").astype(int) for name in ("starts_at", "ends_at"))
    return int(over - begin), end["annotations"]["reason"]


def onset_row(told: Told, case: str) -> int:
    """The live record of the entity at which its first incident began."""
    begin = np.datetime64(opened(told, case)[0]["starts_at"][:-1], "us").astype(int)
    times = [int(when.timestamp() * 1e6 + 0.5) for when in told.rows[case]["timestamp"]]
    return int(np.argmin(abs(np.array(times) - begin)))


def suspect(alert: dict[str, Any]) -> str:
    return str(alert["annotations"]["features"][0]["name"])


@pytest.fixture(scope="module")
def banded(told: tuple[Told, Told], home: Path) -> Told:
    """What came, where not every deviation counts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOCSIN__STREAM__BANDS", BANDS)
        past, live = made()
        return replayed("banded", oddities(past, live))


WAITS = {"ABSENT_AFTER": "10m", "BEHIND_AFTER": "10m", "PARTIAL_AFTER": "10m"}


@pytest.fixture(scope="module")
def awaited(told: tuple[Told, Told], home: Path) -> Told:
    """What came, but for the clock that leaps, where it matters how it comes."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in WAITS.items():
            patch.setenv(f"TOCSIN__INCIDENTS__{name}", value)
        past, live = made()
        return replayed("awaited", {**oddities(past, live), "leap": live["leap"]})


def test_what_is_ordinary_opens_nothing(told: tuple[Told, Told]) -> None:
    before, after = told
    for case in CASES:
        assert before.alerts[case] == [], case
    assert after.alerts["calm"] == []


def test_labels_by_accident_are_no_feature_and_change_nothing(told: tuple[Told, Told]) -> None:
    """The two replays differ in every label, and the training saw them too."""
    before, after = told
    assert judged(before, "calm") == judged(after, "calm")
    named = {name for rows in after.rows.values() for top in rows["top_features"] for name in top or ()}
    assert named <= set(FEATURES)


@pytest.mark.parametrize(
    ("case", "feature"), [("wakes", "still"), ("lights-up", "f03"), ("other-unit", "f00")]
)
def test_a_channel_that_becomes_another_opens_at_once_and_is_named_and_becomes_ordinary_in_time(
    told: tuple[Told, Told], case: str, feature: str
) -> None:
    """A constant one that moves, one that its entity never sent, one in another unit: each stays so."""
    after = told[1]
    first = opened(after, case)[0]
    assert onset_row(after, case) == FIRST
    assert first["labels"]["severity"] == "critical"
    assert suspect(first) == feature
    lasted, reason = lasted_us(after, case)
    assert reason == "level_change"
    assert 0 <= lasted - HOUR_US // 2 <= 3 * PERIOD_US
    assert len(opened(after, case)) == 1, "it is the new ordinary"


def test_a_feature_that_training_never_saw_is_not_used(told: tuple[Told, Told]) -> None:
    before, after = told
    assert judged(before, "new") == judged(after, "new")
    assert after.alerts["new"] == []


def test_5000_sigma_are_one_critical_incident_that_ends_and_a_finite_score(told: tuple[Told, Told]) -> None:
    after = told[1]
    (first,) = opened(after, "huge")
    assert onset_row(after, "huge") == FIRST
    assert (first["labels"]["severity"], suspect(first)) == ("critical", "f01")
    assert lasted_us(after, "huge")[1] == "recovered"
    assert np.isfinite(np.array(after.rows["huge"]["score"][4:], float)).all()


def test_a_gap_opens_nothing_and_costs_no_score(told: tuple[Told, Told]) -> None:
    rows = told[1].rows["gap"]
    assert rows["null_reason"][:4] == ["warming"] * 4
    assert rows["null_reason"][4:] == [None] * (FIRST + LIVE - LAST - 4)
    assert told[1].alerts["gap"] == []


def test_a_clock_that_leaps_by_days_costs_two_records(told: tuple[Told, Told]) -> None:
    rows = told[1].rows["leap"]
    assert rows["null_reason"][LEAP : LEAP + 3] == ["far_ahead", "far_ahead", None]
    assert set(rows["null_reason"][LEAP + 2 :]) == {None}
    assert told[1].alerts["leap"] == []


def test_records_without_any_value_have_no_score_and_open_nothing(told: tuple[Told, Told]) -> None:
    rows = told[1].rows["blank"]
    assert rows["null_reason"][FIRST : FIRST + 30] == ["all_missing"] * 30
    assert rows["score"][FIRST : FIRST + 30] == [None] * 30
    assert set(rows["null_reason"][FIRST + 30 :]) == {None}
    assert told[1].alerts["blank"] == []


def test_a_feature_that_stops_is_left_out_and_opens_nothing(told: tuple[Told, Told]) -> None:
    rows = told[1].rows["stops"]
    assert set(rows["null_reason"][FIRST:LAST]) == {None}
    assert not any("f02" in top for top in rows["top_features"][FIRST:LAST])
    assert told[1].alerts["stops"] == []


def test_an_entity_of_ten_records_is_scored_from_the_fifth_by_the_shared_panel(
    told: tuple[Told, Told],
) -> None:
    rows = told[1].rows["ten"]
    assert rows["null_reason"] == ["warming"] * 4 + [None] * 6
    assert all(0 < p <= 1 for p in rows["p_value"][4:])
    assert told[1].alerts["ten"] == []


def test_what_does_not_count_by_its_band_opens_nothing(told: tuple[Told, Told], banded: Told) -> None:
    for case in CASES:
        if case in ("wakes", "other-unit"):
            assert banded.alerts[case] == []
        else:
            assert banded.alerts[case] == told[1].alerts[case]
            assert judged(banded, case) == judged(told[1], case)


def test_absence_and_partial_records_are_alerts_of_their_own_where_asked_for(
    told: tuple[Told, Told], awaited: Told
) -> None:
    absent, present = awaited.alerts["gap"]
    assert absent["alert_id"] == present["alert_id"]
    assert (absent["kind"], absent["labels"]["alertname"]) == ("absence", "TocsinAbsence")
    assert (absent["status"], present["status"]) == ("firing", "resolved")
    gap = told[1].rows["gap"]["timestamp"]
    assert absent["starts_at"][:19] == f"{gap[FIRST - 1]:%Y-%m-%dT%H:%M:%S}"
    assert present["ends_at"][:19] == f"{gap[FIRST]:%Y-%m-%dT%H:%M:%S}"
    partial, complete = awaited.alerts["stops"]
    assert (partial["kind"], complete["annotations"]["reason"]) == ("partial", "level_change")
    assert [(f["name"], f["observed"]) for f in partial["annotations"]["features"]] == [("f02", None)]
    assert [alert["kind"] for alert in awaited.alerts["ten"]] == ["absence"]
    for case in set(CASES) - {"gap", "stops", "ten", "leap"}:
        assert awaited.alerts[case][:4] == told[1].alerts[case][:4]
        assert judged(awaited, case) == judged(told[1], case)
