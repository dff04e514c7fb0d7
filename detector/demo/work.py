"""A little ordinary work: without any, a machine that idles would have nothing to be learnt from.

What never stirred in the minute that is learnt makes news of its first blink. So a child at ordinary priority, like
the fault's, keeps a part of one core busy, unevenly, as programs do. It ends when its standard input closes, however
its parent died.

`python -m tocsin.detector.demo.work` is the child.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import time

from .leash import be_named, die_with

NAME = "tocsin-work"
SPELL_S = 0.5
# Shares of a core: mostly little, in some spells much.
CALM, EAGER, EAGER_SPELLS = 0.2, 0.9, 0.15
_WAIT_S = 5.0


class Work:
    """The child, from the side of the demo."""

    def __init__(self) -> None:
        self._child = subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE)

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        try:
            self._child.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def share(chance: random.Random) -> float:
    """How much of a core the next spell takes."""
    if chance.random() < EAGER_SPELLS:
        return chance.uniform(CALM, EAGER)
    return chance.uniform(0.0, CALM)


def main() -> int:
    """The child: spell after spell until standard input closes."""
    die_with(os.getppid())
    be_named(NAME)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the parent to hear
    chance = random.Random(0)  # noqa: S311 - no secret
    while True:
        begun = time.monotonic()
        busy_until = begun + SPELL_S * share(chance)
        while time.monotonic() < busy_until:
            sum(range(2_000))
        ended, _, _ = select.select([sys.stdin], [], [], max(begun + SPELL_S - time.monotonic(), 0.0))
        if ended:
            return 0


if __name__ == "__main__":
    sys.exit(main())
