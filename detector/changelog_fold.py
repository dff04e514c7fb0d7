"""The fold over a changelog that restores: what the messages of `changelog` come to, in the order of the log."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from ..errors import StateError
from .arrays import Arrays, unpack
from .beforehand import in_order
from .changelog import (
    BLOCK,
    BLOCKS_MAGIC,
    BLOCKS_MAJOR,
    CRC,
    LENGTH,
    LENGTHS,
    LENGTHS_OF_BLOCKS,
    MAJOR,
    NAMES,
    NO_TERM,
    PART,
    PIECE,
    PIECE_MAGIC,
    PIECE_MAJOR,
    SLOT,
    Applied,
    Complete,
    Decision,
    Layout,
    Marker,
    Owner,
    Pair,
    Snapshot,
    encode_decision,
    key_of,
    prefix_of,
)
from .scattered import Scattered
from .wire import corrupt, decode_json, unchecked_line

T = TypeVar("T")


class Restored(NamedTuple):
    """What the changelog knows of one input partition, in the order of offsets."""

    snapshot: Snapshot | None
    marker: Marker | None
    applied: list[Applied]
    decisions: list[Decision]
    torn: bool  # the newest snapshot was not whole and another was taken
    size: int = 0  # bytes of the snapshot
    overruled: Sequence[Applied] = ()  # changes by those who owned the partition no more
    snapshot_keys: Sequence[bytes] = ()  # all that hold a piece or a marker


_APPLIED = msgspec.json.Decoder(Applied)
_DECISION = msgspec.json.Decoder(Decision)
_OWNER = msgspec.json.Decoder(Owner)
_LAYOUT = msgspec.json.Decoder(Layout)
_MARKER = msgspec.json.Decoder(Marker)


def forget(topic: str, partition: int, restored: Restored) -> list[Pair]:
    """Tombstones for all that is known of an input partition, as a reset of the partition count needs."""
    prefix = prefix_of(topic, partition)
    keys = [key_of(topic, a) for a in (*restored.applied, *restored.overruled)]
    keys += [encode_decision(topic, d)[0] for d in restored.decisions]
    return [(key, None) for key in (*keys, *restored.snapshot_keys, f"{prefix}owner".encode())]


def _as_marker(complete: Complete) -> Marker:
    # After falling back, the next snapshot must go over the torn one and not over the only whole one: so what
    # counts as written last is the one that was taken.
    if isinstance(complete, Marker):
        return complete
    return Marker(**msgspec.structs.asdict(complete))


class _Note(msgspec.Struct, frozen=True):
    next_offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    note: dict[str, Any] = {}


_NOTE = msgspec.json.Decoder(_Note)


class _Blocks:
    """The packed blocks of a snapshot, unpacked each time that they are gone through."""

    def __init__(self, body: Scattered, places: list[tuple[int, int]], entities: int, what: str) -> None:
        self._body, self._places, self._entities, self._what = body, places, entities, what

    def __iter__(self) -> Iterator[Arrays]:
        left = self._entities
        for block in in_order(self._unpacked, self._places):
            rows = min(left, BLOCK)
            left -= rows
            yield _of_rows(block, rows, self._what)

    def _unpacked(self, place: tuple[int, int]) -> Arrays:
        return unpack(self._body.cut(*place), self._what).arrays


def _of_rows(block: Arrays, rows: int, what: str) -> Arrays:
    if not block:
        raise corrupt(what, "a block of its entities holds nothing")
    for name, array in block.items():
        if array.shape[:1] != (rows,):
            raise corrupt(what, f"its field {name!r} has another number of rows than entities")
    return block


def _unpack_snapshot(body: Scattered, what: str) -> Snapshot:
    head, *places = _places(body, what)
    arrays, note_bytes = unpack(body.cut(*head), what)
    try:
        note = _NOTE.decode(note_bytes)
        lengths, blob = arrays[LENGTHS], arrays[NAMES].tobytes()
        if lengths.dtype != np.int32 or lengths.ndim != 1:
            raise corrupt(what, "the lengths of its entity names are none")
        ends = np.cumsum(lengths, dtype=np.int64)
        if (lengths < 0).any() or (int(ends[-1]) if ends.size else 0) != len(blob):
            raise corrupt(what, "its entity names are cut off")
        entities = [blob[e - n : e].decode() for e, n in zip(ends.tolist(), lengths.tolist(), strict=True)]
    except (KeyError, UnicodeDecodeError, msgspec.DecodeError, TypeError, ValueError) as wrong:
        raise corrupt(what, f"its header is not readable ({wrong})") from None
    part = {name.removeprefix(PART): a for name, a in arrays.items() if name.startswith(PART)}
    slots = {name.removeprefix(SLOT): a for name, a in arrays.items() if name.startswith(SLOT)}
    blocks: Iterable[Arrays] = _Blocks(body, places, len(entities), what)
    if slots:  # up to 1.3
        whole = _of_rows(slots, len(entities), what).items()
        blocks = [{name: a[at : at + BLOCK] for name, a in whole} for at in range(0, len(entities), BLOCK)]
    elif len(places) != -(-len(entities) // BLOCK):
        raise corrupt(what, "it has another number of blocks than its entities fill")
    return Snapshot(note.next_offset, entities, blocks, part, note.note)


def _places(body: Scattered, what: str) -> list[tuple[int, int]]:
    """Where the head of a snapshot and its blocks begin and end; up to 1.3 the head was all."""
    first = body.cut(0, LENGTHS_OF_BLOCKS.size)
    if len(first) < LENGTHS_OF_BLOCKS.size or first[: len(BLOCKS_MAGIC)] != BLOCKS_MAGIC:
        return [(0, len(body))]
    _, major, _, _, count = LENGTHS_OF_BLOCKS.unpack(first)
    begin = LENGTHS_OF_BLOCKS.size + count * LENGTH.itemsize
    if major != BLOCKS_MAJOR or count < 1 or begin > len(body):
        raise corrupt(what, "the lengths of its blocks are not readable")
    lengths = np.frombuffer(body.cut(LENGTHS_OF_BLOCKS.size, begin), LENGTH).tolist()
    ends = list(itertools.accumulate(lengths, initial=begin))
    if ends[-1] != len(body):
        raise corrupt(what, "the lengths of its blocks do not come to its own")
    return list(itertools.pairwise(ends))


class _Piece(NamedTuple):
    id: int
    writer: int
    pieces: int
    payload: memoryview


class _Place(NamedTuple):
    """Where a piece lies, or without a side a marker."""

    term: int
    side: str = ""
    number: int = 0


@dataclass
class _Partial:
    """What was fed for one input partition, by key: a later value replaces an earlier one."""

    pieces: dict[_Place, _Piece] = field(default_factory=dict)
    markers: dict[tuple[bool, int], Marker] = field(default_factory=dict)
    """By whether it is of who owned the partition when it was written, and by its term: the highest counts."""
    snapshot_keys: dict[bytes, None] = field(default_factory=dict)
    owner: Owner | None = None
    terms: dict[int, int] = field(default_factory=dict)
    """By writer the one that its newest word began."""
    next_offset: int = 0
    """Behind all."""
    newest_term: int = NO_TERM
    applied: dict[str, Applied] = field(default_factory=dict)
    overruled: dict[str, Applied] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)

    @property
    def marker(self) -> Marker | None:
        """The newest."""
        return self.markers[max(self.markers)] if self.markers else None


class Restorer:
    """The fold over a changelog partition: feed every (key, value) in order, then ask what is restored.

    Holds the encoded pieces of two snapshots per input partition, and of what was written of the next term's first.
    Raises StateError, naming the key, for a value that is corrupt or of a newer format, at `feed`; for snapshots of
    which none is whole, at `restored`.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str, int], _Partial] = {}
        self.layouts: dict[str, Layout] = {}

    def feed(self, key: bytes | None, value: bytes | None, offset: int = -1) -> None:
        """Take the message of an offset in. Keys of a kind that this version does not know are left alone."""
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
        partial = self._parts.setdefault((topic, int(number)), _Partial())
        partial.next_offset = offset + 1
        if kind == "snapshot" and (place := _place(detail)) is not None:
            _feed_snapshot(partial, place, text.encode(), value, what)
        elif kind == "owner":
            partial.owner = None if value is None else _line(_OWNER, value, what)
            if partial.owner is not None:
                partial.terms[partial.owner.writer] = max(offset, partial.newest_term + 1)
        elif kind == "change":
            _feed_change(partial, detail, value, what)
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

    def entities(self, topic: str, partition: int) -> int:
        """How many entities the newest snapshot of an input partition holds, as its marker says."""
        partial = self._parts.get((topic, partition))
        return partial.marker.entities if partial and partial.marker else 0

    def term(self, topic: str, partition: int, writer: int | None) -> int:
        """The number of the term that begins with this writer's word, which was fed; or with None, behind all.

        The later somebody takes a partition over the higher it is, and no two have the same. Of a changelog that was
        copied, terms may be higher than its offsets; the next is above them.
        """
        partial = self._parts.get((topic, partition), _Partial())
        behind = max(partial.next_offset, partial.newest_term + 1)
        return behind if writer is None else partial.terms.get(writer, behind)

    def restored(self, topic: str, partition: int) -> Restored:
        """What is known of an input partition. `snapshot` is None for a fresh one."""
        partial = self._parts.get((topic, partition), _Partial())
        applied = sorted(partial.applied.values(), key=lambda a: (a.first_offset, a.version))
        decisions = sorted(partial.decisions.values(), key=lambda d: (d.offset, d.kind, d.of))
        overruled, marker = tuple(partial.overruled.values()), partial.marker
        if marker is None:
            return Restored(None, None, applied, decisions, False, 0, overruled, tuple(partial.snapshot_keys))
        body, taken = self._newest(topic, partition, partial, marker)
        snapshot = _unpack_snapshot(body, _marker_key(topic, partition, taken.term))
        torn = (taken.term, taken.id) != (marker.term, marker.id)
        return Restored(
            snapshot, taken, applied, decisions, torn, len(body), overruled, tuple(partial.snapshot_keys)
        )

    def _newest(
        self, topic: str, partition: int, partial: _Partial, marker: Marker
    ) -> tuple[Scattered, Marker]:
        for mark in sorted(partial.markers, reverse=True):
            one = partial.markers[mark]
            for complete in filter(None, (one, one.previous)):
                body = _join(partial.pieces, complete)
                if body is not None:
                    return body, _as_marker(complete)
        why = f"the pieces of snapshot {marker.id} on side {marker.side} are not all there"
        raise corrupt(_marker_key(topic, partition, marker.term), why)


