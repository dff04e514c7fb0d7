"""What the chain says of a batch, and how the outcomes of its parts become one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..pipelines.records import NO_TIME, Records
from ..pipelines.windows import Verdict
from ..thresholds import drift
from ..thresholds.state import BLOCK_MEANS, EVENT


class Evicted(NamedTuple):
    """How many entities gave way in a batch."""

    limit: int = 0
    """To new ones."""
    ttl: int = 0
    """Because they had not been seen for so long."""


class Outcome(NamedTuple):
    """What the chain made of B records. n of them were scored: `row` says which, the [n] columns what came out."""

    records: Records
    verdict: NDArray[np.uint8]
    """[B] a `Verdict` per record."""
    row: NDArray[np.int64]
    """[n] index into `records`."""
    score: NDArray[np.float64]
    p: NDArray[np.float64]
    """NaN for records of an entity's training range, which are not judged."""
    threshold: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    onset: NDArray[np.int64]
    """[n] the event time that names the firing alert the record belongs to, else NO_TIME."""
    held: NDArray[np.bool_]
    """[n] that alert is a digest."""
    epoch: NDArray[np.int32]
    caution: NDArray[np.uint8]
    basis: NDArray[np.uint8]
    """[n] a `thresholds.constants.Basis`: what the p-value stands on."""
    excused: NDArray[np.bool_]
    """[n] passed over: what deviates in it does not count, by `[stream.bands]`."""
    observed: NDArray[np.float32]
    expected: NDArray[np.float32]
    shares: NDArray[np.float32]
    """[n, F] raw values, forecast, and each channel's part in what is strange."""
    label: NDArray[np.int32]
    """[n] index into `labels`: the calibration that judged the row."""
    labels: tuple[str, ...]
    events: NDArray[np.void]
    """EVENT; `row` indexes the [n] columns."""
    drifts: list[drift.Flag]
    """Decisions of the partitions' detectors; `row` indexes the [n] columns."""
    refused: NDArray[np.int64]
    """Rows of what was given (records, or points) whose time is far ahead."""
    late_points: int = 0
    """Measurements (long format) of a period already closed."""
    blocks: NDArray[np.void] = np.zeros(0, BLOCK_MEANS)
    """BLOCK_MEANS: the drift blocks that closed; `row` indexes the [n] columns."""
    window: NDArray[np.float32] = np.zeros((0, 0, 0), np.float32)
    """[n, L, F] raw, oldest first: what the model looked at."""
    lacking: NDArray[np.bool_] = np.zeros((0, 0), np.bool_)
    """[n, F] missing, and sent before."""
    turned: NDArray[np.int64] = np.zeros(0, np.int64)
    """Rows of what was given (records, or points) of new entities that were not let in,"""
    why: NDArray[np.uint8] = np.zeros(0, np.uint8)
    """and an `admission.Turned` for each."""
    evicted: Evicted = Evicted()


def columns_of(n: int, features: int) -> dict[str, Any]:
    """The outcome's [n] columns as they stand where nothing was judged."""
    return {
        "score": np.full(n, np.nan),
        "p": np.full(n, np.nan),
        "threshold": np.full(n, np.nan),
        "anomalous": np.zeros(n, np.bool_),
        "onset": np.full(n, NO_TIME, np.int64),
        "held": np.zeros(n, np.bool_),
        "epoch": np.zeros(n, np.int32),
        "caution": np.zeros(n, np.uint8),
        "basis": np.zeros(n, np.uint8),
        "excused": np.zeros(n, np.bool_),
        "observed": np.empty((n, features), np.float32),
        "expected": np.empty((n, features), np.float32),
        "shares": np.empty((n, features), np.float32),
    }


def merged(records: Records, outcomes: list[Outcome], rows: list[NDArray[np.int64]]) -> Outcome:
    """One outcome, in the order of `records`, of several over parts of its rows; the other rows were not admitted."""
    verdict = np.full(len(records.slot), Verdict.NOT_ADMITTED, np.uint8)
    rows = [mine for mine, outcome in zip(rows, outcomes, strict=True) if len(outcome.verdict)]
    empty, outcomes = outcomes[0], [outcome for outcome in outcomes if len(outcome.verdict)]
    if not outcomes:
        return empty._replace(records=records, verdict=verdict)
    for outcome, mine in zip(outcomes, rows, strict=True):
        verdict[mine] = outcome.verdict
    where = np.concatenate([mine[outcome.row] for outcome, mine in zip(outcomes, rows, strict=True)])
    order = np.argsort(where, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    firsts = np.cumsum([0] + [len(outcome.row) for outcome in outcomes])
    events = _moved([outcome.events for outcome in outcomes], firsts, place)
    drifts = [
        flag._replace(row=int(place[first + flag.row]))
        for first, outcome in zip(firsts.tolist(), outcomes, strict=False)
        for flag in outcome.drifts
    ]
    labels = tuple(label for outcome in outcomes for label in outcome.labels)
    before = np.cumsum([0] + [len(outcome.labels) for outcome in outcomes], dtype=np.int32)
    label = np.concatenate([outcome.label + first for outcome, first in zip(outcomes, before, strict=False)])
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(outcome, name) for outcome in outcomes])[order]
        for name in columns_of(0, 0)
    }
    return Outcome(
        records,
        verdict,
        where[order],
        **columns,
        label=label[order],
        labels=labels,
        events=events,
        drifts=drifts,
        refused=np.zeros(0, np.int64),
        blocks=_moved([outcome.blocks for outcome in outcomes], firsts, place),
        window=np.concatenate([outcome.window for outcome in outcomes])[order],
        lacking=np.concatenate([outcome.lacking for outcome in outcomes])[order],
    )


def nothing(records: Records, lags: int = 0) -> Outcome:
    """The outcome of no records, for models that look at `lags`."""
    features = records.values.shape[1]
    return Outcome(
        records,
        np.zeros(0, np.uint8),
        np.zeros(0, np.int64),
        **columns_of(0, features),
        label=np.zeros(0, np.int32),
        labels=(),
        events=np.zeros(0, EVENT),
        drifts=[],
        refused=np.zeros(0, np.int64),
        window=np.zeros((0, lags, features), np.float32),
        lacking=np.zeros((0, features), np.bool_),
    )


def _moved(
    tables: list[NDArray[np.void]], firsts: NDArray[np.int64], place: NDArray[np.int64]
) -> NDArray[np.void]:
    """Tables of several groups as one, their `row` columns at the rows' places in the whole, in that order."""
    moved = [table.copy() for table in tables]
    for table, first in zip(moved, firsts[:-1].tolist(), strict=True):
        table["row"] = place[first + table["row"]]
    joined = np.concatenate(moved)
    return joined[np.argsort(joined["row"], kind="stable")]


def unscored(outcome: Outcome) -> dict[Verdict, int]:
    """How many records got each verdict other than SCORED."""
    counts = np.bincount(outcome.verdict, minlength=len(Verdict))
    return {verdict: int(counts[verdict]) for verdict in Verdict if verdict is not Verdict.SCORED}
