"""A replay's outcomes made by hand, through the report's own gatherer: what tests of the report start from.

made = Made(["host-1", "<b>"], features=("cpu", "mem"))        # a stream's state, without a model
made.feed(0, time_us, score, threshold, label=label)           # records of entity 0 that were judged so
made.incident(0, opened_us, ended_us, [("cpu", 9.0, 1.0, .8)]) # what the alert topic would have said
page.page(facts.report(made.gathered, "web"))
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tocsin.detector.alerts import Alert, Basis, Feature, Kind, Resolution, Severity, Status
from tocsin.detector.happenings import Context, Happening, alert_of
from tocsin.detector.outcome import Outcome, columns_of
from tocsin.detector.replay import Step
from tocsin.detector.report.gather import Gathered
from tocsin.detector.ruling import Ruling
from tocsin.detector.state import StreamState
from tocsin.pipelines.records import NO_TIME, Records
from tocsin.pipelines.schema import FeatureSchema
from tocsin.pipelines.windows import Verdict
from tocsin.thresholds import calibration
from tocsin.thresholds.calibration import Calibration
from tocsin.thresholds.constants import DAY_US, LEVELS
from tocsin.thresholds.constants import Kind as Code
from tocsin.thresholds.drift import Flag
from tocsin.thresholds.histogram import count
from tocsin.thresholds.policy import Action, Finding, What
from tocsin.thresholds.state import BLOCK_MEANS, EVENT

START_US = 1_767_225_600_000_000  # 2026-01-01
MINUTE_US = 60_000_000
MEMBERS = 4


class Made:
    """Entities in one partition, each with a calibration; nothing was read yet."""

    def __init__(
        self, names: Sequence[str], features: Sequence[str] = ("cpu", "memory"), stream: str = "web"
    ) -> None:
        self.stream = stream
        self.features = tuple(features)
        self.state = StreamState(FeatureSchema(self.features), 16, MEMBERS)
        part = self.state.part(stream, 0)
        slots = self.state.table.intern_all(part, names)
        self.state.table.take_new()
        self.state.reserve()
        self.state.assigned.owner[slots] = part
        self.state.window.held[slots] = 16
        reference = {signal: np.array([0.0, 1.0]) for signal in ("score", "level", "missing")}
        version = SimpleNamespace(lags=5, profile="shared")
        ruling = SimpleNamespace(
            change=0,
            label="v0001-test",
            share=1.0,
            model=SimpleNamespace(name="v0001-test", version=version, reference=reference),
            budget=SimpleNamespace(text="1/day per entity"),
            entities=len(names),
            recalibrated=None,
            rules=SimpleNamespace(cap=10),
        )
        self.state.rulings[part] = cast(Ruling, ruling)
        calibration.install(
            self.state.decision, slots, ordinary(), np.zeros(len(slots), np.int64), epoch=1, share=1.0
        )
        self.gathered = Gathered(self.state)

    def feed(
        self,
        entity: int | NDArray[np.int32],
        time_us: NDArray[np.int64],
        score: NDArray[np.float64],
        threshold: float | NDArray[np.float64] = 1.0,
        *,
        inside: NDArray[np.bool_] | None = None,
        label: NDArray[np.int8] | None = None,
        openings: Sequence[int] = (),
        judged: bool = True,
        verdict: Verdict = Verdict.SCORED,
        blocks: Sequence[tuple[int, float]] = (),
        flags: Sequence[tuple[int, str]] = (),
    ) -> None:
        """A batch. `openings` are rows; `blocks` (row, mean score); `flags` (row, signal)."""
        n = len(time_us)
        slot = np.broadcast_to(np.asarray(entity, np.int32), n).copy()
        records = Records(
            slot, np.zeros(n, np.int32), np.arange(n), time_us, np.zeros((n, len(self.features)))
        )
        scored = n if verdict is Verdict.SCORED else 0
        columns: dict[str, Any] = columns_of(scored, len(self.features))
        if scored:
            columns["score"] = np.asarray(score, np.float64)
            columns["threshold"] = np.broadcast_to(np.asarray(threshold, np.float64), n)
            columns["p"] = np.full(n, 0.5 if judged else np.nan)
            columns["anomalous"] = (columns["score"] > columns["threshold"]) & judged
            if inside is not None:
                columns["onset"] = np.where(inside, time_us, NO_TIME)
        events = np.zeros(len(openings), EVENT)
        for event, row in zip(events, openings, strict=True):
            event["row"], event["slot"], event["kind"] = row, slot[row], Code.OPENED
        closed = np.zeros(len(blocks), BLOCK_MEANS)
        for block, (row, mean) in zip(closed, blocks, strict=True):
            block["row"], block["score"] = row, mean
        outcome = Outcome(
            records,
            np.full(n, verdict, np.uint8),
            np.arange(scored),
            **columns,
            label=np.zeros(scored, np.int32),
            labels=("v0001-test",),
            events=events,
            drifts=[
                Flag(row, 0, signal, 12, 0.1, 2.5, Finding(What.STALE, Action.PROPOSE))
                for row, signal in flags
            ],
            refused=np.zeros(0, np.int64),
            blocks=closed,
        )
        self.gathered.take(Step(outcome, [], label))

    def incident(
        self,
        entity: int,
        opened_us: int,
        ended_us: int | None,
        features: Sequence[tuple[str, float, float, float]] = (),
        *,
        peak: float = 3.0,
        severity: Severity = Severity.WARNING,
    ) -> None:
        """An incident's messages; features as (name, observed, expected, share)."""
        found = [Feature(*one) for one in features]
        alerts = [self._alert(entity, opened_us, opened_us, Status.FIRING, peak, severity, found)]
        if ended_us is not None:
            alerts.append(self._alert(entity, opened_us, ended_us, Status.RESOLVED, peak, severity, []))
        self.gathered.take(Step(None, alerts))

    def _alert(
        self,
        entity: int,
        onset_us: int,
        time_us: int,
        status: Status,
        peak: float,
        severity: Severity,
        features: list[Feature],
    ) -> Alert:
        happening = Happening(
            kind=Kind.ANOMALY,
            status=status,
            severity=severity,
            entity=self.state.table.name(entity),
            onset_us=onset_us,
            time_us=time_us,
            first_offset=0,
            offset=0,
            score=2.0,
            p_value=0.001,
            threshold=1.0,
            peak=peak,
            reason=Resolution.RECOVERED if status is Status.RESOLVED else None,
            basis=Basis.EMPIRICAL,
        )
        context = Context(self.stream, self.stream, self.stream, 0, "v0001-test", "v0001-test.1")
        return alert_of(happening, context, features)


