"""What the decision kernel remembers, per entity and per partition, and what it answers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .beside import side_by_side
from .constants import (
    BINS,
    BLOCKS,
    DAY_US,
    LEARN_BINS,
    LEAST_COUNT,
    LEVELS,
    MOST_M,
    NEVER,
    NO_TIME,
    REFRESH,
    WAIT,
    Caution,
)

CORE = np.dtype(
    [
        ("S", np.float64),  # slow average of the score
        ("lift", np.float64),  # what a level change has added to the threshold; falls with S
        ("pace", np.float64),  # 1 - 2 ** (-1 / half-life of S in records)
        ("total", np.float64),  # records in `counts`
        ("tail_sigma", np.float64),
        ("tail_gamma", np.float64),
        ("level", np.float64),  # x above it is anomalous
        ("anchor", np.float64),  # the level that the epoch began with
        ("share", np.float64),  # the entity's budget, openings a day
        ("peak", np.float64),  # highest score of the open incident
        ("late_sum", np.float64),  # scores of the incident's time since half of level_change_us
        ("block_sum", np.float64),  # scores of the open block, see `cusum`
        ("usual", np.float64),  # mean of the block means since the last decision
        ("spread", np.float64),  # their sum of squares around it, earlier ones included
        ("up", np.float64),  # the two sums that decide
        ("down", np.float64),
        ("span_us", np.int64),  # event time over which `openings` were counted
        ("last_us", np.int64),  # event time of the entity's last record
        ("seen_us", np.int64),  # the partition's watermark at that record
        ("accepted", np.int64),  # records learned in this epoch
        ("onset", np.int64),  # event time of the record that left the normal state
        ("onset_offset", np.int64),
        ("opened", np.int64),  # event time at which the incident opened; after one, of its recovery
        ("absent_us", np.int64),  # names the open alert of absence; NO_TIME: none, NEVER: told and closed
        ("behind_us", np.int64),  # the same of lateness
        ("partial_us", np.int64),  # since when all records lack something that used to come, or NO_TIME
        ("expected_us", np.int64),  # up to this event time the entity's incidents are expected
        ("digest_onset", np.int64),  # onset of the first incident that the open digest holds
        ("tail_start", np.float32),  # where the fitted tail begins: an edge of bins, exact in float32
        ("tail_top", np.float32),  # upper edge of the highest bin that holds anything; the same
        ("epoch", np.int32),
        ("late_count", np.int32),
        ("day", np.int32),  # event-time day of the last record
        ("day_count", np.int32),  # incidents opened (not held) in it
        ("digest_day", np.int32),
        ("held_count", np.int32),  # incidents that the open digest holds; 0 = no digest is open
        ("block_fill", np.int32),  # records of the open block
        ("expected_by", np.int32),  # the change that says so
        ("means", np.int16),  # block means behind `usual`
        ("freedom", np.int16),  # degrees of freedom of `spread`
        ("block", np.uint16),  # records of a full one
        ("fill", np.uint16),  # accepted records since the last refresh
        ("learned", np.uint16),  # records in `learn`
        ("shifted", np.uint8),  # `usual` began with a shift
        ("partial", np.uint8),  # whether `partial_us` was told: a Gap
        ("phase", np.uint8),
        ("bits", np.uint8),  # exceedances among the last m records, newest lowest
        ("streak", np.uint8),  # records below the exit level in a row
        ("severity", np.uint8),
        ("held", np.uint8),  # the open incident is held by the digest
        ("strong", np.uint8),  # the open incident's `Mark`s
        ("height", np.uint8),  # fixed levels up to the highest at which the last incident opened
        ("caution", np.uint8),
        ("learning", np.uint8),
        ("waiting", np.uint8),  # records in `wait`
        ("first", np.uint8),  # place of the oldest of them
        ("active", np.uint8),  # shadow machines above this index are all at rest
        ("borrowed", np.uint8),  # the epoch began from the pooled prior
        ("flaps", np.uint8),  # incidents in a row, each soon after a recovery; the last one included
    ]
)


class DecisionState(NamedTuple):
    """Per entity (axis 0 is the slot), M members."""

    core: NDArray[np.void]
    """[N] of CORE: everything that is one number."""
    fast: NDArray[np.float64]
    """[N, M] EWMA of each member, half-life 1 record."""
    slow: NDArray[np.float64]
    """[N, M] the same, half-life 12."""
    median: NDArray[np.float64]
    """[N, M] median of ln(fast + slow) over training."""
    floor: NDArray[np.float64]
    """[N, M] least fast + slow that counts."""
    counts: NDArray[np.float32]
    """[N, BINS] records learned, by bin of x, as of the last refresh."""
    above: NDArray[np.float64]
    """[N, BLOCKS] records in all later blocks of bins: the frozen survival table."""
    recent: NDArray[np.uint8]
    """[N, REFRESH] bins of the records accepted since the last refresh."""
    wait: NDArray[np.uint8]
    """[N, WAIT] ring of the bins of records that are too young to be learned."""
    openings: NDArray[np.float32]
    """[N, LEVELS] openings of this epoch at each fixed level."""
    shadow: NDArray[np.uint8]
    """[N, LEVELS] the machine at each fixed level: its last m records, or OPEN + records below its exit."""
    learn: NDArray[np.uint16]
    """[N, M, LEARN_BINS] histogram of the members' logs around the group's medians."""


class PartState(NamedTuple):
    """Per (topic, partition) of the stream (axis 0)."""

    watermark: NDArray[np.int64]
    """[P] newest event time scored."""
    awake: NDArray[np.int64]
    """[P] the watermark after it last leapt, see `presence`."""
    next_gone: NDArray[np.int64]
    """[P] nothing of the partition can be gone or absent before this watermark."""
    block_records: NDArray[np.int32]
    """[P] fewest records of a drift block."""
    entities: NDArray[np.int32]
    """[P] how many were counted when the last one closed."""
    rows: NDArray[np.int32]
    """[P] records in the open block."""
    score: NDArray[np.float64]
    """[P] sums over the open block."""
    level: NDArray[np.float64]
    missing: NDArray[np.float64]
    late: NDArray[np.float64]
    freeze: NDArray[np.uint8]
    """[P] a `Freeze`, see `outage`."""
    frozen_us: NDArray[np.int64]
    """[P] watermark at which it froze."""
    opened: NDArray[np.bool_]
    """[P] an incident has opened since the entities were last counted."""
    counted: NDArray[np.int32]
    """[P] records since it was last seen to,"""
    count_at: NDArray[np.int32]
    """[P] and at how many it is next."""
    absent: NDArray[np.float64]
    """[P] sum of the shares of missing features over them."""
    usual_missing: NDArray[np.float64]
    """[P] that share in training."""


class Rules(NamedTuple):
    """The incident machine's rules; the same for all entities of a stream."""

    k: int = 2
    """Anomalous records among the last `m` that open an incident."""
    m: int = 3
    exit_k: int = 5
    """Records in a row below threshold - exit_margin that resolve it."""
    exit_margin: float = 0.1
    fast_margin: float = 2.0
    """A record this far above the threshold opens at once, severity critical."""
    level_change_us: int = DAY_US
    gone_after_us: int = DAY_US
    cap: int = 10
    """Openings per entity and event-time day; further ones are held in one digest."""
    flap_after: int = 3
    """Incidents in a row from which on their end takes a longer quiet; 0: never."""
    flap_within_us: int = 3_600_000_000
    """An incident that opens so soon after the recovery of the one before is in a row with it."""
    absent_after_us: int = 0
    """Alerts of their own kinds, see `presence`; 0: none."""
    behind_after_us: int = 0
    partial_after_us: int = 0


