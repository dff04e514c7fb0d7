"""A training on several devices, which compiles much: the bits and the reports of one on one."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import pytest
from tocsin.models import fitting
from tocsin.models.training import Report

TWO = jax.devices()[:2]

pytestmark = pytest.mark.slow


def test_two_devices_give_the_bits_and_the_reports_of_one(
    make_examples: Callable[..., fitting.Examples],
) -> None:
    groups = [[make_examples(130 + 20 * seed, 2, 2, seed)] for seed in range(5)]
    recipe = fitting.Recipe(steps=20, stack=2)
    heard: list[list[Report]] = [[], []]
    one = fitting.fit_panels(iter(groups), recipe, heard[0].append, TWO[:1])
    two = fitting.fit_panels(iter(groups), recipe, heard[1].append, TWO)
    assert len(one.ordinary) == 5
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert heard[0] == heard[1]
    assert [report.panel for report in heard[0] if report.epoch == 20] == [0, 1, 0, 1, 2, 3, 2, 3, 4, 4]