def ordinary() -> Calibration:
    """The calibration of an entity with ten thousand ordinary records in a week."""
    x = np.random.default_rng(1).normal(0.0, 0.4, 10_000)
    openings = np.zeros((1, LEVELS), np.float32)
    openings[0, :4] = 200, 60, 20, 6
    return Calibration(
        counts=count(x)[None],
        openings=openings,
        span_us=np.array([7 * DAY_US]),
        level=np.array([1.0]),
        median=np.zeros((1, MEMBERS)),
        floor=np.zeros((1, MEMBERS)),
        half_life=np.array([100.0]),
        blocks=np.zeros((1, 4)),
    )


def minutes(n: int, first: int = 0) -> NDArray[np.int64]:
    """n event times a minute apart."""
    return START_US + (first + np.arange(n, dtype=np.int64)) * MINUTE_US


class Reader(HTMLParser):
    """Tags, ids, links to parts of the page, and the text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def stands_alone(content: str) -> None:
    """A page loads nothing, its policy forbids it, and its links lead to its own parts."""
    tags = Reader(content).tags
    policy = next(a["content"] for t, a in tags if a.get("http-equiv") == "Content-Security-Policy") or ""
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for element in ("style", "script"):
        body = re.search(f"<{element}>(.*?)</{element}>", content, re.DOTALL)
        assert body
        digest = base64.b64encode(hashlib.sha256(body[1].encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert not [a for _, a in tags if {"src", "style", "srcset", "action"} & a.keys()]
    assert not re.search(r"https?:|url\(|@import", content)
    targets = {a["href"] for t, a in tags if t == "a"}
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {str(t).removeprefix("#") for t in targets} <= set(ids)
