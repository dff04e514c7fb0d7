"""Children that never outlive their parent, however it died, and that can be told by their name.

`python -m tocsin.detector.demo.leash COMMAND…` becomes that command, and is asked to end (SIGTERM) when its
parent is gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


def die_with(parent: int, word: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `word` to this process when its parent ends; where it can, which is on Linux.

    `parent` is the process id that the caller knows its parent by: where it is gone already, this process
    ends here. The setting outlives `exec`.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, word, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def be_named(name: str) -> None:
    """Give this process a name for `ps`, `top` and the demo's own telemetry; where the kernel can (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def main() -> None:
    """Become the command."""
    die_with(os.getppid(), signal.SIGTERM)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the demo's own command line


if __name__ == "__main__":
    main()
