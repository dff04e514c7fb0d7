"""AES-256-GCM: who may read what lies on disk of a model.

A key is a file of 64 hexadecimal digits (`openssl rand -hex 32`), readable by nobody but its owner. What is encrypted
names the key by its fingerprint; each piece has a random nonce of 96 bits (NIST SP 800-38D, 8.2.2) and is bound to what
it is a part of, so that one cannot stand in the place of another.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import ArtefactError

NONCE = 12  # bytes
KEY_LIMIT = 1024  # bytes that are read of a key file
LARGEST = 2**31 - 1 - 2 * NONCE - 16  # bytes that one call of the library takes

_KEY = re.compile(rb"[0-9a-fA-F]{64}\s*")


class Cipher(NamedTuple):
    """A key with its fingerprint: 16 hexadecimal digits of the SHA-256 of it."""

    aead: AESGCM
    fingerprint: str


def load_ciphers(paths: Sequence[Path]) -> tuple[Cipher, ...]:
    """Read key files.

    Raises:
        ArtefactError: one is missing, unreadable, no such key, or readable by others than its owner.
    """
    found = []
    for path in paths:
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                text = file.read(KEY_LIMIT)
        except OSError as error:
            raise ArtefactError(
                f"the encryption key {path} cannot be read ({error.strerror}). "
                f"Make one: (umask 077; openssl rand -hex 32 > {path})"
            ) from error
        if mode & 0o077:
            raise ArtefactError(
                f"the encryption key {path} has mode {mode:04o}: others than its owner can use it. "
                f"If nobody has, run: chmod 600 {path}"
            )
        if not _KEY.fullmatch(text):
            raise ArtefactError(
                f"{path} is not an encryption key: 64 hexadecimal digits, as `openssl rand -hex 32` makes them"
            )
        key = bytes.fromhex(text.decode())
        found.append(Cipher(AESGCM(key), hashlib.sha256(key).hexdigest()[:16]))
    return tuple(found)


def encrypt(cipher: Cipher, data: bytes, what: str) -> bytes:
    """Nonce, then what `data` became and its tag; `what` it is has to be told again to read it.

    Raises:
        ArtefactError: there is more of it than the cipher takes.
    """
    if len(data) > LARGEST:
        raise ArtefactError(f"{what}: {len(data)} bytes cannot be encrypted, at most {LARGEST} can")
    nonce = os.urandom(NONCE)
    return nonce + cipher.aead.encrypt(nonce, data, what.encode())


def decrypt(cipher: Cipher, data: bytes, what: str) -> bytes:
    """What `encrypt` was given.

    Raises:
        ArtefactError: it was changed, was encrypted with another key, or is something else than `what`.
    """
    try:
        return cipher.aead.decrypt(data[:NONCE], data[NONCE:], what.encode())
    except (InvalidTag, ValueError, OverflowError) as error:
        raise ArtefactError(
            f"{what}: it is not what the key {cipher.fingerprint} encrypted under this name"
        ) from error
