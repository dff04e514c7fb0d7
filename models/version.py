"""A model version as the chain holds it: arrays and names only, nothing that can run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .panel import PanelParams


class Version(NamedTuple):
    """One loaded model version; E train entities, C columns, M members, P panels.

    Row E of every per-entity array is the group's: it serves entities that are not in `entities`.
    """

    name: str
    columns: tuple[str, ...]
    schema_hash: str
    lags: int
    profile: Literal["shared", "per_entity"]
    members: tuple[str, ...]
    params: PanelParams
    """stacked [P, ...]; the last panel is the group's"""
    entities: dict[str, int]
    panel: NDArray[np.int32]
    """[E+1] panel of each entity"""
    location: NDArray[np.float32]
    """[E+1, 4, C] of `scaling.fit_location`"""
    calibration: dict[str, NDArray[Any]]
    """arrays with E+1 rows; row E is the pooled prior"""
    reference: dict[str, NDArray[np.float64]]
    """mean and sd over train of the block means that drift is measured against"""
    trained_entities: int
    """the count that a stream's budget is split over"""

    def entity_row(self, name: str) -> int:
        """The row of an entity by name; the group's if it was not trained on."""
        return self.entities.get(name, len(self.entities))

    def positions(self, features: Sequence[str]) -> tuple[int, ...]:
        """Where the version's columns stand among a stream's features; KeyError names one it lacks."""
        index = {feature: i for i, feature in enumerate(features)}
        return tuple(index[column] for column in self.columns)

    def widened_location(self, features: Sequence[str]) -> NDArray[np.float32]:
        """`location` by a stream's features [E+1, 4, F]; mean 0 and sd 1 for those that are not used."""
        wide = np.zeros((len(self.location), 4, len(features)), np.float32)
        wide[:, 1::2] = 1.0
        wide[:, :, list(self.positions(features))] = self.location
        return wide
