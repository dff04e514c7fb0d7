"""`tocsin drift` on files and on topics: what it names, what it advises, and every way it can be asked wrongly."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from reports import Reader
from rigs.fixtures import TopicFactory
from telemetry import Fleet, generate, keys, messages
from tocsin.detector.cli import main
from tocsin.pipelines.brokers.kafka import KafkaBroker

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]
PERIOD_S = 300.0
TRAINED, WINDOW = 600, 1000
CONFIG = """
[stream]
name = "hosts"
entity = "host"
time = "ts"
{topics}
[registry]
path = "registry"
[train]
min_records = 200
steps = 20
"""


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    """Nine days of four hosts: the first two to train on, then two windows of three and a half days.

    The last feature never changes.
    """
    made = generate(seed=31, entities=4, records=TRAINED + 2 * WINDOW, features=6, period_s=PERIOD_S)
    made.values[:, 5] = 7.0 + made.entity
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, fleet: Fleet) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "tocsin.toml").write_text(CONFIG.format(topics=""))
    step = (fleet.time_us - fleet.time_us.min()) // round(PERIOD_S * 1e6)
    write(folder / "train.parquet", fleet, step < TRAINED)
    write(folder / "before.parquet", fleet, (step >= TRAINED) & (step < TRAINED + WINDOW))
    now = step >= TRAINED + WINDOW
    write(folder / "now.parquet", fleet, now)
    with pytest.MonkeyPatch.context() as patch:
        code, _, err = running(folder, patch)("train", "--data", "train.parquet")
    assert code == 0, err
    return folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return running(home, monkeypatch)


@pytest.fixture
def altered(home: Path, fleet: Fleet) -> Callable[..., str]:
    """Writes the present window anew after an alteration of its values [n, F], host by host."""
    step = (fleet.time_us - fleet.time_us.min()) // round(PERIOD_S * 1e6)
    rows = step >= TRAINED + WINDOW

    def make(alter: Callable[[NDArray[np.float64]], None]) -> str:
        values = fleet.values.copy()
        for entity in range(4):
            mine = rows & (fleet.entity == entity)
            own = values[mine]
            alter(own)
            values[mine] = own
        write(home / "altered.parquet", fleet._replace(values=values), rows)
        return "altered.parquet"

    return make


def running(home: Path, patch: pytest.MonkeyPatch) -> Run:
    patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    patch.setenv("COLUMNS", "80")
    patch.chdir(home)

    def call(*args: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
            main(args)
        return int(left.value.code or 0), out.getvalue(), err.getvalue()

    return call


def write(path: Path, fleet: Fleet, rows: NDArray[np.bool_]) -> None:
    columns = {"ts": pa.array(fleet.time_us[rows], pa.timestamp("us", "UTC"))}
    columns["host"] = pa.array([fleet.names[i] for i in fleet.entity[rows]])
    columns |= {name: fleet.values[rows, i] for i, name in enumerate(fleet.features)}
    pq.write_table(pa.table(columns), path)


def found(run: Run, *args: str) -> dict[str, Any]:
    code, out, err = run("drift", *args, "--json")
    assert code == 0, err
    said: dict[str, Any] = json.loads(out)
    return said


def shifted(*features: int, by: float = 2.5) -> Callable[[NDArray[np.float64]], None]:
    def alter(own: NDArray[np.float64]) -> None:
        for feature in features:
            own[:, feature] += by * own[:, feature].std()

    return alter


def test_two_windows_of_the_same_telemetry_call_for_nothing(run: Run) -> None:
    said = found(run, "--data", "now.parquet", "--against", "before.parquet")
    assert said["moved"] == said["lost"] == []
    assert said["score"]["moved"] is said["latent"]["moved"] is False
    assert said["advice"]["do"] == "nothing"
    assert said["advice"]["next"] == "tocsin models show"
    assert said["present"]["scored"] == 4 * (WINDOW - 4)
    assert said["reference"]["trained_on"] == 0
    assert said["notes"] == []
    assert list(said["score"]["present"]) == ["0.5", "0.9", "0.99", "0.999"]


def test_a_window_against_itself_has_moved_nowhere(run: Run, home: Path) -> None:
    shutil.copy(home / "now.parquet", home / "same.parquet")
    said = found(run, "--data", "now.parquet", "--against", "same.parquet")
    assert said["score"]["psi"] == said["score"]["wasserstein"] == 0.0
    assert {one["psi"] for one in said["features"]} == {0.0}
    assert said["latent"]["share"] < 1e-9
    assert said["advice"]["do"] == "nothing"


def test_the_training_data_as_the_reference_is_said_to_flatter(run: Run) -> None:
    said = found(run, "--data", "now.parquet", "--against", "train.parquet")
    assert said["reference"]["trained_on"] == said["reference"]["scored"] == 4 * (TRAINED - 4)
    assert "trained on 100 % of the reference's records" in said["notes"][0]
    assert (said["score"]["psi_limit"], said["score"]["tail_limit"]) == (0.25, 1.0)
    assert said["moved"] == []


def test_features_that_were_shifted_are_named_with_the_command_to_type(run: Run, altered) -> None:
    said = found(run, "--data", altered(shifted(1, 4)), "--against", "before.parquet")
    assert set(said["moved"]) == {"f01", "f04"}
    assert [one["feature"] for one in said["features"][:2]] == said["moved"]
    assert said["score"]["moved"] is True
    assert said["advice"]["do"] in ("recalibrate", "train anew")
    verb = said["advice"]["do"].split()[0]
    assert said["advice"]["next"].startswith(f"tocsin {verb} --data altered.parquet")


def test_many_features_that_changed_their_shape_call_for_a_training(run: Run, altered) -> None:
    def alter(own: NDArray[np.float64]) -> None:
        middle = own.mean(axis=0)
        own[:] = middle + 4.0 * (own - middle)

    said = found(run, "--data", altered(alter), "--against", "before.parquet")
    assert set(said["moved"]) == {"f00", "f01", "f02", "f03", "f04"}
    assert said["advice"] == {
        "do": "train anew",
        "why": said["advice"]["why"],
        "next": "tocsin train --data altered.parquet",
    }


def test_a_feature_that_is_gone_calls_for_a_look_at_the_input(run: Run, altered) -> None:
    def alter(own: NDArray[np.float64]) -> None:
        own[:, 2] = np.nan

    said = found(run, "--data", altered(alter), "--against", "before.parquet")
    assert said["lost"] == ["f02"]
    (gone,) = [one for one in said["features"] if one["feature"] == "f02"]
    assert (gone["psi"], gone["missing"]) == (None, [0.0, 1.0])
    assert said["advice"]["do"] == "look at the input"
    assert said["advice"]["next"] == "tocsin replay --data altered.parquet --report report.html"
    code, out, _ = run("drift", "--data", "altered.parquet", "--against", "before.parquet")
    assert code == 0
    assert "missing moved, too few values" in " ".join(out.split())


def test_a_constant_feature_moves_only_if_it_leaves_its_value(run: Run, altered) -> None:
    def alter(own: NDArray[np.float64]) -> None:
        own[:, 5] -= 1.5

    for data, moved in (("now.parquet", []), (altered(alter), ["f05"])):
        said = found(run, "--data", data, "--against", "before.parquet")
        (constant,) = [one for one in said["features"] if one["feature"] == "f05"]
        assert (constant["constant"], said["moved"]) == (True, moved)


@pytest.mark.parametrize("altering", [None, shifted(0, 1, 2)])
def test_the_text_fits_80_columns_and_ends_with_the_advice(run: Run, altered, altering) -> None:
    data = altered(altering) if altering else "now.parquet"
    code, out, err = run("drift", "--data", data, "--against", "before.parquet", "-c", "tocsin.toml")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80, out
    advice = found(run, "--data", data, "--against", "before.parquet", "-c", "tocsin.toml")["advice"]
    assert f"Advice: {advice['do']}." in out
    assert out.splitlines()[-1] == f"  {advice['next']}"
    assert advice["next"].endswith("-c tocsin.toml")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--data", "now.parquet"), 2, "drift compares two windows"),
        (("--against", "before.parquet"), 2, "drift compares two windows"),
        (("--data", "now.parquet", "--since", "1h", "--against", "2h"), 2, "drift compares two windows"),
        (("--since", "1h", "--against", "2h", "--against", "3h"), 2, "--against is one WHEN"),
        (("--since", "1h", "--against", "before.parquet"), 2, "'before.parquet' is no time"),
        (("--since", "2h", "--against", "1h"), 2, "does not begin before --since 2h"),
        (("--since", "start", "--against", "start"), 2, "does not begin before --since start"),
        (
            ("--data", "now.parquet", "--until", "1h", "--against", "before.parquet"),
            2,
            "files are taken whole",
        ),
        (("--data", "absent.parquet", "--against", "before.parquet"), 1, "absent.parquet: no such file"),
        (("--data", "now.parquet", "--against", "before.parquet", "--model", "v0009"), 1, "not one of the"),
    ],
)
def test_what_cannot_be_meant_is_said(run: Run, args: tuple[str, ...], code: int, message: str) -> None:
    got, out, err = run("drift", *args)
    assert (got, out, message in err) == (code, "", True), err


def test_windows_without_enough_scored_records_are_said(run: Run, home: Path, fleet: Fleet) -> None:
    step = (fleet.time_us - fleet.time_us.min()) // round(PERIOD_S * 1e6)
    write(home / "few.parquet", fleet, step < 40)
    write(home / "none.parquet", fleet, step < 0)
    blank = fleet._replace(values=np.full_like(fleet.values, np.nan))
    write(home / "blank.parquet", blank, step >= TRAINED)
    for args, message in (
        (("few.parquet", "before.parquet"), "the present window has too few scored records to compare: 144"),
        (("now.parquet", "few.parquet"), "the reference has too few scored records to compare: 144"),
        (("none.parquet", "before.parquet"), "the present window holds no record"),
        (("blank.parquet", "before.parquet"), "8,000 all_missing"),
    ):
        code, out, err = run("drift", "--data", args[0], "--against", args[1])
        assert (code, out, message in err) == (1, "", True), err


def test_a_model_of_other_features_or_lags_is_refused(run: Run, home: Path) -> None:
    config = (home / "tocsin.toml").read_text()
    for setting, message in (
        ('features = ["f00", "f01"]', "was trained on the feature 'f02', which stream hosts does not have"),
        ("lags = 3", "looks at 5 records, and [stream] lags = 3"),
    ):
        (home / "other.toml").write_text(config.replace("[registry]", f"{setting}\n[registry]"))
        code, out, err = run(
            "drift", "--data", "now.parquet", "--against", "before.parquet", "-c", "other.toml"
        )
        assert (code, out, message in err) == (1, "", True), err


def test_a_model_without_a_vae_has_no_latent_to_compare(run: Run, home: Path) -> None:
    config = (home / "tocsin.toml").read_text().replace('"registry"', '"registry-plain"')
    plain = config.replace("[registry]", 'members = ["half", "errs"]\n[registry]')
    (home / "plain.toml").write_text(plain)
    assert run("train", "--data", "train.parquet", "-c", "plain.toml")[0] == 0
    windows = ("--data", "now.parquet", "--against", "before.parquet", "-c", "plain.toml")
    said = found(run, *windows)
    assert (said["latent"], said["advice"]["do"]) == (None, "nothing")
    assert "latent not compared: the model has no VAE" in run("drift", *windows)[1]


def moment(fleet: Fleet, record: int) -> str:
    """The time of a record of each host, as it is typed."""
    at = datetime.fromtimestamp(fleet.time_us.min() / 1e6, UTC) + timedelta(seconds=record * PERIOD_S)
    return at.isoformat()


def test_spans_of_the_topics_are_read_under_the_model_in_force(
    run: Run, home: Path, fleet: Fleet, kafka_broker: KafkaBroker, kafka_topic: TopicFactory
) -> None:
    topic, control = kafka_topic(2, {"retention.ms": "-1"}), kafka_topic(1)
    producer = kafka_broker.producer()
    times = (fleet.time_us // 1000).tolist()
    for key, value, at in zip(keys(fleet), messages(fleet), times, strict=True):
        producer.produce(topic, value, key, partition=key[-1] % 2, timestamp_ms=at)
    producer.flush(30)
    producer.close()
    where = f'topics = ["{topic}"]\ncontrol = "{control}"\n[kafka]\nbootstrap = "{kafka_broker.bootstrap}"'
    (home / "topics.toml").write_text(CONFIG.format(topics=where))
    since, against = moment(fleet, TRAINED + WINDOW), moment(fleet, TRAINED)
    asked = ("--since", since, "--against", against, "-c", "topics.toml")
    said = found(run, *asked)
    # The reference ends where the present begins.
    assert said["present"]["records"] == said["reference"]["records"] == 4 * WINDOW
    assert said["reference"]["to"] < said["present"]["from"]
    assert said["moved"] == []
    of_files = found(run, "--data", "now.parquet", "--against", "before.parquet")
    assert said["score"] == of_files["score"]
    ended = found(run, *asked, "--until", moment(fleet, TRAINED + WINDOW + 200), "--against-until", since)
    assert ended["present"]["records"] == 4 * 200
    assert "shorter than a day" in ended["notes"][0]

    version = said["model"]
    assert run("train", "--data", "before.parquet", "-c", "topics.toml")[0] == 0
    assert run("models", "promote", "latest", "-c", "topics.toml")[0] == 0
    assert found(run, *asked)["model"] != version
    assert found(run, *asked, "--model", version)["model"] == version


def test_a_broker_that_does_not_answer_is_said(run: Run, home: Path) -> None:
    where = '[kafka]\nbootstrap = "127.0.0.1:1"'
    (home / "nobody.toml").write_text(CONFIG.format(topics=where))
    code, out, err = run("drift", "--since", "1h", "--against", "2h", "-c", "nobody.toml")
    assert (code, out, "no broker answers at 127.0.0.1:1" in err) == (1, "", True), err


def test_the_report_is_a_page_beside_what_is_printed(run: Run, altered, home: Path) -> None:
    asked = ("--data", altered(shifted(1, 4)), "--against", "before.parquet")
    said = found(run, *asked)
    code, out, err = run("drift", *asked, "--report", "drift.html")
    assert (code, err) == (0, "the report is in drift.html\n")
    assert out == run("drift", *asked)[1]
    text = Reader((home / "drift.html").read_text()).text
    assert f"Advice: {said['advice']['do']}." in text
    assert said["advice"]["next"] in text
    assert said["model"] in text
    assert text.index("f05") > max(text.index(name) for name in said["moved"])
    assert found(run, *asked, "--report", "again.html") == said
    assert (home / "again.html").read_bytes() == (home / "drift.html").read_bytes()


@pytest.mark.parametrize(
    ("path", "why"), [("nowhere/drift.html", "No such file or directory"), (".", "Is a directory")]
)
@pytest.mark.parametrize("command", ["drift", "replay"])
def test_a_report_that_cannot_be_written_is_said_before_anything_is_scored(
    run: Run, home: Path, command: str, path: str, why: str
) -> None:
    windows = ("--data", "now.parquet") + (("--against", "absent.parquet") if command == "drift" else ())
    code, out, err = run(command, *windows, "--report", path)
    assert (code, out) == (1, "")
    assert (
        f"{path} cannot be written: {why}. Name a file in a folder that exists, is yours and has room." in err
    )
    assert not list(home.glob(".*.partial"))
