"""The epochs of a training as lines of at most 80 columns: as they pass, and as a version remembers them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FIGURES = (
    ("elbo", "ELBO", 8, 2),
    ("kl", "KL", 6, 2),
    ("reconstruction", "reconstr", 8, 2),
    ("active_units", "act", 3, 0),
)
_SPLITS = ("train", "held_out")
_WIDTH = sum(width + 1 for _, _, width, _ in _FIGURES) - 1
_NAMES = " ".join(f"{name:>{width}}" for _, name, width, _ in _FIGURES)
HEADER = (
    f"{'':17}  {'train':^{_WIDTH}}  {'held out':^{_WIDTH}}".rstrip()
    + f"\n{'phase':<9} ep. pan.  {_NAMES}  {_NAMES}"
)


def line(row: Mapping[str, Any]) -> str:
    """One epoch: mean nats over its panels, of both splits where there were two, and active latent units."""
    splits = (_split(row, split) for split in _SPLITS)
    return f"{row['phase']:<9} {row['epoch']:3d} {row['panels']:4d}  {'  '.join(splits)}".rstrip()


def _split(row: Mapping[str, Any], split: str) -> str:
    if row[f"{split}_elbo"] is None:
        return " " * _WIDTH
    return " ".join(f"{row[f'{split}_{key}']:{width}.{digits}f}" for key, _, width, digits in _FIGURES)
