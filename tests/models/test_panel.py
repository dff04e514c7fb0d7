"""The compiled scorer: what it says of a record, and that nothing around the record changes a bit of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tocsin.models import fitting, panel, scaling
from tocsin.models.panel import LADDER, PanelParams, Scored, Scorer, member_names

MakePanel = Callable[..., PanelParams]
MakeExamples = Callable[..., fitting.Examples]
CASES = [(25, 5, False), (38, 5, False), (19, 5, False), (25, 1, False), (19, 5, True)]
QUICK = [((25, 5, False), 1), ((25, 1, False), 5)]
"""Each case compiles for a quarter of a minute."""
POOL = 300


class Batch(NamedTuple):
    panel: NDArray[np.int32]
    window: NDArray[np.float32]
    jump: NDArray[np.float32]
    location: NDArray[np.float32]
    phase: NDArray[np.float32]

    def take(self, rows: NDArray[np.intp]) -> Batch:
        return Batch(*(a[rows] for a in self))


def batch(n: int, features: int, lags: int, panels: int = 1, seed: int = 0, missing: float = 0.03) -> Batch:
    random = np.random.default_rng(seed)
    window = random.normal(size=(n, lags, features)).astype(np.float32) * 3
    window[random.random(window.shape) < missing] = np.nan
    jump = random.normal(size=(n, features)).astype(np.float32)
    jump[np.isnan(window[:, -1])] = np.nan
    location = np.abs(random.normal(size=(n, 4, features))).astype(np.float32) + np.float32(0.5)
    owner = random.integers(0, panels, n).astype(np.int32)
    return Batch(owner, window, jump, location, random.random(n).astype(np.float32))


def same(a: Scored, b: Scored) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("features", "lags", "time_of_day", "panels"),
    [
        pytest.param(*case, panels, marks=[] if (case, panels) in QUICK else [pytest.mark.slow])
        for case in CASES
        for panels in (1, 5)
    ],
)
def test_a_record_scores_the_same_bits_in_whatever_company(
    features: int, lags: int, time_of_day: bool, panels: int, made_up_panel: MakePanel
) -> None:
    """Number of rows in the call, place in a block and neighbours: none of them changes anything."""
    scorer = Scorer(made_up_panel(panels, features, lags, time_of_day=time_of_day))
    pool = batch(POOL, features, lags, panels)
    reference = scorer.score(*pool)
    assert np.isfinite(reference.members).all()
    one_by_one = [scorer.score(*pool.take(np.array([i]))) for i in range(0, POOL, 37)]
    for i, alone in zip(range(0, POOL, 37), one_by_one, strict=True):
        assert same(alone, Scored(*(a[i : i + 1] for a in reference)))

    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.integers(0, POOL - 1), min_size=1, max_size=200))
    def in_this_company(rows: list[int]) -> None:
        chosen = np.array(rows)
        expected = Scored(*(a[chosen] for a in reference))
        assert same(scorer.score(*pool.take(chosen)), expected)

    in_this_company()
    assert scorer.compilations <= len(LADDER)


def test_more_rows_than_the_longest_call_are_cut(made_up_panel: MakePanel) -> None:
    rows = LADDER[-1] * panel.SHARED_BLOCK_ROWS + 100
    scorer = Scorer(made_up_panel(1, 3, 1))
    many = batch(rows, 3, 1)
    whole = scorer.score(*many)
    assert whole.members.shape == (rows, 4)
    tail = np.arange(rows - 150, rows)
    assert same(scorer.score(*many.take(tail)), Scored(*(a[tail] for a in whole)))


@pytest.mark.slow
def test_so_are_more_panels_than_the_longest_call_has_blocks(made_up_panel: MakePanel) -> None:
    panels = LADDER[-1] + 40
    scorer = Scorer(made_up_panel(panels, 2, 1))
    many = batch(2 * panels, 2, 1, panels)
    whole = scorer.score(*many)
    rows = np.random.default_rng(1).permutation(2 * panels)[:50]
    assert same(scorer.score(*many.take(rows)), Scored(*(a[rows] for a in whole)))


def test_it_is_computed_on_the_processor_whatever_there_is(
    made_up_panel: MakePanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    found = jax.devices

    def devices(backend: str | None = None) -> list[jax.Device]:
        asked.append(backend)
        return found(backend)

    monkeypatch.setattr(jax, "devices", devices)
    Scorer(made_up_panel(1, 3, 2))
    assert asked == ["cpu"]


def test_no_rows_give_no_rows(made_up_panel: MakePanel) -> None:
    for panels in (1, 3):
        out = Scorer(made_up_panel(panels, 3, 2)).score(*batch(0, 3, 2))
        assert [a.shape for a in out] == [(0, 4), (0, 3), (0, 3), (0,)]


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """What XLA is asked to compile meanwhile."""
    seen: list[str] = []

    def listen(event: str, _: float, **__: object) -> None:
        if event.endswith("backend_compile_duration"):
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("panels", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_warm_compiles_every_shape_and_scoring_none(panels: int, made_up_panel: MakePanel) -> None:
    scorer = Scorer(made_up_panel(panels, 4, 3))
    with compilations() as compiled:
        scorer.warm()
    assert len(compiled) == len(LADDER) * 2  # for each device
    assert scorer.compilations == len(LADDER)
    batches = [batch(n, 4, 3, panels) for n in (1, 3, 64, 65, 700, 2000, 5000)]
    with compilations() as compiled:
        for rows in batches:
            scorer.score(*rows)
    assert not compiled
    assert scorer.compilations == len(LADDER)


def test_a_promoted_version_of_the_same_shape_compiles_nothing(made_up_panel: MakePanel) -> None:
    Scorer(made_up_panel(1, 4, 2)).warm()
    promoted = Scorer(made_up_panel(1, 4, 2, seed=1))
    promoted.warm()
    promoted.score(*batch(70, 4, 2))
    assert promoted.compilations == 0


def test_rows_choose_their_panel(made_up_panel: MakePanel) -> None:
    several = made_up_panel(3, 4, 2)
    rows = batch(60, 4, 2, 3)
    out = Scorer(several).score(*rows)
    for i in range(3):
        mine = np.flatnonzero(rows.panel == i)
        only: PanelParams = jax.tree.map(lambda a, i=i: a[i : i + 1], several)
        alone = Scorer(only).score(*rows.take(mine))
        np.testing.assert_allclose(out.members[mine], alone.members, rtol=1e-4)


def test_the_same_columns_in_another_order_score_the_same(made_up_panel: MakePanel) -> None:
    params = made_up_panel(1, 3, 2)
    rows, order = batch(20, 3, 2), [2, 0, 1]
    given = Batch(rows.panel, *(a[..., np.argsort(order)] for a in rows[1:4]), rows.phase)
    out, alone = Scorer(params, order, 3).score(*given), Scorer(params).score(*rows)
    np.testing.assert_allclose(out.members, alone.members, rtol=1e-5)
    np.testing.assert_allclose(out.expected[:, order], alone.expected, rtol=1e-5, atol=1e-5)


def test_a_version_of_fewer_columns_scores_them_and_leaves_the_rest(made_up_panel: MakePanel) -> None:
    params = made_up_panel(1, 3, 2)
    columns = [4, 0, 2]
    rows = batch(20, 5, 2)
    out = Scorer(params, columns, 5).score(*rows)
    narrow = Batch(
        rows.panel, *(a[..., columns] for a in (rows.window, rows.jump, rows.location)), rows.phase
    )
    alone = Scorer(params).score(*narrow)
    np.testing.assert_allclose(out.members, alone.members, rtol=1e-5)
    np.testing.assert_allclose(out.shares[:, columns], alone.shares, atol=1e-5)
    np.testing.assert_allclose(out.expected[:, columns], alone.expected, rtol=1e-5, atol=1e-5)
    assert (out.shares[:, [1, 3]] == 0).all()
    assert np.isnan(out.expected[:, [1, 3]]).all()


def test_shares_are_a_split_among_the_channels_present(made_up_panel: MakePanel) -> None:
    rows = batch(200, 6, 5, missing=0.3)
    out = Scorer(made_up_panel(1, 6, 5)).score(*rows)
    assert (out.shares >= 0).all()
    assert (out.shares[np.isnan(rows.window[:, -1])] == 0).all()
    there = (~np.isnan(rows.window[:, -1])).any(axis=1)
    np.testing.assert_allclose(out.shares.sum(axis=1)[there], 1.0, atol=1e-5)


def test_shares_by_their_formula(made_up_panel: MakePanel) -> None:
    params: PanelParams = jax.tree.map(lambda a: jnp.asarray(a[0]), made_up_panel(1, 4, 2))
    rows = batch(1, 4, 2, missing=0.0)
    z, r, present = panel.scale_row(*(jnp.asarray(a[0]) for a in rows[1:4]))
    row, parts = panel.score_scaled(params, z, r, present, jnp.asarray(rows.phase[0]))
    weights, shares = [], []
    for m, part in enumerate(parts.values()):
        if part.channels is not None:
            p = np.asarray(part.channels, np.float64)
            shares.append(p / p.sum())
            weights.append(max(np.log(float(part.value) / float(params.ordinary[m])), 0.01))
    expected = np.average(shares, axis=0, weights=weights)
    np.testing.assert_allclose(panel.attribution(params, row, parts), expected, rtol=1e-4)


def test_level_is_the_mean_of_the_newest_scaled_values(made_up_panel: MakePanel) -> None:
    rows = batch(30, 4, 2, missing=0.2)
    out = Scorer(made_up_panel(1, 4, 2)).score(*rows)
    newest = rows.window[:, -1]
    z = scaling.soft_clip((newest - rows.location[:, scaling.MEAN]) / rows.location[:, scaling.SD], np)
    present = np.isfinite(newest)
    expected = np.where(present, z, 0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    np.testing.assert_allclose(out.level, expected, rtol=1e-4, atol=1e-5)


def test_expected_is_the_forecast_in_raw_units(make_examples: MakeExamples) -> None:
    """Channels that move slowly are forecast to a fraction of their spread."""
    one = make_examples(800, 5)
    values = one.windows[:, -1]
    slow = np.cumsum(np.ones((800, 5)), axis=0) * [1, 2, 3, 4, 5] + 100.0
    smooth = fitting.examples_of([slow], scaling.fit_location([slow]), 5)
    recipe = fitting.Recipe(members=("half", "errs", "jump"))
    out = score(fitting.fit_panel([smooth], recipe), smooth)
    np.testing.assert_allclose(out.expected[10:], slow[10:], rtol=0.05)
    assert np.isfinite(score(fitting.fit_panel([one], recipe), one).expected).all()
    assert values.shape == (800, 5)


def score(params: PanelParams, examples: fitting.Examples) -> Scored:
    n = len(examples.windows)
    location = np.broadcast_to(examples.location, (n, *examples.location.shape))
    return Scorer(params).score(
        np.zeros(n, np.int32), examples.windows, examples.jump, location, examples.phase
    )


def test_a_panel_without_the_vae_serves_the_cold_start(make_examples: MakeExamples) -> None:
    one = make_examples(500, 4)
    params = fitting.fit_panel([one], fitting.Recipe(members=("half", "errs", "jump")))
    assert member_names(params) == ("half", "errs", "jump")
    assert score(params, one).members.shape == (500, 3)


def test_ordinary_is_the_median_over_train(make_examples: MakeExamples) -> None:
    one = make_examples(900, 4)
    params = fitting.fit_panel([one], fitting.Recipe(steps=40))
    median = np.median(score(params, one).members, axis=0)
    np.testing.assert_allclose(params.ordinary[0], median, rtol=0.02)


def test_units_do_not_matter(make_examples: MakeExamples) -> None:
    """Rescaling every channel by 10^+-6 moves the panel's score by less than .005 of a log unit."""
    random = np.random.default_rng(0)
    values = np.column_stack(
        [np.asarray(make_examples(1500, 5).windows[:, -1], np.float64), np.full(1500, 4.2)]
    )
    values[700:720, 2] += 3 * values[:, 2].std()
    factors = 10.0 ** random.choice([-6, 6], size=6)
    logs = []
    for scaled in (values, values * factors):
        one = fitting.examples_of([scaled], scaling.fit_location([scaled]), 5)
        params = fitting.fit_panel([one], fitting.Recipe(members=("half", "errs", "jump")))
        logs.append(np.log(np.maximum(score(params, one).members, 1e-3)).mean(axis=1))
    assert float(np.abs(logs[0] - logs[1]).max()) < 0.005


