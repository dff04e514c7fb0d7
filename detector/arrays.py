"""Named numpy arrays as bytes: fixed width, little-endian, with a field table and checksums.

    offset  size
    0       4     b"TSNP"
    4       2     format major, minor (one byte each)
    6       2     codec: 0 raw, 1 zlib (only read), 2 zstd
    8       4     length of the field table
    12      8     length of the body before compression
    20      4     CRC-32 of the field table
    24      4     CRC-32 of the body as stored
    28      4     zero
    32            field table (JSON), then the body: the arrays of the table one after another, C order

A reader takes every major up to its own and each minor of these, ignores what it does not know in the table, and
refuses newer majors. Major 1 knew no zstd.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import StateError
from .wire import corrupt

Array = NDArray[Any]
Arrays = dict[str, Array]

MAGIC = b"TSNP"
MAJOR = 2
MINOR = 0
RAW, ZLIB, ZSTD = 0, 1, 2
ZSTD_LEVEL = 1
"""Two levels more take half as long again, 7 us an entity, for a tenth off the bytes."""
ZSTD_MOST = 1 << 15
"""Bytes that one stored byte can stand for: a block holds up to 128 KiB and takes at least four."""
_HEAD = struct.Struct("<4sBBHIQIII")
# What may appear in a field table. No object dtype, no structures: a table from outside can ask for
# numbers only.
DTYPES = {
    t: np.dtype(t) for t in ("|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8")
}


MOST_NUMBERS = 1 << 48


def possible(shape: tuple[int, ...]) -> bool:
    """Whether an array from outside may have this shape, before anything is multiplied or made of it."""
    return (
        len(shape) <= 8 and all(n >= 0 for n in shape) and math.prod(max(n, 1) for n in shape) <= MOST_NUMBERS
    )


class Field(msgspec.Struct, frozen=True, array_like=True):
    """One array of the body."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Table(msgspec.Struct, frozen=True):
    """The field table: arrays in the order of the body, and a small note of the writer (JSON)."""

    fields: list[Field]
    note: msgspec.Raw = msgspec.Raw(b"null")


class Packed(NamedTuple):
    """What `unpack` found. The arrays are read-only views of one buffer: copy what must change."""

    arrays: Arrays
    note: bytes


_TABLE = msgspec.json.Decoder(Table)


def pack(arrays: Mapping[str, Array], note: Any = None, compress: bool = True) -> bytes:
    """The arrays and a JSON-able note as bytes.

    Raises TypeError for a dtype that is not a plain number or bool: that is a mistake of the program, not
    of data.
    """
    fields, parts = [], []
    for name, array in arrays.items():
        little = np.ascontiguousarray(array).reshape(np.shape(array))
        little = little.astype(little.dtype.newbyteorder("<"), copy=False)
        if little.dtype.str not in DTYPES:
            raise TypeError(
                f"array {name!r} has the dtype {little.dtype}, which the state format does not hold"
            )
        fields.append(Field(name, little.dtype.str, little.shape))
        parts.append(little)
    table = msgspec.json.encode(Table(fields, msgspec.Raw(msgspec.json.encode(note))))
    body = b"".join(part.reshape(-1).view(np.uint8).data for part in parts if part.size)
    raw = len(body)
    if compress:
        body = _squeezed(body)
    codec = ZSTD if compress else RAW
    head = _HEAD.pack(MAGIC, MAJOR, MINOR, codec, len(table), raw, zlib.crc32(table), zlib.crc32(body), 0)
    return b"".join((head, table, body))


def _squeezed(body: bytes) -> bytes:
    import pyarrow as pa

    squeezed: bytes = pa.Codec("zstd", ZSTD_LEVEL).compress(body, asbytes=True)
    return squeezed


def unpack(data: bytes | memoryview, what: str) -> Packed:
    """The arrays of `pack`; StateError, naming `what`, on anything else."""
    if len(data) < _HEAD.size:
        raise corrupt(what, f"it has {len(data)} bytes, fewer than its header needs")
    magic, major, _, codec, table_length, raw, table_crc, body_crc, _ = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise corrupt(what, "it does not begin like a state of this program")
    if major > MAJOR:
        raise StateError(
            f"{what} has the state format {major}, newer than the {MAJOR} that this program reads. "
            "Upgrade tocsin on "
            "this machine, or go back to the version that wrote it everywhere."
        )
    view = memoryview(data)
    table_bytes, body = view[_HEAD.size : _HEAD.size + table_length], view[_HEAD.size + table_length :]
    if zlib.crc32(table_bytes) != table_crc or zlib.crc32(body) != body_crc or major < 1:
        raise corrupt(what, "its checksum does not fit its content")
    try:
        table = _TABLE.decode(table_bytes)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise corrupt(what, f"its field table is not readable ({wrong})") from None
    return Packed(_views(table.fields, _plain(body, codec, raw, what), what), bytes(table.note))


def _plain(body: memoryview, codec: int, raw: int, what: str) -> bytes | memoryview:
    plain: bytes | memoryview = body
    if codec == ZLIB:
        try:
            swell = zlib.decompressobj()
            # At most one byte more than announced: a small message cannot ask for all memory.
            plain = swell.decompress(body, raw + 1) if raw < 1 << 62 else b""
        except zlib.error as wrong:
            raise corrupt(what, f"its body does not decompress ({wrong})") from None
        if not swell.eof:
            raise corrupt(what, "its body is longer or shorter than it says")
    elif codec == ZSTD:
        plain = _swollen(body, raw, what)
    elif codec != RAW:
        raise corrupt(what, f"its body is stored in the unknown codec {codec}")
    if len(plain) != raw:
        raise corrupt(what, "its body is longer or shorter than it says")
    return plain


def _swollen(body: memoryview, raw: int, what: str) -> bytes:
    import pyarrow as pa

    if raw > len(body) * ZSTD_MOST:  # a small message cannot ask for all memory
        raise corrupt(what, "its body is shorter than it says")
    try:
        plain: bytes = pa.Codec("zstd").decompress(body, raw, asbytes=True)
    except OSError as wrong:
        raise corrupt(what, f"its body does not decompress to what it says ({wrong})") from None
    return plain


def _views(fields: Iterable[Field], plain: bytes | memoryview, what: str) -> Arrays:
    arrays: Arrays = {}
    at = 0
    for field in fields:
        dtype = DTYPES.get(field.dtype)
        if dtype is None or field.name in arrays or not possible(field.shape):
            raise corrupt(what, f"its field table has an impossible field {field.name!r}")
        count = math.prod(field.shape)
        end = at + count * dtype.itemsize
        if end > len(plain):
            raise corrupt(what, f"its field {field.name!r} reaches beyond its end")
        if dtype.kind == "b":
            flat: Array = np.frombuffer(plain, np.uint8, count, at) != 0
        else:
            flat = np.frombuffer(plain, dtype, count, at) if count else np.empty(0, dtype)
        arrays[field.name] = flat.reshape(field.shape)
        at = end
    if at != len(plain):
        raise corrupt(what, "its field table does not cover its body")
    return arrays
