"""The one way a sequential loop is compiled here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile `function` to machine code that releases the GIL and rounds as written.

    No fastmath: reassociated sums would make scores depend on how a batch was cut.
    The compiled code is cached beside the source, or in the user's cache folder where that is read-only.
    """
    return cast(F, numba.njit(nogil=True, cache=True, fastmath=False, error_model="numpy")(function))