def _marker_key(topic: str, partition: int, term: int) -> str:
    place = "snapshot" if term == NO_TERM else f"snapshot/{term}"
    return f"changelog key {prefix_of(topic, partition) + place!r}"


def _join(pieces: Mapping[_Place, _Piece], complete: Complete) -> Scattered | None:
    """The body of a snapshot, or None where a piece is missing or of another snapshot or writer."""
    places = (_Place(complete.term, complete.side, index) for index in range(complete.pieces))
    found = [pieces.get(place) for place in itertools.islice(places, len(pieces) + 1)]
    expected = (complete.id, complete.writer, complete.pieces)
    whole = Scattered([p.payload for p in found if p is not None and (p.id, p.writer, p.pieces) == expected])
    return whole if whole.parts == complete.pieces and whole.crc() == complete.crc else None


def _place(detail: str) -> _Place | None:
    """What follows `snapshot/` in a key; None where this version does not know it. Up to 1.5 there was no term."""
    head, *rest = detail.split("/") if detail else [""]
    term = NO_TERM
    if _is_number(head, 20):
        term = int(head)
    elif head:
        rest = [head, *rest]
    match rest:
        case []:
            return _Place(term)
        case [("A" | "B") as side, index] if _is_number(index, 10):
            return _Place(term, side, int(index))
    return None


