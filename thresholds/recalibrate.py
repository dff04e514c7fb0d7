"""New levels for a new budget or new behaviour, and what they change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration, level_by_rule, stack, take
from .constants import DAY_US, REFRESH, Caution
from .opening import opening_level, openings_at, row
from .run_length import UNKNOWN, RunLength, draws_within, mean_run_length
from .state import Rules

SEED = 0
"""Every history is replayed by draws of its own, so that none depends on which others are asked about."""


class History(NamedTuple):
    """Recent scores of one entity, in order; its row in the calibration now in force."""

    entity: str
    row: int
    time_us: NDArray[np.int64]
    score: NDArray[np.float64]
    opened: int
    """Incidents that have opened in that time."""


class Change(NamedTuple):
    """One line of the before/after table."""

    entity: str
    level_before: float
    level_after: float
    expected_before: float
    """Openings a day of the machine over the history at the level now in force."""
    expected_after: float
    """The same at the new level; the budget itself where the history is too short to see one."""
    observed: float
    """Incidents a day that have opened."""
    run_length: RunLength
    """Between false incidents at the new level; UNKNOWN without a history that `suffices`."""
    caution: Caution
    records: int


def suffices(history: History) -> bool:
    """Whether a history is long enough to make a calibration of: REFRESH records."""
    return len(history.score) >= REFRESH


def recalibrate(
    histories: Sequence[History], current: Calibration, share: float, rules: Rules
) -> tuple[Calibration, list[Change]]:
    """New rows at a budget of `share` openings a day and entity, and a line of the table for each history.

    There is one row, in their order, for each history that `suffices`: histogram, openings, span, level and block means
    are the history's; medians, floors, half-lives and block lengths stay, as they belong to the model version. Other
    entities keep their calibration; their line shows the level that the openings counted in it ask for at that budget.
    """
    rows, changes = [], []
    draws = draws_within(sum(len(history.score) for history in histories if suffices(history)))
    for history in histories:
        own = take(current, [history.row])
        half_life, before = float(own.half_life[0]), float(own.level[0])
        if not suffices(history):
            level, caution = level_by_rule(own, 0, share)
            expected = expected_after = observed = float("nan")
            between = UNKNOWN
        else:
            start = float(np.median(history.score))
            found = opening_level(
                history.score,
                history.time_us,
                half_life=half_life,
                share=share,
                rules=rules,
                start=start,
                block=int(own.blocks[0, 0]) or None,
            )
            level, caution = found.level, found.caution
            rows.append(row(found, own.median[0], own.floor[0], half_life))
            expected, expected_after = (
                _a_day(
                    *openings_at(
                        at,
                        history.score,
                        history.time_us,
                        half_life=half_life,
                        rules=rules,
                        start=start,
                    )[:2]
                )
                for at in (before, level)
            )
            if caution:
                expected_after = share
            observed = _a_day(history.opened, found.span_us)
            between = mean_run_length(
                history.score,
                history.time_us,
                half_life=half_life,
                rules=rules,
                level=level,
                start=start,
                block=int(found.blocks[0]),
                draws=draws,
                rng=np.random.default_rng(SEED),
            )
        changes.append(
            Change(
                history.entity,
                before,
                level,
                expected,
                expected_after,
                observed,
                between,
                caution,
                len(history.score),
            )
        )
    return stack(rows) if rows else take(current, []), changes


def _a_day(openings: int, span_us: int) -> float:
    return openings * DAY_US / span_us if span_us else float("nan")
