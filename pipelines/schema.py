"""The ordered features of a stream: what a model version is trained for and a message is mapped onto."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError


@dataclass(frozen=True)
class FeatureSchema:
    """Feature names in order, and which of them are counters (ever growing, turned into rates).

    Raises DataError for no features, an empty or repeated name, and a counter that is no feature.
    """

    names: tuple[str, ...]
    counters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            raise DataError("a feature schema needs at least one feature, and none was given")
        for kind, names in (("feature", self.names), ("counter", self.counters)):
            if "" in names:
                raise DataError(f"a {kind} has an empty name; every {kind} needs one")
            if len(set(names)) != len(names):
                twice = sorted({name for name in names if names.count(name) > 1})
                raise DataError(f"{kind} {', '.join(map(repr, twice))} is listed twice; list each once")
        unknown = sorted(set(self.counters) - set(self.names))
        if unknown:
            raise DataError(
                f"counter {', '.join(map(repr, unknown))} is not among the features; add it there"
            )

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) over names, their order, and which are counters (whose order says nothing)."""
        content = json.dumps([self.names, sorted(self.counters)], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def index(self) -> dict[str, int]:
        """Feature name to its place."""
        return {name: place for place, name in enumerate(self.names)}

    @property
    def counter_index(self) -> NDArray[np.int32]:
        """[C] the places of the counters, ascending."""
        return np.array(sorted(self.index[name] for name in self.counters), np.int32)

    def __len__(self) -> int:
        return len(self.names)

    def to_json(self) -> dict[str, list[str]]:
        """A JSON object that `from_json` reads back."""
        return {"names": list(self.names), "counters": list(self.counters)}

    @staticmethod
    def from_json(content: object) -> FeatureSchema:
        """Read what `to_json` wrote. Raises DataError for anything else."""
        if not isinstance(content, dict) or set(content) != {"names", "counters"}:
            raise DataError("a feature schema is a JSON object with the keys 'names' and 'counters'")
        return FeatureSchema(_texts(content["names"]), _texts(content["counters"]))


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, Iterable) or isinstance(values, str | bytes):
        raise DataError("the names in a feature schema must be a list of strings")
    listed = tuple(values)
    if not all(isinstance(value, str) for value in listed):
        raise DataError("the names in a feature schema must be a list of strings")
    return listed
