"""`tocsin train` and `tocsin models`, from files and from a broker."""

import io
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from telemetry import Fleet, generate, keys, messages
from tocsin.detector.bootstrap import TOO_FEW
from tocsin.detector.changes import Promotion, Rollback, Versioned
from tocsin.detector.cli import main
from tocsin.detector.control import Artefacts, read_all
from tocsin.models import devices
from tocsin.pipelines.brokers import Broker, open_broker

Run = Callable[..., tuple[int, str, str]]
CONFIG = """
[stream]
name = "hosts"
entity = "host"
time = "ts"
topics = ["telemetry"]
[registry]
path = "registry"
[train]
min_records = 200
steps = 20
[kafka]
bootstrap = "{bootstrap}"
"""


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return generate(seed=21, entities=2, records=320, features=3)


@pytest.fixture(scope="module")
def broker(fleet: Fleet) -> Iterator[Broker]:
    found = open_broker("embedded")
    admin, producer = found.admin(), found.producer()
    admin.create("telemetry", 2)
    admin.create("hosts.control", 1)
    for key, value in zip(keys(fleet), messages(fleet), strict=True):
        producer.produce("telemetry", value, key, partition=key[-1] % 2)
    producer.flush(30)
    producer.close()
    yield found
    found.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, broker: Broker, fleet: Fleet) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "tocsin.toml").write_text(CONFIG.format(bootstrap=broker.bootstrap))
    columns = {"ts": pa.array(fleet.time_us, pa.timestamp("us", "UTC"))}
    columns["host"] = pa.array([fleet.names[i] for i in fleet.entity])
    columns |= {name: fleet.values[:, i] for i, name in enumerate(fleet.features)}
    pq.write_table(pa.table(columns), folder / "all.parquet")
    return folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return running(home, monkeypatch)


