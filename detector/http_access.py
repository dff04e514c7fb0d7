"""Who may read over HTTP, and over what: bearer tokens that are known by their hashes, and TLS.

There is one role, the viewer: nothing can be changed over HTTP, so there is nothing that another role would guard.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import socket
import ssl
from typing import NamedTuple

from ..errors import SettingsError
from .settings import Http

log = logging.getLogger(__name__)


class Access(NamedTuple):
    """Whom a server answers. Without tokens, everybody who reaches it."""

    hashes: tuple[str, ...] = ()
    """SHA-256 (hex) of the tokens of viewers."""
    tls: ssl.SSLContext | None = None

    def allows(self, authorization: str | None) -> bool:
        """Whether the header of a request names a viewer; the time that takes does not tell how nearly one was met."""
        if not self.hashes:
            return True
        scheme, _, token = (authorization or "").partition(" ")
        found = hash_of(token.strip())
        known = [hmac.compare_digest(found, one) for one in self.hashes]
        return scheme.lower() == "bearer" and any(known)


EVERYBODY = Access()


def hash_of(token: str) -> str:
    """SHA-256 (hex) of a token: enough for one that is random and long, and of no use to who reads it."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def access_of(http: Http) -> Access:
    """Whom the settings let in.

    Raises:
        SettingsError: others than this machine could read without a token, or certificate and key cannot be used.
    """
    own = (hash_of(http.token),) if http.token else ()
    hashes = (*own, *(one.removeprefix("sha256:") for one in http.viewer_hashes))
    beyond = not _loopback(http.host)
    if beyond and not hashes and not http.open:
        raise SettingsError(
            f"[http] host = {http.host!r} lets others than this machine read entity names and values, and no token is "
            "set. Give viewer_hashes, or token by TOCSIN__HTTP__TOKEN_FILE; or open = true where something else keeps "
            "others away."
        )
    if beyond and hashes and not http.tls_cert:
        log.warning("tokens travel unencrypted; give [http] tls_cert, or put what speaks TLS before it")
    return Access(hashes, _tls(http))


def _tls(http: Http) -> ssl.SSLContext | None:
    if not http.tls_cert and not http.tls_key:
        return None
    if not http.tls_cert or not http.tls_key:
        raise SettingsError(
            "[http] tls_cert and tls_key go together: a certificate is of no use without its key."
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # A key under a passphrase would be asked for on the terminal.
        context.load_cert_chain(http.tls_cert, http.tls_key, password="")
    except (OSError, ValueError) as fault:
        why = getattr(fault, "strerror", None) or fault
        raise SettingsError(
            f"[http] tls_cert = {http.tls_cert!r}, tls_key = {http.tls_key!r} cannot be used ({why}). They are PEM "
            "files: the certificate with those that vouch for it, and its key without a passphrase."
        ) from None
    return context


def _loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name does where all it stands for does."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False  # nobody can listen there; the server says so
    return all(ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found)