def _is_number(text: str, length: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < length


def _feed_snapshot(partial: _Partial, place: _Place, key: bytes, value: bytes | None, what: str) -> None:
    if value is None:
        partial.snapshot_keys.pop(key, None)
        partial.pieces.pop(place, None)
        if not place.side:
            partial.markers = {at: one for at, one in partial.markers.items() if at[1] != place.term}
        return
    partial.snapshot_keys[key] = None
    partial.newest_term = max(partial.newest_term, place.term)
    newest = max((term for mine, term in partial.markers if mine), default=NO_TERM)
    if place.side:
        piece = _piece(place, value, what)
        if place.term >= newest:
            partial.pieces[place] = piece
        return
    marker = _line(_MARKER, value, what)
    if marker.term != place.term:
        raise corrupt(what, f"it says that it is of the term {marker.term}")
    mine = partial.owner is None or marker.writer == partial.owner.writer
    if mine and marker.term > newest:
        partial.pieces = {at: piece for at, piece in partial.pieces.items() if at.term >= marker.term}
        partial.markers = {at: one for at, one in partial.markers.items() if at[1] >= marker.term}
    partial.markers[mine, marker.term] = marker


def _piece(place: _Place, value: bytes, what: str) -> _Piece:
    if len(value) < PIECE.size + CRC.size:
        raise corrupt(what, "it is shorter than its header")
    head, payload = value[: PIECE.size], memoryview(value)[PIECE.size + CRC.size :]
    magic, major, _, _, number, writer, at, count = PIECE.unpack(head)
    (crc,) = CRC.unpack_from(value, PIECE.size)
    if magic == PIECE_MAGIC and major > PIECE_MAJOR:
        raise StateError(
            f"{what} has the piece format {major}, newer than the {PIECE_MAJOR} that this program "
            "reads. Upgrade "
            "tocsin on this machine, or go back to the version that wrote it everywhere."
        )
    sound = magic == PIECE_MAGIC and major >= 1 and at == place.number
    if not sound or zlib.crc32(payload, zlib.crc32(head)) != crc:
        raise corrupt(what, "its checksum or its number does not fit its content")
    return _Piece(number, writer, count, payload)


def _line(decoder: msgspec.json.Decoder[T], value: bytes, what: str) -> T:
    return decode_json(decoder, unchecked_line(value, what), what, MAJOR, StateError)


def _feed_change(partial: _Partial, detail: str, value: bytes | None, what: str) -> None:
    """Of a change's two places the one that is right at this point of the log, and not the other."""
    partial.applied.pop(detail, None)
    partial.overruled.pop(detail, None)
    if value is not None:
        one = _line(_APPLIED, value, what)
        mine = partial.owner is None or one.writer == partial.owner.writer
        (partial.applied if mine else partial.overruled)[detail] = one


def _feed_line(
    into: dict[str, T], decoder: msgspec.json.Decoder[T], detail: str, value: bytes | None, what: str
) -> None:
    if value is None:
        into.pop(detail, None)
    else:
        into[detail] = _line(decoder, value, what)
