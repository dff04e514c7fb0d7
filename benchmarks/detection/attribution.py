"""Hit@P% and NDCG of the features that are named at an event's last record above its threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def hit(ranked: Sequence[str], causes: set[str], percent: int) -> float:
    """Share of the causes among the first percent/100 x |causes| features (Su et al. 2019, HitRate@P%)."""
    return len(causes & set(ranked[: round(len(causes) * percent / 100)])) / len(causes)


def ndcg(ranked: Sequence[str], causes: set[str]) -> float:
    """Discounted gain of the ranking over that of the best one."""
    gains = [1 / np.log2(place + 2) for place, name in enumerate(ranked) if name in causes]
    return float(sum(gains) / sum(1 / np.log2(place + 2) for place in range(len(causes))))
