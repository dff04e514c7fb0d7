"""What people write: the configuration file, environment variables."""

from __future__ import annotations

import os
from pathlib import Path

from fuzz.limits import Prepared, Target, each
from tocsin.detector.rulings import rules_of
from tocsin.detector.settings import Settings, load, redacted, secrets, settings_hash
from tocsin.errors import SettingsError
from tocsin.thresholds.budget import parse_budget

FILES = [
    b"""[kafka]
bootstrap = "localhost:9092"
librdkafka = { "security.protocol" = "SASL_SSL", sasl.password = "hunter22" }

[stream]
name = "web"
topics = ["telemetry"]
entity = "host"
features = ["cpu", "disk.free"]
counters = ["disk.free"]
window = 16

[stream.bands]
cpu = { dead = 0.1, direction = "up" }

[thresholds]
budget = "20/day"

[incidents]
k = 2
gone_after = "1h30m"

[registry]
path = "models"
public_keys = ["signing-key.pub.pem"]
""",
    b"""[streams.web]
topics = ["a"]
format = "json_long"
period = "10s"
time_unit = "ms"

[streams.disks]
topics = ["b", "c"]
bands.cpu.dead = 3

[forward]
url = "http://localhost:9093"
[http]
host = "127.0.0.1"
port = 9000
[log]
level = "info"
""",
]
ENVIRONMENTS = [
    b"TOCSIN__STREAM__NAME=web-eu\nTOCSIN__STREAM__TOPICS=a,b\nTOCSIN__THRESHOLDS__BUDGET=5/day",
    b"""TOCSIN__STREAMS__WEB_EU__TOPICS=['a']
TOCSIN__KAFKA__LIBRDKAFKA__SASL_PASSWORD=1e5
TOCSIN__INCIDENTS__GONE_AFTER=2h
TOCSIN__REGISTRY__PATH=~/models""",
    b"TOCSIN__STREAM__NAME=web-eu\nTOCSIN__HTTP__TOKEN_FILE=/dev/null\nTOCSIN__STREAM__WINDOW=32",
]


def _used(settings: Settings) -> None:
    """What every command does with settings that were accepted."""
    redacted(settings)
    secrets(settings)
    rules_of(settings.incidents, {}, 5)
    if settings.thresholds.budget:
        parse_budget(settings.thresholds.budget)
    for stream in settings.streams:
        settings_hash(settings, stream)


def _file(folder: Path) -> Prepared:
    path = folder / "tocsin.toml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        _used(load(path, environ={}))

    return Prepared(FILES, read)


def _environment(folder: Path) -> Prepared:
    base = folder / "tocsin.toml"
    base.write_bytes(b'[streams.web-eu]\ntopics = ["a"]\n')

    def read(data: bytes) -> None:
        pairs = (line.partition(b"=") for line in data.replace(b"\0", b"").split(b"\n"))
        environ = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
        each(SettingsError, *(lambda path=path: _used(load(path, environ=environ)) for path in (None, base)))

    return Prepared(ENVIRONMENTS, read)


TARGETS = [
    Target("settings: file", (SettingsError,), _file),
    Target("settings: environment", (SettingsError,), _environment),
]
