"""What becomes of a record that decides nothing: one that is not judged, and one that is excused."""

from __future__ import annotations

from typing import Any

import numpy as np

from .constants import NO_TIME
from .histogram import basis_of, p_value
from .jit import kernel, making_kernel
from .machine import FIRING, follow, rolling
from .smoothing import score_row
from .state import Decided, DecisionState, Rows


@kernel
def _undecided(core: Any, row: int, score: float, p: float, basis: int, out: Decided) -> None:
    """Tell a record that opens nothing and teaches nothing, whatever it holds."""
    out.score[row] = score
    out.p[row] = p
    out.threshold[row] = core.level + rolling(core)
    out.anomalous[row] = False
    out.onset[row] = NO_TIME
    out.held[row] = False
    out.clean[row] = False
    out.epoch[row] = core.epoch
    out.caution[row] = core.caution
    out.basis[row] = basis


@kernel
def pass_by(state: DecisionState, rows: Rows, row: int, out: Decided) -> None:
    """Let a record that is not judged warm smoothing and the slow average, and nothing else."""
    slot = rows.slot[row]
    core = state.core[slot]
    score = score_row(
        rows.members[row], state.fast[slot], state.slow[slot], state.median[slot], state.floor[slot]
    )
    if core.phase != FIRING:
        follow(core, score)
    core.last_us = rows.time_us[row]
    _undecided(core, row, score, np.nan, 0, out)


@making_kernel
def pass_over(state: DecisionState, rows: Rows, row: int, most_us: int, out: Decided) -> None:
    """Let an excused record take its place in time, and nothing else: the score stays where it was."""
    slot, now = rows.slot[row], rows.time_us[row]
    core = state.core[slot]
    if core.last_us != NO_TIME:
        core.span_us += min(max(now - core.last_us, 0), most_us)
    core.last_us = now
    nothing = np.full(rows.members.shape[1], np.nan, np.float32)
    score = score_row(nothing, state.fast[slot], state.slow[slot], state.median[slot], state.floor[slot])
    x = score - rolling(core)
    _undecided(
        core, row, score, p_value(core, state.counts[slot], state.above[slot], x), basis_of(core, x), out
    )
    out.excused[row] = True
