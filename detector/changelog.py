"""The state changelog: what each key means, how a snapshot is cut into messages, and the fold that restores.

The topic is compacted and partitioned like the input; partition p of it holds the state of every input
topic's partition p. Topic names cannot hold a slash, so keys are plain text:

    <topic>/<p>/change/<first offset>/<version>   a change of the control topic that acts from there on
    <topic>/<p>/decision/<offset>/<kind>/<of>     a decision taken in this partition: level change, shift, ...
    <topic>/<p>/snapshot/<A or B>/<i>             piece i of a snapshot
    <topic>/<p>/snapshot                          the marker: the snapshot above is complete
    <topic>/partitions                            (in partition 0) the partition count of the state

Snapshots alternate between the sides A and B, and a marker is produced after its last piece. A snapshot
that breaks off half-way therefore never touches the pieces of the last complete one, whatever the broker
compacts. The marker also names the snapshot before it, to fall back on where a second daemon wrote into
the newest one's pieces.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from ..errors import StateError
from .arrays import Array, Arrays, pack, unpack
from .wire import checked_line, corrupt, decode_json, unchecked_line

SCHEMA_VERSION = "1.1"
"""1.0 had no `what` and `action` in decisions, and no shifts and outages."""
PIECE_BYTES = 512 * 1024  # half of Kafka's default message.max.bytes, so no broker setting is needed
Pair = tuple[bytes, bytes | None]
T = TypeVar("T")

_PIECE = struct.Struct("<4sBBHQIII")  # magic, format, id, writer, index, count; then the CRC-32 of all else
_CRC = struct.Struct("<I")
_PIECE_MAGIC, _PIECE_MAJOR = b"TSNC", 1
_NAMES, _LENGTHS, _SLOT, _PART = "names", "names.lengths", "slot:", "part:"


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """A change acts in this partition from `first_offset` on, under this configuration hash.

    Written before it acts.
    """

    partition: int
    first_offset: int
    version: int
    config_hash: str
    schema_version: str = SCHEMA_VERSION


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that the partition's own records led to.

    `of` is the entity (level change, shift), the signal (drift), or empty (outage). `what` happened and the `action`
    are words of thresholds' `policy`.
    """

    partition: int
    offset: int
    kind: Literal["level_change", "shift", "drift", "outage"]
    of: str
    time_us: int
    group: str = ""
    what: str = ""
    action: str = ""
    values: dict[str, float | None] = {}
    schema_version: str = SCHEMA_VERSION


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How many partitions the topic had when its state was made."""

    topic: str
    partitions: int
    schema_version: str = SCHEMA_VERSION


class Complete(msgspec.Struct, frozen=True, kw_only=True):
    """One complete snapshot, as its marker describes it."""

    id: int
    side: Literal["A", "B"]
    writer: int
    next_offset: int
    pieces: int
    crc: int


class Marker(Complete, frozen=True, kw_only=True):
    """The value of a marker: the newest complete snapshot, and the one before it on the other side."""

    previous: Complete | None = None
    schema_version: str = SCHEMA_VERSION


class Snapshot(NamedTuple):
    """The state of one input partition after every record before `next_offset`.

    slots[name] is [rows, ...], one row per entity in the order of `entities`; part[name] is of any shape;
    `note` is a small JSON-able remark of the chain (configuration hash, alignment settings). Restored
    arrays are read-only.
    """

    next_offset: int
    entities: list[str]
    slots: Arrays
    part: Arrays
    note: dict[str, Any]


class Restored(NamedTuple):
    """What the changelog knows of one input partition, in the order of offsets."""

    snapshot: Snapshot | None
    marker: Marker | None
    applied: list[Applied]
    decisions: list[Decision]
    torn: bool  # the newest snapshot was not whole and the one before it was taken
    size: int = 0  # bytes of the snapshot


_APPLIED = msgspec.json.Decoder(Applied)
_DECISION = msgspec.json.Decoder(Decision)
_LAYOUT = msgspec.json.Decoder(Layout)
_MARKER = msgspec.json.Decoder(Marker)


def prefix_of(topic: str, partition: int) -> str:
    """What every key of an input partition begins with."""
    return f"{topic}/{partition}/"


def encode_applied(topic: str, applied: Applied) -> Pair:
    """The message that must be acknowledged before the change acts."""
    key = f"{prefix_of(topic, applied.partition)}change/{applied.first_offset:020d}/{applied.version}"
    return key.encode(), checked_line(msgspec.json.encode(applied))


def encode_decision(topic: str, decision: Decision) -> Pair:
    """The message of a decision; the same decision taken again in a replay has the same key."""
    key = (
        f"{prefix_of(topic, decision.partition)}decision/{decision.offset:020d}/{decision.kind}/{decision.of}"
    )
    return key.encode(), checked_line(msgspec.json.encode(decision))


def encode_layout(layout: Layout) -> Pair:
    """The message that fixes a topic's partition count."""
    return f"{layout.topic}/partitions".encode(), checked_line(msgspec.json.encode(layout))


