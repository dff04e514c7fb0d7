from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.models import scaling
from tocsin.pipelines import windows
from tocsin.pipelines.records import Records


def test_soft_clip_is_the_identity_to_three_and_logarithmic_beyond() -> None:
    z = np.array([-1e6, -5.0, -3.0, 0.0, 0.5, 3.0, 5.0, 1e6])
    far = 3 + 2 * math.log(1 + (1e6 - 3) / 2)
    five = 3 + 2 * math.log(2.0)
    expected = [-far, -five, -3.0, 0.0, 0.5, 3.0, five, far]
    np.testing.assert_allclose(scaling.soft_clip(z, np), expected, rtol=1e-12)
    np.testing.assert_allclose(scaling.soft_clip(jnp.asarray(z, jnp.float32)), expected, rtol=1e-6)


@settings(deadline=None)  # the first call compiles
@given(st.floats(-1e6, 1e6, width=32))
def test_soft_unclip_undoes_soft_clip(z: float) -> None:
    back = float(scaling.soft_unclip(scaling.soft_clip(jnp.float32(z))))
    assert back == pytest.approx(z, rel=2e-5, abs=1e-6)


def test_soft_unclip_stays_finite() -> None:
    assert np.isfinite(float(scaling.soft_unclip(jnp.float32(1e30))))


def test_missing_values_are_left_out_of_the_fit_and_are_0_once_scaled() -> None:
    values = np.array([[1.0, np.nan], [3.0, 7.0], [np.nan, 9.0], [5.0, np.nan]])
    location = scaling.fit_location([values])
    np.testing.assert_allclose(location[scaling.MEAN], [3.0, 8.0])
    np.testing.assert_allclose(location[scaling.SD], [math.sqrt(8 / 3), 1.0], rtol=1e-6)
    z = scaling.scale(values, location[None, scaling.MEAN], location[None, scaling.SD], np)
    assert z[0, 1] == 0.0
    assert z[2, 0] == 0.0
    assert np.isfinite(z).all()


@pytest.mark.parametrize(
    ("column", "sd"),
    [
        ([0.0, 0.0, 0.0], 0.03),  # nothing to measure by
        ([200.0, 200.0, 200.0], 6.0),  # .03 of the largest value
        ([2e-9, 2e-9, 2e-9], 6e-11),  # whatever the unit
        ([1e6, 1e6 + 1, 1e6 - 1], 3e4),  # a spread under 1e-4 of the largest value is rounding
        ([0.0, 0.0, 3.0], math.sqrt(2.0)),  # alive
    ],
)
def test_dead_channels_get_a_floor_relative_to_their_values(column: list[float], sd: float) -> None:
    location = scaling.fit_location([np.array(column)[:, None]])
    assert float(location[scaling.SD, 0]) == pytest.approx(sd, rel=1e-4)


def test_a_channel_that_never_came_has_mean_0_and_the_floor() -> None:
    location = scaling.fit_location([np.full((4, 1), np.nan)])
    np.testing.assert_allclose(location[:, 0], [0.0, 0.03, 0.0, 0.03])


@given(st.integers(0, 2**32), st.integers(-20, 20))
def test_location_follows_the_unit(seed: int, power: int) -> None:
    values = np.random.default_rng(seed).normal(size=(20, 3)) * [1.0, 1e-6, 0.0] + [0.0, 5.0, 2.0]
    plain = scaling.fit_location([values])
    np.testing.assert_allclose(scaling.fit_location([values * 2.0**power]), plain * np.float32(2.0**power))


def test_jump_residuals_by_hand() -> None:
    g = 1 - 2 ** (-1 / 10)
    out = scaling.jump_residuals(np.array([[np.nan], [4.0], [6.0], [np.nan], [6.0]]))[:, 0]
    np.testing.assert_allclose(out, [np.nan, 0.0, 2.0, np.nan, 2.0 - 2 * g], rtol=1e-12)


def test_jump_residuals_are_those_of_the_chain() -> None:
    """The kernel that feeds the scorer and the helper that feeds the fit agree to the bit, after float32."""
    random = np.random.default_rng(3)
    values = random.normal(size=(200, 4)).cumsum(axis=0)
    values[random.random(values.shape) < 0.2] = np.nan
    values[:, 0] = np.arange(200)  # one that is always there, so that no record is all missing
    n = len(values)
    zero = np.zeros(n, np.int32)
    records = Records(zero, zero, np.arange(n), np.arange(n) * 60_000_000, values)
    state = windows.init(1, 16, 4, 0)
    accepted = windows.accept(state, records, np.empty(0, np.int32), 1)
    np.testing.assert_array_equal(accepted.jump, scaling.jump_residuals(values).astype(np.float32))


def test_the_jumps_start_anew_in_every_segment() -> None:
    run = np.linspace(0, 1, 50)[:, None]
    whole = scaling.fit_location([run, run + 10.0])
    assert float(whole[scaling.JUMP_SD, 0]) < 0.1


def test_lag_windows_repeat_the_first_row() -> None:
    rows = np.arange(4, dtype=np.float32)[:, None]
    expected = [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]
    np.testing.assert_array_equal(scaling.lag_windows(rows, 3)[..., 0], expected)


@given(st.integers(0, 500), st.integers(1, 100))
def test_evenly_strided_rows(n: int, limit: int) -> None:
    rows = scaling.evenly(n, limit)
    assert len(rows) == min(n, limit)
    if len(rows) > 1:
        steps = np.diff(rows)
        assert steps.min() >= 1
        assert steps.max() - steps.min() <= 1
        assert rows[-1] < n
