"""From the changes of the control topic to the ruling that each of them leaves in force."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ArtefactError, StateError
from ..models.panel import Scorer
from ..models.version import Version
from ..pipelines.location import NO_PERIOD, period_of
from ..pipelines.schema import FeatureSchema
from ..thresholds.budget import default_budget, parse_budget
from ..thresholds.calibration import Calibration, of_arrays, stack, take
from ..thresholds.drift import TRAINED
from ..thresholds.state import Rules
from .changes import (
    START,
    Calibrated,
    Effective,
    Given,
    Promotion,
    Recalibration,
    Resolve,
    Rollback,
    Versioned,
    apply,
    kind_of,
    unpack_arrays,
)
from .control import Unloadable
from .ruling import Model, Recalibrated, Ruling
from .settings import Incidents, Settings, with_changes

LEAST_CAP = 5
CAP_SHARES = 10.0


def loaded(version: Version, schema: FeatureSchema, follow: float) -> Model:
    """A version made ready to score records of `schema`; compiles its panel.

    `follow` is `[stream] follow`.

    Raises:
        KeyError: the version uses a feature that the stream does not have.
        ArtefactError: its calibration or its reference is not what the thresholds of this release read.
    """
    calibration = calibration_of(version)
    scorer = Scorer(version.params, version.positions(schema.names), len(schema.names))
    scorer.warm()
    records, span_us = calibration.counts[-1].sum(dtype=np.float64), int(calibration.span_us[-1])
    return Model(
        version,
        scorer,
        version.widened_location(schema.names),
        calibration,
        version.calibration["trained_from_us"],
        version.calibration["trained_to_us"],
        {
            signal: np.array([version.reference["mean"][i], version.reference["sd"][i]])
            for i, signal in enumerate(TRAINED)
        },
        period_of(float(records), span_us) if follow else NO_PERIOD,
        1.0 / follow if follow else 0.0,
    )


def calibration_of(version: Version) -> Calibration:
    """What a version brings for the thresholds.

    Raises:
        ArtefactError: an array is missing, or has another type or shape than this release reads.
    """
    needed = {
        name: (version.calibration.get(name), len(version.panel))
        for name in ("trained_from_us", "trained_to_us")
    }
    needed |= {name: (version.reference.get(name), len(TRAINED)) for name in ("mean", "sd")}
    try:
        for name, (array, least) in needed.items():
            if array is None or array.ndim != 1 or len(array) < least:
                raise ValueError(f"it has no usable {name}")
        return of_arrays(version.calibration)
    except ValueError as wrong:
        raise ArtefactError(
            f"the model version {version.name} cannot serve: {wrong}. Train anew with this release."
        ) from None


class Rulings:
    """The fold over a stream's changes, with the ruling after each. Models and rulings are made once.

    `load` gives a model by its version's name and raises ArtefactError where it cannot.
    """

    def __init__(self, settings: Settings, load: Callable[[str], Model]) -> None:
        self._settings = settings
        self._load = load
        self._states: dict[int, Effective] = {-1: START}
        self._changes: dict[int, Versioned] = {}
        self._made: dict[int, Ruling] = {}
        self._recalibrated: dict[int, Recalibrated] = {}
        self._models: dict[str, Model] = {}
        self.newest = -1
        """The last change that was taken in."""

    def checked(self, change: Versioned | Unloadable) -> Versioned | Unloadable:
        """The change, or why it cannot act: a daemon that could not load its model went on with the last good one."""
        if isinstance(change, Versioned) and isinstance(change.change, Promotion | Rollback):
            try:
                self.model(change.change.model)
            except ArtefactError as fault:
                return Unloadable(change.version, kind_of(change.change), str(fault))
        return change

    def take(self, change: Versioned | Unloadable) -> str:
        """Take the next change in; returns why it has no effect, or an empty text.

        Changes come in the order of their versions; one that was taken already is ignored.
        """
        if change.version <= self.newest:
            return ""
        before = self._states[self.newest]
        self.newest = change.version
        if isinstance(change, Unloadable):
            self._states[change.version] = before._replace(version=change.version, refused=change.why)
            return change.why
        self._changes[change.version] = change
        self._states[change.version] = apply(before, change)
        return self._states[change.version].refused

    def effective(self, version: int | None = None) -> Effective:
        """What is in force after a change; after all by default."""
        return self._states[self.newest if version is None else version]

    def change(self, version: int) -> Versioned | None:
        """The change itself; None where it could not be loaded."""
        return self._changes.get(version)

    def resolve(self, version: int) -> Resolve | None:
        """The change where it closes an incident by hand, which leaves the ruling as it is."""
        found = self._changes.get(version)
        return found.change if found is not None and isinstance(found.change, Resolve) else None

    def given(self, version: int) -> Given | None:
        """What the change made of the words on an incident, where it is about one; the ruling stays as it is."""
        found = self._states[version].given
        return found if found is not None and found.version == version else None

    def known(self) -> list[int]:
        """The versions of all changes taken in, ascending."""
        return [version for version in self._states if version >= 0]

    def model(self, name: str) -> Model:
        """A loaded model, kept for later."""
        if name not in self._models:
            self._models[name] = self._load(name)
        return self._models[name]

    def ruling(self, version: int | None = None) -> Ruling:
        """The ruling after a change; the same object whenever it is asked for.

        Raises:
            ArtefactError: its model cannot be loaded.
            StateError: no change up to that one lets a model serve.
        """
        at = self.newest if version is None else version
        if at not in self._made:
            self._made[at] = self._ruling(at)
        return self._made[at]

    def _ruling(self, version: int) -> Ruling:
        now = self._states[version].in_force
        if now.model is None:
            raise StateError(
                f"No change of the control topic up to {version} lets a model serve. Where earlier ones are refused "
                "for want of a signature, set [stream] signed_from to the first version that has one."
            )
        model = self.model(now.model)
        entities = model.version.trained_entities
        recalibrated = None
        if now.recalibration is not None:
            layers = self._layers(now.recalibration)
            counts = [change.entities for _, change in layers if change.entities is not None]
            entities = [entities, *counts][-1]
            over = now.recalibration.version
            if over not in self._recalibrated:
                self._recalibrated[over] = _recalibrated(model, layers)
            recalibrated = self._recalibrated[over]
        file = self._settings.thresholds
        # Only what no change has said is the file's: a default that a change has put in force stays one.
        text = file.budget if now.budget is None else now.budget
        budget = parse_budget(text) if text else default_budget(entities)
        most = file.max_incidents if now.max_incidents is None else now.max_incidents
        most = most or cap(budget.share(entities))
        rules = rules_of(self._settings.incidents, now.settings, most)
        return Ruling(version, model, budget, entities, rules, recalibrated, by_default=not text)

    def _layers(self, last: Calibrated) -> list[tuple[int, Recalibration]]:
        """The recalibrations in force, oldest first."""
        layers = []
        for version in (*last.under, last.version):
            change = self._changes[version].change
            assert isinstance(change, Recalibration)
            layers.append((version, change))
        return layers


def cap(share: float) -> int:
    """The default hard cap on an entity's openings of a day: ten times its share, at least five."""
    return max(LEAST_CAP, math.ceil(CAP_SHARES * share))


