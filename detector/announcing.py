"""From the chain's outcome to messages and rows: alerts, decisions, scores. Reads no state, only the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..pipelines.brokers.base import Part
from ..pipelines.records import NO_TIME
from ..pipelines.windows import Verdict
from ..thresholds.constants import Basis as BasisCode
from ..thresholds.constants import Caution
from ..thresholds.constants import Kind as Code
from .alerts import TOP_FEATURES as MOST_FEATURES
from .alerts import Alert, Basis, Feature, Kind, alert_id
from .changelog import Decision
from .events import PRESENCE, decision_of, drift_decision, happening_of
from .happenings import Context, alert_of, top_features
from .outcome import Outcome
from .scores import ScoreRecord, ScoreRows, score_record
from .wire import number

TOP_FEATURES = 3
_BASES = {
    BasisCode.EMPIRICAL: Basis.EMPIRICAL,
    BasisCode.EXTRAPOLATED: Basis.EXTRAPOLATED,
    BasisCode.PRIOR: Basis.PRIOR,
}


class Names(NamedTuple):
    """What numbers stand for in one stream."""

    stream: str
    features: tuple[str, ...]
    entity: Callable[[int], str]
    """Slot to entity."""
    parts: Sequence[Part]
    runbook: str = ""


class Said(NamedTuple):
    """An alert or a decision, the part it is of and the offset of the record behind it."""

    part: int
    offset: int
    message: Alert | Decision


def announcements(outcome: Outcome, names: Names, now_us: int, late_after_us: int) -> list[Said]:
    """The alerts and decisions of an outcome, in the order of its rows, of each row those about drift last.

    `now_us` serves only the remark that data is late. Several entities found gone by one record come by name.
    """
    events = outcome.events
    keyed = sorted(
        (int(event["row"]), _elsewhere(outcome, event), names.entity(int(event["slot"])), i)
        for i, event in enumerate(events)
    )
    said: list[tuple[int, Said]] = []
    for row, elsewhere, _, i in keyed:
        label = outcome.labels[int(outcome.label[row])]
        code = Code(int(events[i]["kind"]))
        if elsewhere or code in PRESENCE:
            lacking = (
                _lacking(names.features, outcome.expected[row], outcome.lacking[row])
                if code is Code.PARTIAL
                else ()
            )
            said.append((row, _said(events[i], names, label, now_us, late_after_us, features=lacking)))
            continue
        caution = Caution(int(outcome.caution[row]))
        one = _said(
            events[i],
            names,
            label,
            now_us,
            late_after_us,
            basis=_BASES[BasisCode(int(outcome.basis[row]))],
            conservative=caution.name.lower() if caution else None,
            features=top_features(
                names.features, outcome.observed[row], outcome.expected[row], outcome.shares[row]
            ),
        )
        said.append((row, one))
    for flag in outcome.drifts:
        at = int(outcome.row[flag.row])
        offset, time_us = int(outcome.records.offset[at]), int(outcome.records.time_us[at])
        partition = names.parts[flag.part][1]
        decision = drift_decision(flag, partition, offset, time_us, names.stream)
        said.append((flag.row, Said(flag.part, offset, decision)))
    return [one for _, one in sorted(said, key=lambda placed: placed[0])]


def closures(
    events: NDArray[np.void], names: Names, label: str, now_us: int, late_after_us: int
) -> list[Said]:
    """The alerts of incidents that a change has closed."""
    return [_said(event, names, label, now_us, late_after_us) for event in events]


def _said(
    event: np.void,
    names: Names,
    label: str,
    now_us: int,
    late_after_us: int,
    *,
    basis: Basis = Basis.EMPIRICAL,
    conservative: str | None = None,
    features: Sequence[Feature] = (),
) -> Said:
    part, entity = int(event["part"]), names.entity(int(event["slot"]))
    topic, partition = names.parts[part]
    offset = int(event["offset"])
    decision = decision_of(event, entity, partition, names.stream)
    if decision is not None:
        return Said(part, offset, decision)
    happening = happening_of(event, entity, basis, conservative)
    assert happening is not None
    context = Context(
        stream=names.stream,
        group=names.stream,
        topic=topic,
        partition=partition,
        model_version=label.partition("+")[0],
        calibration_version=f"{label}.{int(event['epoch'])}",
        runbook=names.runbook,
    )
    late = now_us - happening.time_us > late_after_us
    return Said(part, offset, alert_of(happening, context, features, late))


def _lacking(names: Sequence[str], expected: Iterable[float], lacking: Iterable[bool]) -> list[Feature]:
    """The features that a record lacks, in the schema's order, each with an equal share."""
    found = [(name, number(e)) for name, e, lacks in zip(names, expected, lacking, strict=True) if lacks]
    return [Feature(name, None, e, 1 / len(found)) for name, e in found[:MOST_FEATURES]]