def encode_snapshot(
    topic: str,
    partition: int,
    snapshot: Snapshot,
    previous: Marker | None,
    writer: int,
    compress: bool = True,
    piece_bytes: int = PIECE_BYTES,
) -> tuple[list[Pair], Marker]:
    """The messages of a snapshot, the marker last, and that marker (the `previous` of the next one).

    `previous` is the marker last written or restored; `writer` is a number (u32) drawn once per process,
    by which the pieces of two daemons that both believe to own the partition are told apart. Produce the
    list in order to one partition.
    """
    body = _pack_snapshot(snapshot, compress)
    number = previous.id + 1 if previous else 1
    side: Literal["A", "B"] = "B" if previous and previous.side == "A" else "A"
    cuts = range(0, len(body), piece_bytes)
    prefix = prefix_of(topic, partition)
    pairs: list[Pair] = []
    for index, at in enumerate(cuts):
        piece = body[at : at + piece_bytes]
        head = _PIECE.pack(_PIECE_MAGIC, _PIECE_MAJOR, 0, 0, number, writer, index, len(cuts))
        crc = _CRC.pack(zlib.crc32(piece, zlib.crc32(head)))
        pairs.append((f"{prefix}snapshot/{side}/{index}".encode(), head + crc + piece))
    marker = Marker(
        id=number,
        side=side,
        writer=writer,
        next_offset=snapshot.next_offset,
        pieces=len(cuts),
        crc=zlib.crc32(body),
        previous=previous and _complete(previous),
    )
    pairs.append((f"{prefix}snapshot".encode(), checked_line(msgspec.json.encode(marker))))
    return pairs, marker


def forget(topic: str, partition: int, restored: Restored) -> list[Pair]:
    """Tombstones for all that is known of an input partition, as a reset of the partition count needs."""
    prefix = prefix_of(topic, partition)
    keys = [encode_applied(topic, a)[0] for a in restored.applied]
    keys += [encode_decision(topic, d)[0] for d in restored.decisions]
    known = (restored.marker, restored.marker.previous) if restored.marker else ()
    for complete in known:
        if complete is not None:
            keys += [f"{prefix}snapshot/{complete.side}/{i}".encode() for i in range(complete.pieces)]
    return [(f"{prefix}snapshot".encode(), None), *((key, None) for key in keys)]


def _complete(marker: Marker) -> Complete:
    return Complete(**{name: getattr(marker, name) for name in Complete.__struct_fields__})


def _as_marker(complete: Complete) -> Marker:
    # After falling back, the next snapshot must go over the torn one and not over the only whole one: so what
    # counts as written last is the one that was taken.
    if isinstance(complete, Marker):
        return complete
    return Marker(**msgspec.structs.asdict(complete))


