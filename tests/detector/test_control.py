"""Publishing and reading changes on a broker; large ones as signed files; what cannot be loaded is said."""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tocsin.detector.changes import (
    BudgetChange,
    Packed,
    Recalibration,
    Stored,
    Versioned,
    decode,
    encode,
    pack_arrays,
)
from tocsin.detector.control import (
    Artefacts,
    Unloadable,
    from_message,
    publish,
    read_all,
    read_to_end,
    to_message,
)
from tocsin.errors import BrokerError, SignatureError, UnknownTopic
from tocsin.models import signing
from tocsin.pipelines.brokers import BEGINNING, Broker, open_broker
from tocsin.thresholds.constants import BINS, LEVELS

WHO: dict[str, str] = {"author": "ada", "reason": "", "created_at": "2026-01-31T12:00:00.000000Z"}


def budget(id_: str) -> BudgetChange:
    return BudgetChange(id=id_, **WHO, budget="1/day")


def large() -> Recalibration:
    names = [f"host-{i}" for i in range(500)]
    random = np.random.default_rng(1)

    def calibration(rows: int) -> dict[str, Packed]:
        return pack_arrays(
            {
                "counts": random.normal(size=(rows, BINS)).astype(np.float32),
                "openings": np.zeros((rows, LEVELS), np.float32),
                "span_us": np.ones(rows, np.int64),
                **{name: np.ones(rows) for name in ("level", "half_life")},
                **{name: np.ones((rows, 1)) for name in ("median", "floor")},
            }
        )

    return Recalibration(
        id="r",
        **WHO,
        model="m",
        budget="1/day",
        entities=500,
        names=names,
        calibration=calibration(500),
        prior=calibration(1),
    )


def keys(folder: Path) -> tuple[Any, Any]:
    signer, _ = signing.ensure_pair(folder / signing.PRIVATE_NAME)
    trusted = [signing.trust(signer)]
    return partial(signing.sign, signer), lambda data, sig, what: signing.verify(data, sig, trusted, what)


@pytest.fixture
def artefacts(tmp_path: Path) -> Artefacts:
    sign, verify = keys(tmp_path / "ada")
    return Artefacts(tmp_path / "registry" / "s" / "changes", verify, sign)


def test_a_large_change_travels_as_its_hash(artefacts: Artefacts) -> None:
    change = large()
    message = to_message(change, artefacts)
    assert message.value is not None
    assert len(message.value) < 1000
    stored = decode(message.value, "x")
    assert isinstance(stored, Stored)
    assert stored.sha256 == hashlib.sha256(encode(change)).hexdigest()
    assert {path.name for path in artefacts.folder.iterdir()} == {stored.sha256, f"{stored.sha256}.sig"}
    assert from_message(7, message.value, artefacts) == Versioned(7, change)


def test_without_a_key_a_large_change_is_refused(artefacts: Artefacts) -> None:
    with pytest.raises(SignatureError, match="must become a signed artefact"):
        to_message(large(), artefacts._replace(sign=None))


def unloadable(artefacts: Artefacts, value: bytes | None) -> str:
    found = from_message(7, value, artefacts)
    assert isinstance(found, Unloadable)
    assert found.version == 7
    assert "change 7 of the control topic" in found.why or "artefact" in found.why
    return found.why


