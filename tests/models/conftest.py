"""JAX as strict as it gets, and small panels to score with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import numpy as np
import pytest
from numpy.typing import NDArray
from tocsin.models import fitting, scaling
from tocsin.models.panel import PanelParams
from tocsin.models.vae import CONDITION, HIDDEN, LATENT


@pytest.fixture(autouse=True, scope="module")  # of the module, so that its own fixtures compile under it too
def strict_jax() -> Iterator[None]:
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


def telemetry(n: int, features: int, seed: int = 0) -> NDArray[np.float64]:
    """Channels that share four slow causes, each on its own scale, with noise."""
    random = np.random.default_rng(seed)
    causes = np.tanh(0.05 * random.normal(size=(n, 4)).cumsum(axis=0))
    mixed = causes @ random.normal(size=(4, features)) + 0.2 * random.normal(size=(n, features))
    return 50.0 + mixed * 10.0 ** random.uniform(-1, 1, size=features)


def examples(n: int, features: int, lags: int = 5, seed: int = 0) -> fitting.Examples:
    values = telemetry(n, features, seed)
    return fitting.examples_of([values], scaling.fit_location([values]), lags)


@pytest.fixture(scope="session")
def make_examples() -> Callable[..., fitting.Examples]:
    return examples


@pytest.fixture(scope="session")
def made_up_panel() -> Callable[..., PanelParams]:
    """Unfitted panels of any size, whose arrays have fitted ones' shapes and sizes."""

    def make(panels: int, features: int, lags: int, seed: int = 0, time_of_day: bool = False) -> PanelParams:
        from tocsin.models.members.errs import ErrsParams
        from tocsin.models.members.half import HalfParams
        from tocsin.models.members.jump import JumpParams
        from tocsin.models.members.vae import VaeParams
        from tocsin.models.whitening import Whitening

        random = np.random.default_rng(seed)
        size, past = features * lags, features * (min(lags, 5) - 1)
        condition = CONDITION if time_of_day else 0

        def normal(*shape: int) -> NDArray[np.float32]:
            return random.normal(size=(panels, *shape)).astype(np.float32) / np.float32(np.sqrt(shape[0]))

        shapes = {
            "decoder.first": (LATENT + condition, HIDDEN),
            "decoder.mean": (HIDDEN, size),
            "decoder.second": (HIDDEN, HIDDEN),
            "encoder.first": (size + condition, HIDDEN),
            "encoder.log_variance": (HIDDEN, LATENT),
            "encoder.mean": (HIDDEN, LATENT),
            "encoder.second": (HIDDEN, HIDDEN),
        }
        weights = {f"{name}.kernel": normal(*shape) for name, shape in shapes.items()}
        weights |= {f"{name}.bias": normal(shape[1]) for name, shape in shapes.items()}
        weights["noise"] = normal(size)
        basis = np.linalg.qr(random.normal(size=(panels, size, size)))[0].astype(np.float32)
        return PanelParams(
            Whitening(normal(size), basis, np.abs(normal(size)) + np.float32(0.1)),
            np.full((panels, 4), 2.0, np.float32),
            {
                "vae": VaeParams(weights, np.full(panels, -50.0, np.float32)),
                "half": HalfParams(),
                "errs": ErrsParams(
                    normal(past, features) if past else np.zeros((panels, 0, features), np.float32),
                    normal(features),
                    np.abs(normal(features)) + np.float32(0.1),
                ),
                "jump": JumpParams(),
            },
        )

    return make
