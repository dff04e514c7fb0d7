"""Flat JSON objects of numbers, read by one compiled kernel that holds no interpreter: the hot path of `decode_wide`.

Plain is an object without nesting whose keys and strings are printable ASCII without escapes, whose features are
numbers or null, whose entity is a string and whose time is an integer. A message that is not is left to msgspec; one
that is comes out as msgspec would read it, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..thresholds.jit import kernel
from .decimals import number
from .memory import byte, signed, word
from .records import LARGEST

_QUOTE, _BACKSLASH, _COMMA, _COLON, _OPEN, _CLOSE = (ord(c) for c in '"\\,:{}')
_MINUS, _ZERO, _NINE, _N, _TILDE = (ord(c) for c in "-09n~")
_SPACE, _TAB, _FEED, _RETURN = (ord(c) for c in " \t\n\r")
_NULL, _TRUE, _FALSE = (np.uint64(int.from_bytes(text, "little")) for text in (b"null", b"true", b"false"))
_FOUR, _FIVE = (np.uint64((1 << 8 * n) - 1) for n in (4, 5))
_UNKNOWN = -1
_WORD = 8
_KEY = 3 * _WORD
"""Bytes of one entry of `_keys`."""
_NOTHING = np.uint64(0)
_LONGEST = 256
"""Keys of a message whose order is remembered."""
_BASIS, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a, 64 bits
_MOST_DIGITS = 18
"""Of an integer that surely fits 64 bits."""


class Plain(NamedTuple):
    """What a batch of n messages holds, where it is plain."""

    good: NDArray[np.bool_]
    """[n]"""
    time: NDArray[np.int64]
    """[n] as it is written; 0 where no time is looked for"""
    entity: list[str | None]
    """[n] None where no entity is looked for, and where the message is not plain"""


class FlatReader:
    """Reads messages for one set of top-level keys; for one thread at a time."""

    def __init__(self, features: Sequence[str], entity: str | None, time: str | None) -> None:
        self._wanted = entity is not None, time is not None
        # A key that can never stand in a plain message is left empty: no place of the table leads to it.
        named = (*features, entity, time)
        written = [key.encode() + b'"' if key is not None and _printable(key) else b"" for key in named]
        words = -(-max(map(len, written)) // _WORD)
        text = b"".join(key.ljust(words * _WORD, b"\0") for key in written)
        masks = b"".join((b"\xff" * len(key)).ljust(words * _WORD, b"\0") for key in written)
        sizes = np.repeat(np.array(list(map(len, written)), np.uint64), words)
        self._keys = np.stack(
            [np.frombuffer(text, "<u8"), np.frombuffer(masks, "<u8"), sizes], axis=1
        ).reshape(len(written), words, 3)
        self._table = np.full(1 << (4 * len(written)).bit_length(), _UNKNOWN)
        for at, key in enumerate(written):
            if key:
                place = int(_hash(np.frombuffer(key, np.uint8).ctypes.data)) % len(self._table)
                while self._table[place] != _UNKNOWN:
                    place = (place + 1) % len(self._table)
                self._table[place] = at
        self._order = np.full(_LONGEST, _UNKNOWN)
        self.read([b"{}"], 2, np.empty((1, len(features))))  # compiled now, so that no record waits for it

    def read(self, values: Sequence[bytes | None], limit: int, out: NDArray[np.float64]) -> Plain:
        """Read messages into `out` [n, F], NaN where a value is missing; rows that are not plain hold anything.

        One that is longer than `limit` bytes, or nothing at all, is not plain.
        """
        n = len(values)
        held = [value if value is not None and len(value) <= limit else b"" for value in values]
        size = np.fromiter(map(len, held), np.int64, n)
        end = np.cumsum(size + 1) - 1
        # No plain message holds a zero, so the kernel never runs past an end; a word may be read at the last one.
        joined = b"\0".join([*held, bytes(_WORD)])
        good, time, name = np.empty(n, np.bool_), np.zeros(n, np.int64), np.zeros((2, n), np.int64)
        _read(
            np.frombuffer(joined, np.uint8),
            end - size,
            end,
            self._keys,
            self._table,
            self._order,
            *self._wanted,
            out,
            good,
            time,
            name,
        )
        if not self._wanted[0]:
            return Plain(good, time, [None] * n)
        text = joined.decode("latin-1")
        return Plain(good, time, [text[a:b] if b else None for a, b in zip(*name.tolist(), strict=True)])


def _printable(key: str) -> bool:
    return bool(key) and all(" " <= c <= "~" and c not in '"\\' for c in key)


@kernel
def _read(
    text: NDArray[np.uint8],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    keys: NDArray[np.uint64],
    table: NDArray[np.int64],
    order: NDArray[np.int64],
    entity: bool,
    time: bool,
    values: NDArray[np.float64],
    good: NDArray[np.bool_],
    times: NDArray[np.int64],
    names: NDArray[np.int64],
) -> None:
    begin, known, slots = signed(text.ctypes.data), signed(keys.ctypes.data), signed(table.ctypes.data)
    features, words = values.shape[1], keys.shape[1]
    for row in range(len(first)):
        values[row] = np.nan
        seen, named, timed, position = False, not entity, not time, 0
        at = _blank(begin + first[row])
        more = byte(at) == _OPEN
        at += 1
        while more:
            at = _blank(at)
            more = byte(at) == _QUOTE
            if not more:
                break
            at += 1
            key = order[position] if position < _LONGEST else _UNKNOWN
            behind = _same(at, known, words, key) if key >= 0 else -1
            if behind < 0:
                behind = _string(at)
                more = behind >= 0
                if not more:
                    break
                key = _find(at, known, words, slots, len(table))
                if position < _LONGEST:
                    order[position] = key
            position += 1
            at = _blank(behind)
            more = byte(at) == _COLON
            at = _blank(at + 1)
            if 0 <= key < features:
                seen = True
                if byte(at) == _N:
                    values[row, key], at = np.nan, _null(at)
                else:
                    values[row, key], at = number(at)
                    more &= abs(values[row, key]) <= LARGEST
            elif key == features:
                names[0, row] = at + 1 - begin
                more &= byte(at) == _QUOTE
                at = _string(at + 1)
                names[1, row] = at - 1 - begin
                named = True
            elif key == features + 1:
                times[row], at = _integer(at)
                timed = True
            else:
                at = _skip(at)
            if at < 0 or not more:
                more = False
                break
            at = _blank(at)
            if byte(at) == _CLOSE:
                break
            more = byte(at) == _COMMA
            at += 1
        good[row] = more and seen and named and timed and _blank(at + 1) == begin + end[row]
        if not good[row]:
            names[1, row] = 0


@kernel
def _blank(at: int) -> int:
    while byte(at) <= _SPACE and byte(at) in (_SPACE, _TAB, _FEED, _RETURN):
        at += 1
    return at


@kernel
def _same(at: int, known: int, words: int, key: int) -> int:
    """The address behind this key and a quote, if they stand at `at`, else -1."""
    mine = known + _KEY * words * key
    for place in range(words):
        if (word(at + _WORD * place) ^ word(mine + _KEY * place)) & word(
            mine + _KEY * place + _WORD
        ) != _NOTHING:
            return -1
    return at + signed(word(mine + 2 * _WORD))


@kernel
def _find(at: int, known: int, words: int, slots: int, size: int) -> int:
    """Which key stands at `at`; `_UNKNOWN` if none of those that are looked for."""
    place = signed(_hash(at) % np.uint64(size))
    while True:
        key = signed(word(slots + _WORD * place))
        if key < 0 or _same(at, known, words, key) >= 0:
            return key
        place = (place + 1) % size


@kernel
def _hash(at: int) -> np.uint64:
    """Of what stands before the next quote."""
    found = _BASIS
    while byte(at) != _QUOTE:
        found = (found ^ np.uint64(byte(at))) * _PRIME
        at += 1
    return found


@kernel
def _string(at: int) -> int:
    """The address behind the closing quote of a plain string that begins at `at`, else -1."""
    while byte(at) != _QUOTE:
        if byte(at) < _SPACE or byte(at) > _TILDE or byte(at) == _BACKSLASH:
            return -1
        at += 1
    return at + 1


@kernel
def _integer(at: int) -> tuple[int, int]:
    """An integer and the address behind it; -1 there if it is none, or a long one."""
    first, found = at, 0
    while _ZERO <= byte(at) <= _NINE:
        found = found * 10 + byte(at) - _ZERO
        at += 1
        if at - first > _MOST_DIGITS:
            return 0, -1
    if at == first or (byte(first) == _ZERO and at - first > 1):
        return 0, -1
    return found, at


@kernel
def _null(at: int) -> int:
    """The address behind the word, else -1."""
    return at + 4 if word(at) & _FOUR == _NULL else -1


@kernel
def _skip(at: int) -> int:
    """The address behind a value that nobody asks for, else -1."""
    if byte(at) == _QUOTE:
        return _string(at + 1)
    if byte(at) == _MINUS or _ZERO <= byte(at) <= _NINE:
        return number(at)[1]
    if word(at) & _FIVE == _FALSE:
        return at + 5
    return at + 4 if word(at) & _FOUR == _TRUE else _null(at)
