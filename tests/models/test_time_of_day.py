"""A VAE conditioned on the time of day: what it is shown, and that a level is strange at the wrong hour only to it."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray
from tocsin.errors import ArtefactError
from tocsin.models import fitting, packing, scaling, vae
from tocsin.models.artefact import Artefact, Manifest
from tocsin.models.panel import PanelParams, Scorer
from tocsin.models.scaling import DAY_US, phase_of_day
from tocsin.models.version import Version

PERIOD_US = 600_000_000
DAYS, PER_DAY, CHANNELS = 10, 144, 4


def test_the_phase_is_the_share_of_a_day_in_utc_also_before_1970() -> None:
    times = np.array([0, DAY_US // 4, DAY_US - 1, 20_000 * DAY_US + DAY_US // 2, -DAY_US // 4], np.int64)
    np.testing.assert_allclose(phase_of_day(times), [0.0, 0.25, 1.0, 0.5, 0.75], atol=1e-6)
    assert phase_of_day(times).dtype == np.float32


def test_a_row_is_the_window_and_three_harmonics_of_the_hour() -> None:
    w = jnp.arange(5, dtype=jnp.float32)
    row = vae.row_at(w, jnp.float32(1 / 12))
    angle = 2 * np.pi / 12 * np.arange(1, 4)
    np.testing.assert_allclose(row, [*range(5), *np.sin(angle), *np.cos(angle)], atol=1e-6)
    np.testing.assert_allclose(vae.row_at(w, jnp.float32(0)), vae.row_at(w, jnp.float32(1)), atol=2e-6)


def test_the_condition_is_not_reconstructed(made_up_panel: Callable[..., PanelParams]) -> None:
    weights = made_up_panel(1, 3, 2, time_of_day=True).members["vae"].weights
    model = vae.model_of({name: jnp.asarray(array[0]) for name, array in weights.items()})
    x = vae.row_at(jnp.ones(6, jnp.float32), jnp.float32(0.4))
    terms, residual = vae.explain(model, x)
    z = model.encoder(x).mean
    np.testing.assert_allclose(residual, x[:6] - model.decoder(jnp.concatenate([z, x[6:]])), rtol=1e-6)
    assert residual.shape == (6,)
    assert np.isfinite(float(terms.nll + terms.kl))


def days(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Channels that are high by day and low by night."""
    random = np.random.default_rng(seed)
    time_us = np.arange(DAYS * PER_DAY, dtype=np.int64) * PERIOD_US
    swing = np.sin(2 * np.pi * time_us / DAY_US)[:, None]
    return swing * [3.0, 2.0, -2.0, 1.0] + 0.2 * random.normal(size=(len(time_us), CHANNELS)), time_us


@pytest.mark.slow
def test_an_ordinary_level_at_the_wrong_hour() -> None:
    """A day that is half a day late: each record was ordinary twelve hours ago."""
    values, time_us = days()
    location = scaling.fit_location([values])
    examples = fitting.examples_of([values], location, 5, phase_of_day(time_us))
    params = fitting.fit_panel([examples], fitting.Recipe(steps=400, rehearse=False, time_of_day=True))
    assert params.members["vae"].weights["encoder.first.kernel"].shape[1] == 20 + 6
    scorer, n = Scorer(params), PER_DAY
    seen, _ = days(seed=1)
    day = fitting.examples_of([seen[:n]], location, 5, phase_of_day(time_us[:n]))
    at = np.broadcast_to(location, (n, *location.shape))
    nobody = np.zeros(n, np.int32)
    right, wrong = (
        scorer.score(nobody, day.windows, day.jump, at, (day.phase + shift).astype(np.float32) % 1).members
        for shift in (0.0, 0.5)
    )
    np.testing.assert_array_equal(right[:, 1:], wrong[:, 1:])  # the other members know no hour
    extremes = np.abs(np.sin(2 * np.pi * day.phase)) > 0.5
    gained = np.log(wrong[extremes, 0] / right[extremes, 0])
    assert (gained > 0).all()
    assert np.median(gained) > 0.3


def version(params: PanelParams) -> Version:
    columns = ("a", "b", "c")
    location = np.ones((1, 4, 3), np.float32)
    return Version(
        "", columns, "", 2, "shared", ("vae", "half", "errs", "jump"), params, {}, np.zeros(1, np.int32), location,
        {}, {}, 0,
    )  # fmt: skip


def read_back(params: PanelParams, tmp_path: object) -> Version:
    weights, calibration = packing.pack(version(params))
    manifest = Manifest(
        stream="s", created="", features=["a", "b", "c"], schema_hash="", columns=["a", "b", "c"], profile="shared",
        lags=2, members=["vae", "half", "errs", "jump"], entities=[], trained_entities=0,
    )  # fmt: skip
    return packing.unpack(Artefact(tmp_path, manifest, weights, calibration, ""))  # type: ignore[arg-type]


def test_a_version_is_read_back_with_its_condition(
    made_up_panel: Callable[..., PanelParams], tmp_path: object
) -> None:
    params = made_up_panel(1, 3, 2, time_of_day=True)
    assert vae.condition_of(read_back(params, tmp_path).params.members["vae"].weights) == vae.CONDITION


def test_a_version_conditioned_on_something_else_is_refused(
    made_up_panel: Callable[..., PanelParams], tmp_path: object
) -> None:
    params = made_up_panel(1, 3, 2, time_of_day=True)
    member = params.members["vae"]
    weights = dict(member.weights)
    weights["encoder.first.kernel"] = weights["encoder.first.kernel"][:, :-2]
    other = params._replace(members=params.members | {"vae": member._replace(weights=weights)})
    with pytest.raises(ArtefactError, match="do not fit together"):
        read_back(other, tmp_path)
