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


@pytest.mark.parametrize("panels", [1, 3])
def test_means_are_the_group_panels_and_depend_on_no_other_row(
    panels: int, made_up_panel: Callable[..., PanelParams]
) -> None:
    features, lags, n = 5, 3, 4500
    params = made_up_panel(panels, features, lags)
    made = version(params, features, lags)
    rng = np.random.default_rng(1)
    window = rng.normal(size=(n, lags, features)).astype(np.float32) * 3
    window[rng.random(window.shape) < 0.05] = np.nan
    location = np.abs(rng.normal(size=(n, 4, features))).astype(np.float32) + np.float32(0.5)
    means = encode(made, window, location)
    assert means.shape == (n, vae.LATENT)
    assert np.isfinite(means).all()
    for rows in ([17], [4400, 3, 17], list(range(0, n, 9))):
        assert np.array_equal(encode(made, window[rows], location[rows]), means[rows])
    group = jax.tree.map(lambda a: jnp.asarray(a[-1]), params)
    for row in (17, 4400):
        z, r, present = scale_row(*map(jnp.asarray, (window[row], window[row, -1], location[row])))
        whitened = score_scaled(group, z, r, present)[0].whitened
        mean = vae.model_of(group.members["vae"].weights).encoder(whitened).mean
        np.testing.assert_allclose(np.asarray(mean), means[row], rtol=1e-4, atol=1e-5)


def test_no_window_gives_no_mean(made_up_panel: Callable[..., PanelParams]) -> None:
    made = version(made_up_panel(1, 5, 3), 5, 3)
    assert encode(made, np.zeros((0, 3, 5), np.float32), np.zeros((0, 4, 5), np.float32)).shape == (0, 8)