class Rows(NamedTuple):
    """n scored records for the kernel, in consumption order."""

    slot: NDArray[np.int32]
    """[n] entities."""
    part: NDArray[np.int32]
    """[n] partitions."""
    offset: NDArray[np.int64]
    """[n] offsets."""
    time_us: NDArray[np.int64]
    """[n] event times, increasing within an entity."""
    members: NDArray[np.float32]
    """[n, M] the scorer's members, >= 0, larger is stranger."""
    missing: NDArray[np.float32]
    """[n] share of missing features."""
    level: NDArray[np.float32]
    """[n] input level: mean scaled value over the present features."""
    late: NDArray[np.float32]
    """[n] records of the entity that came late or out of order since its row before."""


class Decided(NamedTuple):
    """One entry per row given to the kernel."""

    score: NDArray[np.float64]
    p: NDArray[np.float64]
    threshold: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    onset: NDArray[np.int64]
    """The time that names the alert the row belongs to (the digest's where `held`), else NO_TIME."""
    held: NDArray[np.bool_]
    clean: NDArray[np.bool_]
    """Neither pending nor firing, before or after the row: it may be learned from."""
    epoch: NDArray[np.int32]
    caution: NDArray[np.uint8]
    """Why the level is conservative (`Caution`)."""
    basis: NDArray[np.uint8]
    """What the p-value stands on (`Basis`)."""
    excused: NDArray[np.bool_]
    """It would have been anomalous and was passed over: only what does not count deviates in it (`bands`)."""


