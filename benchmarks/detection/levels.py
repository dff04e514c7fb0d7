"""Opening levels on normal records: the rate they keep, the time they foretell, what anomalies in train do to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..report import Bar, at_least, at_most
from . import data, openings
from .bench import SETS, Bench
from .data import Table
from .service import Scores

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
