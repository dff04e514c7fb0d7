"""Memory that was freed goes back to the system, also from between pieces that are held."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest
from tocsin.detector import freed_memory
from tocsin.detector.freed_memory import give_back

PIECES, PIECE = 64 * 1024, 1024


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_what_lies_free_between_pieces_that_are_held_is_given_back() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.argtypes = (ctypes.c_void_p,)
    pieces = [libc.malloc(PIECE) for _ in range(PIECES)]
    for piece in pieces:
        ctypes.memset(piece, 1, PIECE)
    held = pieces[:: PIECES // 16] + pieces[-1:]
    for piece in set(pieces) - set(held):
        libc.free(piece)
    before = resident()
    give_back()
    assert before - resident() > PIECES * PIECE // 2
    for piece in held:
        libc.free(piece)


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    freed_memory._trim.cache_clear()
    give_back()
    monkeypatch.undo()
    freed_memory._trim.cache_clear()
