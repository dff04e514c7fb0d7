"""What is measured, case by case: each returns its bars and everything else that was seen."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..report import Bar, at_least, at_most
from . import attribution, data, openings
from .data import Entity, Table
from .service import Scores, Stream

SETS = ("smd", "asd", "jumpstarter-d2")
SINGLES = ("mscloud", "nab")
SEEDS = (0, 1, 2)
FLOOR = "lag-PCA"
FLOOR_PER_DAY = 1.0
ORDINARY = 0.0
"""In the place of a score where there is none."""
DRAWS = 10_000


class Bench(NamedTuple):
    """What every case needs."""

    folder: Path
    judge: Path
    """The Python of the environment that ranks and runs the floors."""
    say: Callable[[str], None]

    def ask(self, what: str, arrays: Mapping[str, NDArray[Any]], out: str) -> Path:
        """Run the judge."""
        source = self.folder / f"{what}-in.npz"
        np.savez(source, **arrays)
        target = self.folder / out
        command = [str(self.judge), "-m", "benchmarks.detection.judge", what, str(source), str(target)]
        subprocess.run(command, cwd=data.ROOT, check=True)
        return target

    def stream(self, name: str, **settings: object) -> Stream:
        """A fresh folder."""
        given = {key.replace("__", "."): value for key, value in settings.items()}
        return Stream(self.folder / name, "bench", given)


class Judged(NamedTuple):
    """One entity's test records, and what a replay said of them."""

    entity: Entity
    test: Table
    scores: Scores


def key(entity: Entity) -> str:
    return f"{entity.dataset}/{entity.name}"


def replayed(stream: Stream, members: list[Entity]) -> list[Judged]:
    """Train on all train files, replay train then test; the test records of each entity."""
    stream.train([one.train for one in members])
    found = stream.replay([file for one in members for file in (one.train, one.test)])
    judged = []
    for one in members:
        test, scores = data.read(one.test), found[one.name]
        rows = len(scores.time_us) - len(test.time_us)
        assert (scores.time_us[rows:] == test.time_us).all(), one
        own = Scores(*(column[rows:] for column in scores))
        judged.append(Judged(one, test, own))
    return judged


