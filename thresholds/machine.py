"""One entity's incident machine: normal, pending, firing.

NORMAL -> PENDING at the first anomalous record, whose event time is the onset. PENDING -> FIRING when k of
the last m records are anomalous, or at once beyond level + fast_margin; PENDING -> NORMAL when the last m
hold no anomalous one. FIRING ends when exit_k records in a row lie below the threshold less exit_margin, or
by a level change: after level_change_us the slow average is re-based to the mean score of that time's second
half, and the threshold lifted by the rest of it: a share of a high plateau alone would lie below it, and the incident
open again for ever; unless the incident was expected. The numbers are `state.Rules`.

An entity flaps from the flap_after-th incident on of which each opened within flap_within_us of the recovery before
it. Its incidents take a quiet twice as long to recover, twice that the next time, and so on. On the same x and level
that can only make openings fewer: between two of them a machine without it has opened too. `level.shadow_row`, which
counts what a level would open, opens and ends by the same rules but for this one, and so never counts too few.
"""

from __future__ import annotations

from typing import Any, Final

from .constants import DAY_US, FLAP_DOUBLINGS, LONGEST_QUIET, NO_TIME, SLOW_SHARE, Mark, Phase, Severity
from .jit import kernel
from .level import ONES
from .state import Rules

NORMAL, PENDING, FIRING = int(Phase.NORMAL), int(Phase.PENDING), int(Phase.FIRING)
WARNING, CRITICAL = int(Severity.WARNING), int(Severity.CRITICAL)
EXPECTED = int(Mark.EXPECTED)

MOST_FLAPS: Final = 255
STAYED: Final = 0
DID_OPEN: Final = 1
DID_RECOVER: Final = 2
DID_CHANGE_LEVEL: Final = 3


@kernel
def day_of(time_us: int) -> int:
    """The event-time day of a moment."""
    return time_us // DAY_US


@kernel
def follow(core: Any, score: float) -> None:
    """Advance the slow average by one record. What a level change has lifted falls with it, and never rises."""
    core.S += core.pace * (score - core.S)
    core.lift = lowered(core.lift, core.S)


@kernel
def lowered(lift: float, average: float) -> float:
    """What is left of a lift where the slow average stands there."""
    return min(lift, (1.0 - SLOW_SHARE) * max(average, 0.0))


@kernel
def rolling(core: Any) -> float:
    """What the threshold stands above the level: a share of the slow average, all of it after a level change."""
    return float(SLOW_SHARE * core.S + core.lift)


@kernel
def change_level(core: Any, average: float) -> None:
    """Take this for the slow average of the new ordinary; the threshold stands the whole of it above the level."""
    core.S = average
    core.lift = (1.0 - SLOW_SHARE) * max(average, 0.0)


@kernel
def close(core: Any) -> None:
    """End the open incident."""
    core.phase = NORMAL
    core.bits = 0
    core.streak = 0
    core.held = 0
    core.strong = 0
    core.late_sum = 0.0
    core.late_count = 0


@kernel
def quiet(core: Any, rules: Rules) -> int:
    """Records in a row below the exit level that end the open incident."""
    if rules.flap_after == 0 or core.flaps < rules.flap_after:
        return rules.exit_k
    doublings = min(int(core.flaps) - rules.flap_after + 1, FLAP_DOUBLINGS)
    return min(rules.exit_k << doublings, LONGEST_QUIET)


@kernel
def step(core: Any, x: float, score: float, time_us: int, offset: int, rules: Rules) -> int:
    """Take one record; returns what happened (STAYED, DID_OPEN, DID_RECOVER, DID_CHANGE_LEVEL).

    After an ending the core still holds onset, severity and peak; the caller closes it.
    """
    over = x > core.level
    fast = x > core.level + rules.fast_margin
    if core.phase != FIRING:
        core.bits = ((int(core.bits) << 1) | int(over)) & ((1 << rules.m) - 1)
        if core.bits == 0:
            core.phase = NORMAL
            return STAYED
        if core.phase == NORMAL:
            core.phase = PENDING
            core.onset = time_us
            core.onset_offset = offset
            core.peak = score
        core.peak = max(core.peak, score)
        if ONES[core.bits] < rules.k and not fast:
            return STAYED
        core.phase = FIRING
        core.severity = CRITICAL if fast else WARNING
        soon = core.opened != NO_TIME and time_us - core.opened <= rules.flap_within_us
        core.flaps = min(int(core.flaps) + 1, MOST_FLAPS) if soon else 1
        core.opened = time_us
        core.streak = 0
        core.held = core.day_count >= rules.cap
        if not core.held:
            core.day_count += 1
        return DID_OPEN
    core.peak = max(core.peak, score)
    age = time_us - core.opened
    if age >= rules.level_change_us // 2:
        core.late_sum += score
        core.late_count += 1
    core.streak = core.streak + 1 if x < core.level - rules.exit_margin else 0
    if core.streak >= quiet(core, rules):
        core.opened = time_us  # from now on the time since the recovery is asked for
        return DID_RECOVER
    lasting = age >= rules.level_change_us and core.late_count >= rules.m
    if lasting and not core.strong & EXPECTED:
        change_level(core, core.late_sum / core.late_count)
        core.opened = NO_TIME
        return DID_CHANGE_LEVEL
    return STAYED
