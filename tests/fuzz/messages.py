"""What is read back from our own topics: the changelog, changes and their seals, alerts and groups.

Where a checksum or a seal stands before the parsing it is made to fit, so that what is behind it is reached.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
from fuzz.limits import Prepared, Target, each
from tocsin.detector import alerts, arrays, audit_chain
from tocsin.detector import group_messages as groups
from tocsin.detector.audit import trail
from tocsin.detector.changelog import (
    BLOCKS_MAGIC,
    LENGTH,
    LENGTHS,
    LENGTHS_OF_BLOCKS,
    NAMES,
    SLOT,
    Applied,
    Decision,
    Layout,
    Marker,
    Snapshot,
    encode_applied,
    encode_decision,
    encode_layout,
    encode_owner,
    encode_snapshot,
)
from tocsin.detector.changelog import (
    PART as OF_PART,
)
from tocsin.detector.changelog_fold import Restorer, _places, forget
from tocsin.detector.changes import (
    BudgetChange,
    Feedback,
    OnTopic,
    Promotion,
    Recalibration,
    Revert,
    SettingsChange,
    Stored,
    Versioned,
    decode,
    encode,
    fold,
    pack_arrays,
)
from tocsin.detector.control import SIGNED_AS, Artefacts, Unloadable, from_message
from tocsin.detector.happenings import Context, Happening, alert_of
from tocsin.detector.restore import recovered
from tocsin.detector.rulings import Rulings
from tocsin.detector.scattered import Scattered
from tocsin.detector.seals import FIRST, PREVIOUS, SIGNATURE, Entry, checked, last_link, seal
from tocsin.detector.settings import Settings, Stream
from tocsin.detector.state import StreamState, decision_of
from tocsin.detector.wire import checked_line
from tocsin.errors import DataError, SignatureError, StateError
from tocsin.models import signing
from tocsin.pipelines.schema import FeatureSchema
from tocsin.thresholds.calibration import Calibration
from tocsin.thresholds.constants import BINS, LEVELS
from tocsin.thresholds.state import checked as checked_rules

TOPIC = "metrics"
PART = (TOPIC, 0)
STAMP: dict[str, Any] = {
    "id": "1",
    "author": "ada",
    "reason": "r",
    "created_at": "2026-01-31T12:00:00.000000Z",
}
START_US = 1_769_860_800_000_000
PIECE = struct.Struct("<4sBBHQIII")
PIECE_HEAD = PIECE.size
"""Of a piece: everything before its CRC."""
TABLE_LENGTH, CRCS = struct.Struct("<I"), struct.Struct("<II")


def _state(entities: int = 2) -> StreamState:
    """A stream's state with some entities in one partition."""
    state = StreamState(FeatureSchema(("cpu", "free"), ("free",)), 8, 4)
    part = state.part(*PART)
    state.rulings[part] = cast(Any, SimpleNamespace(note=lambda: {"change": 0, "model": "v0001-00000000"}))
    slots = state.table.intern_all(part, [f"host-{i} é" for i in range(entities)])
    state.table.take_new()
    state.reserve()
    state.assigned.owner[slots] = part
    return state


def _restored(state: StreamState, snapshot: Snapshot) -> None:
    """All that is done with a snapshot: put in place of a partition, and one entity of it explained."""
    entities = ("host-0 é", *snapshot.entities[:1])
    each(
        StateError,
        lambda: state.restore(state.part(*PART), snapshot, cast(Any, None)),
        *(lambda entity=entity: decision_of(snapshot, PART, entity) for entity in entities),
    )


def _changelog(folder: Path) -> Prepared:
    """Any key with any value, among the messages of a whole snapshot; as it is, and with a checksum that fits."""
    shot = _state().snapshot(0, 50)
    older, marker = encode_snapshot(TOPIC, 0, shot, None, 1, 0, piece_bytes=20_000)
    pairs, newer = list(older), list(encode_snapshot(TOPIC, 0, shot, marker, 1, 0, piece_bytes=20_000)[0])
    decision = Decision(
        partition=0, offset=4, kind="shift", of="a/b", time_us=1, values={"S": 0.5, "x": None}
    )
    single = [
        encode_applied(TOPIC, Applied(partition=0, first_offset=3, version=1, config_hash="h")),
        encode_decision(TOPIC, decision),
        encode_layout(Layout(topic=TOPIC, partitions=3)),
        encode_owner(TOPIC, 0, 1),
        pairs[-1],
        newer[-1],
        pairs[0],
        newer[0],
    ]

    def read(data: bytes) -> None:
        key, _, value = data.partition(b"\n")
        values = (value, _fitting(key, value), None)
        each(StateError, *(lambda one=one: _fold([*pairs, (key, one)]) for one in values))
        each(
            StateError,
            *(lambda one=one: _fold([*pairs, *newer[:-1], (key, one), newer[-1]]) for one in values),
        )

    def whole(data: bytes) -> None:
        key, _, value = data.partition(b"\n")
        _fold([*pairs, *newer[:-1], (key, value), newer[-1]])

    return Prepared([key + b"\n" + (value or b"") for key, value in single], read, whole)


