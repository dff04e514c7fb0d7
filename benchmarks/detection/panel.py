"""The product beside the floors on the same records: ranking, incidents, attribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..report import Bar, at_least, at_most
from . import attribution, data, openings
from .bench import SETS, Bench, Judged, by_set, interval, key, ranked, replayed
from .data import Entity

SINGLES = ("mscloud", "nab")
FLOOR = "lag-PCA"
FLOOR_PER_DAY = 1.0


def floors(bench: Bench, members: list[Entity]) -> dict[str, dict[str, tuple[NDArray[Any], NDArray[Any]]]]:
    """Entity -> detector -> scores of train and test."""
    arrays: dict[str, NDArray[Any]] = {}
    for one in members:
        arrays |= {
            f"{key(one)}/train": data.read(one.train).values,
            f"{key(one)}/test": data.read(one.test).values,
        }
    told: dict[str, dict[str, tuple[NDArray[Any], NDArray[Any]]]] = {}
    with np.load(bench.ask("floors", arrays, "floors.npz")) as held:
        for name in held.files:
            stem, _, split = name.rpartition("/")
            if split == "train":
                entity, _, detector = stem.rpartition("/")
                told.setdefault(entity, {})[detector] = (held[name], held[f"{stem}/test"])
    return told


def ranking(bench: Bench, sets: tuple[str, ...], name: str) -> tuple[dict[str, Any], list[Judged]]:
    """The product and all floors on some datasets: VUS-PR and AUC-PR by entity, events by detector."""
    judged: list[Judged] = []
    for one in sets:
        bench.say(f"{name}: {one}")
        judged += replayed(bench.stream(f"{name}-{one}"), data.entities(one))
    told = floors(bench, [one.entity for one in judged])
    scores = {}
    labelled = [one for one in judged if one.test.label.any()]  # there is no ranking without an event
    for one in labelled:
        scores[f"{key(one.entity)}/tocsin"] = (one.test.label, one.scores.score)
        for detector, (_, test) in told[key(one.entity)].items():
            scores[f"{key(one.entity)}/{detector}"] = (one.test.label, test)
    figures = ranked(bench, scores)
    detectors = ["tocsin", *next(iter(told.values()))]
    measured: dict[str, Any] = {}
    for detector in detectors:
        own = {key(one.entity): figures[f"{key(one.entity)}/{detector}"] for one in labelled}
        seen = [_seen(one, detector, told) for one in judged]
        vus = {entity: found["vus_pr"] for entity, found in own.items()}
        measured[detector] = {
            "vus_pr": vus,
            "vus_pr_by_set": by_set(vus),
            "auc_pr_by_set": by_set({entity: found["auc_pr"] for entity, found in own.items()}),
            "base_rate_by_set": by_set({entity: found["base_rate"] for entity, found in own.items()}),
            **openings.together(seen).told(),
            "entities": {key(one.entity): each.told() for one, each in zip(judged, seen, strict=True)},
        }
    for detector in detectors[1:]:
        own_vus, its_vus = (measured[who]["vus_pr"] for who in ("tocsin", detector))
        differences = np.array([own_vus[entity] - its_vus[entity] for entity in own_vus])
        measured[detector]["tocsin_better_by"] = interval(differences)
    return measured, judged


def _seen(one: Judged, detector: str, told: Mapping[str, Any]) -> openings.Seen:
    if detector == "tocsin":
        return openings.of_incidents(one.test.time_us, one.test.label, one.scores.incident)
    train, test = told[key(one.entity)][detector]
    threshold = openings.threshold_of(data.read(one.entity.train).time_us, train, FLOOR_PER_DAY)
    return openings.of_threshold(one.test.time_us, one.test.label, test, threshold)


def panel(bench: Bench) -> tuple[list[Bar], dict[str, Any]]:
    """Fleets of servers and services, beside the floors; the incidents at the default budget; attribution."""
    measured, judged = ranking(bench, SETS, "panel")
    own, floor = measured["tocsin"], measured[FLOOR]
    ratios = {one: own["vus_pr_by_set"][one] / floor["vus_pr_by_set"][one] for one in SETS}
    mean = np.mean(list(own["vus_pr_by_set"].values())) / np.mean(list(floor["vus_pr_by_set"].values()))
    wins = sum(own["vus_pr"][entity] > floor["vus_pr"][entity] for entity in own["vus_pr"])
    measured["attribution"] = named = attributed(judged)
    return [
        at_least("VUS-PR(20), mean of three sets, over lag-PCA", float(mean), "", 1.65),
        at_least("the same on the worst set", min(ratios.values()), "", 1.4),
        at_least(f"entities better than lag-PCA, of {len(judged)}", wins, "", 14),
        at_least("event recall at 1/day per entity", own["recall"], "", 0.85),
        at_most("other openings per entity-day", own["others_per_day"], "", 0.8),
        at_most("normal time inside incidents", own["inside"], "", 0.04),
        at_least(
            "Hit@150 over that of raw z", named["tocsin"]["hit_150"] / named["raw z"]["hit_150"], "", 1.0001
        ),
    ], measured


def attributed(judged: list[Judged]) -> dict[str, Any]:
    """Features named at the last record of each event whose causes are known, beside the largest |z|."""
    told: dict[str, list[tuple[float, float, float]]] = {"tocsin": [], "raw z": []}
    for one in judged:
        if not one.entity.causes.exists():
            continue
        train = data.read(one.entity.train)
        sd = np.nanstd(train.values, axis=0)
        z = np.abs(one.test.values - np.nanmean(train.values, axis=0)) / np.where(sd > 1e-8, sd, 1.0)
        for _, last_us, named in data.causes(one.entity):
            row = int(np.searchsorted(one.test.time_us, last_us, side="right")) - 1
            by_z = [one.test.names[i] for i in np.argsort(-z[row], kind="stable")]
            for who, names in (("tocsin", one.scores.features[row]), ("raw z", by_z)):
                told[who].append(
                    (
                        attribution.hit(names, named, 100),
                        attribution.hit(names, named, 150),
                        attribution.ndcg(names, named),
                    )
                )
    return {
        who: dict(zip(("hit_100", "hit_150", "ndcg"), np.mean(rows, axis=0).tolist(), strict=True))
        | {"events": len(rows)}
        for who, rows in told.items()
    }


def singles(bench: Bench) -> tuple[list[Bar], dict[str, Any]]:
    """Single metrics."""
    measured, _ = ranking(bench, SINGLES, "singles")
    own, floor = (measured[who]["vus_pr_by_set"] for who in ("tocsin", FLOOR))
    ratio = float(np.mean(list(own.values())) / np.mean(list(floor.values())))
    return [at_least("single metrics, VUS-PR(20) over lag-PCA", ratio, "", 1.5)], measured
