"""The state changelog: what each key means, how a snapshot is cut into messages, and the fold that restores.

The topic is compacted and partitioned like the input; partition p of it holds the state of every input
topic's partition p. Topic names cannot hold a slash, so keys are plain text:

    <topic>/<p>/change/<first offset>/<version>   a change of the control topic that acts from there on
    <topic>/<p>/decision/<offset>/<kind>/<of>     a decision taken in this partition: level change, shift, ...
    <topic>/<p>/snapshot/<A or B>/<i>             piece i of a snapshot
    <topic>/<p>/snapshot                          the marker: the snapshot above is complete
    <topic>/<p>/owner                             from here on only this writer's changes count
    <topic>/partitions                            (in partition 0) the partition count of the state

Snapshots alternate between the sides A and B, and a marker is produced after its last piece. A snapshot
that breaks off half-way therefore never touches the pieces of the last complete one, whatever the broker
compacts. The marker also names the snapshot before it, to fall back on where a second daemon wrote into
the newest one's pieces. A daemon that was suspended while the group gave its partitions to another may go on
writing for a moment: a change that it lets act after the new owner's word is overruled.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np

from .arrays import Array, Arrays, pack
from .wire import checked_line

SCHEMA_VERSION = "1.3"
"""1.0 had no `what` and `action` in decisions, and no shifts and outages; 1.1 no writers and owners;
1.2 no zstd and no number of entities."""
PIECE_BYTES = 512 * 1024  # half of Kafka's default message.max.bytes, so no broker setting is needed
Pair = tuple[bytes, bytes | None]
T = TypeVar("T")

PIECE = struct.Struct("<4sBBHQIII")  # magic, format, id, writer, index, count; then the CRC-32 of all else
CRC = struct.Struct("<I")
PIECE_MAGIC, PIECE_MAJOR = b"TSNC", 1
NAMES, LENGTHS, SLOT, PART = "names", "names.lengths", "slot:", "part:"


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """A change acts in this partition from `first_offset` on, under this configuration hash.

    Written before it acts, by `writer`, the number that a process drew for itself.
    """

    partition: int
    first_offset: int
    version: int
    config_hash: str
    writer: int = 0
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
        head = PIECE.pack(PIECE_MAGIC, PIECE_MAJOR, 0, 0, number, writer, index, len(cuts))
        crc = CRC.pack(zlib.crc32(piece, zlib.crc32(head)))
        pairs.append((f"{prefix}snapshot/{side}/{index}".encode(), head + crc + piece))
    marker = Marker(
        id=number,
        side=side,
        writer=writer,
        next_offset=snapshot.next_offset,
        pieces=len(cuts),
        crc=zlib.crc32(body),
        entities=len(snapshot.entities),
        previous=previous and _complete(previous),
    )
    pairs.append((f"{prefix}snapshot".encode(), checked_line(msgspec.json.encode(marker))))
    return pairs, marker


def _complete(marker: Marker) -> Complete:
    return Complete(**{name: getattr(marker, name) for name in Complete.__struct_fields__})


def _pack_snapshot(snapshot: Snapshot, compress: bool) -> bytes:
    names = [name.encode() for name in snapshot.entities]
    rows = len(names)
    arrays: dict[str, Array] = {
        LENGTHS: np.fromiter(map(len, names), np.int32, rows),
        NAMES: np.frombuffer(b"".join(names), np.uint8),
    }
    for name, array in snapshot.slots.items():
        if array.shape[:1] != (rows,):
            raise ValueError(f"slot array {name!r} has the shape {array.shape} for {rows} entities")
        arrays[SLOT + name] = array
    arrays.update({PART + name: array for name, array in snapshot.part.items()})
    return pack(arrays, {"next_offset": snapshot.next_offset, "note": snapshot.note}, compress)
