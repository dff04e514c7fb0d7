"""Python's collector of cycles, told that records come by thousands and leave none behind."""

import gc

THRESHOLD = 100_000
"""New objects after which it looks: a batch is some thousands, at which Python's own 700 looks several times."""


def look_seldom() -> None:
    """For the whole process; and what is loaded by now stays.

    A look through all of it would stop every thread for tenths of a second.
    """
    gc.set_threshold(THRESHOLD)
    gc.freeze()