def _fold(log: list[tuple[bytes, bytes | None]]) -> None:
    restorer = Restorer()
    for key, value in log:
        restorer.feed(key, value)
    for part in {PART, *restorer.parts()}:
        found = restorer.restored(*part)
        forget(*part, found)
        recovered(found)
        if found.snapshot is not None:
            list(found.snapshot.blocks)


def _fitting(key: bytes, value: bytes) -> bytes:
    """The value with a checksum that fits."""
    if b"/A/" in key or b"/B/" in key:
        head, payload = value[:PIECE_HEAD], value[PIECE_HEAD + 4 :]
        return head + zlib.crc32(payload, zlib.crc32(head)).to_bytes(4, "little") + payload
    return checked_line(value[9:])


def _whole(body: bytes) -> Snapshot | None:
    """A snapshot's body on its way through the changelog, whatever it is."""
    piece = PIECE.pack(b"TSNC", 1, 0, 0, 1, 1, 0, 1)
    crc = zlib.crc32(body, zlib.crc32(piece)).to_bytes(4, "little")
    marker = Marker(id=1, side="A", writer=1, next_offset=50, pieces=1, crc=zlib.crc32(body))
    restorer = Restorer()
    restorer.feed(f"{TOPIC}/0/snapshot/A/0".encode(), piece + crc + body)
    restorer.feed(f"{TOPIC}/0/snapshot".encode(), checked_line(msgspec.json.encode(marker)))
    found = restorer.restored(*PART)
    recovered(found)
    return found.snapshot


def _snapshot(folder: Path) -> Prepared:
    """The field table (a line of JSON) and the arrays behind it, in an envelope that fits them."""
    state = _state()

    def read(data: bytes) -> None:
        _taken_up(state, _enveloped(data))

    return Prepared(
        [_opened(_head_only(_state(entities).snapshot(0, 50), False)) for entities in (2, 0)], read
    )


def _block(folder: Path) -> Prepared:
    """The same of a block of entities, behind a head that is whole."""
    state = _state()
    body = _body_of(_state().snapshot(0, 50), compress=False)
    head, block = (body[begin:end] for begin, end in _places(Scattered([body]), "the seed"))

    def read(data: bytes) -> None:
        packed = _enveloped(data)
        lengths = np.array([len(head), len(packed)], LENGTH).tobytes()
        _taken_up(state, body[: LENGTHS_OF_BLOCKS.size] + lengths + head + packed)

    return Prepared([_opened(block)], read)


def _lengths(folder: Path) -> Prepared:
    """How a snapshot is cut into its head and blocks."""
    state = _state()
    seeds = [_body_of(_state().snapshot(0, 50), compress) for compress in (True, False)]
    return Prepared(seeds, lambda data: _taken_up(state, BLOCKS_MAGIC + data[len(BLOCKS_MAGIC) :]))


def _taken_up(state: StreamState, body: bytes) -> None:
    found = _whole(body)
    if found is not None:
        _restored(state, found)


def _enveloped(data: bytes) -> bytes:
    """A field table, and behind a line's end what it tells of, as arrays are packed."""
    table, _, body = data.partition(b"\n")
    sizes, crcs = (len(table), len(body)), (zlib.crc32(table), zlib.crc32(body))
    return arrays._HEAD.pack(arrays.MAGIC, 1, 0, arrays.RAW, *sizes, *crcs, 0) + table + body


def _opened(packed: bytes) -> bytes:
    length = TABLE_LENGTH.unpack_from(packed, 8)[0]
    return packed[32 : 32 + length] + b"\n" + packed[32 + length :]


def _body_of(shot: Snapshot, compress: bool) -> bytes:
    pairs, _ = encode_snapshot(TOPIC, 0, shot, None, 1, 0, compress=compress, piece_bytes=1 << 20)
    return (next(pairs)[1] or b"")[PIECE_HEAD + 4 :]