def test_a_planted_fault_is_strange_and_attributed(make_examples: MakeExamples) -> None:
    one = make_examples(2000, 8)
    values = np.asarray(one.windows[:, -1], np.float64)
    params = fitting.fit_panel([one], fitting.Recipe(steps=200, rehearse=False))
    faulty = values[:200].copy()
    faulty[150:, 3] += 6 * values[:, 3].std()
    broken = fitting.examples_of([faulty], one.location, 5)
    out = score(params, broken)
    assert (out.members[150] > 3 * np.median(out.members[:150], axis=0)).all()
    assert int(out.shares[150].argmax()) == 3
    assert float(out.shares[150, 3]) > 0.5


def test_golden_scores(made_up_panel: MakePanel) -> None:
    """Two records by a made-up panel, the second with a missing channel; pinned when the formulas were checked."""
    rows = batch(2, 3, 2, missing=0.0)
    rows.window[1, -1, 0] = rows.jump[1, 0] = np.nan
    out = Scorer(made_up_panel(1, 3, 2)).score(*rows)
    members = [[200.03116, 61.641697, 34.06546, 0.2293775], [195.95396, 50.919086, 8.438453, 5.4600663]]
    np.testing.assert_allclose(out.members, members, rtol=1e-5)
    shares = [[0.3905092, 0.5778124, 0.0316785], [0.0, 0.7807802, 0.2192198]]
    np.testing.assert_allclose(out.shares, shares, rtol=1e-4)
    expected = [[-2.9154122, 0.0135211, 1.2821449], [2.9585538, -0.8982248, -4.0295477]]
    np.testing.assert_allclose(out.expected, expected, rtol=1e-3)
    np.testing.assert_allclose(out.level, [-1.2926761, -0.9348382], rtol=1e-5)
