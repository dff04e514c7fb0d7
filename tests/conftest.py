"""What all tests share: the brokers and other real components under `rigs/`."""

import os
from pathlib import Path

from hypothesis import settings

# Compiled once for all tests and the processes that they start; the bits are the same as without.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / "build" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# A time limit on single examples fails where another process has the processor.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

pytest_plugins = ["rigs.fixtures", "versions"]