def running(home: Path, patch: pytest.MonkeyPatch) -> Run:
    patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    patch.chdir(home)

    def call(*args: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
            main(args)
        return int(left.value.code or 0), out.getvalue(), err.getvalue()

    return call


@pytest.fixture(scope="module", autouse=True)
def two_versions(home: Path) -> tuple[tuple[int, str, str], tuple[int, str, str]]:
    """What the commands that made them said: one version from files, one from the topics."""
    with pytest.MonkeyPatch.context() as patch:
        call = running(home, patch)
        return call("train", "--data", "all.parquet"), call("train", "--since", "start", "--json")


@pytest.fixture
def champion(run: Run) -> Iterator[list[str]]:
    """The names of both versions, the first serving; and so again afterwards."""
    names = [row["version"] for row in listed(run)]
    yield names
    run("models", "promote", names[0], "--local")


def listed(run: Run) -> list[dict[str, Any]]:
    code, out, _ = run("models", "list", "--json")
    assert code == 0
    found: list[dict[str, Any]] = json.loads(out)
    return found


def test_train_from_files_prints_what_it_did_and_registers(run: Run, home: Path, two_versions) -> None:
    code, out, err = two_versions[0]
    assert code == 0, err
    assert "read 640 records of 2 entities, 3 features" in err
    assert "rehearsal" in out
    assert "ELBO" in out
    assert "held out" in out
    assert "signing-key.pem (keep it private)" in out
    assert "Next: `tocsin replay" in out
    first = listed(run)[0]
    assert first["verified"] is True
    assert first["champion"] is True
    assert first["records"] == 632
    assert first["version"] in out
    assert ((home / "config/tocsin/signing-key.pem").stat().st_mode & 0o777) == 0o600


def test_train_from_the_topics_finds_the_same_records(run: Run, two_versions) -> None:
    code, out, err = two_versions[1]
    assert code == 0, err
    said = json.loads(out)
    assert said["version"].startswith("v0002-")
    assert said["champion"] is False
    assert said["records"] == 632
    assert said["features"] == ["f00", "f01", "f02"]
    assert said["history"][0]["phase"] == "rehearsal"
    assert said["history"][0]["held_out_elbo"] is not None
    # The same records in the same order give the same model: the hash in the name says so.
    assert said["version"].split("-")[1] == listed(run)[0]["version"].split("-")[1]


@pytest.mark.parametrize(("asked", "code"), [((), 1), (("--first",), TOO_FEW)])
def test_too_few_records_fail_and_tell_the_daemon_to_try_later(
    run: Run, asked: tuple[str, ...], code: int
) -> None:
    got, _, err = run("train", "--since", "start", "--min-records", "1000", *asked)
    assert got == code
    assert "too few records to train on: of 2 entities the longest" in err


def test_the_daemons_training_goes_on_with_the_records_that_one_was_cut_off_on(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOCSIN__REGISTRY__PATH", "other")
    left = home / "other" / "hosts" / ".training-0123"
    left.mkdir(parents=True, mode=0o700)
    held = [[["telemetry", 0], 0, 300], [["telemetry", 1], 0, 310]]
    for spans, first, read in (
        (held, True, 610),
        (held, False, 640),
        ([[["telemetry", 0], 0, 9999]], True, 640),
    ):
        (left / "beside.json").write_text(json.dumps(spans))
        code, out, err = run("train", "--since", "start", "--json", *(["--first"] if first else []))
        assert code == 0, err
        assert json.loads(out)["read"]["read"] == read
        assert "is not used: it is of a training on other records" in err


def test_show_verify_and_export(run: Run, home: Path) -> None:
    code, out, _ = run("models", "show", "v0001", "--json")
    assert code == 0
    said = json.loads(out)
    assert said["stream"] == "hosts"
    assert said["libraries"]["jax"]
    code, out, _ = run("models", "show")
    assert "signed by" in out
    code, out, _ = run("models", "verify")
    assert code == 0
    assert out.count(": good") == 2
    code, out, _ = run("models", "export", "v0001", "--out", "one.tar")
    assert code == 0
    assert (home / "one.tar").stat().st_size > 10_000
    code, _, err = run("models", "show", "v0009")
    assert code == 1
    assert "is not one of the versions" in err


def test_promote_and_rollback_go_through_the_control_topic(run: Run, broker: Broker, champion) -> None:
    first, second = champion
    code, _, err = run("models", "rollback")
    assert code == 1
    assert "no version before the present one" in err
    assert run("models", "promote", first, "--reason", "start")[0] == 0
    code, out, err = run("models", "promote", "latest", "--reason", "newer", "--author", "ada", "--json")
    assert code == 0, err
    moved = json.loads(out)
    assert (moved["model"], moved["previous"]) == (second, first)
    assert [row["champion"] for row in listed(run)] == [False, True]
    assert run("models", "rollback", "--reason", "worse")[0] == 0
    assert [row["champion"] for row in listed(run)] == [True, False]
    unused = Artefacts(Path("absent"), lambda *_: None)
    changes = [one.change for one in read_all(broker, "hosts.control", unused) if isinstance(one, Versioned)]
    assert [type(change) for change in changes] == [Promotion, Promotion, Rollback]
    assert [change.model for change in changes] == [first, second, first]
    assert (changes[1].author, changes[1].reason) == ("ada", "newer")
    assert moved["change"] == 1


def test_local_promotion_moves_the_pointer_alone(run: Run, broker: Broker, champion) -> None:
    unused = Artefacts(Path("absent"), lambda *_: None)
    before = len(read_all(broker, "hosts.control", unused))
    assert run("models", "promote", champion[1], "--local")[0] == 0
    assert [row["champion"] for row in listed(run)] == [False, True]
    assert run("models", "rollback", "--local")[0] == 0
    assert [row["champion"] for row in listed(run)] == [True, False]
    assert len(read_all(broker, "hosts.control", unused)) == before


def test_a_version_of_features_that_the_stream_has_not_is_never_promoted(
    run: Run, home: Path, champion, broker: Broker
) -> None:
    config = home / "tocsin.toml"
    written = config.read_text()
    config.write_text(written.replace("[registry]", 'features = ["f00", "f01", "other"]\n[registry]'))
    before = len(read_all(broker, "hosts.control", Artefacts(Path("absent"), lambda *_: None)))
    for where in ((), ("--local",)):
        code, _, err = run("models", "promote", champion[1], *where)
        assert code == 1
        assert "'f02', which stream hosts does not have" in err
    config.write_text(written)
    assert [row["champion"] for row in listed(run)] == [True, False]
    assert len(read_all(broker, "hosts.control", Artefacts(Path("absent"), lambda *_: None))) == before


def change_line(first_offset: int, version: int, **change: str) -> str:
    stamp = {"id": "1", "author": "ada", "reason": "test", "created_at": "2024-01-01T00:00:00Z"}
    where = {"topic": "telemetry", "partition": 0, "first_offset": first_offset, "version": version}
    return json.dumps({**where, "change": {**stamp, **change}})


def test_replay_of_files_switches_where_a_file_of_changes_says(run: Run, home: Path, champion) -> None:
    lines = [change_line(0, 0, kind="promotion", model=champion[0])]
    lines.append(change_line(400, 1, kind="promotion", model=champion[1]))
    (home / "changes.ndjson").write_text("\n".join(lines))
    replay = ("replay", "--data", "all.parquet", "--changes", "changes.ndjson")
    code, _, err = run(*replay, "--out", "scores.parquet")
    assert code == 0, err
    rows = pq.read_table(home / "scores.parquet").to_pylist()
    models = {row["offset"]: row["calibration_version"] for row in rows if row["calibration_version"]}
    assert {label.split(".")[0] for at, label in models.items() if at < 400} == {champion[0]}
    assert {label.split(".")[0] for at, label in models.items() if at >= 400} == {champion[1]}
    code, _, err = run(*replay, "--model", champion[0])
    assert code == 2
    assert "either --changes FILE" in err
    (home / "changes.ndjson").write_text(change_line(0, 1, kind="budget", budget="9/day"))
    code, _, err = run(*replay)
    assert code == 1
    assert "Begin it with a promotion" in err
    (home / "changes.ndjson").write_text("not json")
    code, _, err = run(*replay)
    assert code == 1
    assert "changes.ndjson:1 is no change" in err


def test_corrupt_and_foreign_versions_are_shown_and_never_promoted(run: Run, home: Path, champion) -> None:
    second = champion[1]
    weights = home / "registry/hosts" / second / "weights.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1])
    assert [row["verified"] for row in listed(run)] == [True, False]
    code, out, _ = run("models", "verify")
    assert code == 1
    assert "truncated" in out
    for where in ((), ("--local",)):
        code, _, err = run("models", "promote", second, *where)
        assert code == 1
        assert "truncated" in err
    weights.write_bytes(good)
    # the same registry, another user's key
    shutil.move(home / "config", home / "config-kept")
    (home / "config/tocsin").mkdir(parents=True)
    code, _, err = run("models", "list")
    assert code == 1
    assert "public_keys" in err
    shutil.rmtree(home / "config")
    shutil.move(home / "config-kept", home / "config")
    assert [row["champion"] for row in listed(run)] == [True, False]


def test_with_a_key_versions_are_encrypted_and_refused_where_the_key_is_not(run: Run, home: Path) -> None:
    key, config = home / "keys/registry.key", home / "encrypted.toml"
    key.parent.mkdir()
    key.touch(0o600)
    key.write_text("ab" * 32 + "\n")
    plain = (home / "tocsin.toml").read_text().replace('"registry"', '"encrypted"')
    config.write_text(plain.replace("[train]", 'encryption_keys = ["keys/registry.key"]\n[train]'))
    code, _, err = run("train", "--data", "all.parquet", "--config", str(config))
    assert code == 0, err
    (made,) = (home / "encrypted/hosts").glob("v0001-*")
    clear = home / "registry/hosts" / listed(run)[0]["version"]
    for folder, legible in ((clear, True), (made, False)):
        assert (b"params" in (folder / "weights.safetensors").read_bytes()) is legible
    code, out, err = run("models", "show", "--config", str(config))
    assert (code, "encrypted with  9a2db2e23f1504cd" in out) == (0, True), out + err
    code, _, err = run("replay", "--data", "all.parquet", "--out", "scored", "--config", str(config))
    assert code == 0, err
    key.chmod(0o644)
    code, _, err = run("models", "show", "--config", str(config))
    assert (code, "chmod 600" in err) == (1, True), err
    config.write_text(plain)
    code, _, err = run("models", "show", "--config", str(config))
    assert (code, "it is encrypted with the key '9a2db2e23f1504cd'" in err) == (1, True), err


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file grows beyond so many bytes: what a write to a full disk does, but for the number of the error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("train --data all.parquet", "registry/hosts"),
        ("models export v0001 --out full.tar", "full.tar"),
        ("replay --data all.parquet --out full.parquet", "full.parquet"),
        ("replay --data all.parquet --report full.html", "full.html"),
    ],
)
def test_a_full_disk_is_said_in_a_line_and_what_is_there_stays(
    run: Run, home: Path, champion: list[str], command: str, named: str
) -> None:
    before = sorted(path for path in home.rglob("*") if path.is_file())
    with full_disk(100):
        code, out, err = run(*command.split())
    assert code == 1, out
    told = err.splitlines()[-1]
    assert told.startswith("tocsin: ")
    assert named in told
    assert "File too large" in told
    assert "Traceback" not in err
    assert [row["version"] for row in listed(run)] == champion
    assert sorted(path for path in home.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ((), 2, "what is there to train on"),
        (("--data", "all.parquet", "--since", "1h"), 2, "not both"),
        (("--since", "yesterday-ish"), 2, "is no time"),
        (("--data", "absent.parquet"), 1, "no such file"),
        (("--data", "all.parquet", "--min-records", "5000"), 1, "Needed are 5000"),
        (("--data", "all.parquet", "--min-records", "7"), 2, "min_records"),
        (("--data", "all.parquet", "--profile", "odd"), 2, "allowed are auto"),
        (("--data", "all.parquet", "--budget", "lots"), 2, "5/day"),
        (("--since", "start", "--until", "2000-01-01T00:00:00Z"), 1, "nothing that was read"),
    ],
)
def test_wrong_usage_and_too_little_data_are_said(
    run: Run, args: tuple[str, ...], code: int, message: str
) -> None:
    got, _, err = run("train", *args)
    assert (got, message in err) == (code, True), err


