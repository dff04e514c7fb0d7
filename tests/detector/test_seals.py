"""A change acts only under a seal of a trusted key, made for its stream and its place, where that is required."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tocsin.detector.audit import trail
from tocsin.detector.changes import BudgetChange, Promotion, Versioned, message_of
from tocsin.detector.control import Artefacts, Unloadable, artefacts_of, publish, read_all
from tocsin.detector.control_feed import ControlFeed
from tocsin.detector.rulings import Rulings
from tocsin.detector.seals import FIRST, Entry, checked, seal
from tocsin.detector.settings import Control, Registry, Settings, Stream
from tocsin.errors import DeliveryFailed, SignatureError, StateError
from tocsin.models import signing
from tocsin.pipelines.brokers import Broker, open_broker

WHO: dict[str, str] = {"author": "ada", "reason": "", "created_at": "2026-01-31T12:00:00.000000Z"}
_numbers = iter(range(1000))


def budget(id_: str, text: str = "1/day") -> BudgetChange:
    return BudgetChange(id=id_, **WHO, budget=text)


def made_by(folder: Path, trusted: Any = None, stream: str = "s", sealed_from: int | None = 0) -> Artefacts:
    """What somebody publishes with whose key lies in `folder`, trusting that of `trusted`."""
    signer, _ = signing.ensure_pair(folder / signing.PRIVATE_NAME)
    keys = [signing.trust(signing.ensure_pair((trusted or folder) / signing.PRIVATE_NAME)[0])]
    return Artefacts(
        folder / "changes",
        lambda data, proof, what: signing.verify(data, proof, keys, what),
        partial(signing.sign, signer),
        stream,
        sealed_from,
    )


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    found = open_broker("embedded")
    yield found
    found.close()


@pytest.fixture
def control(broker: Broker) -> str:
    name = f"control{next(_numbers)}"
    broker.admin().create(name, 1)
    return name


def put(broker: Broker, topic: str, value: bytes | None, headers: Any = ()) -> None:
    producer = broker.producer()
    producer.produce(topic, value, b"k", partition=0, headers=list(headers))
    producer.flush(10)
    producer.close()


def refused(found: list[Versioned | Unloadable]) -> list[int]:
    return [one.version for one in found if isinstance(one, Unloadable) and one.unsealed]


def test_only_what_a_trusted_key_sealed_for_this_place_of_this_stream_acts(
    broker: Broker, control: str, tmp_path: Path
) -> None:
    ada, eve = made_by(tmp_path / "ada"), made_by(tmp_path / "eve", tmp_path / "ada")
    assert publish(broker, control, budget("0"), ada) == 0
    assert publish(broker, control, budget("1"), eve) == 1
    assert publish(broker, control, budget("2"), eve._replace(sign=None, sealed_from=None)) == 2
    assert publish(broker, control, budget("3"), ada._replace(stream="other")) == 3
    batch = broker.consumer()
    batch.assign([(control, 0, 0)])
    first = batch.consume(1, 10.0)
    assert first.headers is not None
    put(broker, control, first.value[0], first.headers[0] or [])  # again, as it was
    put(broker, control, (first.value[0] or b"").replace(b"1/day", b"9/day"), first.headers[0] or [])
    assert publish(broker, control, budget("6"), ada) == 6

    found = read_all(broker, control, ada)
    assert refused(found) == [1, 2, 3, 4, 5]
    assert [one for one in found if isinstance(one, Versioned)] == [
        Versioned(0, budget("0")),
        Versioned(6, budget("6")),
    ]
    whys = [one.why for one in found if isinstance(one, Unloadable)]
    assert "not trusted here" in whys[0]
    assert "is not signed" in whys[1]
    assert all("were changed after it was signed" in why for why in whys[2:])
    assert [entry.effect[:8] for entry in trail(found)] == ["in force", *["refused:"] * 5, "in force"]
    assert refused(read_all(broker, control, ada._replace(sealed_from=3))) == [3, 4, 5]
    assert refused(read_all(broker, control, ada._replace(sealed_from=None))) == []


def test_the_seal_names_the_sealed_change_before_it(tmp_path: Path) -> None:
    ada = made_by(tmp_path / "ada")
    assert ada.sign is not None
    first = checked("s", Entry(4, b"a", seal("s", 4, FIRST, b"a", ada.sign)), ada.verify)
    headers = seal("s", 9, first.link, b"b", ada.sign)
    assert checked("s", Entry(9, b"b", headers), ada.verify).previous == first.link
    forged = [(name, FIRST.encode() if "previous" in name else value) for name, value in headers]
    with pytest.raises(SignatureError):
        checked("s", Entry(9, b"b", forged), ada.verify)
    with pytest.raises(SignatureError, match="does not name the signed change before it"):
        checked("s", Entry(9, b"b", headers[1:]), ada.verify)


def test_who_loses_the_place_publishes_again(broker: Broker, control: str, tmp_path: Path) -> None:
    ada = made_by(tmp_path / "ada")
    own, rivals = ada.sign, [b"first", b"second"]
    assert own is not None

    def slow(data: bytes) -> bytes:
        if rivals:
            put(broker, control, rivals.pop())
        return own(data)

    assert publish(broker, control, budget("mine"), ada._replace(sign=slow)) == 4
    found = read_all(broker, control, ada)
    assert found[-1] == Versioned(4, budget("mine"))
    assert refused(found) == [1, 3]  # its first tries; the others' are no changes at all

    rivals += [b"always"] * 100
    with pytest.raises(DeliveryFailed, match="Nothing was changed; try again"):
        publish(broker, control, budget("never"), ada._replace(sign=slow))
    assert len(found) < len(later := read_all(broker, control, ada))
    assert all(isinstance(one, Unloadable) for one in later[5:])


def test_without_a_key_nothing_is_published_where_it_must_be_signed(
    broker: Broker, control: str, tmp_path: Path
) -> None:
    folder = tmp_path / "keys"
    stream = Stream(name="s")
    registry = Registry(path=str(tmp_path), private_key=str(folder / "signing-key.pem"))
    strict = Settings(streams=(stream,), registry=registry, control=Control(require_signature=True))
    with pytest.raises(SignatureError, match="cannot be read"):
        artefacts_of(strict, stream)
    assert publish(broker, control, budget("0"), artefacts_of(Settings(streams=(stream,)), stream)) == 0

    signing.ensure_pair(folder / "signing-key.pem")
    artefacts = artefacts_of(strict, stream)
    assert publish(broker, control, budget("1"), artefacts) == 1
    assert refused(read_all(broker, control, artefacts)) == [0]
    (folder / "signing-key.pem").unlink()
    with pytest.raises(SignatureError, match="require_signature is set, and a change cannot be signed here"):
        publish(broker, control, budget("2"), artefacts)
    assert len(read_all(broker, control, artefacts)) == 2


def test_a_start_over_changes_from_before_the_setting_says_what_to_set(
    broker: Broker, control: str, tmp_path: Path
) -> None:
    ada = made_by(tmp_path / "ada")
    before = ada._replace(sign=None, sealed_from=None)
    first = Promotion(id="p", **WHO, model="v1")
    assert [publish(broker, control, change, before) for change in (first, budget("b", "7/day"))] == [0, 1]
    settings = Settings(streams=(Stream(name="s"),))

    def rulings() -> Rulings:
        return Rulings(settings, lambda name: name)  # type: ignore[arg-type, return-value]

    with ThreadPoolExecutor(1) as loader:
        with pytest.raises(
            SignatureError, match=r"2 changes are refused, up to 1.*signed_from = 2; else run"
        ):
            ControlFeed(broker, control, ada, rulings(), loader)
        kept = rulings()
        feed = ControlFeed(broker, control, ada._replace(sealed_from=2), kept, loader)
        assert (feed.unsealed, kept.effective().in_force.budget) == (0, "7/day")
        put(broker, control, message_of(budget("late", "9/day")).value)
        arrived = []
        while not arrived:
            arrived = feed.arrived()
        assert "is not signed" in arrived[0].why
        assert (feed.unsealed, kept.effective().in_force.budget) == (1, "7/day")

    again = rulings()  # a model promoted under a seal: what was in force before it cannot be said any more
    publish(broker, control, first, ada)
    for change in read_all(broker, control, ada):
        again.take(change)
    with pytest.raises(StateError, match=r"up to 1 lets a model serve.*signed_from"):
        again.ruling(1)
