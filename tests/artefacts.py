"""A small version as it is written: a manifest, and arrays that no model made."""

from __future__ import annotations

import numpy as np
from tocsin.models.artefact import Manifest

WHEN = "2026-01-01T00:00:00Z"


def manifest(**changes) -> Manifest:
    fields = {
        "stream": "hosts",
        "created": WHEN,
        "features": ["cpu", "mem"],
        "schema_hash": "ab" * 32,
        "columns": ["cpu", "mem"],
        "profile": "shared",
        "lags": 5,
        "members": ["vae"],
        "entities": ["a"],
        "trained_entities": 1,
    }
    return Manifest(**{**fields, **changes})


def tensors(seed: int = 0) -> tuple[dict, dict]:
    rng = np.random.default_rng(seed)
    weights = {
        "params.w": rng.normal(size=(1, 3, 4)).astype(np.float32),
        "params.s": np.float32(3.0).reshape(()),
    }
    calibration = {
        "counts": rng.integers(0, 9, (2, 256)).astype(np.float32),
        "span": np.arange(2, dtype=np.int64),
        "histogram": np.arange(4, dtype=np.uint16),
    }
    return weights, calibration