def _head_only(shot: Snapshot, compress: bool) -> bytes:
    """A snapshot as it was up to 1.3: all in one."""
    names = [name.encode() for name in shot.entities]
    lengths = np.fromiter(map(len, names), np.int32, len(names))
    every = {LENGTHS: lengths, NAMES: np.frombuffer(b"".join(names), np.uint8)}
    every |= {SLOT + name: array for name, array in shot.slots.items()}
    every |= {OF_PART + name: array for name, array in shot.part.items()}
    return arrays.pack(every, {"next_offset": shot.next_offset, "note": shot.note}, compress)


def _packed(folder: Path) -> Prepared:
    """The envelope: its header, compressed arrays, with checksums that fit."""
    state = _state()

    def read(data: bytes) -> None:
        if len(data) >= 32:
            length = TABLE_LENGTH.unpack_from(data, 8)[0]
            table, body = data[32 : 32 + length], data[32 + length :]
            data = data[:20] + CRCS.pack(zlib.crc32(table), zlib.crc32(body)) + data[28:]
        _taken_up(state, data)

    return Prepared([_head_only(_state().snapshot(0, 50), compress) for compress in (True, False)], read)


def _calibration(rows: int) -> dict[str, Any]:
    return {
        "counts": np.ones((rows, BINS), np.float32),
        "openings": np.ones((rows, LEVELS), np.float32),
        "span_us": np.ones(rows, np.int64),
        "level": np.ones(rows),
        "median": np.zeros((rows, 4)),
        "floor": np.zeros((rows, 4)),
        "half_life": np.ones(rows),
        "blocks": np.zeros((rows, 4)),
    }


PAYLOAD = encode(BudgetChange(**STAMP, budget="1/day"))
"""What lies in the registry as a large change."""


def stored(size: int = len(PAYLOAD)) -> Stored:
    """The message of it, which may say another size."""
    return Stored(**STAMP, of="budget", sha256=hashlib.sha256(PAYLOAD).hexdigest(), size=size)


def tiny_recalibration() -> Recalibration:
    """Of an array that is no part of a calibration."""
    return Recalibration(**STAMP, model="m", names=["a"], calibration=pack_arrays({"x": np.ones(1)}))


def _changes() -> list[OnTopic]:
    return [
        BudgetChange(**STAMP, budget="1/day per entity", max_incidents=7),
        Promotion(**STAMP, model="v0001-00000000"),
        SettingsChange(**STAMP, settings={"incidents.k": 2, "incidents.gone_after": "2h"}),
        Revert(**STAMP, version=1),
        Recalibration(
            **STAMP,
            model="m",
            names=["a", "b"],
            calibration=pack_arrays(_calibration(2)),
            prior=pack_arrays(_calibration(1)),
            budget="1/day",
            entities=2,
            settings={"incidents.m": 4},
        ),
        Feedback(
            **STAMP,
            alert_id="0" * 32,
            entity="a",
            topic=TOPIC,
            partition=0,
            starts_at=STAMP["created_at"],
            verdict="expected",
            until=STAMP["created_at"],
            epoch=1,
            reach=None,
            counted=True,
        ),
        stored(),
    ]


def _keys(folder: Path) -> tuple[signing.Signer, Artefacts]:
    signer, _ = signing.ensure_pair(folder / signing.PRIVATE_NAME)
    trusted = [signing.trust(signer)]

    def verify(data: bytes, signature: bytes, what: str) -> str:
        return signing.verify(data, signature, trusted, what)

    return signer, Artefacts(folder, verify, partial(signing.sign, signer), "web", 0)


def _control(folder: Path) -> Prepared:
    """A message of the control topic, sealed: read, folded, and made a ruling of. Nothing of it may raise."""
    signer, artefacts = _keys(folder)
    (folder / stored().sha256).write_bytes(PAYLOAD)
    (folder / f"{stored().sha256}.sig").write_bytes(signing.sign(signer, SIGNED_AS + PAYLOAD))
    settings = Settings(streams=(Stream(name="web", topics=("t",)),))
    version = SimpleNamespace(trained_entities=1, entities={})
    model = SimpleNamespace(name="m", version=version, calibration=Calibration(**_calibration(1)))
    before = Versioned(0, Promotion(**STAMP, model="m"))

    def read(data: bytes) -> None:
        headers = seal("web", 1, FIRST, data, partial(signing.sign, signer))
        change = from_message(1, data, artefacts, headers)
        from_message(2, data, artefacts, headers)
        trail([before, change])
        rulings = Rulings(settings, lambda name: cast(Any, model))
        for one in (before, change):
            rulings.take(one)
        if isinstance(change, Unloadable):
            assert len(change.why.encode()) < 10_000
        else:
            fold([before, change])
        checked_rules(rulings.ruling().rules)
        decode(data, "a change")

    return Prepared([encode(change) for change in _changes()], read)


