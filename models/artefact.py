"""A model version on disk: written whole or not at all, read only if it is what a trusted key signed.

    <version>/manifest.json               what it is: schema, columns, training, checksums of the files below
    <version>/manifest.sig                Ed25519 signature of the bytes of manifest.json
    <version>/weights.safetensors         the networks, whitening and members, baselines
    <version>/calibration.safetensors     locations, calibration per entity and pooled, reference statistics

Reading trusts nothing before the signature over the manifest is checked; then names, sizes and checksums of
all files against the manifest; only then are the tensors decrypted, where they are encrypted, and parsed, from the very
bytes that were checked. The manifest is never encrypted: it names features and entities.
Nothing that is read can run code. This module knows bytes and arrays; `packing` makes a `Version` of
them and back.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from ..errors import ArtefactError, ModelNotFound, SignatureError
from .encryption import Cipher, decrypt, encrypt
from .signing import SIGNATURE_LIMIT, Signer, TrustedKey, sign, verify

SCHEMA_VERSION = "1.0"
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
WEIGHTS = "weights.safetensors"
CALIBRATION = "calibration.safetensors"
MANIFEST_LIMIT = 128 * 2**20  # bytes; a million entity names fit
FILE_LIMIT = 8 * 2**30
TEMPORARY = ".new-"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Tensors = dict[str, NDArray[Any]]


class FileEntry(msgspec.Struct, frozen=True):
    """What a file of the version must be."""

    sha256: str
    size: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a version says of itself; keys unknown to this release are ignored (additive within a major)."""

    schema_version: str = SCHEMA_VERSION
    name: str = ""
    stream: str
    created: str
    files: dict[str, FileEntry] = {}
    """As they lie on disk."""
    encrypted: str = ""
    """Fingerprint of the key that the tensor files are encrypted with; empty where they are not."""
    features: list[str]
    """All features of the stream's schema, in order."""
    schema_hash: str
    columns: list[str]
    """The features that the model uses, a part of `features`."""
    profile: str
    lags: int
    members: list[str]
    entities: list[str]
    """Training entities, in the order of the rows of the calibration arrays."""
    trained_entities: int
    training: dict[str, Any] = {}
    """Range, records per entity, settings, seed, seconds, warnings."""
    history: list[dict[str, Any]] = []
    """One row per epoch: ELBO, KL, reconstruction and active units of both splits."""
    baselines: dict[str, Any] = {}
    reference: dict[str, float] = {}
    libraries: dict[str, str] = {}


_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_MANIFEST = msgspec.json.Decoder(Manifest)


class Artefact(NamedTuple):
    """A version as read: everything in it is what a trusted key signed."""

    path: Path
    manifest: Manifest
    weights: Tensors
    calibration: Tensors
    key: str
    """Fingerprint of the trusted key that vouches for it."""


