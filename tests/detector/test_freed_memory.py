"""Memory that was freed goes back to the system, also from between pieces that are held."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tocsin.detector import freed_memory
from tocsin.detector.freed_memory import ARENAS, give_back, share_arenas

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


THREADS = """
import ctypes, sys, threading
from tocsin.detector.freed_memory import share_arenas
if sys.argv[1] == "shared":
    share_arenas()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = (ctypes.c_int, ctypes.c_void_p)
libc.fflush.argtypes = (ctypes.c_void_p,)
met = threading.Barrier(12)
threads = [threading.Thread(target=lambda: (libc.malloc(1000), met.wait())) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
told = libc.fdopen(1, b"w")
libc.malloc_info(0, told)
libc.fflush(told)
"""


def arenas(how: str) -> int:
    """How many twelve threads of a process have."""
    done = subprocess.run([sys.executable, "-c", THREADS, how], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.count("<heap nr=")


def test_threads_share_a_few_arenas() -> None:
    assert arenas("each its own") > ARENAS == arenas("shared")


class Another:
    """A C library that lacks what glibc has."""

    def __getitem__(self, name: str) -> object:
        raise AttributeError(name)


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Another())
    freed_memory._of_glibc.cache_clear()
    share_arenas()
    give_back()
    monkeypatch.undo()
    freed_memory._of_glibc.cache_clear()