def _elsewhere(outcome: Outcome, event: np.void) -> bool:
    """Whether another entity's record caused the event: this one is gone."""
    return bool(outcome.records.slot[outcome.row[event["row"]]] != event["slot"])


def incidents(outcome: Outcome, names: Names) -> list[str | None]:
    """[n] the id of the alert that was firing at each scored record, or None."""
    found: dict[tuple[int, int, bool], str] = {}
    ids: list[str | None] = [None] * len(outcome.row)
    for i in np.flatnonzero(outcome.onset != NO_TIME).tolist():
        slot, onset, held = (
            int(outcome.records.slot[outcome.row[i]]),
            int(outcome.onset[i]),
            bool(outcome.held[i]),
        )
        key = (slot, onset, held)
        if key not in found:
            found[key] = alert_id(
                names.stream, names.entity(slot), Kind.DIGEST if held else Kind.ANOMALY, onset
            )
        ids[i] = found[key]
    return ids


def score_rows(outcome: Outcome, names: Names, top: int = TOP_FEATURES) -> ScoreRows:
    """One row of scores.parquet per record of the batch, in its order; each names up to `top` features."""
    count = len(outcome.verdict)
    row = outcome.row
    score, p, threshold = (
        _spread(count, row, column) for column in (outcome.score, outcome.p, outcome.threshold)
    )
    anomalous = np.zeros(count, np.bool_)
    anomalous[row] = outcome.anomalous
    ids: list[str | None] = [None] * count
    versions: list[str | None] = [None] * count
    features: list[list[str] | None] = [None] * count
    shares: list[list[float] | None] = [None] * count
    best = np.argsort(-outcome.shares, axis=1, kind="stable")[:, :top]
    chosen = np.take_along_axis(outcome.shares, best, axis=1).astype(np.float64)
    for known, at, label, epoch, some, their in zip(
        incidents(outcome, names),
        row.tolist(),
        outcome.label.tolist(),
        outcome.epoch.tolist(),
        best.tolist(),
        chosen.tolist(),
        strict=True,
    ):
        ids[at] = known
        versions[at] = f"{outcome.labels[label]}.{epoch}"
        parts = shares[at] = [share for share in their if share > 0]  # the largest first
        features[at] = [names.features[one] for one in some[: len(parts)]]
    records = outcome.records
    return ScoreRows(
        timestamp=records.time_us,
        entity=[names.entity(slot) for slot in records.slot.tolist()],
        score=score,
        p_value=p,
        threshold=threshold,
        anomalous=anomalous,
        incident=ids,
        top_features=features,
        top_shares=shares,
        null_reason=[null_reason(verdict) for verdict in outcome.verdict.tolist()],
        calibration_version=versions,
        partition=[names.parts[part][1] for part in records.part.tolist()],
        offset=records.offset,
    )


def score_records(outcome: Outcome, names: Names) -> list[ScoreRecord]:
    """One message for the scores topic per record of the batch, in its order."""
    rows = score_rows(outcome, names, top=0)
    return [
        score_record(
            entity=rows.entity[i],
            time_us=int(rows.timestamp[i]),
            partition=rows.partition[i],
            offset=int(rows.offset[i]),
            calibration=rows.calibration_version[i] or "",
            score=rows.score[i],
            p_value=rows.p_value[i],
            threshold=rows.threshold[i],
            anomalous=bool(rows.anomalous[i]),
            incident=rows.incident[i],
            reason=rows.null_reason[i],
        )
        for i in range(len(rows.entity))
    ]


def null_reason(verdict: int) -> str | None:
    """Why a record has no score, or None."""
    return None if verdict == Verdict.SCORED else Verdict(verdict).name.lower()


def _spread(count: int, row: NDArray[np.int64], column: NDArray[Any]) -> NDArray[np.float64]:
    whole = np.full(count, np.nan)
    whole[row] = column
    return whole