def test_what_cannot_be_loaded_says_why_and_raises_nothing(artefacts: Artefacts, tmp_path: Path) -> None:
    value = to_message(large(), artefacts).value
    payload, signature = sorted(artefacts.folder.iterdir(), key=lambda path: path.suffix)
    stranger, _ = keys(tmp_path / "eve")
    good, proof = payload.read_bytes(), signature.read_bytes()

    signature.write_bytes(stranger(b"tocsin change artefact 1\n" + good))
    assert "not trusted here" in unloadable(artefacts, value)
    assert artefacts.sign is not None
    signature.write_bytes(artefacts.sign(good))
    assert "does not hold" in unloadable(artefacts, value), "a signature of something else was taken"
    signature.write_bytes(proof)
    payload.write_bytes(good[:-1] + b" ")
    assert "was altered" in unloadable(artefacts, value)
    payload.write_bytes(good + b" ")
    assert "was altered" in unloadable(artefacts, value)
    signature.unlink()
    payload.write_bytes(good)
    why = unloadable(artefacts, value)
    assert "cannot be read (No such file or directory)" in why
    assert "publish the change again: a daemon that runs does not try twice" in why
    signature.write_bytes(proof)
    assert isinstance(from_message(7, value, artefacts), Versioned)


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff", b'{"schema_version":"2.0"}'])
def test_garbage_on_the_topic(artefacts: Artefacts, value: bytes | None) -> None:
    unloadable(artefacts, value)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "0" * 63, "G" * 64, "0" * 64 + "\n"])
def test_an_artefact_is_named_by_a_hash_and_nothing_else(artefacts: Artefacts, name: str) -> None:
    stored = Stored(id="z", **WHO, of="recalibration", sha256=name, size=9)
    assert "impossible artefact" in unloadable(artefacts, encode(stored))


def test_an_artefact_of_another_change(artefacts: Artefacts) -> None:
    stored = decode(to_message(large(), artefacts).value, "x")
    assert isinstance(stored, Stored)
    other = Stored(id="other", **WHO, of=stored.of, sha256=stored.sha256, size=stored.size)
    assert "holds another change" in unloadable(artefacts, encode(other))


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    found = open_broker("embedded")
    yield found
    found.close()


def topic(broker: Broker, name: str, partitions: int = 1) -> str:
    broker.admin().create(name, partitions)
    return name


def test_the_version_is_the_offset(broker: Broker, artefacts: Artefacts) -> None:
    control = topic(broker, "control")
    assert read_all(broker, control, artefacts) == []
    assert [publish(broker, control, budget(str(i)), artefacts) for i in range(3)] == [0, 1, 2]
    producer = broker.producer()
    producer.produce(control, b"garbage", b"k", partition=0)
    producer.flush(10)
    assert publish(broker, control, large(), artefacts) == 4
    found = read_all(broker, control, artefacts)
    assert [one.version for one in found] == [0, 1, 2, 3, 4]
    assert isinstance(found[3], Unloadable)
    assert found[4] == Versioned(4, large())
    assert [one.version for one in read_all(broker, control, artefacts, 3)] == [3, 4]


def test_reading_to_the_end_stops_at_the_end_as_it_was(broker: Broker) -> None:
    name = topic(broker, "many", 3)
    producer, consumer = broker.producer(), broker.consumer()
    parts = [(name, p) for p in range(3)]
    for i in range(10):
        producer.produce(name, str(i).encode(), partition=i % 2)
    producer.flush(10)
    values = []
    for batch in read_to_end(consumer, parts, BEGINNING):
        producer.produce(name, b"later", partition=0)
        producer.flush(10)
        values += batch.value
    assert sorted(v for v in values if v and v != b"later") == [str(i).encode() for i in range(10)]
    assert values.count(b"later") <= 2


def test_an_unknown_topic_and_a_silent_broker(artefacts: Artefacts) -> None:
    broker: Any = open_broker("embedded")
    with pytest.raises(UnknownTopic, match="nowhere"):
        read_all(broker, "nowhere", artefacts)
    name = topic(broker, "control")
    publish(broker, name, budget("1"), artefacts)
    consumer = broker.consumer()
    ends = {(name, 0): consumer.end_offsets([(name, 0)])[name, 0] + 1}
    consumer.end_offsets = lambda parts: ends
    with pytest.raises(BrokerError, match="stalled for 1 s"):
        list(read_to_end(consumer, [(name, 0)], stall_s=1))
    broker.down()
    with pytest.raises(BrokerError):
        list(read_to_end(consumer, [(name, 0)], stall_s=3))
    broker.close()