def _pack_snapshot(snapshot: Snapshot, compress: bool) -> bytes:
    names = [name.encode() for name in snapshot.entities]
    rows = len(names)
    arrays: dict[str, Array] = {
        _LENGTHS: np.fromiter(map(len, names), np.int32, rows),
        _NAMES: np.frombuffer(b"".join(names), np.uint8),
    }
    for name, array in snapshot.slots.items():
        if array.shape[:1] != (rows,):
            raise ValueError(f"slot array {name!r} has the shape {array.shape} for {rows} entities")
        arrays[_SLOT + name] = array
    arrays.update({_PART + name: array for name, array in snapshot.part.items()})
    return pack(arrays, {"next_offset": snapshot.next_offset, "note": snapshot.note}, compress)


class _Note(msgspec.Struct, frozen=True):
    next_offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    note: dict[str, Any] = {}


def _unpack_snapshot(data: bytes, what: str) -> Snapshot:
    arrays, note_bytes = unpack(data, what)
    try:
        note = msgspec.json.decode(note_bytes, type=_Note)
        lengths, blob = arrays[_LENGTHS], arrays[_NAMES].tobytes()
        if lengths.dtype != np.int32 or lengths.ndim != 1:
            raise corrupt(what, "the lengths of its entity names are none")
        ends = np.cumsum(lengths, dtype=np.int64)
        if (lengths < 0).any() or (int(ends[-1]) if ends.size else 0) != len(blob):
            raise corrupt(what, "its entity names are cut off")
        entities = [blob[e - n : e].decode() for e, n in zip(ends.tolist(), lengths.tolist(), strict=True)]
    except (KeyError, UnicodeDecodeError, msgspec.DecodeError, TypeError, ValueError) as wrong:
        raise corrupt(what, f"its header is not readable ({wrong})") from None
    slots = {name.removeprefix(_SLOT): a for name, a in arrays.items() if name.startswith(_SLOT)}
    part = {name.removeprefix(_PART): a for name, a in arrays.items() if name.startswith(_PART)}
    for name, array in slots.items():
        if array.shape[:1] != (len(entities),):
            raise corrupt(what, f"its field {name!r} has another number of rows than entities")
    return Snapshot(note.next_offset, entities, slots, part, note.note)


class _Piece(NamedTuple):
    id: int
    writer: int
    pieces: int
    payload: bytes


class _Partial(NamedTuple):
    """What was fed for one input partition, by key: a later value replaces an earlier one."""

    pieces: dict[tuple[str, int], _Piece]
    marker: list[Marker]  # none or one
    applied: dict[str, Applied]
    decisions: dict[str, Decision]


