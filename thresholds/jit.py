"""The one way a sequential loop is compiled here."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile `function` to machine code that releases the GIL and rounds as written. It may make no array.

    No fastmath: reassociated sums would make scores depend on how a batch was cut. No counting of references: it is
    done at every call for every array that is handed over (measured on the decision kernel: half of its time).
    The compiled code is cached beside the source, or in the user's cache folder where that is read-only.
    """
    return _compiled(function, counting=False)


def making_kernel(function: F) -> F:
    """The same for a function that makes arrays."""
    return _compiled(function, counting=True)


def _compiled(function: F, *, counting: bool) -> F:
    njit: Any = numba.njit  # `_nrt` is not among the options that its types know
    compiled = njit(nogil=True, cache=True, fastmath=False, error_model="numpy", _nrt=counting)(function)
    # numba renews a cached kernel when its own file changes, not when a kernel that it calls does. The version is
    # what it looks at first: the rest of an index may name types that are no more.
    stored = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if stored is not None:
        stored.save = _kept_if_there_is_room(stored.save)
        home = Path(inspect.getfile(function)).parent
        stored._version = " ".join((numba.__version__, _stamp(home), _stamp(Path(__file__).parent)))  # noqa: SLF001
    return cast(F, compiled)


def _kept_if_there_is_room(save: Callable[..., None]) -> Callable[..., None]:
    """On a full disk numba raises from the first call; the kernel works all the same, and the next start compiles."""

    def kept(*compiled: Any) -> None:
        try:
            save(*compiled)
        except OSError as fault:
            log.info("a compiled kernel is not kept", extra={"why": str(fault)})

    return kept


@cache
def _stamp(folder: Path) -> str:
    """A digest of the sources of one folder: any change in them asks for a new compilation."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
