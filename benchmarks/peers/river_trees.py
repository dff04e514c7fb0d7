"""river's HalfSpaceTrees, one for each entity, which score a record and learn it."""

from __future__ import annotations

from typing import Any

import numpy as np
from river.anomaly import HalfSpaceTrees

from .loop import Trained, arguments, run

TREES, HEIGHT, WINDOW = 10, 8, 250


def main() -> None:
    told = arguments()
    trained = Trained(told)
    low, high = trained.values.min(axis=0), trained.values.max(axis=0)
    models: dict[int, Any] = {}

    def score(values: Any, slots: Any) -> None:
        unit = np.clip((values - low) / (high - low), 0, 1)
        for slot, row in zip(slots.tolist(), unit.tolist(), strict=True):
            model = models.get(slot)
            if model is None:
                model = models[slot] = HalfSpaceTrees(TREES, HEIGHT, WINDOW, seed=0)
            record = dict(enumerate(row))
            model.score_one(record)
            model.learn_one(record)

    run(told, score)


if __name__ == "__main__":
    main()
