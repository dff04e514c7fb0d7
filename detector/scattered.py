"""Bytes that lie in several places, read as if they were joined: that would take as much memory again."""

from __future__ import annotations

import itertools
import zlib
from bisect import bisect_right
from collections.abc import Sequence


class Scattered:
    """The parts one after another."""

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        self._parts = [memoryview(part) for part in parts]
        self._ends = list(itertools.accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def parts(self) -> int:
        """How many there are."""
        return len(self._parts)

    def crc(self) -> int:
        """CRC-32 of all."""
        found = 0
        for part in self._parts:
            found = zlib.crc32(part, found)
        return found

    def slices(self, begin: int, end: int) -> list[memoryview]:
        """What lies from `begin` to before `end`, place by place; no more than there is."""
        found = []
        number = bisect_right(self._ends, begin)
        while begin < end and number < len(self._parts):
            part, until = self._parts[number], self._ends[number]
            first = begin - (until - len(part))
            found.append(part[first : first + end - begin])
            begin, number = until, number + 1
        return found

    def cut(self, begin: int, end: int) -> bytes | memoryview:
        """The same in one piece."""
        found = self.slices(begin, end)
        return found[0] if len(found) == 1 else b"".join(found)
