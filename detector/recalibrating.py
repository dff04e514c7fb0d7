"""What `tocsin recalibrate` runs: recent scores, the new calibration they give, and the change to publish."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from ..pipelines.brokers import Broker
from ..thresholds.budget import Budget
from ..thresholds.calibration import Calibration, level_by_rule, pool, stack, take
from ..thresholds.constants import REFRESH
from ..thresholds.recalibrate import Change, History, recalibrate
from .changes import Recalibration, pack_arrays
from .control import read_to_end
from .inforce import Ruling
from .replay import Step
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
    """A recalibration before it is published, and the table of what it alters."""

    change: Recalibration
    rows: list[Change]
    prior_before: float
    prior_after: float


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


def of_scores_topic(broker: Broker, stream: Stream, since: When | None) -> dict[str, Recent]:
    """Recent scores by entity as the daemon published them; a repeated record counts once."""
    assert stream.scores is not None
    admin, consumer = broker.admin(), broker.consumer(headers=False)
    found: dict[str, Recent] = {}
    try:
        parts = [(stream.scores, p) for p in range(admin.topics()[stream.scores].partitions)]
        least_us = 0 if since is None or since.ms is None else since.ms * 1000
        for batch in read_to_end(consumer, parts):
            for value in batch.value:
                record = decode(value)
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
    return found


def propose(
    ruling: Ruling,
    recent: dict[str, Recent],
    budget: Budget,
    glob: str | None,
    author: str | None,
    reason: str,
) -> Proposal:
    """The change that brings a stream to a budget and to its recent behaviour.

    Entities of `recent` with enough records get a calibration of their own from them; all others that the calibration
    in force knows keep theirs, at the level that the new budget asks of it. With `glob` only the entities that
    match are altered. The prior is pooled from the new rows, where there are any.
    """
    source = ruling.model.calibration if ruling.recalibrated is None else ruling.recalibrated.calibration
    known = dict(ruling.model.version.entities if ruling.recalibrated is None else ruling.recalibrated.rows)
    chosen = sorted(name for name in known.keys() | recent.keys() if glob is None or fnmatchcase(name, glob))
    kept = sorted(known.keys() - set(chosen))
    entities = max(len(known.keys() | recent.keys()), 1)
    share = budget.share(entities)
    prior = len(known)
    histories = [_history(name, known.get(name, prior), recent.get(name, Recent())) for name in chosen]
    histories = [one for one in histories if one.entity in known or len(one.score) >= REFRESH]
    rows, table = recalibrate(histories, source, share, ruling.rules)
    fresh = [i for i, one in enumerate(histories) if len(one.score) >= REFRESH]
    own = take(source, [prior])
    if fresh and glob is None:
        pooled = pool(take(rows, fresh), share, own.median[0], own.floor[0])
    else:
        pooled = own._replace(level=np.array([level_by_rule(own, 0, share)[0]]))
    whole = stack([rows, take(source, [known[name] for name in kept])])
    change = Recalibration(
        model=ruling.model.name,
        budget=budget.text,
        entities=entities,
        names=[*(one.entity for one in histories), *kept],
        calibration=pack_arrays(_arrays(whole)),
        prior=pack_arrays(_arrays(pooled)),
        **signed_by(author, reason),
    )
    return Proposal(change, table, float(own.level[0]), float(pooled.level[0]))


def _history(name: str, row: int, recent: Recent) -> History:
    return History(
        name, row, np.array(recent.times, np.int64), np.array(recent.scores), len(recent.incidents)
    )


def _arrays(calibration: Calibration) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    return dict(calibration._asdict())
