"""Children that never outlive their parent, however it died.

`python -m tocsin.detector.demo.leash COMMAND…` becomes that command, and is asked to end (SIGTERM) when its
parent is gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


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


def main() -> None:
    """Become the command."""
    die_with(os.getppid(), signal.SIGTERM)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the demo's own command line


if __name__ == "__main__":
    main()
