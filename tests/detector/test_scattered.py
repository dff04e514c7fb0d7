"""Bytes in several places read like one: any cut, and their checksum."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st
from tocsin.detector.scattered import Scattered


@given(st.lists(st.binary(max_size=8), max_size=8), st.integers(0, 70), st.integers(0, 70))
def test_any_cut_is_that_of_the_joined_bytes(parts: list[bytes], begin: int, end: int) -> None:
    joined, scattered = b"".join(parts), Scattered(parts)
    assert (len(scattered), scattered.parts) == (len(joined), len(parts))
    assert scattered.crc() == zlib.crc32(joined)
    assert bytes(scattered.cut(begin, end)) == joined[begin:end]


def test_what_lies_in_one_place_is_not_copied() -> None:
    part = bytearray(b"abcdef")
    cut = Scattered([b"--", memoryview(part)]).cut(3, 6)
    part[1] = ord("X")
    assert bytes(cut) == b"Xcd"