def test_a_short_span_does_not_rescue_a_short_range(run: Run) -> None:
    """Two entities of 53 minutes each: below min_span and min_records alike."""
    code, _, err = run("train", "--data", "all.parquet", "--min-records", "400")
    assert code == 1
    assert "[train] min_records" in err


def test_a_panel_of_chosen_members_scores_alone_and_serves_no_other_stream(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, two_versions
) -> None:
    monkeypatch.setenv("TOCSIN__STREAM__MEMBERS", '["errs", "half"]')
    monkeypatch.setenv("TOCSIN__REGISTRY__PATH", "few-members")
    code, out, err = run("train", "--data", "all.parquet", "--json")
    assert code == 0, err
    assert json.loads(out)["history"] == []  # nothing in it is trained
    code, out, _ = run("models", "show", "--json")
    assert json.loads(out)["members"] == ["half", "errs"]
    assert "members half, errs" in run("describe")[1]
    assert run("replay", "--data", "all.parquet")[0] == 0
    monkeypatch.delenv("TOCSIN__STREAM__MEMBERS")
    code, _, err = run("replay", "--data", "all.parquet")
    assert code == 1
    assert "has the members half, errs, but the stream is scored by vae, half, errs, jump." in err


def test_an_accelerator_that_is_not_there_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "accelerate", lambda: False)  # it changes what the process computes with
    code, _, err = run("train", "--data", "all.parquet", "--accelerator")
    assert code == 2
    assert "--accelerator: JAX finds none" in err


def test_an_unknown_member_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN__STREAM__MEMBERS", '["halves"]')
    code, _, err = run("train", "--data", "all.parquet")
    assert code == 2
    assert "[stream] members names halves; the panel has vae, half, errs, jump." in err
