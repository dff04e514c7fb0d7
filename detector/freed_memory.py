"""What the C library keeps of memory that was freed: held within bounds, and given back to the system.

After a backlog glibc keeps what the client's threads had in hand, spread over an arena of each. A daemon whose broker
was away four times for some seconds went from 442 MiB to 717; with `give_back` it held 490 after the first and the
ninth. The end of an arena is not given back, whatever lies free there: by default there may be eight arenas a core, and
each outage fills some anew, for the client begins threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

ARENAS = 4
"""One each for who allocates much at once: the thread that consumes, the chain's, the client's and XLA's."""
M_ARENA_MAX = -8
"""The parameter's number in malloc.h."""


def share_arenas() -> None:
    """Let all threads that are begun from now on share a few arenas. Only glibc can."""
    _of_glibc("mallopt", ctypes.c_int, ctypes.c_int)(M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Give back each page that nothing uses any more: 1 ms, after a backlog up to 50. Only glibc can."""
    _of_glibc("malloc_trim", ctypes.c_size_t)(0)


@cache
def _of_glibc(name: str, *arguments: type) -> Callable[..., object]:
    try:
        function = ctypes.CDLL(None)[name]
    except AttributeError:  # another C library
        return lambda *_: None
    function.argtypes = arguments
    return function
