"""What is measured, by name: each case returns its bars and everything else that was seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..report import Bar
from .bench import Bench
from .cost import cost
from .levels import contamination, rate
from .panel import panel, singles
from .shifts import drift
from .variations import ablation, choices, hours, profiles, seeds

TABLE: dict[str, Callable[[Bench], tuple[list[Bar], dict[str, Any]]]] = {
    "panel": panel,
    "singles": singles,
    "seeds": seeds,
    "choices": choices,
    "ablation": ablation,
    "profiles": profiles,
    "hours": hours,
    "rate": rate,
    "contamination": contamination,
    "drift": drift,
    "cost": cost,
}
