"""Asking a running daemon over its HTTP address."""

from __future__ import annotations

import json
import ssl
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from ..errors import DataError, SettingsError, TocsinError
from .settings import Settings

TIMEOUT_S = 5.0


class Unanswered(TocsinError):
    """No daemon answers at the configured address."""


def ask(settings: Settings, path: str, **query: str | int | None) -> Any:
    """The JSON answer of a page, None where there is no such thing.

    Raises:
        Unanswered: no daemon listens there.
        DataError: what listens there is no daemon.
        SettingsError: it lets in only who has a token, or what is to be trusted cannot be read.
    """
    http = settings.http
    base = f"{'https' if http.tls_cert or http.tls_ca else 'http'}://{http.host}:{http.port}"
    given = {key: value for key, value in query.items() if value is not None}
    url = f"{base}{quote(path)}" + (f"?{urlencode(given)}" if given else "")
    request = Request(url)  # noqa: S310 - the scheme is written above
    if http.token:
        request.add_unredirected_header("Authorization", f"Bearer {http.token}")
    try:
        context = ssl.create_default_context(cafile=http.tls_ca) if url.startswith("https") else None
    except OSError as fault:
        raise SettingsError(
            f"[http] tls_ca = {http.tls_ca!r} cannot be used: {fault.strerror or fault}."
        ) from None
    try:
        with urlopen(request, timeout=TIMEOUT_S, context=context) as answer:  # noqa: S310
            return json.load(answer)
    except HTTPError as fault:
        with fault:
            if fault.code == 404:
                return None
            raise _refusal(fault, base, url, known=bool(http.token)) from None
    except ValueError:
        raise DataError(f"{url} does not answer in JSON; is that a tocsin daemon?") from None
    except (URLError, OSError) as fault:
        why = getattr(fault, "reason", fault)
        if isinstance(why, ssl.SSLCertVerificationError):
            raise SettingsError(
                f"the certificate of {base} cannot be trusted ({why.verify_message}). Set [http] tls_ca to who vouches "
                "for it, and host to the name that it bears."
            ) from None
        raise Unanswered(
            f"no daemon answers at {base} ({why}). Start one with `tocsin run`, or set [http] host and port to where "
            "it listens."
        ) from None


def _refusal(fault: HTTPError, base: str, url: str, *, known: bool) -> TocsinError:
    """What an answer means that is an error; `known` says whether a token was sent."""
    if fault.code == 401:
        have = "does not know the token of [http] token" if known else "wants a token"
        return SettingsError(f"the daemon at {base} {have}. Give it by TOCSIN__HTTP__TOKEN_FILE.")
    if fault.code == 503:
        return Unanswered(f"the daemon at {base} cannot tell now: {json.load(fault)['error']}")
    return DataError(f"{url} answers {fault.code} {fault.reason}; is that a tocsin daemon?")
