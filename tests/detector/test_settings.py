"""Settings: what wins over what, and that every fault is named in full."""

import re
from pathlib import Path

import msgspec
import pytest
from rigs.source import ROOT, modules
from tocsin.detector.settings import Duration, Settings, load, redacted, secrets, settings_hash
from tocsin.detector.settings_pages import commented_file, fields
from tocsin.detector.settings_sections import SECTIONS
from tocsin.errors import SettingsError


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "tocsin.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_name_and_a_registry_are_enough(write) -> None:
    path = write('[stream]\nname = "hosts"\n[registry]\npath = "models"\n')
    settings = load(path, {})
    stream = settings.stream()
    assert (stream.entity, stream.time, stream.features) == ("entity", "timestamp", ())
    assert stream.topics == ("hosts",)
    assert (stream.alerts, stream.changelog, stream.control) == (
        "hosts.alerts",
        "hosts.changelog",
        "hosts.control",
    )
    assert (stream.dead_letter, stream.scores, stream.group_id) == (
        "hosts.dead-letters",
        None,
        "tocsin.hosts",
    )
    assert settings.registry.path == str(path.parent / "models")
    assert settings.thresholds.budget is None
    assert settings.train.min_records == 1000


def test_flags_win_over_environment_over_file_over_defaults(write) -> None:
    path = write('[stream]\nname = "a"\nlags = 3\nwindow = 9\n[incidents]\nm = 6\n')
    environ = {"TOCSIN__STREAM__LAGS": "4", "tocsin__incidents__m": "7"}
    settings = load(path, environ, {"stream.lags": 2, "stream.window": None})
    assert settings.stream().lags == 2
    assert load(path, environ).stream().lags == 4
    assert load(path, {}).stream().lags == 3
    assert (settings.stream().window, settings.incidents.m, settings.incidents.k) == (9, 7, 2)


