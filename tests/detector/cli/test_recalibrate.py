"""`tocsin recalibrate` against a broker, a trained model and data files."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from rigs.daemon import write_files
from telemetry import Fleet
from tocsin.detector.changes import (
    Change,
    Promotion,
    Recalibration,
    Revert,
    Versioned,
    fold,
    message_of,
    unpack_arrays,
)
from tocsin.detector.cli import main
from tocsin.detector.cli.recalibrate import every
from tocsin.detector.control import Artefacts, read_all
from tocsin.models.registry import Champion, Registry
from tocsin.models.signing import public_path
from tocsin.pipelines.brokers import Broker, open_broker
from versions import STAMP, TRAINED, Stand, after

CONFIG = """
[stream]
name = "fleet"
entity = "host"
time = "ts"
profile = "shared"
control = "{control}"
features = {features}
counters = {counters}
[thresholds]
budget = "1/hour per entity"
[registry]
path = "{registry}"
private_key = "{key}"
public_keys = ["{public}"]
[kafka]
bootstrap = "{bootstrap}"
"""
_numbers = itertools.count()


class Home(NamedTuple):
    """A stream whose second version was promoted, while the registry's pointer stands at the first."""

    broker: Broker
    control: str
    versions: list[str]
    registry: Registry
    run: Callable[..., tuple[int, str, str]]

    def published(self) -> list[Change]:
        """All changes after the promotion."""

        def never(data: bytes, signature: bytes, what: str) -> None:
            raise AssertionError

        found = read_all(self.broker, self.control, Artefacts(Path("/nowhere"), never))
        return [one.change for one in found if isinstance(one, Versioned)][1:]

    def point(self, version: str) -> None:
        self.registry.point(Champion(version=version))


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    found = open_broker("embedded")
    yield found
    found.close()


