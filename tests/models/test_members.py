"""One contract for every member of the table, and each one's formula by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from tocsin.models import fitting
from tocsin.models.members import TABLE, UNTRAINED, Member, errs, half, jump
from tocsin.models.members.base import FitData, Guide, Row
from tocsin.models.panel import PanelParams, score_scaled
from tocsin.models.scaling import soft_clip

FEATURES, LAGS, ROWS = 6, 5, 400
GUIDE = Guide(seed=0, steps=40, rehearse=False, progress=None, first=0, width=2)
MEMBERS = list(TABLE.values())


@pytest.fixture(scope="module")
def data(make_examples: Callable[..., fitting.Examples]) -> list[FitData]:
    return [fitting.prepare([make_examples(ROWS, FEATURES, LAGS, seed)])[0] for seed in (0, 1)]


@pytest.fixture(scope="module")
def fitted(data: list[FitData]) -> dict[str, list[Any]]:
    return {member.name: member.fit(data, GUIDE) for member in MEMBERS}


def row_of(
    data: FitData, z: NDArray[np.float32], r: NDArray[np.float32], present: NDArray[np.float32]
) -> Row:
    panel = PanelParams(data.whitening, jnp.zeros(0), {})
    return score_scaled(panel, jnp.asarray(z), jnp.asarray(r), jnp.asarray(present), jnp.float32(0.3))[0]


def some_row(data: FitData, seed: int = 0, present: NDArray[np.float32] | None = None) -> Row:
    random = np.random.default_rng(seed)
    there = np.ones(FEATURES, np.float32) if present is None else present
    z = random.normal(size=(LAGS, FEATURES)).astype(np.float32) * 2
    z[-1] *= there
    return row_of(data, z, random.normal(size=FEATURES).astype(np.float32) * there, there)


def test_the_table_names_its_members() -> None:
    assert list(TABLE) == ["vae", "half", "errs", "jump"]
    assert all(TABLE[name].name == name for name in TABLE)
    assert UNTRAINED == ("half", "errs", "jump")


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.name)
class TestContract:
    def test_one_params_of_float32_per_panel(self, member: Member, fitted: dict[str, list[Any]]) -> None:
        assert len(fitted[member.name]) == 2
        for params in fitted[member.name]:
            assert isinstance(params, member.params)
            for leaf in jax.tree.leaves(params):
                assert leaf.dtype == np.float32
                assert np.isfinite(leaf).all()

    def test_both_panels_have_the_same_shapes(self, member: Member, fitted: dict[str, list[Any]]) -> None:
        a, b = (jax.tree.map(np.shape, params) for params in fitted[member.name])
        assert a == b

    def test_fitting_repeats(self, member: Member, data: list[FitData], fitted: dict[str, list[Any]]) -> None:
        for a, b in zip(
            jax.tree.leaves(member.fit(data, GUIDE)), jax.tree.leaves(fitted[member.name]), strict=True
        ):
            np.testing.assert_array_equal(a, b)

    def test_the_value_is_a_scalar_not_below_0(
        self, member: Member, data: list[FitData], fitted: dict[str, list[Any]]
    ) -> None:
        for seed in range(20):
            part = member.score(fitted[member.name][0], some_row(data[0], seed))
            assert part.value.shape == ()
            assert part.value.dtype == jnp.float32
            assert float(part.value) >= 0.0

    def test_parts_and_forecast_are_per_channel(
        self, member: Member, data: list[FitData], fitted: dict[str, list[Any]]
    ) -> None:
        part = member.score(fitted[member.name][0], some_row(data[0]))
        for given_, least in ((part.channels, 0.0), (part.forecast, -np.inf)):
            if given_ is not None:
                assert given_.shape == (FEATURES,)
                assert float(given_.min()) >= least

    def test_it_can_be_traced(
        self, member: Member, data: list[FitData], fitted: dict[str, list[Any]]
    ) -> None:
        params, row = fitted[member.name][0], some_row(data[0])
        one = member.score(params, row)
        rows = jax.tree.map(lambda a: jnp.stack([a, a]), row._replace(whitening=None))
        many = jax.jit(jax.vmap(lambda r: member.score(params, r._replace(whitening=row.whitening)).value))(
            rows
        )
        np.testing.assert_allclose(many, [one.value, one.value], rtol=1e-4)

    def test_strange_is_larger(
        self, member: Member, data: list[FitData], fitted: dict[str, list[Any]]
    ) -> None:
        params = fitted[member.name][0]
        calm = row_of(
            data[0], data[0].windows[200], np.zeros(FEATURES, np.float32), np.ones(FEATURES, np.float32)
        )
        z = data[0].windows[200].copy()
        z[-1, 2] += 9.0
        r = np.zeros(FEATURES, np.float32)
        r[2] = 6.0
        odd = row_of(data[0], z, r, np.ones(FEATURES, np.float32))
        assert float(member.score(params, odd).value) > 2 * float(member.score(params, calm).value)


@pytest.mark.parametrize("name", ["errs", "jump"])
def test_missing_adds_nothing(name: str, data: list[FitData], fitted: dict[str, list[Any]]) -> None:
    present = np.array([1, 0, 1, 1, 0, 1], np.float32)
    row = some_row(data[0], 1, present)
    part = TABLE[name].score(fitted[name][0], row)
    assert part.channels is not None
    np.testing.assert_array_equal(np.asarray(part.channels)[present == 0], [0.0, 0.0])
    if name == "errs":
        assert float(part.value) == pytest.approx(float(part.channels.sum()), rel=1e-6)


def test_vae_starts_at_1_over_train(data: list[FitData], fitted: dict[str, list[Any]]) -> None:
    flat = data[0].windows
    values = [
        float(
            TABLE["vae"]
            .score(
                fitted["vae"][0],
                row_of(data[0], z, np.zeros(FEATURES, np.float32), np.ones(FEATURES, np.float32)),
            )
            .value
        )
        for z in flat[::10]
    ]
    lowest = jax.vmap(
        lambda z: (
            TABLE["vae"]
            .score(fitted["vae"][0], row_of(data[0], z, jnp.zeros(FEATURES), jnp.ones(FEATURES)))
            .value
        )  # type: ignore[arg-type]
    )(jnp.asarray(flat)).min()
    assert min(values) >= 1.0
    assert float(lowest) == pytest.approx(1.0, abs=1e-3)


def test_half_by_its_formula(data: list[FitData]) -> None:
    row = some_row(data[0])
    e, axes = np.linalg.eigh(data[0].moments.covariance)
    u = (np.asarray(row.z, np.float64).reshape(-1) - data[0].moments.mean) @ axes
    expected = (u * u / np.sqrt(np.maximum(e, 0) + 0.003)).sum()
    assert float(half.score(half.HalfParams(), row).value) == pytest.approx(expected, rel=1e-4)


def test_errs_by_its_formula(data: list[FitData], fitted: dict[str, list[Any]]) -> None:
    mean, c = data[0].moments
    past = 4 * FEATURES
    b = np.linalg.inv(c[:past, :past] + 0.01 * np.eye(past)) @ c[:past, past:]
    flat = data[0].windows.reshape(ROWS, -1).astype(np.float64)
    e = flat[:, past:] - mean[past:] - (flat[:, :past] - mean[:past]) @ b
    sd = np.maximum(e.std(axis=0), 0.03)
    row = some_row(data[0])
    g = np.asarray(row.z, np.float64).reshape(-1)
    forecast = mean[past:] + (g[:past] - mean[:past]) @ b
    v = soft_clip((g[past:] - forecast) / sd, np)
    part = errs.score(fitted["errs"][0], row)
    np.testing.assert_allclose(part.value, (v * v).sum(), rtol=1e-4)
    np.testing.assert_allclose(part.channels, v * v, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(part.forecast, forecast, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("lags", "past"), [(1, 0), (2, 1), (5, 4), (8, 4)])
def test_errs_looks_at_most_four_records_back(
    lags: int, past: int, make_examples: Callable[..., fitting.Examples]
) -> None:
    one = fitting.prepare([make_examples(300, 3, lags)])[0]
    params = errs.fit([one], GUIDE)[0]
    assert params.coefficients.shape == (past * 3, 3)
    part = errs.score(params, row_of(one, one.windows[50], np.zeros(3, np.float32), np.ones(3, np.float32)))
    if lags == 1:
        assert float(part.value) == pytest.approx(
            float((soft_clip(one.windows[50, 0], np) ** 2).sum()), rel=1e-6
        )
    assert part.forecast is not None


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, 7, elements=st.sampled_from([-4.0, -2.5, -1.0, 0.0, 0.5, 1.0, 2.5, 4.0])),
    hnp.arrays(np.bool_, 7),
)
def test_jump_is_the_mean_of_the_three_largest(r: NDArray[np.float32], there: NDArray[np.bool_]) -> None:
    r = np.where(there, r, 0).astype(np.float32)
    n = min(3, int(there.sum()))
    expected = (np.sort(np.abs(r[there]))[::-1][:n].mean() if n else 0.0) ** 2
    part = _jump(jnp.asarray(r), jnp.asarray(there, jnp.float32))
    assert float(part.value) == pytest.approx(float(expected), rel=1e-5, abs=1e-7)
    assert part.channels is not None
    assert int((np.asarray(part.channels) > 0).sum()) >= min(n, int((r != 0).sum()))


@jax.jit
def _jump(r: jax.Array, present: jax.Array) -> Any:
    empty = jnp.zeros(0)
    row = Row(jnp.zeros((1, 7)), present, r, empty, empty, empty, None, jnp.float32(0))  # type: ignore[arg-type]
    return jump.score(jump.JumpParams(), row)


def test_jump_parts_are_those_of_the_three() -> None:
    part = _jump(jnp.array([1.0, -5.0, 2.0, 0.5, 3.0, -0.1, 0.0]), jnp.ones(7))
    np.testing.assert_allclose(part.channels, [0, 25, 4, 0, 9, 0, 0])
    assert float(part.value) == pytest.approx((10 / 3) ** 2, rel=1e-6)
