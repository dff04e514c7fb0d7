"""Labelled telemetry: a folder of datasets, each with NAME.train.parquet and NAME.test.parquet for every entity.

`TOCSIN_DATA` names the folder. Columns: `timestamp`, `entity`, numeric features, and `label` (0 or 1), which no
training and no scoring looks at. NAME.causes.csv may say which features the authors of an event's label named.
"""

from __future__ import annotations

import csv
import os
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
META = ("timestamp", "entity", "label")


class Entity(NamedTuple):
    """One entity's files."""

    dataset: str
    name: str
    train: Path
    test: Path

    @property
    def causes(self) -> Path:
        """Where its events' causes are, if they are known."""
        return self.test.with_name(self.test.name.replace(".test.parquet", ".causes.csv"))


class Table(NamedTuple):
    """One file: n records in their order."""

    time_us: NDArray[np.int64]
    values: NDArray[np.float64]
    """[n, F]"""
    label: NDArray[np.int8]
    names: tuple[str, ...]


def folder() -> Path:
    """Where the datasets are."""
    return Path(os.environ.get("TOCSIN_DATA", ROOT.parent / "shared" / "data")).absolute()


def entities(dataset: str) -> list[Entity]:
    """The entities of a dataset, by name. Raises FileNotFoundError."""
    found = sorted((folder() / dataset).glob("*.train.parquet"))
    if not found:
        raise FileNotFoundError(f"{folder() / dataset} holds no NAME.train.parquet; set TOCSIN_DATA")
    names = [path.name.removesuffix(".train.parquet") for path in found]
    return [
        Entity(dataset, name, path, path.with_name(f"{name}.test.parquet"))
        for name, path in zip(names, found, strict=True)
    ]


def read(path: Path) -> Table:
    """A file, in the order of its records."""
    table = pq.read_table(path)
    names = tuple(name for name in table.column_names if name not in META)
    values = np.stack([table[name].to_numpy().astype(np.float64) for name in names], axis=1)
    time_us = pc.cast(table["timestamp"], pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return Table(time_us, values, table["label"].to_numpy().astype(np.int8), names)


def write(path: Path, entity: str, table: Table) -> Path:
    """A file that `train` and `replay` read."""
    columns = {"timestamp": pa.array(table.time_us, pa.timestamp("us", "UTC"))}
    columns["entity"] = pa.array([entity] * len(table.time_us))
    columns |= {name: table.values[:, i].astype(np.float32) for i, name in enumerate(table.names)}
    pq.write_table(pa.table(columns), path)
    return path


def events(label: NDArray[np.int8]) -> list[tuple[int, int]]:
    """First and last record of each longest run of 1."""
    edges = np.flatnonzero(np.diff(np.r_[0, (label == 1).astype(np.int8), 0]))
    return list(zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True))


def causes(entity: Entity) -> list[tuple[int, int, set[str]]]:
    """First and last moment of each event whose causes are known, in microseconds, and the features."""
    with entity.causes.open() as file:
        rows = list(csv.DictReader(file))
    return [(_moment(row["start"]), _moment(row["end"]), set(row["features"].split())) for row in rows]


def _moment(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)
