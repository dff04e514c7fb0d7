"""What a report is made of, gathered while a replay runs: arrays per entity, and the incidents, never the records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...pipelines.brokers.base import Part
from ...pipelines.records import NO_TIME
from ...pipelines.windows import Verdict
from ...thresholds.constants import Kind as Code
from ...thresholds.drift import SIGNALS, Flag, standard
from ..alerts import Alert, Feature, Kind, Status
from ..outcome import Outcome
from ..replay import Step
from ..state import StreamState
from .envelope import Envelope
from .quality import Labelled

KEPT: Final = 50
"""Incidents of one entity that are kept whole: beyond, the one with the lowest peak gives way."""
ANOMALOUS, FIRING, LABELLED = 1, 2, 4
"""The marks of a bucket of an entity's series."""
_OPENINGS = (Code.OPENED, Code.DIGEST_OPENED, Code.DIGEST_UPDATED)

TALLY = np.dtype(
    [
        ("records", np.int64),
        ("scored", np.int64),
        ("judged", np.int64),
        ("anomalous", np.int64),
        ("inside", np.int64),  # judged records at which an incident was open
        ("openings", np.int64),  # incidents, those held in a digest among them
        ("first_us", np.int64),
        ("last_us", np.int64),
        ("judged_from", np.int64),
        ("judged_to", np.int64),
        ("excess", np.float64),  # score less threshold, where that was highest
        ("excess_us", np.int64),
        ("score", np.float64),  # there
        ("threshold", np.float64),
    ]
)


@dataclass(slots=True)
class Incident:
    """One incident, or one digest, as its messages told it. Times are event times in microseconds."""

    kind: str
    severity: str
    began_us: int
    opened_us: int
    score: float | None
    threshold: float | None
    p: float | None
    basis: str
    conservative: str | None
    features: tuple[Feature, ...]
    peak: float
    ended_us: int | None = None
    reason: str | None = None
    escalated: bool = False
    held: int = 0


@dataclass(slots=True)
class Decision:
    """One decision of a partition's drift detectors."""

    time_us: int
    flag: Flag


