"""The chain, from decoded records to incidents, in reading order.

    build_chain(state, lags, far_ahead_us) -> Chain
    chain.process(records, new) -> Outcome               # one batch, any cut, any interleaving of partitions
    chain.describe() -> str

The daemon, `replay`, the demo and the tests all run this chain; only its two ends differ. It reads no clock: every
outcome is a function of a partition's records and of the rulings that its written changes put in force.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..models.scaling import phase_of_day
from ..pipelines import location, windows
from ..pipelines.alignment import Alignment, align
from ..pipelines.held import held_rows
from ..pipelines.records import Points, Records, take_rows
from ..pipelines.windows import Accepted, Verdict
from ..thresholds import drift
from ..thresholds.advance import advance
from ..thresholds.bands import Bands, excused
from ..thresholds.calibration import begin_medians
from ..thresholds.state import BLOCK_MEANS, EVENT, Rows, open_block
from ..thresholds.warm import warm
from .changelog import Snapshot
from .gate import enter, fit, said_of
from .outcome import Outcome, columns_of, merged, nothing
from .ruling import Ruling
from .state import StreamState


class Stage(NamedTuple):
    """One step of the chain: what it is called, what it does, and the function that does it."""

    name: str
    does: str
    run: Callable[[StreamState, Work], None]


@dataclass
class Work:
    """A batch under one ruling on its way through the stages. Each stage fills what the next ones read."""

    records: Records
    ruling: Ruling
    accepted: Accepted = field(init=False)
    """Filled by `window`; the columns below by the segments that follow, in order."""
    start: int = 0
    end: int = 0
    """The segment at hand, as rows of `accepted`."""
    scored: Any = None
    clean: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    columns: dict[str, Any] = field(default_factory=dict)
    """The outcome's [n] columns, each filled segment by segment."""
    events: list[NDArray[np.void]] = field(default_factory=list)
    blocks: list[NDArray[np.void]] = field(default_factory=list)
    looked_at: int = 0
    """How many of `blocks` the drift detectors have seen."""
    drifts: list[drift.Flag] = field(default_factory=list)

    @property
    def segment(self) -> slice:
        """The rows at hand."""
        return slice(self.start, self.end)

    def slots(self) -> NDArray[np.int32]:
        """[s] the slots of the segment."""
        return self.records.slot[self.accepted.row[self.segment]]

    def times(self) -> NDArray[np.int64]:
        """[s] the event times of the segment."""
        return self.records.time_us[self.accepted.row[self.segment]]


