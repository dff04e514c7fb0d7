"""Where a forwarder posts to: one request, what its answer means, and what of it may be shown."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from enum import Enum
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from .. import __version__
from ..errors import SettingsError

ALERTMANAGER_PATH = "/api/v2/alerts"
FIRST_S, MOST_S = 1.0, 60.0
"""The first wait after a failure, and the longest."""
ASKED_MOST_S = 300.0
"""The longest wait that a target can ask for."""
SHOWN_BYTES = 300
"""Of an answer's body, where it says why."""
NOT_OF_THE_ALERT = frozenset({401, 403, 404, 407, 408, 429})
"""Of the answers 4xx those that speak of address, credentials or load: another alert would fare no better."""


class Verdict(Enum):
    """What becomes of what was posted."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    AGAIN = "again"


class Answer(NamedTuple):
    """How a request went."""

    verdict: Verdict
    why: str = ""
    wait_s: float = 0.0
    """How long the target asks to be left alone."""


class Target(NamedTuple):
    """An address, and everything that is sent along."""

    url: str
    headers: dict[str, str]
    timeout_s: float
    shown: str
    """The address without anything that may be secret."""
    secrets: tuple[str, ...]


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would turn the POST into a GET, which loses the alert, or carry credentials away."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """None: the answer itself is what came of the request."""


def target_of(url: str, kind: str, timeout_s: float, header_file: str | None = None) -> Target:
    """The target of a configuration. SettingsError, which shows nothing secret, where it cannot be one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not (url.isascii() and url.isprintable()):
        raise SettingsError(
            "[forward] url is no address that can be posted to. Write http://HOST:PORT/PATH, in ASCII."
        )
    name = f"[{host}]" if ":" in host else host
    place = name if port is None else f"{name}:{port}"
    headers = {"Content-Type": "application/json", "User-Agent": f"tocsin/{__version__}"}
    secrets = {url, parts.netloc.rpartition("@")[0], unquote(parts.password or ""), parts.query}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    if header_file:
        headers |= read_headers(Path(header_file))
    secrets |= {text for name, text in headers.items() if name not in ("Content-Type", "User-Agent")}
    path = parts.path
    if kind == "alertmanager":
        path = path.rstrip("/").removesuffix(ALERTMANAGER_PATH) + ALERTMANAGER_PATH
    else:
        secrets.add(path)  # many a webhook is known by nothing but its path
    clean = urlunsplit(SplitResult(parts.scheme, place, path, parts.query, ""))
    hidden = tuple(text for text in (*secrets, clean) if len(text) >= 4)
    return Target(clean, headers, timeout_s, f"{parts.scheme}://{place}", hidden)


def read_headers(path: Path) -> dict[str, str]:
    """Headers out of a file, one `Name: value` a line; empty lines and those that begin with # are left out.

    Raises:
        SettingsError: the file cannot be read, or a line is none; values are not shown.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else "it is no UTF-8 text"
        raise SettingsError(f"the header file {path} cannot be read: {why}.") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, value = line.partition(":")
        token = name.replace("-", "").replace("_", "")
        good = colon and token.isascii() and token.isalnum() and value.strip().isprintable()
        if not good or not value.isascii():
            raise SettingsError(f"{path}:{number}: is no header. Write `Name: value`, in ASCII.")
        found[name.title()] = value.strip()
    return found


def post(target: Target, body: bytes) -> Answer:
    """One POST and what its answer means. Waits at most the target's timeout at each step."""
    request = urllib.request.Request(target.url, body, target.headers, method="POST")  # noqa: S310, http(s) by the settings
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=target.timeout_s) as answer:
            return judged(answer.status, "")
    except urllib.error.HTTPError as error:
        with error:
            return judged(error.code, _reason(error), error.headers.get("Retry-After"))
    except urllib.error.URLError as fault:
        return Answer(Verdict.AGAIN, f"it cannot be reached: {fault.reason}")
    except TimeoutError:
        return Answer(Verdict.AGAIN, f"no answer within {target.timeout_s:g} s")
    except (OSError, HTTPException) as fault:
        return Answer(Verdict.AGAIN, f"the connection broke: {fault or type(fault).__name__}")


def judged(status: int, reason: str, retry_after: str | None = None) -> Answer:
    """What an HTTP status means for what was posted. Pure."""
    why = f"status {status}{f': {reason}' if reason else ''}"
    if 200 <= status < 300:
        return Answer(Verdict.ACCEPTED, why)
    if 400 <= status < 500 and status not in NOT_OF_THE_ALERT:
        return Answer(Verdict.REFUSED, why)
    asked = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0
    return Answer(Verdict.AGAIN, why, min(asked, ASKED_MOST_S))


def _reason(error: urllib.error.HTTPError) -> str:
    """The beginning of what the target says, on one line; a redirect's address is not shown."""
    if 300 <= error.code < 400:
        return "a redirect, which is not followed"
    try:
        text = error.read(SHOWN_BYTES).decode("utf-8", "replace")
    except (OSError, HTTPException):
        return ""
    return " ".join(text.split())


def pause_s(failures: int, luck: float) -> float:
    """Seconds to wait after so many failures in a row: doubling up to a bound, of it `luck` (0 to 1) by chance.

    >>> [pause_s(n, 1.0) for n in (1, 2, 3, 9)]
    [1.0, 2.0, 4.0, 60.0]
    """
    most = min(MOST_S, FIRST_S * 2.0 ** min(failures - 1, 30))
    return most * (0.5 + 0.5 * luck)
