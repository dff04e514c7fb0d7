"""What all cases share: folders, the product run on datasets, the judge, means and intervals."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import data
from .data import Entity, Table
from .service import Scores, Stream

SETS = ("smd", "asd", "jumpstarter-d2")
ORDINARY = 0.0
"""In the place of a score where there is none."""
DRAWS = 10_000


class Bench(NamedTuple):
    """What every case needs."""

    folder: Path
    judge: Path
    """The Python of the environment that ranks and runs the floors."""
    say: Callable[[str], None]

    def ask(self, what: str, arrays: Mapping[str, NDArray[Any]], out: str) -> Path:
        """Run the judge."""
        source = self.folder / f"{what}-in.npz"
        np.savez(source, **arrays)
        target = self.folder / out
        command = [str(self.judge), "-m", "benchmarks.detection.judge", what, str(source), str(target)]
        subprocess.run(command, cwd=data.ROOT, check=True)
        return target

    def stream(self, name: str, **settings: object) -> Stream:
        """A fresh folder."""
        given = {key.replace("__", "."): value for key, value in settings.items()}
        return Stream(self.folder / name, "bench", given)


class Judged(NamedTuple):
    """One entity's test records, and what a replay said of them."""

    entity: Entity
    test: Table
    scores: Scores


def key(entity: Entity) -> str:
    return f"{entity.dataset}/{entity.name}"


def replayed(stream: Stream, members: list[Entity], known: list[Entity] | None = None) -> list[Judged]:
    """Train on the train files of these, or of `known`; replay train then test; the test records of each entity."""
    stream.train([one.train for one in (members if known is None else known)])
    found = stream.replay([file for one in members for file in (one.train, one.test)])
    judged = []
    for one in members:
        test, scores = data.read(one.test), found[one.name]
        rows = len(scores.time_us) - len(test.time_us)
        assert (scores.time_us[rows:] == test.time_us).all(), one
        own = Scores(*(column[rows:] for column in scores))
        judged.append(Judged(one, test, own))
    return judged


def ranked(
    bench: Bench, scores: Mapping[str, tuple[NDArray[np.int8], NDArray[np.float64]]]
) -> dict[str, Any]:
    """VUS-PR and AUC-PR by key."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, (label, score) in scores.items():
        arrays |= {f"{name}/label": label, f"{name}/score": np.nan_to_num(score, nan=ORDINARY)}
    found: dict[str, Any] = json.loads(bench.ask("rank", arrays, "rank.json").read_text())
    return found


def by_set(values: Mapping[str, float]) -> dict[str, float]:
    """Means over the entities of each dataset, of values by DATASET/ENTITY."""
    sets = dict.fromkeys(name.partition("/")[0] for name in values)
    return {
        one: float(np.mean([value for name, value in values.items() if name.startswith(f"{one}/")]))
        for one in sets
    }


def interval(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean of paired differences, and the 95 % percentile bootstrap interval over entities."""
    random = np.random.default_rng(0)
    means = random.choice(differences, (DRAWS, len(differences))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)