class Chain:
    """The stages over one stream's state."""

    def __init__(
        self, state: StreamState, stages: tuple[Stage, ...], lags: int, alignment: Alignment | None
    ) -> None:
        self.state = state
        self.stages = stages
        self.lags = lags
        self._alignment = alignment

    def describe(self) -> str:
        """The stages in order, one a line."""
        lines = self.lines()
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:<{width}}  {does}" for name, does in lines)

    def lines(self) -> list[tuple[str, str]]:
        """What each step is called, and what it does, in order."""
        lines = [("admit", said_of(self.state.limits))]
        if self._alignment is not None:
            period_s, wait_s = self._alignment.period_us / 1e6, self._alignment.wait_us / 1e6
            lines.append(
                ("align", f"one record an entity and {period_s:g} s, closed {wait_s:g} s after its end")
            )
        return lines + [(stage.name, stage.does) for stage in self.stages]

    def process(self, given: Records | Points, new: NDArray[np.int32]) -> Outcome:
        """Take a batch through all stages: records, or the single measurements of the long format.

        `new` are the slots given out since the last call. Every part of the batch has a ruling.
        """
        self.state.idle.update(new.tolist())
        self.state.reserve()
        return enter(self.state, given, self._through)

    def _through(self, given: Records | Points) -> Outcome:
        if isinstance(given, Records):
            outcome = self._judge(given)
            return outcome._replace(refused=np.flatnonzero(outcome.verdict == Verdict.FAR_AHEAD))
        assert self._alignment is not None
        aligned = align(self.state.aligning, given, self._alignment, self.state.schema.counter_index)
        outcome = self._judge(aligned.records)
        return outcome._replace(refused=aligned.far_ahead, late_points=aligned.late)

    def _judge(self, records: Records) -> Outcome:
        parts = np.unique(records.part)
        rulings = {id(self.state.rulings[p]): self.state.rulings[p] for p in parts.tolist()}
        if len(rulings) <= 1:
            return self._under(records, next(iter(rulings.values()), None))
        # Partitions restored at different points of their changes: each group runs under its own ruling.
        outcomes, rows = [], []
        for ruling in rulings.values():
            mine = np.array([p for p in parts.tolist() if self.state.rulings[p] is ruling], np.int32)
            rows.append(np.flatnonzero(np.isin(records.part, mine)))
            outcomes.append(self._under(take_rows(records, rows[-1]), ruling))
        return merged(records, outcomes, rows)

    def restore(self, part: int, snapshot: Snapshot, ruling: Ruling) -> int:
        """Put a snapshot in the place of whatever a part held.

        Returns how many of its entities gave way, because the limits have become narrower since.
        """
        self.state.restore(part, snapshot, ruling)
        return fit(self.state, part)

    def promote(self, part: int, ruling: Ruling) -> None:
        """Let a ruling with another model act in a part: a new epoch, smoothing restarted over the records held."""
        self.state.rulings[part] = ruling
        drift.restart(self.state.drift, part)
        open_block(self.state.progress, part)
        slots = self.state.slots_of(part)
        if not len(slots):
            return
        self.state.install(ruling, slots)
        held = held_rows(self.state.window, slots, self.lags)
        mine = slots[held.owner]
        scored = ruling.model.scorer.score(
            ruling.model.version.panel[self.state.assigned.row[mine]],
            held.window,
            held.jump,
            self.state.location.location[mine],
            phase_of_day(held.time_us),
        )
        warm(self.state.decision, mine, held.time_us, scored.members)

    def recalibrate(self, part: int, ruling: Ruling) -> None:
        """Let a ruling with another calibration of the same model, or another budget, act in a part."""
        before, self.state.rulings[part] = self.state.rulings[part], ruling
        self.state.recalibrate(before, ruling, self.state.slots_of(part))

    def _under(self, records: Records, ruling: Ruling | None) -> Outcome:
        if ruling is None:
            return nothing(records, self.lags)
        first, *later = self.stages
        work = Work(records, ruling)
        first.run(self.state, work)
        n = len(work.accepted.row)
        work.columns = columns_of(n, records.values.shape[1])
        slots, times = records.slot[work.accepted.row], records.time_us[work.accepted.row]
        turn = location.turns(slots, times, ruling.model.period_us)
        while work.end < n:
            work.start, work.end = work.end, location.next_cut(self.state.location, slots, turn, work.end)
            for stage in later:
                stage.run(self.state, work)
        return Outcome(
            records,
            work.accepted.verdict,
            work.accepted.row,
            **work.columns,
            label=np.zeros(n, np.int32),
            labels=(ruling.label,),
            events=_joined(work.events, EVENT),
            drifts=work.drifts,
            refused=np.zeros(0, np.int64),
            blocks=_joined(work.blocks, BLOCK_MEANS),
            window=work.accepted.window,
            lacking=work.accepted.lacking,
        )


