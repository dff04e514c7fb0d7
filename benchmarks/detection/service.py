"""`tocsin train` and `tocsin replay` on files, as anyone runs them, with a configuration of two keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import load_file

TOP = 1000
"""All features, so that a ranking can be judged."""
OWN = "calibration."
TOCSIN = [sys.executable, "-m", "tocsin.detector.cli"]
CONFIGURATION = '[stream]\nname = "{name}"\n\n[registry]\npath = "registry"\n'


class Scores(NamedTuple):
    """What a replay says of one entity's records, in their order."""

    time_us: NDArray[np.int64]
    score: NDArray[np.float64]
    """NaN where there is none"""
    incident: NDArray[np.object_]
    """alert_id, or None"""
    features: list[list[str]]
    """the top ones, largest share first"""


class Stream:
    """A folder with a configuration, a registry and a key of its own. `settings` are TOCSIN__… by their lower name."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, object] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "tocsin.toml").write_text(CONFIGURATION.format(name=name))
        given = {
            f"TOCSIN__{key.upper().replace('.', '__')}": str(value) for key, value in (settings or {}).items()
        }
        self._environment = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config"), **given}

    def train(self, files: Iterable[Path], *more: str) -> dict[str, Any]:
        """A version; what the command says of it."""
        told: dict[str, Any] = json.loads(self._run("train", "--json", *more, "--data", *map(str, files)))
        return told

    def replay(self, files: Iterable[Path], *more: str) -> dict[str, Scores]:
        """Scores and incidents by entity."""
        self._run("replay", "--out", "scores.parquet", "--top", str(TOP), *more, "--data", *map(str, files))
        table = pq.read_table(self.folder / "scores.parquet")
        names = table["entity"].to_numpy()
        columns = [
            table["timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy(),
            table["score"].to_numpy(zero_copy_only=False),
            np.array(table["incident"].to_pylist(), object),
        ]
        features = table["top_features"].to_pylist()
        found = {}
        for name in sorted(set(names)):
            rows = np.flatnonzero(names == name)
            found[name] = Scores(*(column[rows] for column in columns), [features[i] or [] for i in rows])
        return found

    def calibration(self) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
        """The entities of the newest version, and its calibration: a row for each of them in every array."""
        version = max((self.folder / "registry").glob("*/v*"))
        names: list[str] = json.loads((version / "manifest.json").read_text())["entities"]
        arrays = load_file(version / "calibration.safetensors")
        own = {key.removeprefix(OWN): array for key, array in arrays.items() if key.startswith(OWN)}
        return names, {key: array[: len(names)] for key, array in own.items()}

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*TOCSIN, *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"tocsin {arguments[0]}: exit code {done.returncode}\n{done.stderr[-3000:]}")
        return done.stdout
