"""Ranks scores against labels, and runs the floors: in an environment of its own, made from `requirements.txt`.

    python -m benchmarks.detection.judge rank IN.npz OUT.json     arrays KEY/label and KEY/score
    python -m benchmarks.detection.judge floors IN.npz OUT.npz    arrays KEY/train and KEY/test

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


if __name__ == "__main__":
    {"rank": rank, "floors": floors}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
