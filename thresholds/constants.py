"""The fixed numbers and the words of scores, levels and incidents."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import numpy as np

NO_TIME: Final = int(np.iinfo(np.int64).min)
"""Event time that has not been: microseconds since the epoch are used everywhere."""
NEVER: Final = int(np.iinfo(np.int64).max)
DAY_US: Final = 86_400_000_000

FAST_HALF_LIFE: Final = 1.0
SLOW_HALF_LIFE: Final = 12.0
FAST_PACE: Final = 1.0 - 2.0 ** (-1.0 / FAST_HALF_LIFE)
SLOW_PACE: Final = 1.0 - 2.0 ** (-1.0 / SLOW_HALF_LIFE)
FLOOR_SHARE: Final = 0.01
"""A smoothed member counts at least this share of its training mean, lest one silence the others."""
MEMBER_LIMIT: Final = 1e30
SLOW_SHARE: Final = 0.6
"""The rolling threshold is level + SLOW_SHARE * S, and a lift after a level change (`machine.rolling`)."""

BINS: Final = 256
LOWEST: Final = -4.0
HIGHEST: Final = 12.0
BIN_WIDTH: Final = (HIGHEST - LOWEST) / BINS
BLOCK: Final = 16
"""Bins per stored suffix sum: the p-value adds up at most this many counts."""
BLOCKS: Final = BINS // BLOCK
MOST_RECORDS: Final = float(2**22)
"""Beyond this many records a histogram, its openings and its span are halved."""
REFRESH: Final = 256
"""Accepted records between two refreshes of an entity's calibration."""
LEAST_COUNT: Final = 64
"""Fewest records of a partition between two counts of its entities."""
WAIT: Final = 64
"""Most records that wait for a pending incident to be decided; further ones are not learned."""
LEAST_P: Final = 1e-12

LEVELS: Final = 32
LEVEL_STEP: Final = 0.125
TOP_LEVEL: Final = LEVELS * LEVEL_STEP
HIGHEST_LEVEL: Final = 16.0

TAIL_SHARE: Final = 0.02
TAIL_LEAST: Final = 30.0
"""Fewer excesses than this are fitted by an exponential tail."""
TAIL_MOST: Final = 0.25
"""Of few records this share at the most, so that there are TAIL_LEAST excesses."""
TAIL_BOUND: Final = 0.5

PRIOR_WEIGHT: Final = 500.0
LEARN_RECORDS: Final = 500
LEARN_BINS: Final = 64
LEARN_REACH: Final = 6.0
"""Own medians are sought within this distance of the group's, in log units."""
LEARN_WIDTH: Final = 2.0 * LEARN_REACH / LEARN_BINS

OPEN: Final = 128
"""The bit of a shadow machine's byte that says it is open; the others hold its last records."""
MOST_M: Final = 7

FLAP_DOUBLINGS: Final = 4
"""How often the quiet that ends an incident is doubled at the most."""
LONGEST_QUIET: Final = 200
"""Records, at the most."""


class Phase(IntEnum):
    """Where an entity's incident machine stands."""

    NORMAL = 0
    PENDING = 1
    FIRING = 2


class Kind(IntEnum):
    """What an event of the incident machine says."""

    OPENED = 1
    RESOLVED = 2
    DIGEST_OPENED = 3
    DIGEST_UPDATED = 4
    DIGEST_RESOLVED = 5
    LEVEL_CHANGE = 6
    ABSENT = 7
    PRESENT = 8
    BEHIND = 9
    CAUGHT_UP = 10
    PARTIAL = 11
    COMPLETE = 12

    SHIFT = 13
    """No word of an incident: the entity's score has moved for good without one."""
    FREEZE = 14
    """Nor these: the partition that the row belongs to learns nothing from here on,"""
    THAW = 15
    """and from here on it does."""


class Gap(IntEnum):
    """Where an entity stands whose records lack something that used to come."""

    NOT_TOLD = 0
    TOLD = 1
    SETTLED = 2
    """It was told and is over: the lack is the new ordinary until a record is complete."""


class Freeze(IntEnum):
    """Whether a partition learns."""

    NONE = 0
    FROZEN = 1
    OUTLASTED = 2
    """It learns: what froze it has lasted for so long that it is the new ordinary."""


class Reason(IntEnum):
    """Why an incident resolved."""

    NONE = 0
    RECOVERED = 1
    GONE = 2
    LEVEL_CHANGE = 3
    OPERATOR = 4


class Severity(IntEnum):
    """Fixed when an incident opens: critical by the fast path."""

    WARNING = 1
    CRITICAL = 2


class Mark(IntFlag):
    """What is known of an open incident that decides whether it counts against the budget; none: it counts."""

    STRONG = 1
    """It has been beyond level + fast_margin."""
    CONFIRMED = 2
    """An operator says that it is real, or was expected."""
    DENIED = 4
    """An operator says that it is a false alarm: it counts, whatever else it is."""
    EXPECTED = 8
    """It opened while the entity's incidents were expected."""


class Basis(IntEnum):
    """What a p-value stands on."""

    EMPIRICAL = 0
    """Counted records of the entity."""
    EXTRAPOLATED = 1
    """The tail fitted to them: x is beyond all that was counted."""
    PRIOR = 2
    """Mostly the pooled prior: the entity has fewer than PRIOR_WEIGHT records of its own in this epoch."""


class Caution(IntEnum):
    """Why a level is higher than the entity's own openings ask for."""

    NONE = 0
    SHORT_HISTORY = 1


class Learning(IntEnum):
    """What an entity that the model version does not know is learning about itself."""

    CALIBRATED = 0
    LOCATION = 1
    MEDIANS = 2
    OWN = 3
