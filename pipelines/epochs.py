"""The trainer's reports of many panels, an epoch at a time, and what they warn of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..models.course import Figures, Report
from .crossfit import Step


class Epoch(NamedTuple):
    """Means over the panels that were trained in this epoch, in nats; `held_out` only in the rehearsal."""

    phase: str
    epoch: int
    panels: int
    train: Figures
    held_out: Figures | None

    def plain(self) -> dict[str, Any]:
        """One flat row, for tables and JSON."""
        row: dict[str, Any] = {"phase": self.phase, "epoch": self.epoch, "panels": self.panels}
        for split, figures in (("train", self.train), ("held_out", self.held_out)):
            for name in Figures._fields:
                value = None if figures is None else round(float(getattr(figures, name)), 3)
                row[f"{split}_{name}"] = value
        return row


def mean_epoch(reports: Sequence[Report]) -> Epoch:
    """The mean of reports of the same phase and epoch."""
    held_out = [report.held_out for report in reports if report.held_out is not None]
    first = reports[0]
    train = _mean([report.train for report in reports])
    return Epoch(first.phase, first.epoch, len(reports), train, _mean(held_out) if held_out else None)


class Epochs:
    """Collects what is heard of the final fits of a training."""

    def __init__(self) -> None:
        self._reports: list[Report] = []

    def hear(self, step: Step) -> None:
        """Take in one step; only final fits are kept."""
        if step.stage == "final" and step.report is not None:
            self._reports.append(step.report)

    def history(self) -> tuple[Epoch, ...]:
        """One row per phase and epoch, in order."""
        keys = sorted({(report.phase == "final", report.epoch) for report in self._reports})
        return tuple(
            mean_epoch([r for r in self._reports if (r.phase == "final", r.epoch) == key]) for key in keys
        )

    def warnings(self) -> tuple[str, ...]:
        """Each warning once, with how many panels gave it."""
        panels = len({report.panel for report in self._reports})
        kinds: Counter[str] = Counter()
        text: dict[str, str] = {}
        for panel, warning in {(r.panel, warning) for r in self._reports for warning in r.warnings}:
            kind = warning.partition(":")[0]
            kinds[kind] += 1
            text[kind] = min(warning, text.get(kind, warning))
            del panel
        return tuple(
            text[kind] if panels == 1 else f"{count} of {panels} panels: {text[kind]}"
            for kind, count in sorted(kinds.items())
        )


def _mean(figures: Sequence[Figures]) -> Figures:
    elbo, reconstruction, kl, active = (float(np.mean(column)) for column in zip(*figures, strict=True))
    return Figures(elbo, reconstruction, kl, round(active))
