"""From what was gathered to what the page says: entities ranked, calibrations, drift, quality. No markup."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...pipelines.windows import Verdict
from ...thresholds.constants import DAY_US, SLOW_SHARE, Caution
from ...thresholds.drift import SIGNALS
from ..view import ruling_summary, warming
from .envelope import Series
from .gather import Decision, Gathered, Incident, part_name
from .quality import Quality, together

DETAILED: Final = 100
"""Entities, worst first, that the page shows one by one."""
PARTS: Final = 20
"""Partitions whose drift it shows."""
DECISIONS: Final = 50
"""Drift decisions of a partition that it lists, the newest."""


class Calibrated(NamedTuple):
    """An entity's calibration as the replay left it."""

    name: str
    counts: NDArray[np.float32]
    """[BINS] records learned, by bin of x = score - SLOW_SHARE * slow average."""
    total: float
    tail: tuple[float, float, float, float]
    """Start, sigma, gamma, and the upper edge of what was counted."""
    level: float
    threshold: float
    budget: float
    """Openings a day."""
    openings: NDArray[np.float64]
    """[LEVELS] a day, at each fixed level, in the time counted."""
    days: float
    accepted: int
    """Records learned in this epoch."""
    caution: str | None
    warming: str | None


class Entity(NamedTuple):
    """One entity in detail."""

    name: str
    part: str
    records: int
    judged: int
    anomalous: int
    inside: float
    """Share of judged records at which an incident was open; NaN without any."""
    openings: int
    critical: int
    excess: float
    """The highest score less threshold; -inf where nothing was judged."""
    excess_us: int
    score: float
    threshold: float
    days: float
    series: Series
    incidents: list[Incident]
    """By time; at most gather.KEPT, those with the highest peaks."""
    calibrated: Calibrated
    quality: Quality | None


class Drift(NamedTuple):
    """The drift detectors of one partition."""

    part: str
    series: Series
    latest: list[float]
    """ADWIN's estimate of the present mean, standardised; NaN before a block."""
    decisions: list[Decision]
    """The newest; all of them are `decided`."""
    decided: int


class Report(NamedTuple):
    """Everything that the page says."""

    stream: str
    ruling: dict[str, object]
    """What was in force at the end, in words; empty where nothing was read."""
    calibrations: list[str]
    features: int
    records: int
    verdicts: dict[str, int]
    late_points: int
    first_us: int
    last_us: int
    """Event times of the scored records; meaningless where none was."""
    entities: int
    judged: int
    openings: int
    severities: Counter[str]
    entity_days: float
    budget_per_day: float
    """Openings that all entities together may have in a day."""
    with_incidents: int
    ranked: list[Entity]
    responsible: list[tuple[str, float]]
    """Features and the sum of their shares over the incidents kept, largest first."""
    drifts: list[Drift]
    parts: int
    quality: Quality | None
    labelled: int

    @property
    def scored(self) -> int:
        """Records with a score."""
        return self.verdicts["scored"]