def rules_of(incidents: Incidents, changed: dict[str, Any], most: int) -> Rules:
    """The incident machine's rules: the file's, under what changes have set since (`incidents.k`)."""
    now = with_changes(incidents, changed)
    return Rules(
        k=now.k,
        m=now.m,
        exit_k=now.exit_k,
        exit_margin=now.exit_margin,
        fast_margin=now.fast_margin,
        level_change_us=int(now.level_change_after),
        gone_after_us=int(now.gone_after),
        cap=most,
        flap_after=now.flap_after,
        flap_within_us=int(now.flap_within),
        absent_after_us=int(now.absent_after or 0),
        behind_after_us=int(now.behind_after or 0),
        partial_after_us=int(now.partial_after or 0),
    )


def _recalibrated(model: Model, layers: Sequence[tuple[int, Recalibration]]) -> Recalibrated:
    """The model's own calibration under what changes brought, oldest first."""
    trained = len(model.version.entities)
    tables = [take(model.calibration, np.arange(trained))]
    prior = take(model.calibration, [trained])
    at = dict(model.version.entities)
    brought_by: dict[str, int] = {}
    held = trained
    for version, change in layers:
        what = f"change {version} of the control topic"
        tables.append(of_arrays(unpack_arrays(change.calibration, what)))
        at.update({name: held + i for i, name in enumerate(change.names)})
        brought_by.update(dict.fromkeys(change.names, version))
        held += len(change.names)
        if change.prior is not None:
            prior = of_arrays(unpack_arrays(change.prior, what))
    kept = take(stack(tables), list(at.values()))
    rows = {name: row for row, name in enumerate(at)}
    return Recalibrated(layers[-1][0], rows, stack([kept, prior]), brought_by)
