from __future__ import annotations

import numpy as np
from tocsin.models import whitening


def sample(n: int, size: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return (random.normal(size=(n, size)) @ random.normal(size=(size, size)) + 3.0).astype(np.float32)


def test_moments_are_those_of_numpy() -> None:
    windows = sample(300, 6)
    mean, covariance = whitening.moments(windows)
    np.testing.assert_allclose(mean, windows.mean(axis=0, dtype=np.float64))
    np.testing.assert_allclose(covariance, np.cov(windows, rowvar=False, bias=True), rtol=1e-6)


def test_whitened_windows_are_uncorrelated_with_variance_e_over_e_plus_ridge() -> None:
    windows = sample(2000, 8)
    moments = whitening.moments(windows)
    e = np.linalg.eigvalsh(moments.covariance)[::-1]
    w = whitening.apply(whitening.fit(moments), windows)
    np.testing.assert_allclose(np.cov(w, rowvar=False, bias=True), np.diag(e / (e + 0.003)), atol=2e-4)


def test_leading_components_come_first_and_axes_have_a_fixed_sign() -> None:
    fitted = whitening.fit(whitening.moments(sample(500, 7)))
    spread, basis = np.asarray(fitted.spread), np.asarray(fitted.basis)
    assert (np.diff(spread) <= 0).all()
    assert (basis[np.abs(basis).argmax(axis=0), np.arange(7)] > 0).all()
    np.testing.assert_allclose(basis.T @ basis, np.eye(7), atol=1e-5)


def test_above_512_values_only_the_512_leading_components_stay() -> None:
    size = 520
    variances = np.linspace(2.0, 1.0, size)
    fitted = whitening.fit(whitening.Moments(np.zeros(size), np.diag(variances)))
    assert fitted.basis.shape == (size, 512)
    np.testing.assert_allclose(fitted.spread, np.sqrt(variances[:512] + 0.003), rtol=1e-6)


def test_a_direction_without_variance_is_not_blown_up() -> None:
    windows = np.ones((50, 3), np.float32)
    fitted = whitening.fit(whitening.moments(windows))
    np.testing.assert_allclose(fitted.spread, np.sqrt(0.003) * np.ones(3), rtol=1e-6)
    np.testing.assert_allclose(whitening.apply(fitted, windows), np.zeros((50, 3)), atol=1e-6)