def build_chain(
    state: StreamState,
    lags: int,
    far_ahead_us: int,
    alignment: Alignment | None = None,
    bands: Bands | None = None,
) -> Chain:
    """The chain over `state` for models that look at `lags` records, in reading order.

    The first stage sees the whole batch, the others one segment at a time: a segment ends where an entity that
    is learning its own location may complete, or where one begins a period, so that no outcome depends on where batches
    were cut. With `alignment` (long format) single measurements first become records; `bands` say which deviations
    count.
    """
    length = state.window.values.shape[1]
    counters = state.schema.counter_index

    def window(state: StreamState, work: Work) -> None:
        work.accepted = windows.accept(state.window, work.records, counters, lags, far_ahead_us)

    def decide(state: StreamState, work: Work) -> None:
        _decide(state, work, bands)

    stages = (
        Stage(
            "window",
            f"ring of {length} records an entity; duplicates, order, lateness; last {lags} to score",
            window,
        ),
        Stage(
            "score", "scale, whiten, members (VAE first) and attribution, in blocks of constant shape", _score
        ),
        Stage(
            "decide",
            "smooth, combine, rolling threshold, p-value, incident, shift; calibration every 256 records"
            + ("; deviations that do not count excused" if bands is not None else ""),
            decide,
        ),
        Stage(
            "learn",
            "location and scale: a new entity's own, and slowly every entity's, from clean records",
            _learn,
        ),
        Stage(
            "drift",
            "ADWIN on standardised block means of score, input level, missing rate and lateness",
            _drift,
        ),
    )
    return Chain(state, stages, lags, alignment)


def _score(state: StreamState, work: Work) -> None:
    slots, here, times = work.slots(), work.segment, work.times()
    accepted = work.accepted
    last_us = state.decision.core["last_us"][slots]
    location.follow(state.location, slots, times, last_us, work.ruling.model.period_us)
    model = work.ruling.model
    work.scored = model.scorer.score(
        model.version.panel[state.assigned.row[slots]],
        accepted.window[here],
        accepted.jump[here],
        state.location.location[slots],
        phase_of_day(times),
    )
    work.columns["observed"][here] = accepted.window[here, -1]
    work.columns["expected"][here] = work.scored.expected
    work.columns["shares"][here] = work.scored.shares


def _decide(state: StreamState, work: Work, bands: Bands | None) -> None:
    slots, here = work.slots(), work.segment
    rows, times = work.accepted.row[here], work.times()
    model, entity = work.ruling.model, state.assigned.row[slots]
    trained = (times >= model.trained_from[entity]) & (times <= model.trained_to[entity])
    block = drift.block_records(model.version.trained_entities)
    state.progress.block_records[work.records.part[rows]] = block
    state.progress.usual_missing[work.records.part[rows]] = model.reference["missing"][0]
    decided, events, blocks = advance(
        state.decision,
        state.progress,
        state.assigned.owner,
        work.ruling.prior,
        work.ruling.rules,
        Rows(
            slots,
            work.records.part[rows],
            work.records.offset[rows],
            times,
            work.scored.members,
            work.accepted.missing[here],
            work.scored.level,
            work.accepted.late[here],
        ),
        judged=~trained,
        lacking=np.asarray(work.accepted.lacking[here].any(axis=1)),
        excused=None
        if bands is None
        else excused(bands, work.accepted.window[here, -1], work.scored.expected, work.scored.shares),
    )
    work.clean = decided.clean
    for name in (
        "score",
        "p",
        "threshold",
        "anomalous",
        "onset",
        "held",
        "epoch",
        "caution",
        "basis",
        "excused",
    ):
        work.columns[name][here] = getattr(decided, name)
    if len(events):
        events["row"] += work.start
        work.events.append(events)
    if len(blocks):
        blocks["row"] += work.start
        work.blocks.append(blocks)


def _learn(state: StreamState, work: Work) -> None:
    here = work.segment
    slots = work.slots()
    completed = location.learn(
        state.location,
        slots,
        work.clean,
        work.accepted.window[here, -1],
        work.accepted.jump[here],
        work.ruling.model.follow_share * state.decision.core["pace"][slots],
    )
    if len(completed):
        begin_medians(state.decision, slots[completed], work.ruling.prior)


def _drift(state: StreamState, work: Work) -> None:
    blocks = _joined(work.blocks[work.looked_at :], BLOCK_MEANS)
    work.looked_at = len(work.blocks)
    for block in blocks:
        work.drifts.extend(drift.take(state.drift, block, work.ruling.model.reference))


def _joined(arrays: list[NDArray[np.void]], dtype: np.dtype[Any]) -> NDArray[np.void]:
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype)
