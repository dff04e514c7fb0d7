"""A `Version` as the tensors of an artefact, and back: named arrays, checked against what the scorer needs.

weights       params.whitening.basis, params.members.vae.weights.encoder.first.kernel, ...
calibration   panel, location, calibration.<field>, reference.<signal>
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

import jax
import numpy as np
from numpy.typing import NDArray

from ..errors import ArtefactError
from .artefact import Artefact, Tensors
from .members import TABLE
from .panel import PanelParams, member_names, score_row
from .version import Version
from .whitening import Whitening

PARAMS = "params."
CALIBRATION = "calibration."
REFERENCE = "reference."


class Packed(NamedTuple):
    """The two tensor files of a version."""

    weights: Tensors
    calibration: Tensors


def pack(version: Version, beside: Mapping[str, NDArray[Any]] | None = None) -> Packed:
    """The arrays of a version by name; `beside` are further weights to keep with it, such as baselines."""
    weights = {**(beside or {}), **flatten(PARAMS.removesuffix("."), version.params)}
    calibration: Tensors = {
        "panel": np.asarray(version.panel, np.int32),
        "location": np.asarray(version.location, np.float32),
    }
    calibration |= {CALIBRATION + name: np.asarray(array) for name, array in version.calibration.items()}
    calibration |= {REFERENCE + name: np.asarray(array) for name, array in version.reference.items()}
    return Packed(weights, calibration)


def unpack(artefact: Artefact) -> Version:
    """The version that a verified artefact holds.

    Raises:
        ArtefactError: an array is missing, or has a shape or type that the scorer of this release cannot use.
    """
    manifest = artefact.manifest
    where = str(artefact.path)
    if manifest.profile not in ("shared", "per_entity"):
        raise ArtefactError(
            f"{where}: it has the profile {manifest.profile!r}, which this release does not know"
        )
    unknown = [name for name in manifest.members if name not in TABLE]
    if unknown:
        raise ArtefactError(
            f"{where}: it uses the members {', '.join(unknown)}, which this release does not have"
        )
    rows = len(manifest.entities) + 1
    tensors = artefact.calibration
    version = Version(
        name=manifest.name,
        columns=tuple(manifest.columns),
        schema_hash=manifest.schema_hash,
        lags=manifest.lags,
        profile=cast(Literal["shared", "per_entity"], manifest.profile),
        members=tuple(manifest.members),
        params=_params(artefact.weights, manifest.members, where),
        entities={name: row for row, name in enumerate(manifest.entities)},
        panel=_array(tensors, "panel", np.int32, (rows,), where),
        location=_array(tensors, "location", np.float32, (rows, 4, len(manifest.columns)), where),
        calibration=_group(tensors, CALIBRATION),
        reference=_group(tensors, REFERENCE),
        trained_entities=manifest.trained_entities,
    )
    _check(version, rows, where)
    return version


def flatten(prefix: str, value: Any) -> Tensors:
    """The arrays of nested named tuples and dictionaries, by dotted name."""
    if isinstance(value, Mapping):
        items = list(value.items())
    elif hasattr(value, "_fields"):
        items = list(zip(value._fields, value, strict=True))
    else:
        return {prefix: np.asarray(value)}
    flat: Tensors = {}
    for name, part in items:
        flat |= flatten(f"{prefix}.{name}", part)
    return flat


def _params(weights: Tensors, members: list[str], where: str) -> PanelParams:
    def of(kind: type[Any], prefix: str) -> Any:
        return kind(*(field(f"{prefix}.{name}") for name in kind._fields))

    def field(name: str) -> Any:
        found = weights.get(name)
        if found is None:
            inside = _group(weights, f"{name}.")
            if not inside:
                raise ArtefactError(f"{where}: the tensor {name} is missing")
            return inside
        return found

    own = {name: array for name, array in weights.items() if name.startswith(PARAMS)}
    wrong = [name for name, array in own.items() if array.dtype != np.float32 or array.ndim == 0]
    if wrong:
        raise ArtefactError(f"{where}: the tensor {wrong[0]} is not an array of float32")
    return PanelParams(
        whitening=of(Whitening, "params.whitening"),
        ordinary=field("params.ordinary"),
        members={name: of(TABLE[name].params, f"params.members.{name}") for name in members},
    )


def _array(tensors: Tensors, name: str, dtype: type[Any], shape: tuple[int, ...], where: str) -> NDArray[Any]:
    array = tensors.get(name)
    if array is None:
        raise ArtefactError(f"{where}: the tensor {name} is missing")
    if array.dtype != dtype or array.shape != shape:
        raise ArtefactError(
            f"{where}: the tensor {name} is {array.dtype}{list(array.shape)}, expected "
            f"{np.dtype(dtype)}{list(shape)}"
        )
    return array


def _group(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def _check(version: Version, rows: int, where: str) -> None:
    panels = _panels(version.params, where)
    if version.profile == "shared" and panels != 1:
        raise ArtefactError(f"{where}: the profile is shared, but there are {panels} panels")
    if version.panel.min() < 0 or version.panel.max() >= panels:
        raise ArtefactError(f"{where}: an entity has a panel beyond the {panels} there are")
    if member_names(version.params) != version.members:
        raise ArtefactError(f"{where}: its members are not in the order of this release's table")
    if np.shape(version.params.ordinary) != (panels, len(version.members)):
        raise ArtefactError(
            f"{where}: the tensor params.ordinary does not have one value per panel and member"
        )
    for name, array in version.calibration.items():
        if array.shape[:1] != (rows,):
            raise ArtefactError(
                f"{where}: the calibration {name} has {array.shape[:1]} rows, expected {rows}"
            )
    arrays = {**flatten("params", version.params), "location": version.location, **version.calibration}
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ArtefactError(f"{where}: the tensor {name} holds values that are not finite")
    _check_shapes(version, where)


def _panels(params: PanelParams, where: str) -> int:
    panels = np.shape(params.whitening.mean)[0]
    for name, array in flatten("params", params).items():
        if array.shape[0] != panels:
            raise ArtefactError(f"{where}: the tensor {name} has {array.shape[0]} panels, expected {panels}")
    return int(panels)


def _check_shapes(version: Version, where: str) -> None:
    """Trace one record through the scorer, computing nothing: what traces to the right shapes fits."""
    columns, lags = len(version.columns), version.lags
    one = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape[1:], array.dtype), version.params)
    given = [
        jax.ShapeDtypeStruct(shape, np.float32) for shape in ((lags, columns), (columns,), (4, columns), ())
    ]
    try:
        scored = jax.eval_shape(score_row, one, *given)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ArtefactError(
            f"{where}: its tensors do not fit together for {columns} columns and {lags} lags: {error}"
        ) from error
    expected = ((len(version.members),), (columns,), (columns,), ())
    if tuple(part.shape for part in scored) != expected:
        raise ArtefactError(f"{where}: its tensors do not give one score per member and column")