def encode(weights: Mapping[str, NDArray[Any]], calibration: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    """The tensor files of a version; equal arrays give equal bytes."""
    return {WEIGHTS: _tensors(weights), CALIBRATION: _tensors(calibration)}


def content_hash(files: Mapping[str, bytes]) -> str:
    """SHA-256 over the files' names and checksums, in the order of the names; hexadecimal."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return total.hexdigest()


def write(
    parent: Path,
    name: str,
    manifest: Manifest,
    files: Mapping[str, bytes],
    signer: Signer,
    cipher: Cipher | None = None,
) -> Path:
    """Sign and write a version as `parent/name`, atomically; its tensors encrypted where there is a cipher.

    It is built in a hidden folder beside its place, flushed to the disk, then renamed: a crash leaves either
    the whole version or a hidden folder that nothing reads.

    Raises:
        ArtefactError: `name` is taken, is no plain name, or the disk refuses; more than can be encrypted.
    """
    target = parent / name
    if not _PLAIN_NAME.fullmatch(name):
        raise ArtefactError(f"{name!r} cannot name a model version: letters, digits, '.', '_' and '-' only")
    if target.exists():
        raise ArtefactError(f"there is already a model version at {target}; versions are never overwritten")
    if cipher is not None:
        files = {key: encrypt(cipher, data, f"{manifest.stream}/{name}/{key}") for key, data in files.items()}
    entries = {key: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for key, data in files.items()}
    full = msgspec.structs.replace(
        manifest,
        schema_version=SCHEMA_VERSION,
        name=name,
        files=entries,
        encrypted=cipher.fingerprint if cipher else "",
    )
    encoded = msgspec.json.format(msgspec.json.encode(full, order="deterministic"), indent=1) + b"\n"
    contents = {**files, MANIFEST: encoded, SIGNATURE: sign(signer, encoded)}
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=TEMPORARY))
        try:
            for key in sorted(contents):
                _write_file(folder / key, contents[key])
            folder.chmod(0o755)
            sync_folder(folder)
            folder.rename(target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        sync_folder(parent)
    except OSError as error:
        raise ArtefactError(
            f"the model version {target} could not be written: {error.strerror or error}. Nothing was left "
            f"behind; the versions before it are untouched"
        ) from error
    return target


def load(
    path: Path, trusted: Sequence[TrustedKey], ciphers: Sequence[Cipher] = (), *, limit: int = FILE_LIMIT
) -> Artefact:
    """Read a version: signature first, then names, sizes and checksums, then tensors.

    Args:
        path: the version's folder.
        trusted: the keys of `[registry] public_keys`.
        ciphers: the keys of `[registry] encryption_keys`.
        limit: the most bytes that one file may have.

    Raises:
        ModelNotFound: there is no such folder.
        SignatureError: unsigned, or signed by a key that is not trusted, or changed after signing.
        ArtefactError: anything else that is not a whole version of this format.
    """
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise ModelNotFound(f"there is no model version at {path}") from error
    except OSError as error:
        raise ArtefactError(f"{path} is not a model version's folder: {error.strerror}") from error
    try:
        encoded = _read(folder, path, MANIFEST, MANIFEST_LIMIT)
        try:
            signature = _read(folder, path, SIGNATURE, SIGNATURE_LIMIT)
        except ModelNotFound as error:
            raise SignatureError(f"{path}: it is not signed ({SIGNATURE} is missing)") from error
        key = verify(encoded, signature, trusted, str(path))
        manifest = _manifest(path, encoded)
        present = set(os.listdir(folder))  # noqa: PTH208 - of the folder that is open, not of a path
        contents: dict[str, bytes] = {}
        for name in sorted(manifest.files):
            contents[name] = _checked(folder, path, name, manifest.files[name], limit)
        strangers = sorted(present - set(manifest.files) - {MANIFEST, SIGNATURE})
        if strangers:
            raise ArtefactError(f"{path}: files that its manifest does not name: {', '.join(strangers[:5])}")
    finally:
        os.close(folder)
    plain = _plain(path, manifest, contents, ciphers)
    weights, calibration = (_parse(path, name, plain[name]) for name in (WEIGHTS, CALIBRATION))
    return Artefact(path, manifest, weights, calibration, key)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise ArtefactError(f"the tensor {name} has type {array.dtype}; a version holds numbers only")
    # No metadata: safetensors writes it in hash order, and equal arrays must give equal bytes.
    return safetensors.save({name: np.asarray(arrays[name], order="C") for name in sorted(arrays)})


def _write_file(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read(folder: int, path: Path, name: str, limit: int) -> bytes:
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path} is not a whole model version: {name} is missing") from error
    except OSError as error:
        raise ArtefactError(
            f"{path}: {name} cannot be opened as a plain file ({error.strerror}); links are refused"
        ) from error
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ArtefactError(f"{path}: {name} is not a plain file")
        if status.st_size > limit:
            raise ArtefactError(f"{path}: {name} has {status.st_size} bytes, more than its {limit}")
        return file.read(min(limit, status.st_size) + 1)  # room is made for all that is asked for


def _manifest(path: Path, encoded: bytes) -> Manifest:
    try:
        version = _FIELDS.decode(encoded).get("schema_version", b'"none"')
        found = _TEXT.decode(version)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(f"{path}: its manifest is not JSON of the right form: {error}") from error
    if found.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise ArtefactError(
            f"{path}: it has the format {found}; this release reads {SCHEMA_VERSION.split('.')[0]}.x. "
            f"Use the release that wrote it, or train anew"
        )
    try:
        manifest = _MANIFEST.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(f"{path}: its manifest lacks what this release needs: {error}") from error
    if manifest.name != path.name:
        raise ArtefactError(
            f"{path}: its manifest was signed as version {manifest.name!r}; a version is not renamed. "
            f"Move the folder back to that name"
        )
    for name, entry in manifest.files.items():
        if not _PLAIN_NAME.fullmatch(name) or name in (MANIFEST, SIGNATURE):
            raise ArtefactError(f"{path}: its manifest names the file {name!r}, no plain name of its own")
        if not _SHA256.fullmatch(entry.sha256) or entry.size < 0:
            raise ArtefactError(f"{path}: its manifest has no valid checksum and size for {name}")
    missing = {WEIGHTS, CALIBRATION} - set(manifest.files)
    if missing:
        raise ArtefactError(f"{path}: its manifest does not name {' and '.join(sorted(missing))}")
    return manifest


def _checked(folder: int, path: Path, name: str, entry: FileEntry, limit: int) -> bytes:
    if entry.size > limit:
        raise ArtefactError(f"{path}: {name} should have {entry.size} bytes, more than the limit {limit}")
    try:
        data = _read(folder, path, name, entry.size)
    except ModelNotFound as error:
        raise ArtefactError(f"{path}: {name} is missing") from error
    if len(data) != entry.size:
        raise ArtefactError(f"{path}: {name} is truncated: {len(data)} bytes instead of {entry.size}")
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise ArtefactError(f"{path}: {name} is corrupt: its checksum is not the one that was signed")
    return data


def _plain(
    path: Path, manifest: Manifest, contents: Mapping[str, bytes], ciphers: Sequence[Cipher]
) -> Mapping[str, bytes]:
    if not manifest.encrypted:
        return contents
    for cipher in ciphers:
        if cipher.fingerprint == manifest.encrypted:
            return {
                key: decrypt(cipher, data, f"{manifest.stream}/{manifest.name}/{key}")
                for key, data in contents.items()
            }
    known = ", ".join(cipher.fingerprint for cipher in ciphers) or "none"
    raise ArtefactError(
        f"{path}: it is encrypted with the key {manifest.encrypted!r}, which is not here; if you have it, "
        f"add its file to [registry] encryption_keys. There: {known}"
    )


def _parse(path: Path, name: str, data: bytes) -> Tensors:
    try:
        return safetensors.load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ArtefactError(f"{path}: {name} is not a safetensors file of this format: {error}") from error
