"""river's HalfSpaceTrees, one for each entity, which score a record and learn it, each with a full window."""

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

    def records(values: Any) -> list[dict[int, float]]:
        unit = np.clip((values - low) / (high - low), 0, 1)
        return [dict(enumerate(row)) for row in unit.tolist()]

    def fresh(entity: int) -> Any:
        model = HalfSpaceTrees(TREES, HEIGHT, WINDOW, seed=0)
        mine = np.resize(trained.values[trained.entity == entity], (WINDOW, told.features))
        for record in records(mine):  # before its window is full it scores nothing
            model.learn_one(record)
        return model

    # an entity has the model of another, as slots are given out by the order of arrival: that takes as long
    models = [fresh(entity) for entity in np.unique(trained.entity)]

    def score(values: Any, slots: Any) -> None:
        for slot, record in zip(slots.tolist(), records(values), strict=True):
            models[slot].score_one(record)
            models[slot].learn_one(record)

    run(told, score)


if __name__ == "__main__":
    main()
