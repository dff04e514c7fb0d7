"""The posterior means of a version: by the group's panel, whatever the company, through the scorer's own way."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tocsin.models import vae
from tocsin.models.latent import encode
from tocsin.models.panel import PanelParams, scale_row, score_scaled
from tocsin.models.version import Version


def version(params: PanelParams, features: int, lags: int) -> Version:
    columns = tuple(f"f{i}" for i in range(features))
    nothing: dict[str, np.ndarray] = {}
    return Version(
        "v0001-00000000",
        columns,
        "",
        lags,
        "shared",
        (),
        params,
        {},
        np.zeros(1, np.int32),
        np.zeros((1, 4, features), np.float32),
        nothing,
        nothing,
        1,
    )


@pytest.mark.parametrize("time_of_day", [False, True], ids=["", "time_of_day"])
@pytest.mark.parametrize("panels", [1, 3])
def test_means_are_the_group_panels_and_depend_on_no_other_row(
    panels: int, time_of_day: bool, made_up_panel: Callable[..., PanelParams]
) -> None:
    features, lags, n = 5, 3, 4500
    params = made_up_panel(panels, features, lags, time_of_day=time_of_day)
    made = version(params, features, lags)
    rng = np.random.default_rng(1)
    window = rng.normal(size=(n, lags, features)).astype(np.float32) * 3
    window[rng.random(window.shape) < 0.05] = np.nan
    location = np.abs(rng.normal(size=(n, 4, features))).astype(np.float32) + np.float32(0.5)
    phase = rng.random(n).astype(np.float32)
    means = encode(made, window, location, phase)
    assert means.shape == (n, vae.LATENT)
    assert np.isfinite(means).all()
    for rows in ([17], [4400, 3, 17], list(range(0, n, 9))):
        assert np.array_equal(encode(made, window[rows], location[rows], phase[rows]), means[rows])
    group = jax.tree.map(lambda a: jnp.asarray(a[-1]), params)
    for row in (17, 4400):
        z, r, present = scale_row(*map(jnp.asarray, (window[row], window[row, -1], location[row])))
        x = score_scaled(group, z, r, present, jnp.asarray(phase[row]))[0].whitened
        if time_of_day:
            x = vae.row_at(x, jnp.asarray(phase[row]))
        mean = vae.model_of(group.members["vae"].weights).encoder(x).mean
        np.testing.assert_allclose(np.asarray(mean), means[row], rtol=1e-4, atol=1e-5)


def test_no_window_gives_no_mean(made_up_panel: Callable[..., PanelParams]) -> None:
    made = version(made_up_panel(1, 5, 3), 5, 3)
    window, location, phase = (np.zeros((0, *shape), np.float32) for shape in ((3, 5), (4, 5), ()))
    assert encode(made, window, location, phase).shape == (0, 8)
