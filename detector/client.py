"""Asking a running daemon over its HTTP address."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import urlopen

from ..errors import DataError, TocsinError
from .settings import Settings

TIMEOUT_S = 5.0


class Unanswered(TocsinError):
    """No daemon answers at the configured address."""


def ask(settings: Settings, path: str, **query: str | int | None) -> Any:
    """The JSON answer of a page, None where there is no such thing.

    Raises:
        Unanswered: no daemon listens there.
        DataError: what listens there is no daemon.
    """
    base = f"http://{settings.http.host}:{settings.http.port}"
    given = {key: value for key, value in query.items() if value is not None}
    url = f"{base}{quote(path)}" + (f"?{urlencode(given)}" if given else "")
    try:
        with urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the scheme is written above
            return json.load(answer)
    except HTTPError as fault:
        if fault.code == 404:
            return None
        if fault.code == 503:
            why = json.load(fault)["error"]
            raise Unanswered(f"the daemon at {base} cannot tell now: {why}") from None
        raise DataError(f"{url} answers {fault.code} {fault.reason}; is that a tocsin daemon?") from None
    except ValueError:
        raise DataError(f"{url} does not answer in JSON; is that a tocsin daemon?") from None
    except (URLError, OSError) as fault:
        why = getattr(fault, "reason", fault)
        raise Unanswered(
            f"no daemon answers at {base} ({why}). Start one with `tocsin run`, or set [http] host and port to where "
            "it listens."
        ) from None