EVENT = np.dtype(
    [
        ("row", np.int32),  # the row that caused it; for GONE another entity's
        ("slot", np.int32),
        ("part", np.int32),
        ("kind", np.uint8),
        ("reason", np.uint8),
        ("severity", np.uint8),
        ("strong", np.uint8),  # the incident has been beyond level + fast_margin
        ("flaps", np.uint8),  # which incident in a row it is; 0 for a digest
        ("held", np.int32),  # incidents in the digest
        ("epoch", np.int32),
        (
            "alert",
            np.int64,
        ),  # the event time that names the alert: the incident's onset, or the digest's first
        ("onset", np.int64),  # event time of the record that left the normal state
        ("onset_offset", np.int64),
        ("time_us", np.int64),
        ("offset", np.int64),
        ("score", np.float64),  # of the entity's last record; NaN where another entity's row caused it
        ("p", np.float64),
        ("threshold", np.float64),
        ("peak", np.float64),
        ("reach", np.float64),  # the highest fixed level at which the incident has opened; 0 = none
        ("until", np.int64),  # NO_TIME, or up to when the incident was expected
        ("by", np.int32),  # the change that said so
        ("rebased", np.float64),  # LEVEL_CHANGE: the new slow average
        ("before", np.float64),  # SHIFT: the mean of the score, else NaN
        ("after", np.float64),  # SHIFT: that of the block that decided, else NaN
    ]
)

BLOCK_MEANS = np.dtype(
    [
        ("part", np.int32),
        ("row", np.int32),
        ("score", np.float64),
        ("level", np.float64),
        ("missing", np.float64),
        ("late", np.float64),
        ("entities", np.int32),  # of the partition that are not gone; the next two are of these
        ("firing", np.int32),  # in incidents
        ("shifted", np.int32),  # with a recent shift of their score
        ("frozen", np.bool_),
    ]
)


def room_for(n: int) -> Decided:
    """What is to be filled for n rows; nothing is excused yet."""
    return Decided(
        score=np.empty(n),
        p=np.empty(n),
        threshold=np.empty(n),
        anomalous=np.empty(n, np.bool_),
        onset=np.empty(n, np.int64),
        held=np.empty(n, np.bool_),
        clean=np.empty(n, np.bool_),
        epoch=np.empty(n, np.int32),
        caution=np.empty(n, np.uint8),
        basis=np.empty(n, np.uint8),
        excused=np.zeros(n, np.bool_),
    )


