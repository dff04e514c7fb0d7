from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tocsin.thresholds.advance import advance
from tocsin.thresholds.calibration import Calibration, install
from tocsin.thresholds.constants import BINS, DAY_US, LEVELS
from tocsin.thresholds.histogram import count
from tocsin.thresholds.state import Decided, Rows, Rules, init, init_parts, restart

MINUTE = 60_000_000
DEFAULT = Rules(k=3, m=5, exit_k=3)
"""Rules under which one or two anomalous records are not yet an incident, so that timelines have a pending."""


def calibration(
    x: NDArray[np.float64] | None = None,
    *,
    level: float = 1.0,
    members: int = 1,
    openings: NDArray[np.float32] | None = None,
    days: float = 10.0,
    half_life: float = np.inf,
    rows: int = 1,
    blocks: tuple[float, ...] = (16, 0, 0, 0),
) -> Calibration:
    counts = np.zeros(BINS, np.float32) if x is None else count(np.asarray(x, np.float64))
    openings = np.zeros(LEVELS, np.float32) if openings is None else openings
    return Calibration(
        np.tile(counts, (rows, 1)),
        np.tile(openings, (rows, 1)),
        np.full(rows, int(days * DAY_US)),
        np.full(rows, level),
        np.zeros((rows, members)),
        np.full((rows, members), 1e-6),
        np.full(rows, half_life),
        np.tile(blocks, (rows, 1)),
    )


class Bench:
    """Entities whose scores a test sets: EWMAs are put to give it, and a NaN member leaves them there."""

    def __init__(
        self,
        given: Calibration,
        settings: Rules = DEFAULT,
        *,
        entities: int = 1,
        owner: list[int] | None = None,
        share: float = 1.0,
        learning: int = 0,
    ) -> None:
        members = given.median.shape[1]
        self.given, self.settings = given, settings
        self.owner = np.array(owner or [0] * entities, np.int32)
        slots = np.arange(len(self.owner), dtype=np.int32)
        self.state = init(len(slots), members)
        self.parts = init_parts(int(self.owner.max()) + 1)
        install(
            self.state, slots, given, np.zeros(len(slots), np.int64), epoch=1, share=share, learning=learning
        )
        restart(self.state, slots)
        self.events: list[np.void] = []
        self.offset = 0

    def advance(
        self, rows: Rows, room: int = 256, **more: NDArray[np.bool_]
    ) -> tuple[Decided, NDArray[np.void], NDArray[np.void]]:
        return advance(self.state, self.parts, self.owner, self.given, self.settings, rows, room=room, **more)

    def push(self, score: float, time_us: int, slot: int = 0, lacking: bool = False) -> dict[str, Any]:
        """One record; returns what was decided of it and the kinds of its events."""
        half = 0.5 * np.exp(score)
        self.state.fast[slot] = self.state.slow[slot] = half
        one = np.ones(1, np.int64)
        rows = Rows(
            one * slot,
            one * self.owner[slot],
            one * self.offset,
            one * time_us,
            np.full((1, self.state.fast.shape[1]), np.nan),
            np.zeros(1),
            np.zeros(1),
            np.zeros(1),
        )
        decided, events, _ = self.advance(rows, lacking=np.array([lacking]))
        self.offset += 1
        self.events.extend(events)
        out = {name: column[0] for name, column in decided._asdict().items()}
        out["events"] = [int(kind) for kind in events["kind"]]
        return out

    def core(self, name: str, slot: int = 0) -> Any:
        return self.state.core[name][slot]


@pytest.fixture(scope="session")
def calibrated() -> Callable[..., Calibration]:
    return calibration


@pytest.fixture(scope="session")
def bench() -> type[Bench]:
    return Bench
