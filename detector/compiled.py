"""What XLA compiles, kept between starts: a warm start loads the scorer's shapes in place of compiling them.

    with kept():
        scorer.warm()

An entry is used only if it is, to the byte, one that a `kept` block had when it ended. So what was cut off by a crash
or a full disk is compiled again, not met at each start. A folder that others may write to is not used: it holds
machine code. numba keeps its own kernels beside the sources, or in the same cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import jax
import msgspec
from jax.experimental.compilation_cache import compilation_cache

from .settings import cache_folder

log = logging.getLogger(__name__)

INDEX = "index.json"
OTHERS_WRITE = 0o022

_DIGESTS = msgspec.json.Decoder(dict[str, str])


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Compile in this block from what was kept, and keep what is new. Whoever set JAX's own cache keeps theirs."""
    folder = cache_folder() / f"xla-{machine()}"
    if jax.config.values["jax_compilation_cache_dir"] not in (None, str(folder)):
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if why := _shared(folder):
            raise PermissionError(why)
        _sweep(folder)
    except OSError as fault:
        log.warning("compiled code is not kept", extra={"folder": str(folder), "reason": str(fault)})
        yield
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()  # JAX looks once whether there is one, at its first compilation
    yield
    with contextlib.suppress(OSError):  # a full disk: what is not in the index is compiled again
        _index(folder)


def machine() -> str:
    """A digest of what machine code is made for: the processor's features and the compiler."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    told = sorted(
        {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    )
    text = "\n".join((platform.machine(), platform.processor(), version("jax"), version("jaxlib"), *told))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _shared(folder: Path) -> str:
    status = folder.stat()
    if status.st_uid != os.getuid():
        return "it belongs to another user"
    return "others may write to it" if status.st_mode & OTHERS_WRITE else ""


def _sweep(folder: Path) -> None:
    """Remove what is not in the index as it stands there."""
    try:
        index = _DIGESTS.decode((folder / INDEX).read_bytes())
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        index = {}
    for name, digest in _entries(folder).items():
        if index.get(name) != digest:
            (folder / name).unlink(missing_ok=True)


def _index(folder: Path) -> None:
    handle, name = tempfile.mkstemp(dir=folder, prefix=".new-")
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(_entries(folder)))
    Path(name).replace(folder / INDEX)


def _entries(folder: Path) -> dict[str, str]:
    """Digests by name; another process may be sweeping."""
    found = {}
    for path in folder.glob("*-cache"):
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
