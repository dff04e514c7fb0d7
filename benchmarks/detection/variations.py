"""The product beside itself: without the VAE, with other seeds, with what else could have been chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..report import Bar, at_least
from . import data, openings
from .bench import SETS, Bench, by_set, interval, key, ranked, replayed
from .panel import SINGLES

SEEDS = (0, 1, 2)


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
        told[str(seed)] = _told(_with(bench, f"seed-{seed}", train__seed=seed))
    return [], told


class Found(NamedTuple):
    """What one configuration makes of one entity's test records."""

    vus_pr: float
    seen: openings.Seen


def hours(bench: Bench) -> tuple[list[Bar], dict[str, Any]]:
    """`[train] time_of_day` against the default, also on single metrics, paired by entity."""
    runs = {}
    for told in ("false", "true"):
        bench.say(f"hours: time_of_day = {told}")
        runs[f"time_of_day = {told}"] = _with(
            bench, f"hours-{told}", sets=(*SETS, *SINGLES), train__time_of_day=told
        )
    without, given = runs.values()
    gained = np.array([given[at].vus_pr - one.vus_pr for at, one in without.items()])
    return [], {name: _told(found) for name, found in runs.items()} | {"gain": interval(gained)}


def _with(
    bench: Bench, name: str, without: int | None = None, sets: Sequence[str] = SETS, **settings: object
) -> dict[str, Found]:
    """Entities of the sets under these settings, by DATASET/ENTITY; without an event there is no ranking of one.

    All of them; or every FOLDS-th from the `without`-th on, which the training then does not see.
    """
    scores, seen = {}, {}
    for one in sets:
        members = data.entities(one)
        out = members if without is None else members[without::FOLDS]
        if not out:  # a set of fewer entities than folds
            continue
        known = members if without is None else [member for member in members if member not in out]
        for judged in replayed(bench.stream(f"{name}-{one}", **settings), out, known):
            if not judged.test.label.any():
                continue
            at = key(judged.entity)
            scores[at] = (judged.test.label, judged.scores.score)
            seen[at] = openings.of_incidents(judged.test.time_us, judged.test.label, judged.scores.incident)
    return {at: Found(figure["vus_pr"], seen[at]) for at, figure in ranked(bench, scores).items()}


FOLDS = 5


def profiles(bench: Bench) -> tuple[list[Bar], dict[str, Any]]:
    """One panel for each entity, one for all, and one that has never seen the entity it scores.

    The last is a fleet's newcomer: every fifth entity is left out of the training, its train records are replayed as
    those of an entity the version does not know, and its test records judged.
    """
    told: dict[str, Any] = {}
    for profile in ("per_entity", "shared"):
        bench.say(f"profiles: {profile}")
        told[profile] = _told(_with(bench, f"profile-{profile}", stream__profile=profile))
    found: dict[str, Found] = {}
    for fold in range(FOLDS):
        bench.say(f"profiles: newcomers, {fold + 1} of {FOLDS}")
        found |= _with(bench, f"newcomers-{fold}", without=fold, stream__profile="shared")
    told["shared, entity left out"] = _told(found)
    return [], told


def _told(found: Mapping[str, Found]) -> dict[str, Any]:
    by = by_set({name: one.vus_pr for name, one in found.items()})
    return {"vus_pr": _vus(found), "vus_pr_by_set": by, **_pooled(found).told()}


FOLLOWS = (16.0, 8.0, 32.0)
RULES = ((2, 3, 5), (2, 3, 3), (3, 5, 3), (3, 5, 5))
"""k, m and exit_k. The first of either goes with what is tried of the other."""
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
    told: dict[str, Any] = {f"{what} {value}": _told(found) for (what, value), found in runs.items()}
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
