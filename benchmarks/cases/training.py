"""Seconds to train the models of many entities: one at a time or many in one loop, on one device or on all."""

from __future__ import annotations

import time
from typing import NamedTuple

from tocsin.models import devices, fitting, scaling
from tocsin.models.training import EPOCHS

from ..bench import Found, Loop, Suite, by_turns
from ..feed import MAIN, SEED, Shape, telemetry


class Work(NamedTuple):
    """How many entities of how many records, and how many at once: the second of these in other ways, too."""

    entities: int
    records: int
    repetitions: int
    stacks: tuple[int, ...]
    shape: Shape


FULL = Work(32, 1000, 3, (1, 8, 32), MAIN)
FAST = Work(4, 120, 1, (1, 4), Shape(4, 2))


def measure(suite: Suite) -> Found:
    """Train them to the end, in turns; what is compiled was compiled before, and the time of that is told apart."""
    return train(FAST if suite.fast else FULL, suite.size.steps)


def train(work: Work, steps: int) -> Found:
    """Train so much, by all ways."""
    entities, shape = work.entities, work.shape
    examples = _examples(entities, work.records, shape)
    found, plain = devices.usable(), fitting.Recipe(steps=steps, rehearse=False)
    side = plain._replace(stack=work.stacks[1])
    ways = {
        f"{stack} in a loop, devices: {len(found)}": (plain._replace(stack=stack), len(found))
        for stack in work.stacks
    }
    ways[f"{side.stack} in a loop, devices: 1"] = (side, 1)
    ways[f"{side.stack} in a loop, devices: 1, bfloat16"] = (side._replace(precision="bfloat16"), 1)
    loops: dict[str, Loop] = {}
    cold: dict[str, float] = {}
    for name, (recipe, count) in ways.items():

        def seconds(recipe: fitting.Recipe = recipe, count: int = count) -> float:
            begun = time.monotonic()
            fitting.fit_panels(iter(examples), recipe, on=found[:count])
            return time.monotonic() - begun

        cold[name] = seconds()
        loops[name] = lambda seconds=seconds: entities / seconds()
    rates = by_turns(loops, work.repetitions)
    notes = [
        f"{name}: {entities / seen['median']:.2f} s to the end ({entities / seen['most']:.2f} to "
        f"{entities / seen['least']:.2f}), {entities / seen['median'] / EPOCHS:.3f} s an epoch, "
        f"{cold[name]:.2f} s with compiling; {seen['median']:.2f} models/s"
        for name, seen in rates.items()
    ]
    told = f"{entities} entities of {work.records} records, {shape.features} x {shape.lags}, {steps} steps"
    return Found([], {"notes": [told, *notes], "models_per_s": rates, "cold_s": cold})


def _examples(entities: int, records: int, shape: Shape) -> list[list[fitting.Examples]]:
    fleet = telemetry.generate(SEED, entities, records, shape.features)
    runs = [fleet.values[fleet.entity == number] for number in range(entities)]
    return [[fitting.examples_of([run], scaling.fit_location([run]), shape.lags)] for run in runs]