def report(gathered: Gathered, stream: str) -> Report:
    """The facts, once the replay is over."""
    state, tally = gathered.state, gathered.tally
    seen = np.flatnonzero(tally["records"] > 0)
    names = [state.table.name(int(slot)) for slot in seen]
    order = sorted(range(len(seen)), key=lambda i: (-float(tally["excess"][seen[i]]), names[i]))
    qualities = gathered.labelled.figures()
    scored = seen[tally["scored"][seen] > 0]
    newest = max(state.rulings.values(), key=lambda ruling: ruling.change, default=None)
    shares: dict[str, float] = {}
    for held in gathered.incidents.values():
        for incident in held.values():
            for feature in incident.features:
                shares[feature.name] = shares.get(feature.name, 0.0) + feature.share
    drifts = [_drift(gathered, part) for part in range(len(state.parts))]
    drifts.sort(key=lambda one: (-one.decided, one.part))
    return Report(
        stream=stream,
        ruling=ruling_summary(newest) if newest else {},
        calibrations=sorted(gathered.calibrations),
        features=len(state.schema.names),
        records=int(gathered.verdicts.sum()),
        verdicts={verdict.name.lower(): int(gathered.verdicts[verdict]) for verdict in Verdict},
        late_points=gathered.late_points,
        first_us=int(tally["first_us"][scored].min()) if len(scored) else 0,
        last_us=int(tally["last_us"][scored].max()) if len(scored) else 0,
        entities=len(seen),
        judged=int(tally["judged"].sum()),
        openings=int(tally["openings"].sum()),
        severities=gathered.severities,
        entity_days=float(sum(_days(tally[slot]) for slot in seen)),
        budget_per_day=newest.share * len(seen) if newest else 0.0,
        with_incidents=int(np.count_nonzero(tally["openings"])),
        ranked=[_entity(gathered, int(seen[i]), qualities.get(int(seen[i]))) for i in order[:DETAILED]],
        responsible=sorted(shares.items(), key=lambda one: (-one[1], one[0]))[:12],
        drifts=[one for one in drifts if len(one.series.time_us) or one.decided][:PARTS],
        parts=len(state.parts),
        quality=together(list(qualities.values())) if qualities else None,
        labelled=len(qualities),
    )


def _entity(gathered: Gathered, slot: int, quality: Quality | None) -> Entity:
    state, tally = gathered.state, gathered.tally[slot]
    incidents = sorted(gathered.incidents.get(slot, {}).values(), key=lambda one: (one.opened_us, one.kind))
    judged = int(tally["judged"])
    return Entity(
        name=state.table.name(slot),
        part=part_name(state.parts[state.table.part(slot)]),
        records=int(tally["records"]),
        judged=judged,
        anomalous=int(tally["anomalous"]),
        inside=int(tally["inside"]) / judged if judged else math.nan,
        openings=int(tally["openings"]),
        critical=sum(one.severity == "critical" or one.escalated for one in incidents),
        excess=float(tally["excess"]),
        excess_us=int(tally["excess_us"]),
        score=float(tally["score"]),
        threshold=float(tally["threshold"]),
        days=_days(tally),
        series=gathered.scores.series(slot),
        incidents=incidents,
        calibrated=_calibrated(gathered, slot),
        quality=quality,
    )


def _calibrated(gathered: Gathered, slot: int) -> Calibrated:
    state = gathered.state
    core, ruling = state.decision.core[slot], state.rulings[state.table.part(slot)]
    days = float(core["span_us"]) / DAY_US
    return Calibrated(
        name=f"{ruling.label}.{int(core['epoch'])}",
        counts=state.decision.counts[slot],
        total=float(core["total"]),
        tail=(
            float(core["tail_start"]),
            float(core["tail_sigma"]),
            float(core["tail_gamma"]),
            float(core["tail_top"]),
        ),
        level=float(core["level"]),
        threshold=float(core["level"] + SLOW_SHARE * core["S"] + core["lift"]),
        budget=float(core["share"]),
        openings=state.decision.openings[slot].astype(np.float64) / max(days, 1e-12),
        days=days,
        accepted=int(core["accepted"]),
        caution=Caution(int(core["caution"])).name.lower() if core["caution"] else None,
        warming=warming(state, slot, int(state.window.held[slot]), ruling.model.version.lags),
    )


def _drift(gathered: Gathered, part: int) -> Drift:
    state = gathered.state
    decisions = gathered.decisions.get(part, [])
    blocks = gathered.blocks.series(part)
    return Drift(
        part=part_name(state.parts[part]),
        series=blocks,
        latest=[
            float(state.drift.latest[part, i]) if len(blocks.time_us) else math.nan
            for i in range(len(SIGNALS))
        ],
        decisions=decisions[-DECISIONS:],
        decided=len(decisions),
    )


def _days(tally: np.void) -> float:
    """From the entity's first judged record to its last."""
    return float(tally["judged_to"] - tally["judged_from"]) / DAY_US if tally["judged"] else 0.0
