"""An HTTP server that alerts are posted to, and that answers as a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Reply = int | tuple[int, dict[str, str]]
"""A status, or a status with headers."""


class Post(NamedTuple):
    """One request, and what it was answered."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """What was posted so far; `reply` decides what a body is answered."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.reply: Callable[[Any], Reply] = lambda content: 200
        self.url = ""

    def taken(self) -> list[Post]:
        """The posts that were accepted."""
        return [post for post in self.posts if post.status < 300]

    def alerts(self) -> list[dict[str, Any]]:
        """All elements of the arrays that were accepted, as an Alertmanager is sent them."""
        return [alert for post in self.taken() for alert in post.json]


@contextmanager
def receiving(receiver: Receiver, port: int = 0) -> Iterator[Receiver]:
    """Serve on a port of this machine; leaving takes the server down."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told = receiver.reply(json.loads(body))
            status, headers = told if isinstance(told, tuple) else (told, {})
            sent = {name.lower(): value for name, value in self.headers.items()}
            receiver.posts.append(Post(self.path, sent, body, status, time.time()))
            answer = b"because of the test"
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                pass  # who asked did not wait

        def do_GET(self) -> None:
            raise AssertionError("a POST has become a GET")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
