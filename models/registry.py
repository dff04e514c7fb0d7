"""The registry: a folder of immutable, signed versions per stream.

<registry>/<stream>/v0001-3f9a12bc/    a version: a number that only grows, eight digits of its contents' hash
<registry>/<stream>/champion.json      which version serves where no control topic says so
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import msgspec

from ..errors import ArtefactError, ModelNotFound
from . import artefact
from .artefact import Artefact, Manifest
from .encryption import Cipher
from .signing import Signer, TrustedKey

CHAMPION = "champion.json"
_VERSION = re.compile(r"v(\d{4,9})-[0-9a-f]{8}")
_STREAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_LOCK = ".lock"


class Champion(msgspec.Struct, frozen=True, kw_only=True):
    """The local pointer. It is not signed: it can only choose among versions that are."""

    schema_version: str = "1.0"
    version: str
    previous: str = ""
    author: str = ""
    reason: str = ""
    changed: str = ""


_CHAMPION = msgspec.json.Decoder(Champion)


class Registry:
    """The versions of one stream under a registry folder."""

    def __init__(self, root: Path, stream: str, ciphers: Sequence[Cipher] = ()) -> None:
        """`ciphers` can read versions, and the first encrypts new ones; where there is none they are not encrypted.

        Raises:
            ArtefactError: `stream` cannot name a folder.
        """
        if not _STREAM.fullmatch(stream):
            raise ArtefactError(f"the stream name {stream!r} cannot name a folder of the registry")
        self.root = root
        self.stream = stream
        self.folder = root / stream
        self.ciphers = tuple(ciphers)

    def versions(self) -> list[str]:
        """Names of the versions, oldest first; whether they can be trusted is `load`'s to say."""
        if not self.folder.is_dir():
            return []
        found = [entry.name for entry in self.folder.iterdir() if _VERSION.fullmatch(entry.name)]
        return sorted(found, key=lambda name: (_number(name), name))

    def latest(self) -> str:
        """The newest version's name. Raises ModelNotFound when there is none."""
        found = self.versions()
        if not found:
            raise ModelNotFound(
                f"there is no model for stream {self.stream!r} in {self.root}: run `tocsin train` first"
            )
        return found[-1]

    def resolve(self, text: str) -> str:
        """The full name for `v0003`, a unique beginning, `latest` or `champion`. Raises ModelNotFound."""
        if text == "latest":
            return self.latest()
        if text == "champion":
            return self.current()
        found = self.versions()
        matches = [text] if text in found else [name for name in found if name.startswith(text)]
        if len(matches) == 1 and text:
            return matches[0]
        state = "is not one of" if not matches else "is not unique among"
        listed = ", ".join(found[-8:]) or "none: run `tocsin train` first"
        raise ModelNotFound(
            f"{text!r} {state} the versions of stream {self.stream!r} in {self.root}: {listed}"
        )

    def load(self, name: str, trusted: Sequence[TrustedKey]) -> Artefact:
        """Read and verify a version; see `artefact.load` for what it raises."""
        if not _VERSION.fullmatch(name):
            raise ModelNotFound(f"{name!r} is not the name of a version (v0001-0123abcd)")
        loaded = artefact.load(self.folder / name, trusted, self.ciphers)
        if loaded.manifest.stream != self.stream:
            raise ArtefactError(
                f"{loaded.path}: it was signed for stream {loaded.manifest.stream!r}, not for {self.stream!r}"
            )
        return loaded

    def register(self, manifest: Manifest, files: Mapping[str, bytes], signer: Signer) -> str:
        """Write the next version and return its name; the first one becomes the champion.

        The number is taken under a lock, so two trainings at once get two numbers. Raises ArtefactError.
        """
        with self._locked():
            for stale in self.folder.glob(f"{artefact.TEMPORARY}*"):  # of a training that was killed
                shutil.rmtree(stale, ignore_errors=True)
            number = max((_number(name) for name in self.versions()), default=0) + 1
            name = f"v{number:04d}-{artefact.content_hash(files)[:8]}"
            whole = msgspec.structs.replace(manifest, stream=self.stream)
            artefact.write(self.folder, name, whole, files, signer, self.ciphers[0] if self.ciphers else None)
        if self.champion() is None:
            self.point(Champion(version=name, reason="first version", changed=manifest.created))
        return name

    def champion(self) -> Champion | None:
        """The local pointer, or None before the first version. Raises ArtefactError where it is corrupt."""
        path = self.folder / CHAMPION
        try:
            return _CHAMPION.decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ArtefactError(
                f"the pointer {path} cannot be read: {error}. `tocsin models promote VERSION` writes it anew"
            ) from error

    def current(self) -> str:
        """The version that serves where no control topic says so: the pointer's, else the newest."""
        pointer = self.champion()
        if pointer is None:
            return self.latest()
        if pointer.version not in self.versions():
            raise ModelNotFound(
                f"the pointer {self.folder / CHAMPION} names {pointer.version}, which is not there. "
                f"Promote one that is: {', '.join(self.versions()[-8:]) or 'none'}"
            )
        return pointer.version

    def point(self, pointer: Champion) -> None:
        """Write the local pointer, atomically. Raises ModelNotFound where its version is not there."""
        if pointer.version not in self.versions():
            raise ModelNotFound(f"there is no version {pointer.version!r} in {self.folder}")
        temporary = self.folder / f".{CHAMPION}.{os.getpid()}"
        with temporary.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(pointer), indent=1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / CHAMPION)
        artefact.sync_folder(self.folder)

    def export(self, name: str, trusted: Sequence[TrustedKey], target: Path) -> Path:
        """Write a verified version as an uncompressed tar file; the same version gives the same bytes.

        What is encrypted stays so.

        Raises:
            ArtefactError: the version does not verify, or `target` cannot be written.
        """
        loaded = self.load(name, trusted)
        names = sorted([artefact.MANIFEST, artefact.SIGNATURE, *loaded.manifest.files])
        content = BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for file in names:
                data = (loaded.path / file).read_bytes()
                entry = tarfile.TarInfo(f"{name}/{file}")  # time 0, owner 0: nothing of this machine
                entry.size = len(data)
                archive.addfile(entry, BytesIO(data))
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(content.getbuffer())
            partial.replace(target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise ArtefactError(f"{target} cannot be written: {error.strerror}") from error
        return target

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ArtefactError(f"the registry {self.folder} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _number(name: str) -> int:
    match = _VERSION.fullmatch(name)
    return int(match.group(1)) if match else 0
