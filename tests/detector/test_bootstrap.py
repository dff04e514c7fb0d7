"""No model: when the counting ends, what a training makes of what was counted, and what happens if it is too little."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from telemetry import DUPLICATE, Fleet, generate, keys, messages
from tocsin.detector import bootstrap
from tocsin.detector.bootstrap import TOO_FEW, Collector, Progress, first_model
from tocsin.detector.learning import from_topics, options_of
from tocsin.detector.registry import open_registry
from tocsin.detector.settings import Settings, load
from tocsin.errors import DataError, TooFewRecords
from tocsin.models.checkpoints import GOES_ON
from tocsin.pipelines.brokers.embedded import EmbeddedBroker
from tocsin.pipelines.plan import make_plan

CONFIG = """
[stream]
name = "hosts"
entity = "host"
time = "ts"
topics = ["telemetry"]
{stream}
[registry]
path = "{folder}/registry"
[train]
steps = 10
{train}
[kafka]
bootstrap = "{bootstrap}"
"""


@pytest.fixture
def configured(
    embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Settings]:
    """Settings for the embedded broker with one input topic."""
    admin = embedded.admin()
    admin.create("telemetry", 1)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def make(train: str = "", stream: str = "") -> Settings:
        path = tmp_path / "tocsin.toml"
        path.write_text(
            CONFIG.format(folder=tmp_path, bootstrap=embedded.bootstrap, train=train, stream=stream)
        )
        return load(path)

    return make


def hour(entities: int = 1) -> Fleet:
    """Just an hour: 361 records of each entity at 10 s, and 1 % duplicates."""
    return generate(seed=6, entities=entities, records=361, features=3, duplicates=0.01)


def send(broker: EmbeddedBroker, fleet: Fleet, rows: slice = slice(None)) -> None:
    producer = broker.producer()
    for value, key in zip(messages(fleet, rows), keys(fleet, rows), strict=True):
        producer.produce("telemetry", value, key, partition=0)
    producer.flush(30)
    producer.close()


def counted(collector: Collector, records: int) -> Progress:
    progress = collector.progress()
    while progress.records < records:
        progress = collector.collect()
    return progress


def pretend(monkeypatch: pytest.MonkeyPatch, *codes: int) -> list[int]:
    """Let the trainings end at once with these codes; returns how many are left."""
    left = list(codes)

    def command(*_: object) -> list[str]:
        return [sys.executable, "-c", f"import sys; print('noise\\nwhat it said'); sys.exit({left.pop(0)})"]

    monkeypatch.setattr(bootstrap, "train_command", command)
    return left


def test_an_hour_at_ten_seconds_is_enough_to_count_and_to_train(
    embedded: EmbeddedBroker, configured: Callable[..., Settings], tmp_path: Path
) -> None:
    """With the default need (1,000 records or 1 h), through the child that a daemon starts."""
    settings, fleet = configured(), hour()
    stream = settings.streams[0]
    assert (fleet.kind == DUPLICATE).any()
    send(embedded, fleet, slice(0, -1))
    collector = Collector(embedded, stream, settings)
    before = counted(collector, len(fleet.kind) - 1)
    assert not before.ready
    assert 0.99 < before.share < 1.0
    collector.close()
    send(embedded, fleet, slice(-1, None))
    phases: list[str] = []
    found = first_model(
        embedded,
        settings,
        stream,
        tmp_path / "registry",
        lambda phase, _: phases.append(phase),
        lambda: len(phases) > 120,
    )
    assert found == {("telemetry", 0): len(fleet.kind)}
    assert open_registry(settings, stream).versions()
    assert phases == sorted(phases)  # collecting, then training: the first one was enough


def test_too_few_usable_records_send_it_back_to_collecting_until_a_tenth_more_came(
    embedded: EmbeddedBroker,
    configured: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings, fleet = configured("min_records = 100"), hour()
    left = pretend(monkeypatch, TOO_FEW, 0)
    send(embedded, fleet, slice(0, 100))
    heard: list[tuple[str, Progress]] = []

    def hear(phase: str, progress: Progress) -> None:
        heard.append((phase, progress))
        refused = [one for _, one in heard if one.too_few]
        if phase == "collecting" and len(refused) in (1, 3):
            send(embedded, fleet, slice(100, 109) if len(refused) == 1 else slice(109, 110))
        if phase == "collecting" and progress.records < 110:
            assert len(left) == (1 if refused else 2), "a training before more had come"

    found = first_model(embedded, settings, settings.streams[0], tmp_path, hear, lambda: len(heard) > 40)
    assert found == {("telemetry", 0): 110}
    assert not left
    again = next(one for phase, one in heard if phase == "collecting" and one.too_few)
    assert (again.needed, again.too_few) == (110, "what it said")
    assert "the next begins at 110 records" in again.said
    assert "too few usable records for the first model; collecting goes on" in caplog.messages


def test_any_other_failure_of_the_training_ends_it(
    embedded: EmbeddedBroker,
    configured: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = configured("min_records = 100")
    pretend(monkeypatch, 1)
    send(embedded, hour(), slice(0, 100))
    with pytest.raises(DataError, match=r"exit code 1.*\nwhat it said") as failed:
        first_model(embedded, settings, settings.streams[0], tmp_path, lambda *_: None, lambda: False)
    assert not isinstance(failed.value, TooFewRecords)


def test_that_the_training_goes_on_from_a_checkpoint_is_logged_once(
    embedded: EmbeddedBroker,
    configured: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings, heard = configured("min_records = 100"), []
    program = f"import time; print('{GOES_ON} of ...', flush=True); time.sleep(1.5)"
    monkeypatch.setattr(bootstrap, "train_command", lambda *_: [sys.executable, "-c", program])
    send(embedded, hour(), slice(0, 100))
    with caplog.at_level("INFO"):
        stream = settings.streams[0]
        first_model(embedded, settings, stream, tmp_path, lambda *_: heard.append(1), lambda: len(heard) > 40)
    assert caplog.messages.count("the first training goes on from a checkpoint") == 1


def test_what_was_counted_may_be_too_few_to_train_on(
    embedded: EmbeddedBroker, configured: Callable[..., Settings]
) -> None:
    """1,000 messages that repeat records: enough to try, and the training says so in its own error."""
    settings = configured()
    stream = settings.streams[0]
    fleet = generate(seed=7, entities=1, records=200, features=3)
    for _ in range(5):
        send(embedded, fleet)
    collector = Collector(embedded, stream, settings)
    assert counted(collector, 1000).ready
    collector.close()
    gathered = from_topics(embedded, stream, settings.decode, None, None)
    options = options_of(settings, stream)
    with pytest.raises(TooFewRecords, match="200 usable records"):
        make_plan(
            gathered.series,
            gathered.schema.names,
            profile=options.profile,
            max_entity_models=options.max_entity_models,
            min_records=options.min_records,
            min_span_us=options.min_span_us,
        )


LONG = """
format = "json_long"
period = "1s"
wait = "3s"
"""


def test_periods_that_may_still_be_open_are_not_counted_on(
    embedded: EmbeddedBroker, configured: Callable[..., Settings]
) -> None:
    """A training that begins as soon as the count says so finds enough, and need not be tried again."""
    settings = configured("min_records = 100", LONG)
    stream = settings.streams[0]
    collector = Collector(embedded, stream, settings)
    producer = embedded.producer()
    periods = 0
    while not collector.progress().ready:
        for metric in ("cpu", "memory"):
            point = {"host": "a", "ts": 1_700_000_000 + periods, "metric": metric, "value": periods % 7}
            producer.produce("telemetry", json.dumps(point).encode(), b"a", partition=0)
        producer.flush(30)
        periods += 1
        counted(collector, periods)
    collector.close()
    producer.close()
    assert 100 < periods <= 110
    gathered = from_topics(embedded, stream, settings.decode, None, None)
    assert 100 <= gathered.series[0].accepted < periods
