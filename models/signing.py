"""Ed25519 signatures: who may say what a model version is.

The first `train` makes a key pair. The private key stays in the user's configuration folder, readable by
nobody else; what is trusted is named by `[registry] public_keys`, by default the local public key alone. A
signature carries the fingerprint of its key only so that a refusal can name it: nothing that travels with an
artefact is ever trusted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ..errors import SignatureError

PRIVATE_NAME = "signing-key.pem"
SCHEME = "ed25519"
PEM_LIMIT = 65536  # bytes that are read of a key file
SIGNATURE_LIMIT = 512  # bytes of a signature file: scheme, fingerprint, 88 characters of base64


class Signer(NamedTuple):
    """A private key with the fingerprint of its public half."""

    key: Ed25519PrivateKey
    fingerprint: str


class TrustedKey(NamedTuple):
    """A public key that may vouch for artefacts here."""

    key: Ed25519PublicKey
    fingerprint: str


def fingerprint(key: Ed25519PublicKey) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the raw public key."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def public_path(private: Path) -> Path:
    """Where the public half of the key file `private` lies: `signing-key.pem` -> `signing-key.pub.pem`."""
    return private.with_name(f"{private.stem}.pub{private.suffix}")


def ensure_pair(private: Path) -> tuple[Signer, bool]:
    """The signer of this user, made on the first call; the flag says whether it was made now.

    `private` is a PKCS 8 PEM file of mode 0600 in a folder that is made with mode 0700, its public half
    (`public_path`) a SubjectPublicKeyInfo PEM file. Two first calls at once end with one pair.

    Raises:
        SignatureError: the key that is there is refused (see `load_signer`), or none can be written.
    """
    made = False
    public = public_path(private)
    try:
        if not private.exists():
            private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            pem = Ed25519PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
            made = _write_new(private, pem, 0o600)
        signer = load_signer(private)
        if not public.exists():
            pem = signer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            _write_new(public, pem, 0o644)
    except OSError as error:
        raise SignatureError(f"the key pair {private} cannot be written: {error.strerror}") from error
    return signer, made


def load_signer(private: Path) -> Signer:
    """Read a private key.

    Raises:
        SignatureError: it is missing, unreadable, not Ed25519, or readable by others than its owner.
    """
    try:
        with private.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise SignatureError(
                    f"the private key {private} has mode {mode:04o}: others than its owner can use it. "
                    f"If nobody has, run: chmod 600 {private}"
                )
            pem = file.read(PEM_LIMIT)
    except OSError as error:
        raise SignatureError(f"the private key {private} cannot be read: {error.strerror}") from error
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"{private} is not an unencrypted PEM private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{private} is not an Ed25519 key; move it away, `tocsin train` makes a pair")
    return Signer(key, fingerprint(key.public_key()))


def load_trusted(paths: Sequence[Path]) -> tuple[TrustedKey, ...]:
    """Read the public keys (PEM files) that may vouch for artefacts.

    Raises:
        SignatureError: a file is missing or holds no Ed25519 public key.
    """
    keys: list[TrustedKey] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                key = load_pem_public_key(file.read(PEM_LIMIT))
        except OSError as error:
            raise SignatureError(
                f"the public key {path} cannot be read ({error.strerror}). The first `tocsin train` makes "
                f"the pair of this user; for models made elsewhere name their key in [registry] public_keys"
            ) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SignatureError(f"{path} is not a PEM public key: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise SignatureError(f"{path} is not an Ed25519 public key")
        keys.append(TrustedKey(key, fingerprint(key)))
    return tuple(keys)


def trust(signer: Signer) -> TrustedKey:
    """The public half of a signer, as a trusted key."""
    return TrustedKey(signer.key.public_key(), signer.fingerprint)


def sign(signer: Signer, data: bytes) -> bytes:
    """One line: scheme, fingerprint of the key, base64 of the signature of `data`."""
    return _line(signer.fingerprint, signer.key.sign(data))


def verify(data: bytes, signature: bytes, trusted: Iterable[TrustedKey], what: str) -> str:
    """Check a signature of `data` against the trusted keys; return the fingerprint of the key that made it.

    The fingerprint written in the signature is only quoted in the refusal, never used to find a key.

    Raises:
        SignatureError: malformed, made by no trusted key, or `data` was changed; `what` names the thing.
    """
    parts = signature.split(b" ")
    if len(signature) > SIGNATURE_LIMIT or len(parts) != 3 or parts[0] != SCHEME.encode():
        raise SignatureError(f"{what}: its signature is not of the form '{SCHEME} FINGERPRINT BASE64'")
    try:
        raw = base64.b64decode(parts[2].removesuffix(b"\n"), validate=True)
    except binascii.Error as error:
        raise SignatureError(f"{what}: its signature is not base64") from error
    known = tuple(trusted)
    claimed = parts[1].decode("ascii", "replace")[:16]
    for candidate in known:
        try:
            candidate.key.verify(raw, data)
        except InvalidSignature:
            continue
        if _line(candidate.fingerprint, raw) != signature:
            raise SignatureError(f"{what}: its signature is valid but its line was changed after signing")
        return candidate.fingerprint
    names = ", ".join(key.fingerprint for key in known) or "none"
    reason = (
        "its contents were changed after it was signed"
        if claimed in {key.fingerprint for key in known}
        else "that key is not trusted here; if it should be, add its file to [registry] public_keys"
    )
    raise SignatureError(f"{what}: the signature (key {claimed}) does not hold: {reason}. Trusted: {names}")


def _line(name: str, raw: bytes) -> bytes:
    return f"{SCHEME} {name} {base64.b64encode(raw).decode()}\n".encode()


def _write_new(path: Path, data: bytes, mode: int) -> bool:
    """Create `path` whole or not at all; False when somebody else was first."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        Path(temporary).unlink()
    return True
