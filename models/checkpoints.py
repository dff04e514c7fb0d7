"""Checkpoints of a training: how far each of its stacks is, so that one that is killed goes on to the same bits.

<registry>/<stream>/.training-3f9a12bc01234567/     of a training: digits of the digest of all that its bits depend on
    fold-000008.checkpoint                           a stack: SHA-256 of the rest, a line of JSON, safetensors
    beside.json                                      what else was to be remembered of it, never encrypted

A file is written beside its place, flushed and renamed. What is corrupt, of another training, or in a folder that
others may write to is not used, which is said and never fails: a training without checkpoints only takes longer.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Literal

import jax
import msgspec
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from ..errors import ArtefactError
from .artefact import sync_folder
from .course import Kept, Phase, Report
from .encryption import Cipher, decrypt, encrypt

PREFIX = ".training-"
SUFFIX = ".checkpoint"
BESIDE = "beside.json"
EVERY_S = 30.0
KEPT_S = 7 * 86_400.0
"""After this long what another training left is removed."""
GOES_ON = "going on from a checkpoint"
OTHERS_WRITE = 0o022

Say = Callable[[str], None]
Clock = Callable[[], float]


class _Head(msgspec.Struct, frozen=True):
    key: str
    phase: Phase
    epoch: int
    reports: tuple[Report, ...]


_HEAD = msgspec.json.Decoder(_Head)


class Checkpoints:
    """Those of one training.

    Args:
        parent: the folder that theirs is in.
        key: a hexadecimal digest of all that the bits of the training depend on.
        say: told in words that a checkpoint is used, or why one is not; from any thread.
        clock: seconds from any beginning.
        now: seconds since 1970, which files are dated by.
        beside: what else to remember of the training.
        ciphers: the first encrypts checkpoints, and one that none of them encrypted is not used; none: nothing is.
    """

    def __init__(
        self,
        parent: Path,
        key: str,
        say: Say,
        clock: Clock,
        now: Clock,
        beside: bytes = b"",
        ciphers: Sequence[Cipher] = (),
    ) -> None:
        self.key, self.say, self.clock = key, say, clock
        self._folder, self._beside = parent / f"{PREFIX}{key[:16]}", beside
        self._ciphers = tuple(ciphers)
        self._lock, self._said = Lock(), False
        self._usable = True
        if self._folder.exists() and not _alone(self._folder):
            self._usable = False
            say(f"the checkpoint {self._folder} is not used: it is not this user's alone to write to")
        for other in set(parent.glob(f"{PREFIX}*")) - {self._folder}:
            if now() - other.lstat().st_mtime > KEPT_S:
                shutil.rmtree(other, ignore_errors=True)
            else:
                say(
                    f"the checkpoint {other} is not used: it is of a training on other records, with other settings or "
                    f"other versions of the libraries"
                )

    def of(self, stage: Literal["fold", "final"], first: int) -> Keeper:
        """The keeper of the stack whose first panel has this number."""
        return Keeper(self, f"{stage}-{first:06d}{SUFFIX}")

    def remove(self) -> None:
        """Forget them: the training is over."""
        if self._usable:
            shutil.rmtree(self._folder, ignore_errors=True)

    def read(self, name: str) -> bytes | None:
        """The bytes of a file, or None where there is none that can be used."""
        if not self._usable:
            return None
        try:
            data = (self._folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as fault:
            self.ignore(name, str(fault.strerror))
            return None
        if not self._ciphers:
            return data
        for cipher in self._ciphers:
            with contextlib.suppress(ArtefactError):
                return decrypt(cipher, data, f"{self.key}/{name}")
        self.ignore(name, "no key of [registry] encryption_keys has encrypted it")
        return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file, atomically; where that fails it is said, and none are written from then on."""
        if not self._usable:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._beside and not (self._folder / BESIDE).exists():
                _replace(self._folder, BESIDE, self._beside)
            if self._ciphers:
                data = encrypt(self._ciphers[0], data, f"{self.key}/{name}")
            _replace(self._folder, name, data)
        except (OSError, ArtefactError) as fault:
            self._usable = False
            why = fault.strerror if isinstance(fault, OSError) else fault
            self.say(f"checkpoints of the training cannot be written to {self._folder}: {why}")

    def ignore(self, name: str, why: str) -> None:
        """Say why a file is not used."""
        self.say(f"the checkpoint {self._folder / name} is not used: {why}")

    def used(self) -> None:
        """Say, once, that some are."""
        with self._lock:
            first, self._said = not self._said, True
        if first:
            self.say(f"{GOES_ON} of a training that was cut off: {self._folder}")


class Keeper:
    """The checkpoint of one stack; see `course.Keeper`."""

    def __init__(self, all_: Checkpoints, name: str) -> None:
        self._all, self._name = all_, name
        self._written = all_.clock()

    def load(self, like: Mapping[str, jax.ShapeDtypeStruct]) -> Kept | None:
        """What was kept, where it is whole, of this training and of tensors like these."""
        data = self._all.read(self._name)
        if data is None:
            return None
        try:
            kept = _decoded(data, self._all.key)
        except ValueError as fault:
            self._all.ignore(self._name, str(fault))
            return None
        wanted = {name for name in like if not kept.finished or name.startswith(".weights")}
        fits = all(
            name in like and (array.shape, array.dtype) == (like[name].shape, like[name].dtype)
            for name, array in kept.tensors.items()
        )
        if not fits or set(kept.tensors) != wanted:
            self._all.ignore(self._name, "it holds other tensors than this release trains")
            return None
        self._all.used()
        return kept

    def due(self) -> bool:
        """Whether the last one was written long enough ago."""
        return self._all.clock() - self._written >= EVERY_S

    def save(self, kept: Kept) -> None:
        """Write it."""
        head = _Head(self._all.key, kept.phase, kept.epoch, kept.reports)
        rest = msgspec.json.encode(head) + b"\n" + safetensors.save(dict(sorted(kept.tensors.items())))
        self._all.write(self._name, hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
        self._written = self._all.clock()


def left_beside(parent: Path) -> bytes | None:
    """What was remembered beside the newest checkpoints of any training under `parent`."""
    found = []
    for path in parent.glob(f"{PREFIX}*/{BESIDE}"):
        with contextlib.suppress(OSError):
            if _alone(path.parent):
                found.append((path.parent.stat().st_mtime, path.read_bytes()))
    return max(found)[1] if found else None


def _alone(folder: Path) -> bool:
    """Whether nobody else can write to it: what is in it goes into a version that is signed."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & OTHERS_WRITE


def _decoded(data: bytes, key: str) -> Kept:
    """Raises ValueError, which says why it cannot be used."""
    digest, _, rest = data.partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        raise ValueError("it is corrupt")
    line, _, tensors = rest.partition(b"\n")
    try:
        head = _HEAD.decode(line)
        arrays = safetensors.load(tensors)
    except (msgspec.DecodeError, SafetensorError, KeyError, RecursionError) as fault:
        raise ValueError(f"it is not of this release's form: {fault}") from fault
    if head.key != key:
        raise ValueError("it is of another training")
    return Kept(head.phase, head.epoch, head.reports, arrays)


def _replace(folder: Path, name: str, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(folder / name)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(folder)
