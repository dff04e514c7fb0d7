"""Asking memory for what a kernel comes to soon.

Of many entities none is in a cache, and a kernel that goes from one place to the next waits for each, some 0.3 us;
what was asked for ahead of time comes together. No result depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import kernel

AHEAD: Final = 8
"""Rows from the one that is worked on to the one that is asked for: as good as 4 and 16."""
LINE: Final = 64
"""Bytes that come at once."""


def _line(typing_context: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        number, place = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), (place, number, number, number))
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", (place,), kind)
        to_read, to_keep, data = number(0), number(3), number(1)
        builder.call(prefetch, (builder.inttoptr(given[0], place), to_read, to_keep, data))
        return context.get_dummy_value()

    return types.void(types.int64), code


line = cast(Callable[[int], None], intrinsic(_line))
"""Ask for the line that holds an address."""


@kernel
def ask_for(rows: Any, number: int) -> None:
    """Ask for one row of an array [N, …]; it lies in one piece."""
    begin = rows.ctypes.data + number * rows.strides[0]
    size = rows.size // len(rows) * rows.itemsize
    for address in range(begin - begin % LINE, begin + size, LINE):
        line(address)
