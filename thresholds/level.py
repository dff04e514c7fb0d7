"""Which level keeps the budget: 32 shadow machines a record, one rule a refresh.

Every entity keeps, for LEVELS evenly spaced levels, what the incident machine would be doing at that level
and how often it has opened in this epoch. The level is the lowest of them that, like all above it, opened
no more often than the budget allows in the time counted; beyond the highest the tail tells. An incident that
has been beyond level + fast_margin is not taken for a false alarm: its openings are taken back, and until it
ends the shadows count none. What an operator says of an incident goes before that (`feedback`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .constants import DAY_US, HIGHEST_LEVEL, LEVEL_STEP, LEVELS, OPEN, TOP_LEVEL, Caution, Mark
from .jit import kernel
from .tail import beyond

ONES = np.array([bin(value).count("1") for value in range(OPEN)], np.uint8)
SHORT_HISTORY = int(Caution.SHORT_HISTORY)
DENIED = int(Mark.DENIED)


@kernel
def counts(marks: int) -> bool:
    """Whether an incident with these marks (`Mark`) counts against the budget."""
    return marks == 0 or marks & DENIED != 0


@kernel
def shadow_row(
    x: float,
    active: int,
    shadow: NDArray[np.uint8],
    openings: NDArray[np.float32],
    k: int,
    mask: int,
    exit_k: int,
    exit_margin: float,
    fast_margin: float,
    counted: bool,
) -> int:
    """Advance one entity's shadow machines [LEVELS] by one record; returns how many are active now.

    Their openings are counted where `counted` says so.
    """
    reach = min(LEVELS, int(x / LEVEL_STEP) + 1) if x > LEVEL_STEP else 0
    reach = max(reach, active)
    left = 0
    for j in range(reach):
        level = LEVEL_STEP * (j + 1)
        now = int(shadow[j])
        if now & OPEN:
            streak = (now & (OPEN - 1)) + 1 if x < level - exit_margin else 0
            now = 0 if streak >= exit_k else OPEN | streak
        else:
            now = ((now << 1) | (x > level)) & mask
            if ONES[now] >= k or x > level + fast_margin:
                if counted:
                    openings[j] += np.float32(1.0)
                now = OPEN
        shadow[j] = now
        if now:
            left = j + 1
    return left


@kernel
def reached(active: int, shadow: NDArray[np.uint8]) -> int:
    """How many fixed levels lie up to the highest whose shadow machine is open now."""
    top = active
    while top > 0 and not shadow[top - 1] & OPEN:
        top -= 1
    return top


@kernel
def take_back(active: int, shadow: NDArray[np.uint8], openings: NDArray[np.float32]) -> None:
    """Uncount the openings of the shadow machines that are open now."""
    for j in range(active):
        if shadow[j] & OPEN:
            openings[j] = max(openings[j] - np.float32(1.0), np.float32(0.0))


@kernel
def lowest_level(openings: NDArray[np.float32], allowed: float) -> int:
    """Index of the lowest level that, like all above it, opened at most `allowed` times; LEVELS if none did.

    Sought from above: a very low level opens once and never closes, which keeps no budget.
    """
    j = LEVELS
    while j > 0 and openings[j - 1] <= allowed + 1e-6:
        j -= 1
    return j


@kernel
def set_level(core: Any, openings: NDArray[np.float32]) -> None:
    """Set one entity's level by the rule, from its openings [LEVELS], span, budget, anchor and tail."""
    allowed = core.share * (np.float64(core.span_us) / DAY_US)
    j = lowest_level(openings, allowed)
    anchor = core.anchor
    if j == LEVELS:
        level = anchor
        if anchor <= TOP_LEVEL:
            ratio = allowed / np.float64(openings[LEVELS - 1])
            level = beyond(TOP_LEVEL, ratio, core.tail_start, core.tail_sigma, core.tail_gamma)
            level = min(level, HIGHEST_LEVEL)
    else:
        level = LEVEL_STEP * (j + 1)
        if (j == 0 or anchor > level - LEVEL_STEP) and anchor < level:
            level = anchor
    core.caution = 0
    if allowed < 1.0:
        core.caution = SHORT_HISTORY
        level = max(level, anchor)
    core.level = level
