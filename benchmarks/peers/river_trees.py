"""river's HalfSpaceTrees, one for each entity, which score a record and learn it; grown before the clock runs."""

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

    def fresh(record: dict[int, float]) -> Any:
        model = HalfSpaceTrees(TREES, HEIGHT, WINDOW, seed=0)
        model.learn_one(record)  # which grows the trees, and takes as long as scoring a hundred records
        return model

    firsts = trained.values[np.unique(trained.entity, return_index=True)[1]]
    grown = map(fresh, records(firsts))
    models: dict[int, Any] = dict(enumerate(grown))  # slots are numbers from 0

    def score(values: Any, slots: Any) -> None:
        for slot, record in zip(slots.tolist(), records(values), strict=True):
            models[slot].score_one(record)
            models[slot].learn_one(record)

    run(told, score)


if __name__ == "__main__":
    main()
