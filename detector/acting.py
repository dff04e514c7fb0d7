"""Letting a change act in one partition, from exactly one offset on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..pipelines import location
from ..thresholds.constants import Kind as Code
from ..thresholds.constants import Mark, Phase
from ..thresholds.events import rebase, resolve
from ..thresholds.feedback import mark
from ..thresholds.state import EVENT
from .alerts import Kind, alert_id
from .chain import Chain
from .changes import Given, Resolve
from .feedback import heed, is_of
from .rulings import Rulings


def act(
    chain: Chain, rulings: Rulings, stream: str, part: int, version: int, offset: int
) -> NDArray[np.void]:
    """Put the change `version` in force in a part before its record at `offset`.

    Returns the events of an incident that the change ends, with row -1. Nothing may be under way in the chain.

    Raises:
        ArtefactError: the change needs a model that cannot be loaded; nothing has changed then.
    """
    state = chain.state
    before, after = state.rulings[part], rulings.ruling(version)
    if after.model.name != before.model.name:
        chain.promote(part, after)
    else:
        chain.recalibrate(part, after)
    given = rulings.given(version)
    if given is not None and (given.about.topic, given.about.partition) == state.parts[part]:
        return _heed(chain, stream, part, given, offset)
    closing = rulings.resolve(version)
    if closing is None or (closing.topic, closing.partition) != state.parts[part]:
        return np.zeros(0, EVENT)
    return _close(chain, stream, part, closing, offset)


def _close(chain: Chain, stream: str, part: int, change: Resolve, offset: int) -> NDArray[np.void]:
    """End the incident of that id if it is open; an entity or an id that is not is no fault: it ended meanwhile."""
    state = chain.state
    slot = state.slot_of(part, change.entity)
    if slot is None:
        return np.zeros(0, EVENT)
    core = state.decision.core[slot]
    last_us = int(core["last_us"])

    def named(kind: Kind, began: str) -> bool:
        return change.alert_id == alert_id(stream, change.entity, kind, int(core[began]))

    is_open = (core["phase"] == Phase.FIRING and not core["held"] and named(Kind.ANOMALY, "onset")) or (
        core["held_count"] > 0 and named(Kind.DIGEST, "digest_onset")
    )
    if is_open:
        if change.rebase and core["phase"] == Phase.FIRING:
            mark(state.decision, slot, int(Mark.CONFIRMED))  # it told of a change that stays
        events = resolve(state.decision, slot, part, last_us, offset)
        if change.rebase:
            rebase(state.decision, slot)
            location.rebase(state.location, slot)
        return events
    for kind, began, code in (
        (Kind.ABSENCE, "absent_us", Code.ABSENT),
        (Kind.LATENESS, "behind_us", Code.BEHIND),
        (Kind.PARTIAL, "partial_us", Code.PARTIAL),
    ):
        if named(kind, began):  # whether it is open still, `resolve` knows
            return resolve(state.decision, slot, part, last_us, offset, kind=code)
    return np.zeros(0, EVENT)


def _heed(chain: Chain, stream: str, part: int, given: Given, offset: int) -> NDArray[np.void]:
    """Heed what is said of an incident; of an entity that is not known here, or of another stream's, nothing is."""
    slot = chain.state.slot_of(part, given.about.entity)
    if slot is None or not is_of(given.about, stream):
        return np.zeros(0, EVENT)
    return heed(chain.state.decision, slot, part, given, offset)
