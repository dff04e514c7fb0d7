"""Clients that a server on the network has to bear: slow, large, wordless, uninvited, and too many."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

SLOW, SCRAPERS, LARGE = 40, 4, 8 << 20
"""Connections that send a byte a second, threads that scrape without pause, bytes of a body nobody asked for."""


@contextlib.contextmanager
def abuse(url: str) -> Iterator[Callable[[], int]]:
    """Do it all until the end of the block; the callable says how many requests were begun."""
    where = urlsplit(url)
    address, over, begun = (where.hostname or "", where.port or 0), threading.Event(), itertools.count()

    def slow() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), socket.create_connection(address, 5) as one:
                next(begun)
                for letter in b"GET /metrics HTTP/1.1\r\nX-Slow: " + b"a" * 60:
                    if over.wait(1.0):
                        break
                    one.send(bytes([letter]))

    def scrape() -> None:
        while not over.is_set():
            _said(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            next(begun)

    def odd() -> None:
        requests = itertools.cycle(
            (
                b"POST /api/v1/status HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % LARGE + b"x" * LARGE,
                b"GET /" + b"a" * LARGE,
                b"GET /api/v1/status HTTP/1.1\r\nAuthorization: Bearer wrong\r\n\r\n",
                b"\x00\xff" * 1000 + b"\r\n\r\n",
                b"DELETE / HTTP/9.9\r\n" + b"Header: x\r\n" * 5000 + b"\r\n",
                b"GET /../../etc/passwd HTTP/1.0\r\n\r\n",
            )
        )
        while not over.is_set():
            _said(address, next(requests))
            next(begun)
            time.sleep(0.05)

    doing = [threading.Thread(target=one) for one in (*[slow] * SLOW, *[scrape] * SCRAPERS, odd)]
    for one in doing:
        one.start()
    try:
        yield lambda: next(begun)
    finally:
        over.set()
        for one in doing:
            one.join()


def _said(address: tuple[str, int], request: bytes) -> bytes:
    """What the server has to say, if anything; it may hang up at any time."""
    found = b""
    with contextlib.suppress(OSError), socket.create_connection(address, 5) as one:
        one.settimeout(5)
        one.sendall(request)
        while part := one.recv(1 << 16):
            found += part
    return found
