"""The state changelog: what each key means, how a snapshot is cut into messages, and the fold that restores.

The topic is compacted and partitioned like the input; partition p of it holds the state of every input
topic's partition p. Topic names cannot hold a slash, so keys are plain text:

    <topic>/<p>/change/<first offset>/<version>   a change of the control topic that acts from there on
    <topic>/<p>/decision/<offset>/<kind>/<of>     a decision taken in this partition: level change, shift, ...
    <topic>/<p>/snapshot/<term>/<A or B>/<i>      piece i of a snapshot
    <topic>/<p>/snapshot/<term>                   the marker: the snapshot above is complete
    <topic>/<p>/owner                             from here on only this writer's changes and snapshots count
    <topic>/partitions                            (in partition 0) the partition count of the state

Snapshots alternate between the sides A and B, and a marker is produced after its last piece. A snapshot
that breaks off half-way therefore never touches the pieces of the last complete one, whatever the broker
compacts. The marker also names the snapshot before it, to fall back on where the newest is not whole.

A daemon that was suspended while the group gave its partitions to another may go on writing for a moment. What it
writes after the new owner's word counts for nothing: a change is overruled, and a snapshot has keys of its own, since
each time that somebody takes a partition over is a term, numbered by an offset of the changelog itself. With the first
snapshot of a term the keys of those before it are struck out.

The pieces of a snapshot, joined, are its head (names of the entities, arrays of the partition, the note) and then the
arrays of BLOCK entities at a time, each packed by itself, behind a word of how long each is. So who writes or reads one
needs memory for what is packed, and for no more than a few blocks that are not.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np

from .arrays import Array, Arrays, pack
from .beforehand import in_order
from .scattered import Scattered
from .wire import checked_line

SCHEMA_VERSION, MAJOR = "2.0", 2
"""1.0 had no `what` and `action` in decisions, and no shifts and outages; 1.1 no writers and owners;
1.2 no zstd and no number of entities; 1.3 all entities of a snapshot in one block; 1.4 no `told` in changes;
1.5 no terms, neither in markers nor in the keys of snapshots."""
NO_TERM = -1
"""Of a snapshot up to 1.5."""
PIECE_BYTES = 512 * 1024  # half of Kafka's default message.max.bytes, so no broker setting is needed
Pair = tuple[bytes, bytes | None]
T = TypeVar("T")

PIECE = struct.Struct("<4sBBHQIII")  # magic, format, id, writer, index, count; then the CRC-32 of all else
CRC = struct.Struct("<I")
PIECE_MAGIC, PIECE_MAJOR = b"TSNC", 2
BLOCK = 1024
"""Entities: some 6 MB before compression, the same memory again and again."""
LENGTHS_OF_BLOCKS, BLOCKS_MAGIC, BLOCKS_MAJOR = struct.Struct("<4sBBHI"), b"TSNB", 1
LENGTH = np.dtype("<u8")
NAMES, LENGTHS, SLOT, PART = "names", "names.lengths", "slot:", "part:"


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """A change acts in this partition from `first_offset` on, under this configuration hash.

    Written before it acts, by `writer`, the number that a process drew for itself. `told` where what it closes is told
    in the transaction that this is part of.
    """

    partition: int
    first_offset: int
    version: int
    config_hash: str
    writer: int = 0
    told: bool = False
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


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Who has taken the partition over, by the number that its process drew."""

    writer: int
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
    entities: int = 0
    """How many it holds; 0 also where a version before 1.3 wrote it."""
    term: int = NO_TERM


class Marker(Complete, frozen=True, kw_only=True):
    """The value of a marker: the newest complete snapshot, and the one of its term before it, on the other side."""

    previous: Complete | None = None
    schema_version: str = SCHEMA_VERSION


class Snapshot(NamedTuple):
    """The state of one input partition after every record before `next_offset`."""

    next_offset: int
    entities: list[str]
    blocks: Iterable[Arrays]
    """Arrays [rows, …] by name, of BLOCK entities at a time in the order of `entities`; what was restored is read-only.
    They are made as they are gone through: of a state as it is then, of a changelog by being unpacked."""
    part: Arrays
    """Of any shape."""
    note: dict[str, Any]
    """A small JSON-able remark of the chain (configuration hash, alignment settings)."""

    @property
    def slots(self) -> Arrays:
        """The arrays of all entities at once."""
        blocks = list(self.blocks)
        return {name: np.concatenate([block[name] for block in blocks]) for name in (blocks or [{}])[0]}

    def row(self, number: int) -> Arrays:
        """A copy of the one row of an entity, by its place in `entities`."""
        for block in self.blocks:
            rows = len(next(iter(block.values())))
            if number < rows:
                return {name: array[number : number + 1].copy() for name, array in block.items()}
            number -= rows
        raise IndexError(number)