def _artefact(folder: Path) -> Prepared:
    """A change that lies in the registry, signed by a trusted key, whatever it is."""
    signer, artefacts = _keys(folder)
    loose = artefacts._replace(sealed_from=None)

    def read(data: bytes) -> None:
        message = Stored(**STAMP, of="budget", sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        path = folder / message.sha256
        path.write_bytes(data)
        path.with_suffix(".sig").write_bytes(signing.sign(signer, SIGNED_AS + data))
        from_message(1, encode(message), loose)
        path.unlink()
        path.with_suffix(".sig").unlink()

    return Prepared([encode(change) for change in _changes()], read)


def _seals(folder: Path) -> Prepared:
    """The headers of a change and its value: the line of the link before, the signature's, then the value."""
    signer, artefacts = _keys(folder)
    value = encode(Promotion(**STAMP, model="m"))
    sealed = dict(seal("web", 1, FIRST, value, partial(signing.sign, signer)))
    seed = b"\n".join((sealed[PREVIOUS] or b"", (sealed[SIGNATURE] or b"").rstrip(b"\n"), value))

    def read(data: bytes) -> None:
        previous, _, rest = data.partition(b"\n")
        signature, _, change = rest.partition(b"\n")
        headers = [(PREVIOUS, previous), (SIGNATURE, signature + b"\n"), (signature.decode("latin-1"), None)]
        entry = Entry(1, change, headers)
        entries = [entry, entry._replace(version=2)]
        audit_chain.follow("web", entries, artefacts.verify, applied={9: "metrics/0"}, noted=FIRST)
        last_link("web", entries, artefacts.verify)
        from_message(1, change, artefacts, headers)
        checked("web", entry, artefacts.verify)

    return Prepared([seed], read)


def _told(folder: Path) -> Prepared:
    """An alert, as everybody reads it: the commands, the forwarder and the second stage."""

    def read(data: bytes) -> None:
        alerts.is_newer(data)
        each(
            DataError,
            lambda: groups.decode_word(data, "an alert"),
            lambda: alerts.message_of(alerts.decode(data)),
        )

    happening = Happening(
        alerts.Kind.ANOMALY, alerts.Status.FIRING, alerts.Severity.WARNING, "a", START_US, START_US, 1, 2, 3.0,
        0.01, 2.0, 3.5, expected=(START_US, 7),
    )  # fmt: skip
    context = Context("web", "web", TOPIC, 0, "v0001", "v0001.1")
    told = alert_of(happening, context, [alerts.Feature("cpu", 1.0, None, 1.0)])
    return Prepared([msgspec.json.encode(told)], read)


def _grouped(folder: Path) -> Prepared:
    member = groups.GroupMember(
        alert_id="0" * 32,
        entity="a",
        severity="warning",
        status=alerts.Status.FIRING,
        starts_at=STAMP["created_at"],
        score=1.0,
        p_value=None,
        basis="prior",
        discovery=True,
    )
    grouped = groups.Grouped(
        schema_version=groups.SCHEMA_VERSION,
        group_id="1" * 32,
        status=alerts.Status.FIRING,
        labels=groups.GroupLabels(groups.ALERT_NAME, "web", "web", alerts.Severity.WARNING),
        annotations=groups.GroupNotes(
            summary="s", entities=1, members=1, open=1, discoveries=1, unlisted=0, escalation=None
        ),
        members=(member,),
        starts_at=STAMP["created_at"],
        ends_at=None,
        updated_at=STAMP["created_at"],
    )

    def read(data: bytes) -> None:
        found = groups.decode_grouped(data, "a group")
        groups.message_of(groups.regrouped(found, STAMP["created_at"]))

    return Prepared([msgspec.json.encode(grouped)], read)


TARGETS = [
    Target("changelog: values", (StateError,), _changelog, share=0.5),
    Target("changelog: snapshot", (StateError,), _snapshot),
    Target("changelog: envelope", (StateError,), _packed),
    Target("changelog: block", (StateError,), _block),
    Target("changelog: lengths of blocks", (StateError,), _lengths),
    Target("control topic: changes", (DataError,), _control),
    Target("control topic: artefacts", (), _artefact),
    Target("control topic: seals", (SignatureError,), _seals),
    Target("alerts", (DataError,), _told),
    Target("groups", (DataError,), _grouped),
]