@dataclass(slots=True)
class Gathered:
    """Everything that a page needs of the steps of a replay, in memory that does not grow with the records."""

    state: StreamState
    tally: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, TALLY))
    """By slot."""
    verdicts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(Verdict), np.int64))
    late_points: int = 0
    calibrations: set[str] = field(default_factory=set)
    severities: Counter[str] = field(default_factory=Counter)
    incidents: dict[int, dict[str, Incident]] = field(default_factory=dict)
    """Slot to alert id to incident."""
    scores: Envelope = field(default_factory=lambda: Envelope(2))
    """By slot: score and threshold."""
    blocks: Envelope = field(default_factory=lambda: Envelope(len(SIGNALS)))
    """By part: standardised block means of the drift detectors' signals."""
    decisions: dict[int, list[Decision]] = field(default_factory=dict)
    labelled: Labelled = field(default_factory=Labelled)
    _newest: dict[int, int] = field(default_factory=dict)

    def take(self, step: Step) -> None:
        """Add one step of the replay."""
        if step.outcome is not None and len(step.outcome.verdict):
            self._take_outcome(step.outcome, step.label)
        for alert in step.alerts:
            self._take_alert(alert)

    def _take_outcome(self, outcome: Outcome, label: NDArray[np.int8] | None) -> None:
        records, row = outcome.records, outcome.row
        self._reserve(self.state.table.size)
        self.verdicts += np.bincount(outcome.verdict, minlength=len(Verdict))
        self.late_points += outcome.late_points
        self.calibrations.update(outcome.labels)
        np.add.at(self.tally["records"], records.slot, 1)
        slot, time_us = records.slot[row], records.time_us[row]
        judged, inside = np.isfinite(outcome.p), outcome.onset != NO_TIME
        labels = np.full(len(row), -1, np.int8) if label is None else label[row]
        self._count(outcome, slot, time_us, judged, inside)
        marks = outcome.anomalous * ANOMALOUS + inside * FIRING + (labels == 1) * LABELLED
        self.scores.take(
            slot, time_us, np.stack([outcome.score, outcome.threshold], axis=1), marks.astype(np.uint8)
        )
        opened = np.zeros(len(row), np.bool_)
        opened[outcome.events["row"][np.isin(outcome.events["kind"], _OPENINGS)]] = True
        if label is not None:
            self.labelled.take(
                slot[judged],
                time_us[judged],
                labels[judged],
                outcome.score[judged],
                inside[judged],
                np.flatnonzero(opened[judged]),
            )
        self._drift(outcome, time_us)

    def _count(
        self,
        outcome: Outcome,
        slot: NDArray[np.int32],
        time_us: NDArray[np.int64],
        judged: NDArray[np.bool_],
        inside: NDArray[np.bool_],
    ) -> None:
        tally = self.tally
        for name, which in (
            ("scored", slice(None)),
            ("judged", judged),
            ("anomalous", judged & outcome.anomalous),
            ("inside", judged & inside),
        ):
            np.add.at(tally[name], slot[which], 1)
        np.minimum.at(tally["first_us"], slot, time_us)
        np.maximum.at(tally["last_us"], slot, time_us)
        np.minimum.at(tally["judged_from"], slot[judged], time_us[judged])
        np.maximum.at(tally["judged_to"], slot[judged], time_us[judged])
        opened = outcome.events[np.isin(outcome.events["kind"], _OPENINGS)]
        np.add.at(tally["openings"], opened["slot"], 1)
        excess = np.where(judged, outcome.score - outcome.threshold, -np.inf)
        order = np.lexsort((excess, slot))
        best = order[np.r_[slot[order][1:] != slot[order][:-1], True]] if len(order) else order
        best = best[excess[best] > tally["excess"][slot[best]]]
        mine = slot[best]
        tally["excess"][mine], tally["excess_us"][mine] = excess[best], time_us[best]
        tally["score"][mine], tally["threshold"][mine] = outcome.score[best], outcome.threshold[best]

    def _drift(self, outcome: Outcome, time_us: NDArray[np.int64]) -> None:
        for block in outcome.blocks:
            part = int(block["part"])
            reference = self.state.rulings[part].model.reference
            scales = [standard(reference, signal) for signal in SIGNALS]
            values = [
                (float(block[signal]) - usual) / sd
                for signal, (usual, sd) in zip(SIGNALS, scales, strict=True)
            ]
            now = self._newest[part] = max(int(time_us[block["row"]]), self._newest.get(part, NO_TIME))
            self.blocks.take(np.array([part]), np.array([now]), np.array([values]))
        for flag in outcome.drifts:
            self.decisions.setdefault(flag.part, []).append(Decision(int(time_us[flag.row]), flag))

    def _take_alert(self, alert: Alert) -> None:
        notes = alert.annotations
        part = self.state.part(notes.topic, notes.partition)
        slot = self.state.table.lookup(part).get(alert.labels.entity)
        if slot is None:
            return
        held = self.incidents.setdefault(slot, {})
        now = moment(alert.event_time)
        known = held.get(alert.alert_id)
        if known is None:
            if alert.status is not Status.FIRING:  # it was dropped for stronger ones
                return
            self.severities[alert.labels.severity] += 1
            if len(held) == KEPT:
                ended = [one for one, incident in held.items() if incident.ended_us is not None]
                del held[min(ended, key=lambda one: held[one].peak)]
            known = held[alert.alert_id] = Incident(
                kind=alert.kind.value,
                severity=alert.labels.severity.value,
                began_us=moment(alert.starts_at),
                opened_us=now,
                score=notes.score,
                threshold=notes.threshold,
                p=notes.p_value,
                basis=notes.basis.value,
                conservative=notes.conservative,
                features=tuple(notes.features),
                peak=-np.inf,
            )
        known.peak = max(known.peak, -np.inf if notes.peak is None else notes.peak)
        known.escalated |= notes.escalation is not None
        if alert.kind is Kind.DIGEST:
            known.held = notes.held
        if alert.status is Status.RESOLVED:
            known.ended_us = now
            known.reason = None if notes.reason is None else notes.reason.value

    def _reserve(self, slots: int) -> None:
        more = max(slots, len(self.tally) + len(self.tally) // 2) - len(self.tally)
        if slots > len(self.tally):
            fresh = np.zeros(more, TALLY)
            for name in ("first_us", "judged_from"):
                fresh[name] = np.iinfo(np.int64).max
            for name in ("last_us", "judged_to", "excess_us"):
                fresh[name] = NO_TIME
            fresh["excess"] = -np.inf
            self.tally = np.concatenate([self.tally, fresh])


def moment(text: str) -> int:
    """Microseconds since 1970 of a time as messages write it."""
    return int(np.datetime64(text.removesuffix("Z"), "us").astype(np.int64))


def part_name(part: Part) -> str:
    """A partition as people read it."""
    return f"{part[0]}/{part[1]}"
