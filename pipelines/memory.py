"""Reading memory by its address, for kernels that go through text.

An array that a kernel hands to another has its references counted at every call: measured in `flat_json`, that took
as long as reading the text itself. An address is a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _byte(typing_context: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = builder.inttoptr(given[0], ir.IntType(8).as_pointer())
        return builder.zext(builder.load(place), ir.IntType(64))

    return types.int64(types.int64), code


def _word(typing_context: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        loaded = builder.load(builder.inttoptr(given[0], ir.IntType(64).as_pointer()))
        loaded.align = 1
        return loaded

    return types.uint64(types.int64), code


byte = cast(Callable[[int], int], intrinsic(_byte))
"""The byte at an address."""
word = cast(Callable[[int], np.uint64], intrinsic(_word))
"""The eight bytes from an address on, the first in the lowest bits."""
signed = cast(Callable[[Any], int], np.int64)
"""An unsigned integer as what it is added to: numba makes a float of the two kinds together."""
