"""Ranks scores against labels, and runs the floors: in an environment of its own, made from `requirements.txt`.

    python -m benchmarks.detection.judge rank IN.npz OUT.json     arrays KEY/label and KEY/score
    python -m benchmarks.detection.judge floors IN.npz OUT.npz    arrays KEY/train and KEY/test
    python -m benchmarks.detection.judge plot IN.json OUT.svg     detector -> VUS-PR by DATASET/ENTITY

VUS-PR is dtaianomaly's, with windows up to BUFFER records; AUC-PR is scikit-learn's average precision.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

BUFFER = 20


def rank(source: Path, out: Path) -> None:
    from dtaianomaly.evaluation import VolumeUnderPR
    from sklearn.metrics import average_precision_score

    volume = VolumeUnderPR(max_buffer_size=BUFFER)
    found = {}
    with np.load(source) as held:
        for key in sorted({name.rpartition("/")[0] for name in held.files}):
            label, score = held[f"{key}/label"].astype(int), held[f"{key}/score"].astype(float)
            found[key] = {
                "vus_pr": float(volume.compute(label, score)),
                "auc_pr": float(average_precision_score(label, score)),
                "base_rate": float(label.mean()),
            }
    out.write_text(json.dumps(found))


def floors(source: Path, out: Path) -> None:
    from .floors import TABLE

    found = {}
    with np.load(source) as held:
        for key in sorted({name.rpartition("/")[0] for name in held.files}):
            for name, score in TABLE.items():
                train, test = score(held[f"{key}/train"], held[f"{key}/test"])
                found[f"{key}/{name}/train"], found[f"{key}/{name}/test"] = train, test
    np.savez(out, **found)


def plot(source: Path, out: Path) -> None:
    """Left the mean of each dataset by detector, right each entity beside the floor."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "tocsin", "svg.fonttype": "none", "font.size": 9})
    found: dict[str, dict[str, float]] = json.loads(source.read_text())
    detectors = list(found)
    sets = list(dict.fromkeys(name.partition("/")[0] for name in found[detectors[0]]))
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    height = 0.8 / len(sets)
    for at, one in enumerate(sets):
        means = [
            np.mean([v for name, v in found[who].items() if name.startswith(f"{one}/")]) for who in detectors
        ]
        left.barh(np.arange(len(detectors)) + at * height, means, height, label=one)
        both = [
            (found[detectors[1]][name], v)
            for name, v in found[detectors[0]].items()
            if name.startswith(f"{one}/")
        ]
        right.plot(*zip(*both, strict=True), "os^"[at % 3], label=one)
    left.set_yticks(np.arange(len(detectors)) + height * (len(sets) - 1) / 2, detectors)
    left.invert_yaxis()
    left.set_xlabel("VUS-PR(20), mean of the entities")
    left.legend(frameon=False)
    right.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    right.set(xlabel=f"{detectors[1]}, each entity", ylabel=detectors[0], xlim=(0, 1), ylim=(0, 1))
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    {"rank": rank, "floors": floors, "plot": plot}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
