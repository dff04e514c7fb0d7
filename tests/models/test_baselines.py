from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tocsin.models import baselines, fitting, scaling
from tocsin.models.baselines import TABLE, Baseline

MakeExamples = Callable[..., fitting.Examples]


def test_the_table() -> None:
    assert list(TABLE) == ["mahalanobis", "lag_pca", "ewma_residual"]
    assert TABLE["lag_pca"].lags == 10


@pytest.mark.parametrize("baseline", list(TABLE.values()), ids=lambda b: b.name)
class TestContract:
    def test_one_finite_number_per_record(self, baseline: Baseline, make_examples: MakeExamples) -> None:
        one = make_examples(500, 4, baseline.lags or 5)
        one.windows[3, -1, 2] = one.jump[3, 2] = np.nan
        scores = baseline.score(baseline.fit([one]), one)
        assert scores.shape == (500,)
        assert np.isfinite(scores).all()
        assert (scores >= 0).all()

    def test_a_jump_is_strange(self, baseline: Baseline, make_examples: MakeExamples) -> None:
        lags = baseline.lags or 5
        one = make_examples(900, 4, lags)
        params = baseline.fit([one, make_examples(900, 4, lags, seed=1)])
        values = np.asarray(one.windows[:, -1], np.float64)
        values[600:, 1] += 8 * values[:, 1].std()
        scores = baseline.score(params, fitting.examples_of([values], one.location, lags))
        assert scores[600] > 3 * np.median(scores[:600])

    def test_blocks_do_not_show(self, baseline: Baseline, make_examples: MakeExamples) -> None:
        one = make_examples(baselines.BLOCK_ROWS + 50, 2, baseline.lags or 5)
        params = baseline.fit([one])
        tail = fitting.Examples(one.windows[-20:], one.jump[-20:], one.location, one.phase[-20:])
        np.testing.assert_allclose(
            baseline.score(params, one)[-20:], baseline.score(params, tail), rtol=1e-4, atol=1e-9
        )

    def test_no_records_no_scores(self, baseline: Baseline, make_examples: MakeExamples) -> None:
        one = make_examples(100, 2, baseline.lags or 5)
        none = fitting.Examples(one.windows[:0], one.jump[:0], one.location, one.phase[:0])
        assert baseline.score(baseline.fit([one]), none).shape == (0,)


def test_mahalanobis_is_the_ridged_quadratic_form(make_examples: MakeExamples) -> None:
    one = make_examples(600, 3)
    data, _ = fitting.prepare([one])
    flat = data.windows.reshape(600, -1).astype(np.float64) - data.moments.mean
    inverse = np.linalg.inv(data.moments.covariance + 0.003 * np.eye(15))
    expected = np.einsum("ni,ij,nj->n", flat, inverse, flat)
    baseline = TABLE["mahalanobis"]
    np.testing.assert_allclose(baseline.score(baseline.fit([one]), one), expected, rtol=1e-3)


def test_lag_pca_keeps_nine_tenths_of_the_variance(make_examples: MakeExamples) -> None:
    one = make_examples(2000, 6, 10)
    params = baselines.fit_lag_pca([one])
    z = (one.windows - one.location[scaling.MEAN]) / one.location[scaling.SD]
    total = np.square(z.reshape(2000, -1) - params.mean).sum(axis=1)
    left = baselines.score_lag_pca(params, one)
    one_less = baselines.PcaParams(params.mean, params.axes[:, :-1])
    assert 1 - left.sum() / total.sum() >= 0.9 - 1e-6
    assert 1 - baselines.score_lag_pca(one_less, one).sum() / total.sum() < 0.9


def test_ewma_residual_by_hand() -> None:
    location = np.array([[0, 0], [1, 1], [0, 0], [2, 1]], np.float32)
    jump = np.array([[2.0, 3.0], [4.0, np.nan]], np.float32)
    examples = fitting.Examples(np.zeros((2, 1, 2), np.float32), jump, location, np.zeros(2, np.float32))
    np.testing.assert_allclose(baselines.score_ewma_residual(None, examples), [(1 + 9) / 2, 4.0])