def test_environment_alone_is_a_configuration(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret-value\n")
    settings = load(
        None,
        {
            "TOCSIN__STREAM__NAME": "hosts",
            "TOCSIN__STREAM__FEATURES": '["cpu", "mem.free"]',
            "TOCSIN__STREAM__TOPICS": "a, b",
            "TOCSIN__KAFKA__LIBRDKAFKA__SASL_PASSWORD_FILE": str(secret),
            "TOCSIN__KAFKA__LIBRDKAFKA__SASL_USERNAME": "1e5",
            "TOCSIN__REGISTRY__PATH": "here",
            "HOME": "/nowhere",
        },
    )
    assert settings.stream().features == ("cpu", "mem.free")
    assert settings.stream().topics == ("a", "b")
    assert settings.kafka.librdkafka == {"sasl.password": "s3cret-value", "sasl.username": "1e5"}
    assert settings.registry.path == str(Path.cwd() / "here")
    assert "s3cret-value" not in str(redacted(settings))
    assert secrets(settings) == ("s3cret-value",)


def test_several_streams(write) -> None:
    path = write('[streams.web-eu]\nlags = 3\n[streams.db]\nalerts = "all.alerts"\n')
    settings = load(path, {"TOCSIN__STREAMS__WEB_EU__WINDOW": "8", "TOCSIN__STREAMS__EXTRA__LAGS": "2"})
    assert [stream.name for stream in settings.streams] == ["web-eu", "db", "extra"]
    assert settings.stream("web-eu").window == 8
    assert settings.stream("extra").lags == 2
    with pytest.raises(SettingsError, match=r"choose one with --stream: web-eu, db, extra"):
        settings.stream()
    with pytest.raises(SettingsError, match=r"no stream 'web'; did you mean 'web-eu'\?"):
        settings.stream("web")


def test_groups_may_share_a_topic_but_nothing_else(write) -> None:
    same = '[streams.a]\ngroups = "many"\n[streams.b]\ngroups = "many"\n'
    assert [stream.groups for stream in load(write(same), {}).streams] == ["many", "many"]
    with pytest.raises(
        SettingsError, match=r"groups of stream a and alerts of stream a are both 'a\.alerts'"
    ):
        load(write('[stream]\nname = "a"\ngroups = "a.alerts"\n'), {})
    both = '[stream]\nname = "a"\n[forward]\ngroup_id = "g"\n[group]\ngroup_id = "g"\n'
    with pytest.raises(SettingsError, match=r"\[forward\] group_id and \[group\] group_id are both 'g'"):
        load(write(both), {})
    with pytest.raises(SettingsError, match=r"group_id of \[group\] are both 'group tocsin\.a'"):
        load(write('[stream]\nname = "a"\n[group]\ngroup_id = "tocsin.a"\n'), {})


def test_streams_may_share_input_and_alerts_but_never_state(write) -> None:
    same = '[streams.a]\ntopics = ["in"]\nalerts = "out"\n[streams.b]\ntopics = ["in"]\nalerts = "out"\n'
    assert len(load(write(same), {}).streams) == 2
    with pytest.raises(SettingsError, match="changelog of stream b and changelog of stream a are both 'x'"):
        load(write(same.replace('alerts = "out"', 'changelog = "x"')), {})


def test_client_properties_may_be_written_with_dots(write) -> None:
    path = write('[stream]\nname = "a"\n[kafka.librdkafka]\nsasl.password = "quiet"\n"linger.ms" = 5\n')
    settings = load(path, {"TOCSIN__KAFKA__LIBRDKAFKA__SASL_PASSWORD": "loud"})
    assert settings.kafka.librdkafka == {"sasl.password": "loud", "linger.ms": 5}


WRONG = {
    "range": (
        "[incidents]\nk = 0\n",
        r"tocsin.toml:4: \[incidents\] k = 0: allowed is an integer from 1 to 7",
    ),
    "type": (
        '[http]\nport = "a"\n',
        r"tocsin.toml:4: \[http\] port = 'a': allowed is an integer from 0 to 65535",
    ),
    "boolean": ("[http]\nport = true\n", r"port = True: allowed is an integer"),
    "duration": (
        "[state]\nsnapshot_every = 30\n",
        r"snapshot_every = 30: allowed is a duration from 1s to 1d",
    ),
    "long": (
        '[state]\nsnapshot_every = "2d"\n',
        r"snapshot_every = '2d': allowed is a duration from 1s to 1d",
    ),
    "choice": ('[log]\nlevel = "loud"\n', r'level = \'loud\': allowed is one of "debug", "info"'),
    "budget": ('[thresholds]\nbudget = "5/fortnight"\n', r'for instance "5/day"'),
    "too few": ("[train]\nmin_records = 99\n", r"min_records = 99: allowed is an integer from 100"),
    "key": (
        "[train]\nmin_record = 200\n",
        r"tocsin.toml:4: \[train\] has no setting 'min_record'; did you mean 'min_records'",
    ),
    "section": ("[treshold]\nk = 1\n", r"no section \[treshold\]; did you mean 'thresholds'"),
    "k of m": ("[incidents]\nk = 4\nm = 3\n", r"k = 4 of m = 3 can never be reached"),
    "absent": (
        '[incidents]\nabsent_after = "2d"\n',
        r"absent_after = 2d is not shorter than gone_after = 1d",
    ),
    "forget": (
        '[state]\nforget_after = "1h"\n',
        r"forget_after = 1h is shorter than \[incidents\] gone_after = 1d",
    ),
    "both": ("[streams.b]\nlags = 2\n", r"\[stream\] and \[streams.b\] cannot both"),
    "syntax": ("[stream\n", "is not valid TOML"),
    "float": ("[decode]\nbreaker_share = nan\n", "breaker_share = nan: allowed is a number above 0 to 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting_names_file_key_found_and_allowed(write, case: str) -> None:
    text, message = WRONG[case]
    with pytest.raises(SettingsError, match=message):
        load(write(f'[stream]\nname = "a"\n{text}'), {})


def test_faults_of_the_environment_name_the_variable(write, tmp_path: Path) -> None:
    path = write('[stream]\nname = "a"\n')
    with pytest.raises(SettingsError, match=r"TOCSIN__INCIDENTS__K: \[incidents\] k = 0"):
        load(path, {"TOCSIN__INCIDENTS__K": "0"})
    with pytest.raises(SettingsError, match="TOCSIN__K: settings are named TOCSIN__SECTION__KEY"):
        load(path, {"TOCSIN__K": "0"})
    with pytest.raises(SettingsError, match=r"the file .*missing cannot be read"):
        load(path, {"TOCSIN__REGISTRY__PATH_FILE": str(tmp_path / "missing")})


def test_stream_faults(write) -> None:
    with pytest.raises(SettingsError, match="no stream is configured"):
        load(write(""), {})
    with pytest.raises(SettingsError, match="lags = 20 needs window >= 20"):
        load(write('[stream]\nname = "a"\nlags = 20\n'), {})
    with pytest.raises(
        SettingsError, match="counters names 'byte', which is not in features; did you mean 'bytes'"
    ):
        load(write('[stream]\nname = "a"\nfeatures = ["bytes"]\ncounters = ["byte"]\n'), {})
    with pytest.raises(
        SettingsError, match="bands names 'byte', which is not among the features; did you mean 'bytes'"
    ):
        load(write('[stream]\nname = "a"\nfeatures = ["bytes"]\n[stream.bands]\nbyte = { dead = 1 }\n'), {})
    for wrong in ("{ deed = 1 }", "{ dead = -1 }", '{ direction = "left" }', "1"):
        with pytest.raises(
            SettingsError, match=r"\[stream\] bands = .*: allowed is a table of features, for inst"
        ):
            load(write(f'[stream]\nname = "a"\n[stream.bands]\ncpu = {wrong}\n'), {})
    with pytest.raises(SettingsError, match="names the same path twice"):
        load(write('[stream]\nname = "a"\nfeatures = ["x", "x"]\n'), {})
    with pytest.raises(SettingsError, match="no such file"):
        load(Path("nowhere.toml"), {})


def test_the_commented_file_explains_every_setting_and_changes_nothing(write) -> None:
    text = commented_file({"stream": {"name": "hosts"}})
    for section in SECTIONS:
        for field in fields(section):
            assert re.search(rf"^(# )?{field.key} = ", text, re.MULTILINE), field
    plain = write('[stream]\nname = "hosts"\n')
    expected = load(plain, {})
    assert load(write(text), {}) == expected


def test_uncommented_defaults_are_valid_and_the_same(write) -> None:
    expected = load(write('[stream]\nname = "hosts"\n'), {})
    text = commented_file({"stream": {"name": "hosts"}})
    uncommented = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    uncommented = re.sub(
        r"^(alerts|dead_letter|changelog|control|group_id|topics) = .*\n", "", uncommented, flags=re.MULTILINE
    )
    assert load(write(uncommented), {}) == expected


def test_every_setting_has_a_description_and_a_valid_default() -> None:
    for section in SECTIONS:
        for field in fields(section):
            assert field.description.endswith((".", "…")), field
            if isinstance(field.default, Duration):
                assert field.least <= field.default <= field.most


def test_every_setting_is_read_by_the_product() -> None:
    source = "".join((ROOT / path).read_text() for path in modules() if not path.name.startswith("settings"))
    keys = [(section, field.key) for section in SECTIONS for field in fields(section)]
    assert [key for key in keys if not re.search(rf"\.{key[1]}\b", source)] == []


def test_the_hash_changes_with_what_decides_and_not_with_addresses(write) -> None:
    def digest(text: str) -> str:
        settings = load(write(f'[stream]\nname = "a"\n{text}'), {})
        return settings_hash(settings, settings.stream())

    base = digest("")
    assert digest("lags = 4\n") != base
    assert digest("bands = { cpu = { dead = 1.0 } }\n") != base
    assert digest("[incidents]\nk = 3\n") != base
    assert digest('[thresholds]\nbudget = "5/day"\n') != base
    assert digest("[state]\nmax_entities = 9\n") != base
    assert digest('[state]\nsnapshot_every = "5s"\ncommit_every = "2s"\n') == base
    assert digest('alerts = "elsewhere"\n[kafka]\nbootstrap = "other:1"\n[log]\nlevel = "debug"\n') == base


@pytest.mark.parametrize(
    ("text", "us"),
    [("30s", 30_000_000), ("1h30m", 5_400_000_000), ("250ms", 250_000), ("1d", 86_400_000_000)],
)
def test_durations(text: str, us: int) -> None:
    assert Duration.parse(text) == us
    assert Duration.parse(str(Duration(us))) == us
    assert Duration(us).seconds == us / 1e6


@pytest.mark.parametrize("text", ["", "5", "s", "-3s", "1y", "5 minutes", "1s2"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        Duration.parse(text)


def test_settings_cannot_be_changed() -> None:
    settings = Settings(streams=())
    with pytest.raises(AttributeError):
        settings.http = msgspec.UNSET  # type: ignore[misc, assignment]