def init(capacity: int, members: int) -> DecisionState:
    """`capacity` entities at rest, of which nothing is known: `install` gives them a calibration."""
    core = np.zeros(capacity, CORE)
    for name in (
        "last_us",
        "seen_us",
        "onset",
        "opened",
        "absent_us",
        "behind_us",
        "partial_us",
        "expected_us",
        "digest_onset",
    ):
        core[name] = NO_TIME
    core["day"] = core["digest_day"] = np.iinfo(np.int32).min
    core["tail_sigma"] = 1.0
    core["level"] = core["anchor"] = np.inf
    core["caution"] = Caution.SHORT_HISTORY
    return DecisionState(
        core=core,
        **side_by_side(
            capacity,
            fast=(np.float64, (members,)),
            slow=(np.float64, (members,)),
            median=(np.float64, (members,)),
            floor=(np.float64, (members,)),
            above=(np.float64, (BLOCKS,)),
            openings=(np.float32, (LEVELS,)),
            shadow=(np.uint8, (LEVELS,)),
            wait=(np.uint8, (WAIT,)),
            recent=(np.uint8, (REFRESH,)),
            counts=(np.float32, (BINS,)),
        ),
        learn=np.zeros((capacity, members, LEARN_BINS), np.uint16),
    )


def init_parts(capacity: int, block_records: int = 256) -> PartState:
    """`capacity` partitions that have seen nothing."""
    return PartState(
        watermark=np.full(capacity, NO_TIME),
        awake=np.full(capacity, NO_TIME),
        next_gone=np.full(capacity, NEVER),
        block_records=np.full(capacity, block_records, np.int32),
        entities=np.zeros(capacity, np.int32),
        rows=np.zeros(capacity, np.int32),
        score=np.zeros(capacity),
        level=np.zeros(capacity),
        missing=np.zeros(capacity),
        late=np.zeros(capacity),
        freeze=np.zeros(capacity, np.uint8),
        frozen_us=np.full(capacity, NO_TIME),
        opened=np.zeros(capacity, np.bool_),
        counted=np.zeros(capacity, np.int32),
        count_at=np.full(capacity, LEAST_COUNT, np.int32),
        absent=np.zeros(capacity),
        usual_missing=np.zeros(capacity),
    )


def open_block(parts: PartState, part: int) -> None:
    """Begin a partition's drift block anew, in place."""
    parts.rows[part] = 0
    parts.score[part] = parts.level[part] = parts.missing[part] = parts.late[part] = 0.0


def pace(half_life: Any) -> Any:
    """The weight of the newest record in an EWMA of `half_life` records."""
    return -np.expm1(-np.log(2.0) / np.asarray(half_life, np.float64))


def restart(state: DecisionState, slots: NDArray[np.int32]) -> None:
    """Start smoothing afresh at "ordinary": every smoothed member at its median, S at 0.

    For new entities after `install`, and for promotion. Starting from the first value instead
    would cross a level of one opening a day in 1.5 % of starts.
    """
    state.fast[slots] = state.slow[slots] = 0.5 * np.exp(state.median[slots])
    state.core["S"][slots] = state.core["lift"][slots] = 0.0


def checked(rules: Rules) -> Rules:
    """The rules with each number of its declared type.

    Raises:
        ValueError: a number is outside its range; the text names it.
    """
    if not 1 <= rules.m <= MOST_M:
        raise ValueError(f"m = {rules.m}: the incident machine looks at the last 1 to {MOST_M} records")
    if not 1 <= rules.k <= rules.m:
        raise ValueError(f"k = {rules.k}: it must lie between 1 and m = {rules.m}")
    if not 1 <= rules.exit_k <= OPEN_LIMIT:
        raise ValueError(f"exit_k = {rules.exit_k}: it must lie between 1 and {OPEN_LIMIT}")
    free = ("k", "m", "exit_k")
    for name in (name for name in Rules._fields if name not in free):
        if not getattr(rules, name) >= 0:
            raise ValueError(f"{name} = {getattr(rules, name)}: it must not be negative")
    kinds: tuple[Any, ...] = tuple(type(default) for default in Rules())
    return Rules(*(kind(value) for kind, value in zip(kinds, rules, strict=True)))


OPEN_LIMIT = 100
"""Most records in a row that an exit may ask for."""
