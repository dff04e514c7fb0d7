"""Seconds to train the models of many entities: one at a time or many in one loop, on one device or on all."""

from __future__ import annotations

import time

from tocsin.models import devices, fitting, scaling
from tocsin.models.training import EPOCHS

from ..bench import Found, Loop, Suite, by_turns
from ..feed import MAIN, SEED, Shape, telemetry

ENTITIES = 32
RECORDS = 1000
REPETITIONS = 3
STACKS = (1, 8, 32)
FAST = (4, 120, 1, (1, 4), Shape(4, 2))


def measure(suite: Suite) -> Found:
    """Train them to the end, in turns; what is compiled was compiled before, and the time of that is told apart."""
    full = (ENTITIES, RECORDS, REPETITIONS, STACKS, MAIN)
    entities, records, repetitions, stacks, shape = FAST if suite.fast else full
    examples = _examples(entities, records, shape)
    steps = suite.size.steps
    found, side = devices.usable(), stacks[1]
    ways = {f"{stack} in a loop, {len(found)} devices": (stack, len(found)) for stack in stacks}
    ways |= {f"{side} in a loop, 1 device": (side, 1)}
    loops: dict[str, Loop] = {}
    cold: dict[str, float] = {}
    for name, (stack, count) in ways.items():
        recipe = fitting.Recipe(steps=steps, rehearse=False, stack=stack)

        def seconds(recipe: fitting.Recipe = recipe, count: int = count) -> float:
            begun = time.monotonic()
            fitting.fit_panels(iter(examples), recipe, on=found[:count])
            return time.monotonic() - begun

        cold[name] = seconds()
        loops[name] = lambda seconds=seconds: entities / seconds()
    rates = by_turns(loops, repetitions)
    notes = [
        f"{name}: {entities / seen['median']:.2f} s to the end ({entities / seen['most']:.2f} to "
        f"{entities / seen['least']:.2f}), {entities / seen['median'] / EPOCHS:.3f} s an epoch, "
        f"{cold[name]:.2f} s with compiling; {seen['median']:.2f} models/s"
        for name, seen in rates.items()
    ]
    told = f"{entities} entities of {records} records, {shape.features} x {shape.lags}, {steps} steps"
    return Found([], {"notes": [told, *notes], "models_per_s": rates, "cold_s": cold})


def _examples(entities: int, records: int, shape: Shape) -> list[list[fitting.Examples]]:
    fleet = telemetry.generate(SEED, entities, records, shape.features)
    runs = [fleet.values[fleet.entity == number] for number in range(entities)]
    return [[fitting.examples_of([run], scaling.fit_location([run]), shape.lags)] for run in runs]
