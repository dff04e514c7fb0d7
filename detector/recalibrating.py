"""What `tocsin recalibrate` runs: recent scores, the new calibration they give, and the change to publish."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..pipelines.brokers import Broker
from ..thresholds.budget import Budget, default_budget
from ..thresholds.calibration import level_by_rule, pool, take
from ..thresholds.constants import REFRESH
from ..thresholds.recalibrate import Change, History, recalibrate, suffices
from .changes import Recalibration, pack_arrays
from .control import read_to_end
from .replay import Step
from .ruling import Ruling, model_of
from .scores import decode
from .settings import Stream
from .signed import signed_by
from .when import When


class Recent:
    """The recent scores of one entity, in order, and how many incidents opened among them."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.scores: list[float] = []
        self.incidents: set[str] = set()


class Proposal(NamedTuple):
    """A recalibration before it is published, and the table of what it means for each entity that was asked about."""

    change: Recalibration
    rows: list[Change]
    budget: Budget
    entities: int
    """What the budget is split over."""
    prior_before: float
    prior_after: float
    """The level of entities that nothing is known of."""


def of_replay(steps: Iterable[Step], name: Callable[[int], str]) -> dict[str, Recent]:
    """Recent scores by entity out of a replay; records of training ranges are left out."""
    found: dict[str, Recent] = {}
    for step in steps:
        for alert in step.alerts:
            if alert.status == "firing":
                found.setdefault(alert.labels.entity, Recent()).incidents.add(alert.alert_id)
        if step.outcome is None:
            continue
        judged = np.flatnonzero(np.isfinite(step.outcome.p))
        rows = step.outcome.row[judged]
        slots = step.outcome.records.slot[rows].tolist()
        times = step.outcome.records.time_us[rows].tolist()
        for slot, time_us, score in zip(slots, times, step.outcome.score[judged].tolist(), strict=True):
            recent = found.setdefault(name(slot), Recent())
            recent.times.append(time_us)
            recent.scores.append(score)
    return found


def of_scores_topic(broker: Broker, stream: Stream, since: When | None, model: str) -> dict[str, Recent]:
    """Recent scores by entity as the daemon published them under `model`; a repeated record counts once.

    Scores of other models are on another scale. They may lie on the topic from before a promotion, or be of another
    stream that shares it.

    Raises:
        DataError: the topic holds no score of that model.
    """
    assert stream.scores is not None
    others = 0
    admin, consumer = broker.admin(), broker.consumer(headers=False)
    found: dict[str, Recent] = {}
    try:
        parts = [(stream.scores, p) for p in range(admin.topics()[stream.scores].partitions)]
        least_us = 0 if since is None or since.ms is None else since.ms * 1000
        for batch in read_to_end(consumer, parts):
            for value in batch.value:
                record = decode(value)
                if model_of(record.calibration) != model:
                    others += record.score is not None
                    continue
                recent = found.setdefault(record.entity, Recent())
                newest = recent.times[-1] if recent.times else least_us - 1
                if record.score is None or record.p is None or record.time <= newest:
                    continue
                recent.times.append(record.time)
                recent.scores.append(record.score)
                if record.incident is not None:
                    recent.incidents.add(record.incident)
    finally:
        consumer.close()
        admin.close()
    if not any(recent.scores for recent in found.values()):
        past = f" It holds {others:,} of other models, which are on another scale." if others else ""
        raise DataError(
            f"The scores topic {stream.scores!r} holds no score of that time by the model in force, {model}.{past} "
            "Wait until it has scored, or learn from data files (--data)."
        )
    return found


def propose(
    ruling: Ruling,
    recent: dict[str, Recent],
    budget: Budget | None,
    glob: str | None,
    author: str | None,
    reason: str,
) -> Proposal:
    """The change that brings a stream to its recent behaviour, and to a new budget where one is given.

    Entities of `recent` with enough records get a calibration of their own from them; the change names no other.
    Without `glob` the prior is pooled from the new rows, where there are any, the entities are counted, where there
    are records to count, and the budget is split over them. With it the entities that match are altered, and nothing
    else.

    Raises:
        DataError: there is nothing to alter.
    """
    known, source, prior = ruling.rows, ruling.calibration, len(ruling.rows)
    chosen = sorted(name for name in known.keys() | recent.keys() if glob is None or fnmatchcase(name, glob))
    entities = len(known.keys() | recent.keys()) if recent and glob is None else ruling.entities
    given = budget or (default_budget(entities) if ruling.by_default else ruling.budget)
    share = given.share(entities)
    histories = [_history(name, known.get(name, prior), recent.get(name, Recent())) for name in chosen]
    histories = [one for one in histories if one.entity in known or suffices(one)]
    fresh = [one.entity for one in histories if suffices(one)]
    if not fresh and budget is None:
        who = "No entity" if glob is None else f"No entity that matches {glob!r}"
        raise DataError(
            f"{who} has {REFRESH} recent scores, the least that a calibration is made of. Look further back."
        )
    rows, table = recalibrate(histories, source, share, ruling.rules)
    if share == ruling.share:
        table = [line._replace(level_after=line.level_before) if kept(line) else line for line in table]
    own = take(source, [prior])
    if glob is not None:
        pooled = own
    elif fresh:
        pooled = pool(rows, share, own.median[0], own.floor[0])
    else:
        pooled = own._replace(level=np.array([level_by_rule(own, 0, share)[0]]))
    change = Recalibration(
        model=ruling.model.name,
        names=fresh,
        calibration=pack_arrays(rows._asdict()),
        budget=None if budget is None else budget.text,
        entities=None if glob is not None else entities,
        prior=None if glob is not None else pack_arrays(pooled._asdict()),
        **signed_by(author, reason),
    )
    return Proposal(change, table, given, entities, float(own.level[0]), float(pooled.level[0]))


def kept(line: Change) -> bool:
    """Whether the entity keeps its calibration, for want of recent scores."""
    return line.records < REFRESH


def _history(name: str, row: int, recent: Recent) -> History:
    return History(
        name, row, np.array(recent.times, np.int64), np.array(recent.scores), len(recent.incidents)
    )
