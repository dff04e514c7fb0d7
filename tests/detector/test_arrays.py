"""Arrays as bytes: bit-equal round trips, and nothing but StateError for anything else."""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tocsin.detector.arrays import DTYPES, pack, unpack
from tocsin.errors import StateError

arrays = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@given(st.dictionaries(st.text(max_size=8), arrays, max_size=5), st.booleans())
def test_round_trip_bit_for_bit(found: dict[str, np.ndarray], compress: bool) -> None:
    again, note = unpack(pack(found, {"n": 1}, compress), "x")
    assert note == b'{"n":1}'
    assert list(again) == list(found)
    for name, array in found.items():
        assert again[name].dtype == array.dtype
        assert again[name].shape == array.shape
        assert again[name].tobytes() == array.tobytes()


def test_views_and_big_endian_arrive_in_c_order_and_little_endian() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4).T[::2]
    again = unpack(pack({"a": array}), "x").arrays["a"]
    assert again.dtype.str == "<i4"
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize(
    "array", [np.array(["text"]), np.array([object()]), np.zeros(2, [("a", "f4")]), np.zeros(1, "M8[us]")]
)
def test_other_dtypes_are_a_mistake(array: np.ndarray) -> None:
    with pytest.raises(TypeError, match="'a'"):
        pack({"a": array})


GOOD = pack({"a": np.arange(6, dtype=np.int32), "b": np.ones((2, 2))})


@given(st.data())
def test_damage_is_always_a_state_error(data: Any) -> None:
    broken = bytearray(GOOD)
    at = data.draw(st.integers(0, len(broken) - 1))
    broken[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(broken)))
    for candidate in (bytes(broken), GOOD[:cut], GOOD + b"x"):
        # The minor version and the last four bytes of the header carry no meaning yet.
        if candidate[:5] + candidate[6:28] + candidate[32:] != GOOD[:5] + GOOD[6:28] + GOOD[32:]:
            with pytest.raises(StateError, match="the state of p7"):
                unpack(candidate, "the state of p7")


def crafted(table: bytes, body: bytes, raw: int, codec: int = 0, major: int = 1) -> bytes:
    """A container with checksums that fit."""
    crc = (zlib.crc32(table), zlib.crc32(body))
    return struct.pack("<4sBBHIQIII", b"TSNP", major, 0, codec, len(table), raw, *crc, 0) + table + body


@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(0, 2**64 - 1), st.integers(0, 3))
def test_any_bytes_with_right_checksums(table: bytes, body: bytes, raw: int, codec: int) -> None:
    with pytest.raises(StateError):
        unpack(crafted(table, body, raw, codec), "x")


@pytest.mark.parametrize(
    "fields",
    [
        '[["a","<f4",[-1]]]',
        '[["a","<f4",[4294967296,4294967296]]]',
        '[["a","<f4",[2]],["a","<f4",[2]]]',
        '[["a","|O",[1]]]',
        '[["a","<f4",[3]]]',
        '[["a","<f4",[1]]]',
        '[["a","<f4",[0,1,1,1,1,1,1,1,1]]]',
        '[["a","<f4",[1e30]]]',
        "null",
    ],
)
def test_impossible_field_tables(fields: str) -> None:
    with pytest.raises(StateError):
        unpack(crafted(f'{{"fields":{fields}}}'.encode(), bytes(8), 8), "x")


def zstd(plain: bytes) -> bytes:
    return pa.compress(plain, "zstd", asbytes=True)


@pytest.mark.parametrize(("codec", "fold"), [(1, lambda plain: zlib.compress(plain, 9)), (2, zstd)])
def test_a_small_message_cannot_ask_for_all_memory(codec: int, fold: Callable[[bytes], bytes]) -> None:
    bomb = fold(bytes(50_000_000))
    with pytest.raises(StateError, match=r"longer or shorter|does not decompress"):
        unpack(crafted(b'{"fields":[["a","|u1",[100]]]}', bomb, 100, codec), "x")
    with pytest.raises(StateError, match="shorter than it says"):
        unpack(crafted(b'{"fields":[["a","|u1",[100]]]}', fold(bytes(100)), 1 << 50, codec), "x")


@pytest.mark.parametrize(("codec", "fold"), [(1, zlib.compress), (2, zstd)])
@pytest.mark.parametrize("off", [-1, 1])
def test_a_body_of_another_length_than_it_says(codec: int, fold: Callable[[bytes], bytes], off: int) -> None:
    table = f'{{"fields":[["a","|u1",[{100 + off}]]]}}'.encode()
    with pytest.raises(StateError, match="x cannot be restored: its body"):
        unpack(crafted(table, fold(bytes(range(100))), 100 + off, codec), "x")


def test_what_was_compressed_with_zlib_is_read() -> None:
    """Until major 2."""
    table, plain = b'{"fields":[["a","<i4",[3]],["b","|u1",[2]]]}', struct.pack("<3i2B", 1, -2, 3, 4, 5)
    found = unpack(crafted(table, zlib.compress(plain, 1), len(plain), 1), "x").arrays
    assert [found["a"].tolist(), found["b"].tolist()] == [[1, -2, 3], [4, 5]]


def test_what_was_compressed_in_a_frame_for_each_array_is_read() -> None:
    """Until snapshots came in blocks."""
    table, a, b = b'{"fields":[["a","<i4",[3]],["b","|u1",[2]]]}', struct.pack("<3i", 1, -2, 3), bytes((4, 5))
    found = unpack(crafted(table, zstd(a) + zstd(b), len(a + b), 2, major=2), "x").arrays
    assert [found["a"].tolist(), found["b"].tolist()] == [[1, -2, 3], [4, 5]]


def test_as_much_as_can_be_folded_is_unfolded() -> None:
    """The bound on what a byte can stand for refuses no array that was packed."""
    zeros = np.zeros(1 << 26, np.uint8)
    assert not unpack(pack({"a": zeros}), "x").arrays["a"].any()


def test_a_newer_major_is_named_and_additions_ignored() -> None:
    with pytest.raises(StateError, match="x has the state format 3, newer than the 2"):
        unpack(crafted(b"{}", b"", 0, major=3), "x")
    table = b'{"fields":[["a","|u1",[2],"more"]],"later":{"x":1}}'
    assert unpack(crafted(table, b"\x01\x02", 2), "x").arrays["a"].tolist() == [1, 2]