def prefix_of(topic: str, partition: int) -> str:
    """What every key of an input partition begins with."""
    return f"{topic}/{partition}/"


def encode_applied(topic: str, applied: Applied) -> Pair:
    """The message that must be acknowledged before the change acts."""
    return key_of(topic, applied), checked_line(msgspec.json.encode(applied))


def key_of(topic: str, applied: Applied) -> bytes:
    """Where it is kept that a change acts."""
    where = f"change/{applied.first_offset:020d}/{applied.version}"
    return (prefix_of(topic, applied.partition) + where).encode()


def encode_owner(topic: str, partition: int, writer: int) -> Pair:
    """The message that overrules whoever owned the partition; to be acknowledged before its state is read."""
    return f"{prefix_of(topic, partition)}owner".encode(), checked_line(
        msgspec.json.encode(Owner(writer=writer))
    )


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
    term: int,
    compress: bool = True,
    piece_bytes: int = PIECE_BYTES,
) -> tuple[Iterator[Pair], Marker]:
    """The messages of a snapshot, the marker last, and that marker (the `previous` of the next one).

    `previous` is the marker last written or restored; `writer` is a number (u32) drawn once per process; `term` is
    when that took the partition over (`changelog_fold.Restorer.term`). Produce the list in order to one partition.
    """
    body = _pack_snapshot(snapshot, compress)
    number = previous.id + 1 if previous else 1
    before = previous if previous and previous.term == term else None
    side: Literal["A", "B"] = "B" if before and before.side == "A" else "A"
    marker = Marker(
        id=number,
        side=side,
        writer=writer,
        next_offset=snapshot.next_offset,
        pieces=-(-len(body) // piece_bytes),
        crc=body.crc(),
        entities=len(snapshot.entities),
        term=term,
        previous=before and _complete(before),
    )
    return _messages(prefix_of(topic, partition), body, marker, piece_bytes), marker


def _messages(prefix: str, body: Scattered, marker: Marker, piece_bytes: int) -> Iterator[Pair]:
    prefix += f"snapshot/{marker.term}"
    for index in range(marker.pieces):
        piece = body.slices(index * piece_bytes, (index + 1) * piece_bytes)
        head = PIECE.pack(PIECE_MAGIC, PIECE_MAJOR, 0, 0, marker.id, marker.writer, index, marker.pieces)
        crc = zlib.crc32(head)
        for part in piece:
            crc = zlib.crc32(part, crc)
        yield f"{prefix}/{marker.side}/{index}".encode(), b"".join((head, CRC.pack(crc), *piece))
    yield prefix.encode(), checked_line(msgspec.json.encode(marker))


def _complete(marker: Marker) -> Complete:
    return Complete(**{name: getattr(marker, name) for name in Complete.__struct_fields__})


def _pack_snapshot(snapshot: Snapshot, compress: bool) -> Scattered:
    names = [name.encode() for name in snapshot.entities]
    arrays: dict[str, Array] = {
        LENGTHS: np.fromiter(map(len, names), np.int32, len(names)),
        NAMES: np.frombuffer(b"".join(names), np.uint8),
    }
    arrays.update({PART + name: array for name, array in snapshot.part.items()})
    note = {"next_offset": snapshot.next_offset, "note": snapshot.note}
    packed = [pack(arrays, note, compress)]
    packed += in_order(lambda block: pack(block, compress=compress), _whole_blocks(snapshot))
    lengths = np.array([len(one) for one in packed], LENGTH)
    head = LENGTHS_OF_BLOCKS.pack(BLOCKS_MAGIC, BLOCKS_MAJOR, 0, 0, len(packed))
    return Scattered((head, lengths.tobytes(), *packed))


def _whole_blocks(snapshot: Snapshot) -> Iterator[Arrays]:
    left = len(snapshot.entities)
    for block in snapshot.blocks:
        rows = min(BLOCK, left)
        for name, array in block.items():
            if array.shape[:1] != (rows,):
                raise ValueError(f"slot array {name!r} has the shape {array.shape} for {rows} entities")
        left -= rows
        yield block
    if left:
        raise ValueError(f"{left} entities have no rows")
