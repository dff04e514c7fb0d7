"""What decides in one partition: the model version, the budget and the calibration, at one point of its records.

A partition moves from one `Ruling` to the next at a written offset and nowhere else, so two partitions of a
stream may for a while stand under different ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..models.panel import Scorer
from ..models.version import Version
from ..thresholds.budget import Budget
from ..thresholds.calibration import Calibration, take
from ..thresholds.state import Rules


class Model(NamedTuple):
    """A loaded version for one stream, ready to score. Row E of its arrays serves entities it does not know."""

    version: Version
    scorer: Scorer
    location: NDArray[np.float32]
    """[E+1, 4, F] by the stream's features."""
    calibration: Calibration
    """E+1 rows; the last is the pooled prior."""
    trained_from: NDArray[np.int64]
    trained_to: NDArray[np.int64]
    """[E+1] event times, microseconds; NO_TIME in the last."""
    reference: dict[str, NDArray[np.float64]]
    """Signal -> [2] mean and sd of block means in training: what drift is measured against."""
    period_us: int
    """The period of event time at whose turns a location follows its entity; NO_PERIOD where none does."""
    follow_share: float
    """The pace of that, as a share of the pace of the slow average of the score."""

    @property
    def name(self) -> str:
        """The version's name."""
        return self.version.name


OF_MODEL, NO_ROW = -1, -2
"""Where an entity's calibration comes from, if from no change: the model version, or nowhere but the prior."""


class Recalibrated(NamedTuple):
    """What takes the place of the version's own calibration: its rows under those that recalibrations brought."""

    version: int
    """The last change that altered it."""
    rows: dict[str, int]
    """Entity to row of `calibration`."""
    calibration: Calibration
    """One row per entity of `rows`, then the prior."""
    brought_by: dict[str, int]
    """Entity to the change that brought its row; those of the model version are not in it."""


class Ruling(NamedTuple):
    """Everything that decides in a partition."""

    change: int
    """The last change that acts here; -1 before any."""
    model: Model
    budget: Budget
    entities: int
    """How many the budget is split over."""
    rules: Rules
    recalibrated: Recalibrated | None = None
    by_default: bool = False
    """The budget is the default rule's for that many entities."""

    @property
    def share(self) -> float:
        """Openings a day that an entity may have."""
        return self.budget.share(self.entities)

    @property
    def rows(self) -> dict[str, int]:
        """Entity to row of `calibration`; entities that nothing is known of share the row after these."""
        return self.model.version.entities if self.recalibrated is None else self.recalibrated.rows

    @property
    def calibration(self) -> Calibration:
        """One row per entity of `rows`, then the prior."""
        return self.model.calibration if self.recalibrated is None else self.recalibrated.calibration

    @property
    def prior(self) -> Calibration:
        """The pooled row for entities that nothing is known of."""
        return take(self.calibration, [-1])

    def origins(self, entities: Iterable[str]) -> NDArray[np.int64]:
        """[n] the change that brought each entity's row of `calibration`, OF_MODEL or NO_ROW."""
        brought = {} if self.recalibrated is None else self.recalibrated.brought_by
        trained = self.model.version.entities
        found = [brought.get(name, OF_MODEL if name in trained else NO_ROW) for name in entities]
        return np.array(found, np.int64)

    @property
    def label(self) -> str:
        """The calibration's name in messages: the model, and the recalibration over it."""
        over = "" if self.recalibrated is None else f"+{self.recalibrated.version}"
        return f"{self.model.name}{over}"

    def note(self) -> dict[str, Any]:
        """What a snapshot keeps, to know the same ruling again."""
        return {"change": self.change, "model": self.model.name}


def model_of(calibration_version: str) -> str:
    """The model's name out of what messages call `calibration_version`: a ruling's label, a dot and an epoch."""
    return calibration_version.rpartition(".")[0].partition("+")[0]


def epoch_of(calibration_version: str) -> int:
    """The epoch of the entity's calibration out of the same."""
    return int(calibration_version.rpartition(".")[2])
