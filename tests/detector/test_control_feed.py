"""Following the control topic: a version that cannot be loaded leaves the one that serves, and is said."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from artefacts import manifest, tensors
from tocsin.detector.changes import Promotion
from tocsin.detector.control import artefacts_of, publish
from tocsin.detector.control_feed import ControlFeed
from tocsin.detector.rulings import Rulings
from tocsin.detector.settings import Settings, Stream
from tocsin.models import artefact
from tocsin.models.artefact import WEIGHTS
from tocsin.models.encryption import load_ciphers
from tocsin.models.registry import Registry
from tocsin.models.signing import Signer, ensure_pair, trust
from tocsin.pipelines.brokers import Broker, open_broker

CONTROL = "s.control"


@pytest.fixture
def broker() -> Iterator[Broker]:
    found = open_broker("embedded")
    found.admin().create(CONTROL, 1)
    yield found
    found.close()


def registered(folder: Path, signer: Signer, fault: str) -> str:
    """A version with something wrong."""
    ciphers = []
    if fault == "its key is missing":
        key = folder / "key"
        key.touch(0o600)
        key.write_text("a" * 64)
        ciphers = load_ciphers([key])
    registry = Registry(folder / "registry", "s", ciphers)
    name = registry.register(manifest(), artefact.encode(*tensors()), signer)
    weights = registry.folder / name / WEIGHTS
    if fault == "a byte is wrong":
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    if fault == "a file is missing":
        weights.unlink()
    return name


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("its key is missing", "encrypted with the key 'e0e77a507412b120', which is not here"),
        ("a byte is wrong", WEIGHTS),
        ("a file is missing", WEIGHTS),
        ("nothing", ""),
    ],
)
def test_a_version_that_cannot_be_loaded_leaves_the_one_that_serves(
    broker: Broker, tmp_path: Path, fault: str, said: str
) -> None:
    signer, _ = ensure_pair(tmp_path / "keys" / "key.pem")
    settings = Settings(streams=(Stream(name="s"),))
    artefacts = artefacts_of(settings, settings.streams[0])
    good = Registry(tmp_path / "registry", "s").register(manifest(), artefact.encode(*tensors()), signer)
    other = registered(tmp_path, signer, fault)
    registry = Registry(tmp_path / "registry", "s")  # without keys

    def load(name: str) -> Any:
        """As a daemon does, but for the compiling."""
        return registry.load(name, [trust(signer)])

    rulings = Rulings(settings, load)

    def promote(name: str) -> None:
        change = Promotion(id=name, author="a", reason="", created_at="2026-01-01T00:00:00Z", model=name)
        publish(broker, CONTROL, change, artefacts)

    promote(good)
    with ThreadPoolExecutor(1) as loader:
        feed = ControlFeed(broker, CONTROL, artefacts, rulings, loader)
        promote(other)
        arrived = []
        while not arrived:
            arrived = feed.arrived()
        feed.close()
    serves = rulings.effective().in_force.model
    assert (serves, rulings.newest) == (good if said else other, 1)
    assert bool(arrived[0].why) == bool(said)
    assert said in arrived[0].why