class Restorer:
    """The fold over a changelog partition: feed every (key, value) in order, then ask what is restored.

    Holds the encoded pieces of at most two snapshots per input partition. Raises StateError, naming the
    key, for a value that is corrupt or of a newer format, at `feed`; for snapshots of which neither is
    whole, at `restored`.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str, int], _Partial] = {}
        self.layouts: dict[str, Layout] = {}

    def feed(self, key: bytes | None, value: bytes | None) -> None:
        """Take one message in. Keys of a kind that this version does not know are left alone."""
        text = key.decode("utf-8", "replace") if key else ""
        topic, _, rest = text.partition("/")
        what = f"changelog key {text!r}"
        if rest == "partitions":
            self._feed_layout(topic, value, what)
            return
        number, _, rest = rest.partition("/")
        kind, _, detail = rest.partition("/")
        if not (number.isascii() and number.isdigit() and len(number) < 10 and kind):
            return
        partial = self._parts.setdefault((topic, int(number)), _Partial({}, [], {}, {}))
        if kind == "snapshot" and detail:
            _feed_piece(partial.pieces, detail, value, what)
        elif kind == "snapshot":
            partial.marker.clear()
            if value is not None:
                partial.marker.append(_line(_MARKER, value, what))
        elif kind == "change":
            _feed_line(partial.applied, _APPLIED, detail, value, what)
        elif kind == "decision":
            _feed_line(partial.decisions, _DECISION, detail, value, what)

    def _feed_layout(self, topic: str, value: bytes | None, what: str) -> None:
        if value is None:
            self.layouts.pop(topic, None)
        else:
            self.layouts[topic] = _line(_LAYOUT, value, what)

    def parts(self) -> list[tuple[str, int]]:
        """The input partitions that anything is known of."""
        return sorted(self._parts)

    def restored(self, topic: str, partition: int) -> Restored:
        """What is known of an input partition. `snapshot` is None for a fresh one."""
        partial = self._parts.get((topic, partition), _Partial({}, [], {}, {}))
        applied = sorted(partial.applied.values(), key=lambda a: (a.first_offset, a.version))
        decisions = sorted(partial.decisions.values(), key=lambda d: (d.offset, d.kind, d.of))
        marker = partial.marker[0] if partial.marker else None
        if marker is None:
            return Restored(None, None, applied, decisions, False)
        body, taken = self._newest(topic, partition, partial, marker)
        snapshot = _unpack_snapshot(body, _marker_key(topic, partition))
        return Restored(snapshot, taken, applied, decisions, taken.id != marker.id, len(body))

    def _newest(self, topic: str, partition: int, partial: _Partial, marker: Marker) -> tuple[bytes, Marker]:
        for complete in filter(None, (marker, marker.previous)):
            body = _join(partial.pieces, complete)
            if body is not None:
                return body, _as_marker(complete)
        why = f"the pieces of snapshot {marker.id} on side {marker.side} are not all there"
        raise corrupt(_marker_key(topic, partition), why)


def _marker_key(topic: str, partition: int) -> str:
    return f"changelog key {prefix_of(topic, partition) + 'snapshot'!r}"


def _join(pieces: Mapping[tuple[str, int], _Piece], complete: Complete) -> bytes | None:
    """The body of a snapshot, or None where a piece is missing or of another snapshot or writer."""
    found = [pieces.get((complete.side, index)) for index in range(min(complete.pieces, len(pieces) + 1))]
    expected = (complete.id, complete.writer, complete.pieces)
    whole = [p.payload for p in found if p is not None and (p.id, p.writer, p.pieces) == expected]
    body = b"".join(whole)
    return body if len(whole) == complete.pieces and zlib.crc32(body) == complete.crc else None


def _feed_piece(pieces: dict[tuple[str, int], _Piece], detail: str, value: bytes | None, what: str) -> None:
    side, _, index = detail.partition("/")
    if side not in ("A", "B") or not (index.isascii() and index.isdigit() and len(index) < 10):
        return
    if value is None:
        pieces.pop((side, int(index)), None)
        return
    if len(value) < _PIECE.size + _CRC.size:
        raise corrupt(what, "it is shorter than its header")
    head, payload = value[: _PIECE.size], value[_PIECE.size + _CRC.size :]
    magic, major, _, _, number, writer, at, count = _PIECE.unpack(head)
    (crc,) = _CRC.unpack_from(value, _PIECE.size)
    if magic == _PIECE_MAGIC and major > _PIECE_MAJOR:
        raise StateError(
            f"{what} has the piece format {major}, newer than the {_PIECE_MAJOR} that this program "
            "reads. Upgrade "
            "tocsin on this machine, or go back to the version that wrote it everywhere."
        )
    if magic != _PIECE_MAGIC or major < 1 or at != int(index) or zlib.crc32(payload, zlib.crc32(head)) != crc:
        raise corrupt(what, "its checksum or its number does not fit its content")
    pieces[side, at] = _Piece(number, writer, count, payload)


def _line(decoder: msgspec.json.Decoder[T], value: bytes, what: str) -> T:
    return decode_json(decoder, unchecked_line(value, what), what, 1, StateError)


def _feed_line(
    into: dict[str, T], decoder: msgspec.json.Decoder[T], detail: str, value: bytes | None, what: str
) -> None:
    if value is None:
        into.pop(detail, None)
    else:
        into[detail] = _line(decoder, value, what)
