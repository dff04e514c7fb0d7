"""The clocks of a process, handed to what needs one. Nothing in the chain does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


class Clocks(NamedTuple):
    """Both in seconds."""

    wall: Callable[[], float] = time.time
    """Since 1970: for stamps and ages that people read."""
    monotonic: Callable[[], float] = time.monotonic
    """For durations and deadlines."""