@pytest.fixture(scope="module")
def data(shared_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 records of three trained entities and a new one, and too few of a fourth."""
    begin, end, short = (after(shared_fleet, n) for n in (TRAINED, TRAINED + 300, TRAINED + 100))
    times, entity = shared_fleet.time_us, shared_fleet.entity
    rows = np.isin(entity, (1, 2, 3, 100)) & (times >= begin) & (times < end)
    rows |= (entity == 4) & (times >= begin) & (times < short)
    return write_files(shared_fleet, np.flatnonzero(rows), tmp_path_factory.mktemp("data") / "data.parquet")


@pytest.fixture
def home(
    broker: Broker,
    shared_stand: Stand,
    shared_fleet: Fleet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Home:
    control = f"control-{next(_numbers)}"
    admin = broker.admin()
    admin.create(control, 1)
    admin.close()
    settings = shared_stand.settings
    shutil.copytree(settings.registry.path, tmp_path / "registry")
    key = Path(settings.registry.private_key or "")
    (tmp_path / "tocsin.toml").write_text(
        CONFIG.format(
            control=control,
            features=json.dumps(shared_fleet.features),
            counters=json.dumps(shared_fleet.counters),
            registry=tmp_path / "registry",
            key=key,
            public=public_path(key),
            bootstrap=broker.bootstrap,
        )
    )
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["recalibrate", *args])
        done = capsys.readouterr()
        return int(left.value.code or 0), done.out, done.err

    promoted = message_of(Promotion(model=shared_stand.names[1], **STAMP))
    producer = broker.producer()
    producer.produce(control, promoted.value, promoted.key, 0)
    producer.flush(10)
    producer.close()
    made = Home(broker, control, shared_stand.names, Registry(tmp_path / "registry", "fleet"), run)
    made.point(shared_stand.names[0])
    return made


def test_a_dry_run_shows_the_table_and_publishes_nothing(home: Home) -> None:
    code, out, err = home.run("--budget", "50/hour per entity", "--dry-run")
    assert code == 0, err
    assert "nothing was published" in err
    assert "kept: too few recent scores" in err
    assert "budget 50/hour per entity over 40 entities" in out
    code, out, _ = home.run("--budget", "50/hour per entity", "--dry-run", "--json")
    told = json.loads(out)
    assert told["change"] is None
    assert len(told["entities"]) == 40
    assert {line["remark"] for line in told["entities"]} == {"kept"}
    assert home.published() == []


def test_files_are_scored_by_the_model_in_force_and_the_entities_named_alone_are_altered(
    home: Home, data: Path
) -> None:
    code, out, err = home.run("--data", str(data), "--dry-run", "--json")
    assert code == 0, err
    lines = {line["entity"]: line for line in json.loads(out)["entities"]}
    fresh = {"host-001", "host-002", "host-003", "host-100"}
    assert {name for name, line in lines.items() if line["remark"] != "kept"} == fresh
    assert lines["host-004"]["level_after"] == lines["host-004"]["level_before"]

    home.point(home.versions[1])  # the registry agrees now: the answer is the same
    code, out, err = home.run("--data", str(data), "--entity", "host-00[1-2]", "--json", "--reason", "moved")
    assert code == 0, err
    told = json.loads(out)
    assert told["change"] == 1
    assert told["entities"] == [lines["host-001"], lines["host-002"]]
    (change,) = home.published()
    assert isinstance(change, Recalibration)
    assert (change.model, change.names) == (home.versions[1], ["host-001", "host-002"])
    assert (change.budget, change.entities, change.prior, change.reason) == (None, None, None, "moved")
    levels = unpack_arrays(change.calibration, "the change")["level"].tolist()
    assert levels == [lines[name]["level_after"] for name in change.names]


def test_the_table_fits_a_terminal_of_80_columns_and_says_what_a_short_history_is_worth(
    home: Home, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = home.run("--data", str(data), "--dry-run", "--json")
    assert code == 0, err
    (line,) = (line for line in json.loads(out)["entities"] if line["entity"] == "host-001")
    assert line["remark"] == "short history"
    assert line["days_between_high"] is None  # inf
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    code, out, err = home.run("--data", str(data), "--dry-run")
    assert code == 0, err
    head, *rows = out.splitlines()
    assert head.split() == ["entity", "level", "new", "a", "day", "new", "seen", "every", "records", "remark"]
    assert max(map(len, rows)) <= 80
    (row,) = (row for row in rows if row.startswith("host-001"))
    assert f"> {line['days_between_low'] * 1440:.0f} min" in row
    assert "short history: the budget allows less than one alert in it" in err


@pytest.mark.parametrize(
    ("days", "text"),
    [
        ((1.13, 0.7, 2.0), "1.1 d (0.7-2)"),
        ((12.3, 7.12, 104.2), "12 d (7.1-104)"),
        ((0.1, 0.05, 0.2), "2.4 h (1.2-4.8)"),
        ((0.01, 0.0042, 0.03), "14 min (6-43)"),
        ((100.0, 3.41, float("inf")), "> 3.4 d"),
        ((float("inf"), 0.25, float("inf")), "> 6 h"),
        ((float("nan"),) * 3, None),
    ],
)
def test_the_time_between_alerts_is_told_in_a_unit_of_its_size(
    days: tuple[float, float, float], text: str | None
) -> None:
    assert every(*days) == text


def test_no_entity_that_matches_is_said(home: Home, data: Path) -> None:
    code, _, err = home.run("--data", str(data), "--entity", "web-*")
    assert code == 1
    assert "No entity that matches 'web-*' has 256 recent scores" in err
    assert home.published() == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--entity", "a*", "--budget", "1/day"), "a budget belongs to the whole stream"),
        (("--entity", "a*"), "recalibrate needs --since WHEN or --data PATH: "),
        ((), "recalibrate needs --since WHEN, --data PATH or --budget: "),
        (("--budget", "plenty"), '--budget: "plenty" is no alert budget'),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(home: Home, options: tuple[str, ...], sentence: str) -> None:
    code, _, err = home.run(*options)
    assert code == 2
    assert sentence in err
    assert home.published() == []


def test_revert_sets_again_what_stood_before(home: Home) -> None:
    code, out, err = home.run("--budget", "9/day")
    assert code == 0, err
    assert "published as change 1; `tocsin recalibrate --revert 1` takes it back" in out
    code, out, err = home.run("--revert", "1", "--dry-run")
    assert (code, len(home.published())) == (0, 1)
    code, out, err = home.run("--revert", "1", "--author", "ada")
    assert code == 0, err
    first, second = home.published()
    assert isinstance(second, Revert)
    assert (second.version, second.author) == (1, "ada")
    promotion: list[Any] = [Promotion(model=home.versions[1], **STAMP)]
    state = fold([Versioned(i, one) for i, one in enumerate([*promotion, first, second])])
    assert (state.in_force.budget, state.in_force.recalibration, state.refused) == (None, None, "")
    code, _, err = home.run("--revert", "7")
    assert code == 1
    assert "change 7 cannot be reverted: no change with the version 7 has set anything" in err
