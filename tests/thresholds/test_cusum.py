"""The entity's CUSUM: when it decides, what it measures against, and what it never takes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.thresholds import cusum
from tocsin.thresholds.constants import DAY_US, LEVEL_STEP, LEVELS, Kind
from tocsin.thresholds.state import CORE, Rules

MINUTE = 60_000_000
KNOWN = np.array([64.0, 200.0, 0.0, 1.0])
"""200 blocks of a history with mean 0 and sd 1."""
OFTEN = np.where(LEVEL_STEP * np.arange(1, LEVELS + 1) < 3.0, 1000, 0).astype(np.float32)
"""Openings by which the level stays at 3."""


def started(measured: Any = KNOWN, known: bool = True) -> np.void:
    core = np.zeros(1, CORE)
    cusum.begin(core[0], np.asarray(measured, np.float64), known)
    return core[0]


def taken(core: np.void, means: Any) -> list[tuple[int, int]]:
    """The blocks that decide, and which way."""
    return [
        (at, moved) for at, mean in enumerate(np.asarray(means).tolist()) if (moved := cusum.take(core, mean))
    ]


def autoregressive(seed: int, n: int, keep: float) -> np.ndarray:
    fresh = np.random.default_rng(seed).standard_normal(n)
    x, last = np.empty(n), 0.0
    for i in range(n):
        last = x[i] = keep * last + fresh[i]
    return x


# -- when it decides ---------------------------------------------------------------------------------


def test_golden_a_step_of_two_deviations_is_one_decision() -> None:
    means = np.random.default_rng(42).standard_normal(200)
    means[100:] += 2.0
    core = started()
    assert taken(core, means) == [(103, 1)]
    assert core["means"] == 200 - 104
    assert core["usual"] == pytest.approx(2.0, abs=0.3)
    assert (core["up"], core["down"]) < (cusum.BOUND, cusum.BOUND)


def test_a_shift_of_two_deviations_is_seen_within_five_blocks_and_decided_once() -> None:
    delays, counts = [], []
    for seed in range(100):
        means = np.random.default_rng((7, seed)).standard_normal(120)
        means[60:] += 2.0 if seed % 2 else -2.0
        found = taken(started(), means)
        counts.append(len(found))
        delays += [at - 59 for at, _ in found[:1]]
        assert {moved for _, moved in found} == {1 if seed % 2 else -1}
    assert np.median(delays) <= 5
    assert counts == [1] * 100


def test_dependent_noise_brings_no_decision() -> None:
    """AR(.98): a detector of single records alarms some thousand times."""
    x = autoregressive(0, 400_000, 0.98)
    measured = cusum.measure(x[:100_000])
    block = int(measured[0])
    means = x[: len(x) // block * block].reshape(-1, block).mean(axis=1)
    assert taken(started(measured), means) == []


def test_without_a_history_it_learns_from_its_own_first_blocks_and_decides_no_oftener() -> None:
    false = late = 0
    for seed in range(200):
        means = np.random.default_rng((8, seed)).normal(3.0, 0.2, 100)
        core = started(known=False)
        false += len(taken(core, means))
        late += taken(core, means + 0.6)[:1] != []
    assert false <= 2
    assert late == 200


def test_a_score_that_never_varied_is_no_division_by_zero() -> None:
    core = started((64, 0, 0, 0))
    assert taken(core, np.zeros(50)) == []
    assert taken(core, np.full(9, 0.5)) != []


@settings(max_examples=100, deadline=None)
@given(
    means=st.lists(st.floats(-1e3, 1e3), max_size=60),
    known=st.booleans(),
)
def test_up_and_down_are_the_same_rule(means: list[float], known: bool) -> None:
    core, mirrored = started(known=known), started(known=known)
    assert taken(core, means) == [(at, -moved) for at, moved in taken(mirrored, -np.array(means))]
    assert (core["up"], core["down"], core["usual"]) == (mirrored["down"], mirrored["up"], -mirrored["usual"])
    assert (core["spread"], core["means"]) == (mirrored["spread"], mirrored["means"])


@settings(max_examples=50, deadline=None)
@given(scores=st.lists(st.floats(-5, 5), min_size=1, max_size=400), data=st.data())
def test_a_state_taken_along_goes_on_as_if_it_had_never_left(
    scores: list[float], data: st.DataObject
) -> None:
    whole, parts = started((5, 0, 0, 0)), started((5, 0, 0, 0))
    found = [cusum.enter(whole, score, i % 3 > 0) for i, score in enumerate(scores)]
    cuts = set(data.draw(st.lists(st.integers(0, len(scores)), max_size=8)))
    resumed = []
    for i, score in enumerate(scores):
        if i in cuts:
            parts = np.frombuffer(parts.tobytes(), CORE).copy()[0]
        resumed.append(cusum.enter(parts, score, i % 3 > 0))
    assert resumed == found
    assert parts.tobytes() == whole.tobytes()


# -- what it measures against --------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9, 0.98])
def test_dependence_is_that_of_the_series(keep: float) -> None:
    found = cusum.dependence(autoregressive(3, 200_000, keep))
    assert found == pytest.approx((1 + keep) / (1 - keep), rel=0.15)


def test_the_block_is_as_long_as_the_dependence_asks_for() -> None:
    independent, dependent = autoregressive(1, 20_000, 0.0), autoregressive(1, 200_000, 0.98)
    assert cusum.measure(independent)[0] == cusum.LEAST_BLOCK
    block, means, usual, sd = cusum.measure(dependent)
    assert block == pytest.approx(99 * cusum.TIMES, rel=0.15)
    assert means == min(200_000 // block, cusum.MOST_MEANS)
    assert abs(usual) < 1.0
    assert sd == pytest.approx(np.sqrt(99 / block) * dependent.std(), rel=0.2)
    # a short history gives shorter blocks, a very short one none
    assert cusum.measure(dependent[:3000])[0] == 3000 // cusum.LEAST_MEANS
    assert cusum.measure(dependent[:100]).tolist() == [cusum.LEAST_BLOCK, 0, 0, 0]
    assert cusum.measure(np.zeros(1000))[:3].tolist() == [cusum.LEAST_BLOCK, 1000 // cusum.LEAST_BLOCK, 0]


# -- in the decision kernel ------------------------------------------------------------------------------


def pushed(one: Any, scores: Any, first: int = 0) -> list[np.void]:
    """Scores a minute apart; returns the shifts that were told."""
    before = len(one.events)
    for i, score in enumerate(scores):
        one.push(score, (first + i) * MINUTE)
    return [event for event in one.events[before:] if event["kind"] == Kind.SHIFT]


def test_a_shift_is_told_with_its_row_and_both_means(bench: Any, calibrated: Any) -> None:
    one = bench(calibrated(level=3.0, openings=OFTEN, blocks=(16, 20, 0.0, 0.05)))
    scores = np.random.default_rng(1).normal(0.0, 0.1, 16 * 40)
    scores[16 * 20 :] += 0.3
    (event,) = pushed(one, scores)
    assert event["slot"] == event["part"] == 0
    assert event["time_us"] == event["offset"] * MINUTE
    assert (event["offset"] + 1) % 16 == 0
    assert 0 < (event["offset"] + 1) // 16 - 20 <= 5
    assert event["before"] == pytest.approx(0.0, abs=0.1)
    assert event["after"] == pytest.approx(0.3, abs=0.1)
    assert not {int(other["kind"]) for other in one.events} - {Kind.SHIFT}


def test_nothing_of_an_incident_enters_nor_what_led_to_it(bench: Any, calibrated: Any) -> None:
    one = bench(calibrated(level=1.0, blocks=(16, 20, 0.0, 0.05)))
    pushed(one, [0.1] * 20)
    assert (one.core("means"), one.core("block_fill")) == (21, 4)
    usual = one.core("usual")
    pushed(one, [0.9] * 10 + [1.1, 0.9, 1.2, 0.9, 1.3] + [2.5] * 300, 20)
    assert one.core("phase") == 2
    assert (one.core("means"), one.core("usual"), one.core("block_fill")) == (21, usual, 0)
    pushed(one, [0.1] * 3, 400)
    assert one.core("phase") == 0
    assert one.core("block_fill") == 0
    pushed(one, [0.1] * 17, 500)
    assert (one.core("means"), one.core("block_fill")) == (22, 1)


def test_a_full_block_waits_for_what_is_pending(bench: Any, calibrated: Any) -> None:
    one = bench(calibrated(level=1.0))
    pushed(one, [0.0] * 15 + [1.5] + [0.0] * 4)
    assert (one.core("means"), one.core("block_fill")) == (0, 20)
    pushed(one, [0.0], 20)
    assert (one.core("means"), one.core("block_fill")) == (1, 0)
    assert one.core("usual") == pytest.approx(1.5 / 21)


def test_a_level_change_starts_it_anew_so_that_one_change_is_one_decision(
    bench: Any, calibrated: Any
) -> None:
    one = bench(
        calibrated(level=3.0, openings=OFTEN, half_life=200.0, blocks=(16, 20, 0.0, 0.05)),
        Rules(level_change_us=DAY_US // 24),
    )
    noise = np.random.default_rng(2).normal(0.0, 0.1, 600)
    assert pushed(one, noise[:100]) == []
    assert pushed(one, 5.0 + noise[100:], 100) == []
    assert [int(event["kind"]) for event in one.events] == [Kind.OPENED, Kind.LEVEL_CHANGE, Kind.RESOLVED]
    assert one.core("usual") == pytest.approx(5.0, abs=0.1)
    assert one.core("freedom") > 20


def test_an_epoch_starts_from_what_its_calibration_measured(bench: Any, calibrated: Any) -> None:
    one = bench(calibrated(level=1.0, blocks=(48, 10, 0.2, 0.3)))
    assert (one.core("block"), one.core("means"), one.core("freedom")) == (48, 10, 9)
    assert one.core("usual") == 0.2
    assert one.core("spread") == pytest.approx(9 * 0.09)