def ranked(
    bench: Bench, scores: Mapping[str, tuple[NDArray[np.int8], NDArray[np.float64]]]
) -> dict[str, Any]:
    """VUS-PR and AUC-PR by key."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, (label, score) in scores.items():
        arrays |= {f"{name}/label": label, f"{name}/score": np.nan_to_num(score, nan=ORDINARY)}
    found: dict[str, Any] = json.loads(bench.ask("rank", arrays, "rank.json").read_text())
    return found


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


def by_set(values: Mapping[str, float]) -> dict[str, float]:
    """Means over the entities of each dataset, of values by DATASET/ENTITY."""
    sets = dict.fromkeys(name.partition("/")[0] for name in values)
    return {
        one: float(np.mean([value for name, value in values.items() if name.startswith(f"{one}/")]))
        for one in sets
    }


def interval(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean of paired differences, and the 95 % percentile bootstrap interval over entities."""
    random = np.random.default_rng(0)
    means = random.choice(differences, (DRAWS, len(differences))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


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


def ablation(bench: Bench) -> tuple[list[Bar], dict[str, Any]]:
    """All members against all but the VAE: the same everything, several seeds, paired by entity."""
    vus: dict[str, list[dict[str, float]]] = {"all": [], "without": []}
    for seed in SEEDS:
        for who, members in (
            ("all", '["vae", "half", "errs", "jump"]'),
            ("without", '["half", "errs", "jump"]'),
        ):
            bench.say(f"ablation: seed {seed}, {who}")
            scores = {}
            for one in SETS:
                stream = bench.stream(
                    f"ablation-{one}-{who}-{seed}", train__seed=seed, stream__members=members
                )
                for found in replayed(stream, data.entities(one)):
                    scores[key(found.entity)] = (found.test.label, found.scores.score)
            vus[who].append({name: found["vus_pr"] for name, found in ranked(bench, scores).items()})
    names = list(vus["all"][0])
    means = {
        who: np.array([np.mean([run[name] for run in runs]) for name in names]) for who, runs in vus.items()
    }
    gain, low, high = interval(means["all"] - means["without"])
    return [
        at_least("VUS-PR gained by the VAE's terms", gain, "", 0.015),
        at_least("the same, lower end of the 95 % interval", low, "", 0.0),
    ], {"gain": (gain, low, high), "vus_pr": vus}


def seeds(bench: Bench) -> tuple[list[Bar], dict[str, Any]]:
    """The panel's ranking and incidents with other seeds of training: how far chance moves them."""
    told: dict[str, Any] = {}
    for seed in SEEDS:
        bench.say(f"seeds: {seed}")
        found = _with(bench, f"seed-{seed}", train__seed=seed)
        pooled = openings.together([one.seen for one in found.values()])
        vus = by_set({name: one.vus_pr for name, one in found.items()})
        told[str(seed)] = {
            "vus_pr": float(np.mean(list(vus.values()))),
            "vus_pr_by_set": vus,
            **pooled.told(),
        }
    return [], told


class Found(NamedTuple):
    """What one configuration makes of one entity's test records."""

    vus_pr: float
    seen: openings.Seen


def _with(bench: Bench, name: str, **settings: object) -> dict[str, Found]:
    """All entities of the sets under these settings, by DATASET/ENTITY."""
    scores, seen = {}, {}
    for one in SETS:
        for judged in replayed(bench.stream(f"{name}-{one}", **settings), data.entities(one)):
            at = key(judged.entity)
            scores[at] = (judged.test.label, judged.scores.score)
            seen[at] = openings.of_incidents(judged.test.time_us, judged.test.label, judged.scores.incident)
    return {at: Found(figure["vus_pr"], seen[at]) for at, figure in ranked(bench, scores).items()}


FOLLOWS = (8.0, 16.0, 32.0)
RULES = ((2, 3, 5), (2, 3, 3), (3, 5, 3), (3, 5, 5))
"""k, m and exit_k. The first of either goes with what is tried of the other."""
FOLDS = 5
MOST_OTHERS, MOST_INSIDE = 0.8, 0.04


def choices(bench: Bench) -> tuple[list[Bar], dict[str, Any]]:
    """What was chosen beyond the recipe, chosen again without the entities that it is judged on.

    How slowly locations follow is chosen by the ranking, the incident machine's rules by the events found where other
    openings and time inside stay below what is allowed; once without one dataset at a time, once without a fifth of
    the entities at a time. Each part is judged under what the rest chose.
    """
    runs: dict[tuple[str, object], dict[str, Found]] = {}
    for follow in FOLLOWS:
        bench.say(f"choices: locations follow {follow:g} times slower")
        runs["follow", follow] = _chosen(bench, follow, RULES[0])
    runs["rules", RULES[0]] = runs["follow", FOLLOWS[0]]
    for rules in RULES[1:]:
        bench.say("choices: {} of {}, {} to end".format(*rules))
        runs["rules", rules] = _chosen(bench, FOLLOWS[0], rules)
    names = list(runs["follow", FOLLOWS[0]])
    by_dataset = [[name for name in names if name.startswith(f"{one}/")] for one in SETS]
    by_fold = [names[at::FOLDS] for at in range(FOLDS)]
    told: dict[str, Any] = {
        f"{what} {value}": {"vus_pr": _vus(found), **_pooled(found).told()}
        for (what, value), found in runs.items()
    }
    for how, parts in (("one dataset left out", by_dataset), ("one fifth left out", by_fold)):
        followed: dict[str, Found] = {}
        ruled: dict[str, Found] = {}
        picked = []
        for part in parts:
            rest = {at: {n: one for n, one in found.items() if n not in part} for at, found in runs.items()}
            pace = max((at for at in rest if at[0] == "follow"), key=lambda at: _vus(rest[at]))
            machine = max((at for at in rest if at[0] == "rules"), key=lambda at: _worth(_pooled(rest[at])))
            picked.append({"without": part, "follow": pace[1], "rules": machine[1]})
            followed |= {name: runs[pace][name] for name in part}
            ruled |= {name: runs[machine][name] for name in part}
        told[how] = {"vus_pr": _vus(followed), **_pooled(ruled).told(), "picked": picked}
    return [], told


def _chosen(bench: Bench, follow: float, rules: tuple[int, int, int]) -> dict[str, Found]:
    k, m, exit_k = rules
    given = {"incidents__k": k, "incidents__m": m, "incidents__exit_k": exit_k}
    return _with(bench, f"choice-{follow:g}-{k}-{m}-{exit_k}", stream__follow=follow, **given)


def _vus(found: Mapping[str, Found]) -> float:
    return float(np.mean(list(by_set({name: one.vus_pr for name, one in found.items()}).values())))


def _pooled(found: Mapping[str, Found]) -> openings.Seen:
    return openings.together([one.seen for one in found.values()])


def _worth(seen: openings.Seen) -> tuple[bool, float]:
    return seen.others_per_day <= MOST_OTHERS and seen.inside <= MOST_INSIDE, seen.recall


RATES = (("1/day per entity", 1.0), ("1/week per entity", 1 / 7))
RUN_LENGTH_DRAWS = 200


def rate(bench: Bench) -> tuple[list[Bar], dict[str, Any]]:
    """Openings on the last third of each train file, calibrated on the first two, over what the budget allows."""
    told: dict[str, dict[str, tuple[int, float]]] = {budget: {} for budget, _ in RATES}
    run_lengths: dict[str, dict[str, float]] = {}
    for name in SETS:
        members = data.entities(name)
        cut = bench.folder / f"two-thirds-{name}"
        cut.mkdir()
        files, borders = [], {}
        for one in members:
            table = data.read(one.train)
            end = 2 * len(table.time_us) // 3
            files.append(
                data.write(
                    cut / f"{one.name}.parquet", one.name, Table(*(c[:end] for c in table[:3]), table.names)
                )
            )
            borders[one.name] = end
        for budget, per_day in RATES:
            bench.say(f"rate: {name}, {budget}")
            stream = bench.stream(
                f"rate-{name}-{per_day:.2f}", thresholds__budget=budget, thresholds__max_incidents=1_000_000
            )
            stream.train(files)
            entities, calibration = stream.calibration()
            for entity, scores in stream.replay([one.train for one in members]).items():
                after = slice(borders[entity], None)
                if per_day == RATES[0][1]:
                    row = entities.index(entity)
                    own = {of: array[row] for of, array in calibration.items()}
                    run_lengths[f"{name}/{entity}"] = run_length(own, scores, borders[entity])
                seen = openings.of_incidents(
                    scores.time_us[after],
                    np.zeros(len(scores.time_us[after]), np.int8),
                    scores.incident[after],
                )
                told[budget][f"{name}/{entity}"] = (seen.others, seen.days * per_day)
    daily = np.array([count / allowed for count, allowed in told[RATES[0][0]].values()])
    weekly = list(told[RATES[1][0]].values())
    pooled = sum(count for count, _ in weekly) / sum(allowed for _, allowed in weekly)
    median = float(np.median(daily))
    return [
        at_least("false openings over the budget, 1/day, median entity: at least", median, "", 0.3),
        at_most("the same: at most", median, "", 1.5),
        at_most("the same, worst entity", float(daily.max()), "", 2.5),
        at_least("false openings over the budget, 1/week, pooled: at least", pooled, "", 0.3),
        at_most("the same: at most", pooled, "", 2.0),
    ], {"openings_and_allowed": told, "run_length": _together(run_lengths)}


def run_length(own: Mapping[str, NDArray[np.float64]], scores: Scores, border: int) -> dict[str, float]:
    """The time between two false incidents as `recalibrate` says it, from half of what a version has not seen.

    `counted` are the openings of the other half, which are normal too; `expected`, `least` and `most` what the time and
    its interval make of that half's days.
    """
    from tocsin.thresholds.run_length import mean_run_length
    from tocsin.thresholds.state import Rules

    middle = (border + len(scores.score)) // 2
    learned, counted = slice(border, middle), slice(middle, None)
    score, time_us = scores.score[learned], scores.time_us[learned]
    usable = np.isfinite(score)
    found = mean_run_length(
        score[usable],
        time_us[usable],
        half_life=float(own["half_life"]),
        rules=Rules(),
        level=float(own["level"]),
        start=float(np.median(score[usable])),
        block=int(own["blocks"][0]),
        draws=RUN_LENGTH_DRAWS,
        rng=np.random.default_rng(0),
    )
    rest = scores.time_us[counted]
    seen = openings.of_incidents(rest, np.zeros(len(rest), np.int8), scores.incident[counted])
    return {
        "counted": seen.others,
        "expected": seen.days / found.mean,
        "least": seen.days / found.high,
        "most": seen.days / found.low,
    }


def _together(found: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Counted and expected over all, and how many entities' intervals meet that of their count (95 %)."""
    from tocsin.thresholds.run_length import poisson_limits

    limits = [poisson_limits(one["counted"]) for one in found.values()]
    meet = [
        low <= one["most"] and one["least"] <= high
        for one, (low, high) in zip(found.values(), limits, strict=True)
    ]
    return {
        "counted": sum(one["counted"] for one in found.values()),
        "expected": sum(one["expected"] for one in found.values()),
        "meet": sum(meet),
        "entities": len(found),
        "each": found,
    }


PLANTED = ((0.001, 0.05), (0.01, 0.2), (0.05, 0.6))
PLANT_LENGTH, PLANT_SD, PLANT_FEATURES = 10, 5.0, 3


def contamination(bench: Bench) -> tuple[list[Bar], dict[str, Any]]:
    """How far anomalies among the train records move the level at 1/day."""
    levels: dict[float, dict[str, float]] = {}
    for share, _ in ((0.0, 0.0), *PLANTED):
        levels[share] = {}
        for name in SETS:
            bench.say(f"contamination: {name}, {share:.1%}")
            stream = bench.stream(f"planted-{name}-{share}")
            files = []
            for number, one in enumerate(data.entities(name)):
                table = planted(data.read(one.train), share, number)
                files.append(data.write(stream.folder / f"{one.name}.parquet", one.name, table))
            stream.train(files)
            entities, calibration = stream.calibration()
            of_each = zip(entities, calibration["level"].tolist(), strict=True)
            levels[share] |= {f"{name}/{entity}": level for entity, level in of_each}
    shifts = {
        share: {name: abs(level / levels[0.0][name] - 1) for name, level in levels[share].items()}
        for share, _ in PLANTED
    }
    return [
        at_most(
            f"shift of the level with {share:.1%} planted, median",
            float(np.median(list(shifts[share].values()))),
            "",
            most,
        )
        for share, most in PLANTED
    ], {"levels": levels}


def planted(table: Table, share: float, seed: int) -> Table:
    """The same with anomalies at random places: PLANT_LENGTH records, PLANT_SD in PLANT_FEATURES features."""
    random = np.random.default_rng((seed, round(share * 1000)))
    values = table.values.copy()
    sd = np.nanstd(values, axis=0)
    for _ in range(round(share * len(values) / PLANT_LENGTH)):
        first = random.integers(len(values) - PLANT_LENGTH)
        chosen = random.choice(values.shape[1], min(PLANT_FEATURES, values.shape[1]), replace=False)
        sign = random.choice([-1.0, 1.0], len(chosen))
        values[first : first + PLANT_LENGTH, chosen] += PLANT_SD * sd[chosen] * sign
    return table._replace(values=values)


NOISE, PHI, SHIFTS, SHIFT_SD = 1_000_000, 0.98, 200, 2.0


def drift(bench: Bench) -> tuple[list[Bar], dict[str, Any]]:
    """Decisions of the group's and the entity's detector on autoregressive noise, and after planted shifts."""
    from tocsin.thresholds import cusum
    from tocsin.thresholds import drift as own

    bench.say("drift")
    block = own.block_records(1)
    random = np.random.default_rng(0)
    noise = random.standard_normal(NOISE)
    x = np.empty(NOISE)
    last = 0.0
    for i, fresh in enumerate(noise):
        last = PHI * last + fresh
        x[i] = last
    means = x[: NOISE // block * block].reshape(-1, block).mean(axis=1)
    means = (means - means[: len(means) // 4].mean()) / means[: len(means) // 4].std()
    false = len(_decisions(means))
    measured = cusum.measure(x[: NOISE // 4])
    length = int(measured[0])
    false_own = len(_shifts(measured, x[: NOISE // length * length].reshape(-1, length).mean(axis=1)))
    counts, delays, counts_own, delays_own = [], [], [], []
    for number in range(SHIFTS):
        shifted = np.random.default_rng((1, number)).standard_normal(200)
        shifted[100:] += SHIFT_SD
        found = _decisions(shifted)
        counts.append(len(found))
        delays += [at - 99 for at in found[:1]]
        history = shifted[:50]
        known = np.array([length, len(history), history.mean(), history.std(ddof=1)])
        found = _shifts(known, shifted[50:])
        counts_own.append(len(found))
        delays_own += [at - 49 for at in found[:1]]
    return [
        at_most("false drift decisions on AR(.98) noise, 1,000,000 points", false, "", 0),
        at_least(
            "planted shifts with exactly one decision, share", float(np.mean(np.array(counts) == 1)), "", 1.0
        ),
        at_most("delay to notice a shift of 2 sd, median, ADWIN", float(np.median(delays)), "blocks", 15),
        at_most("false shifts by the entity's CUSUM on that noise", false_own, "", 0),
        at_least(
            "planted shifts with exactly one decision by the CUSUM, share",
            float(np.mean(np.array(counts_own) == 1)),
            "",
            1.0,
        ),
        at_most("delay to notice a shift of 2 sd, median, CUSUM", float(np.median(delays_own)), "blocks", 5),
    ], {
        "blocks": len(means),
        "decisions_per_shift": np.bincount(counts).tolist(),
        "entity_block_records": length,
        "entity_decisions_per_shift": np.bincount(counts_own).tolist(),
    }


def _shifts(measured: NDArray[np.float64], means: NDArray[np.float64]) -> list[int]:
    """Blocks at which an entity's CUSUM decides that starts from what was measured."""
    from tocsin.thresholds import cusum
    from tocsin.thresholds.state import CORE

    core = np.zeros(1, CORE)[0]
    cusum.begin(core, measured, True)
    return [at for at, mean in enumerate(means.tolist()) if cusum.take(core, mean)]


def _decisions(means: NDArray[np.float64]) -> list[int]:
    """Blocks at which the group's detector decides, fed as the chain feeds it."""
    from tocsin.thresholds import drift as own
    from tocsin.thresholds.state import BLOCK_MEANS

    state = own.init(1)
    reference = {signal: np.array([0.0, 1.0]) for signal in own.SIGNALS}
    found = []
    for at, mean in enumerate(means.tolist()):
        row = np.zeros(1, BLOCK_MEANS)[0]
        row["score"], row["level"], row["missing"] = mean, np.nan, np.nan
        found += [at for _ in own.take(state, row, reference)]
    return found


COST_ROUNDS = 3


def cost(bench: Bench) -> tuple[list[Bar], dict[str, Any]]:
    """CPU time per record of the daemon, beside the first chain's: in a venv of its own, runs alternated."""
    (commit,) = (word for word in (data.ROOT / "benchmarks" / "first-chain.txt").read_text().split()[:1])
    first = bench.folder / "first-chain"
    subprocess.run(["git", "clone", "-q", str(data.ROOT), str(first)], check=True)
    subprocess.run(["git", "-C", str(first), "checkout", "-q", commit], check=True)
    subprocess.run(["make", "install", "kafka"], cwd=first, check=True, stdout=subprocess.DEVNULL)
    spent: dict[str, list[float]] = {"first chain": [], "now": []}
    for number in range(COST_ROUNDS):
        for who, root in (("first chain", first), ("now", data.ROOT)):
            out = bench.folder / f"cost-{number}.json"
            told = ["--only", "rates", "--repetitions", "1", "--out", str(out)]
            subprocess.run(
                [str(root / ".venv/bin/python"), "-m", "benchmarks.throughput", *told],
                cwd=root,
                check=False,  # its own bar is not this one's
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            spent[who].append(json.loads(out.read_text())["measured"]["daemon_cpu_us"])
            bench.say(f"cost: {who}, {spent[who][-1]:.2f} us of CPU a record")
    added = float(np.median(spent["now"]) / np.median(spent["first chain"]) - 1)
    return [at_most("CPU time per record added to the first chain's", added, "", 0.3)], {"cpu_us": spent}


TABLE: dict[str, Callable[[Bench], tuple[list[Bar], dict[str, Any]]]] = {
    "panel": panel,
    "singles": singles,
    "seeds": seeds,
    "choices": choices,
    "ablation": ablation,
    "rate": rate,
    "contamination": contamination,
    "drift": drift,
    "cost": cost,
}
