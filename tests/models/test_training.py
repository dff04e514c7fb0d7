from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray
from tocsin.models import training, vae
from tocsin.models.training import Figures, Job, Plan, Report

SIZE = 10


def linear_job(n: int = 500, seed: int = 0, owners: int = 1) -> Job:
    """Two causes seen through ten values with noise of variance .5."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(2, SIZE))
    windows = (random.normal(size=(n, 2)) @ mixing + np.sqrt(0.5) * random.normal(size=(n, SIZE))).astype(
        np.float32
    )
    return Job(windows, (np.arange(n) * owners // n).astype(np.int32))


def exact_log_likelihood(windows: NDArray[np.float32]) -> float:
    mixing = np.random.default_rng(99).normal(size=(2, SIZE))
    covariance = mixing.T @ mixing + 0.5 * np.eye(SIZE)
    inner = np.einsum("ni,ij,nj->n", windows, np.linalg.inv(covariance), windows).mean()
    return -0.5 * (inner + np.linalg.slogdet(covariance)[1] + SIZE * np.log(2 * np.pi))


def test_a_linear_gaussian_world_is_learnt_to_near_its_likelihood() -> None:
    job, reports = linear_job(2000), []
    training.train([job], Plan(0, 800, rehearse=True), reports.append)
    first, last = reports[0], reports[-1]
    best = exact_log_likelihood(job.windows)
    assert last.train.elbo < best + 0.5  # a bound, up to its sampling error
    assert last.train.elbo > best - 4.0
    assert first.train.elbo < last.train.elbo - 5.0
    assert last.train.active_units >= 2
    assert last.warnings == ()
    rehearsal = [r for r in reports if r.phase == "rehearsal"]
    assert [r.epoch for r in rehearsal] == list(range(1, 21))
    assert rehearsal[-1].held_out is not None
    assert abs(rehearsal[-1].held_out.elbo - rehearsal[-1].train.elbo) < 1.5
    assert rehearsal[-1].steps == 800


@pytest.mark.slow
def test_products_in_bfloat16_learn_as_much_and_leave_weights_and_figures_in_float32() -> None:
    job = linear_job(2000)
    reports: dict[str, list[Report]] = {"float32": [], "bfloat16": []}
    fitted = {
        precision: training.train([job], Plan(0, 800, False, precision=precision), heard.append)[0]
        for precision, heard in reports.items()
    }
    single, half = (heard[-1].train.elbo for heard in reports.values())
    assert abs(single - half) < 0.05  # nats, of 16; another seed changes it by .16
    for name, array in fitted["bfloat16"].weights.items():
        assert array.dtype == np.float32
        assert (array != fitted["float32"].weights[name]).any()
    model = vae.model_of({name: jax.numpy.asarray(a) for name, a in fitted["bfloat16"].weights.items()})
    terms, _ = jax.vmap(lambda w: vae.explain(model, w))(jax.numpy.asarray(job.windows))
    assert float(fitted["bfloat16"].lowest) == pytest.approx(float(np.min(terms.nll + terms.kl)), rel=1e-5)
    products = {name: products_of(name) for name in (None, jax.numpy.bfloat16)}
    assert products == {None: {"float32"}, jax.numpy.bfloat16: {"bfloat16"}}


def products_of(dtype: object) -> set[str]:
    """The types that one pass of the network multiplies matrices in."""
    weights = vae.weights_of(vae.VAE(SIZE, rngs=nnx.Rngs(0)))
    rows, noise = jax.numpy.zeros((3, SIZE)), jax.numpy.zeros((3, vae.LATENT))

    def loss(weights: vae.Weights) -> jax.Array:
        model = vae.model_of(weights, dtype)
        terms = jax.vmap(lambda w, n: vae.elbo_terms(model, w, n))(rows, noise)
        assert terms.nll.dtype == terms.kl.dtype == np.float32
        return jax.numpy.sum(terms.nll + terms.kl)

    found = jax.make_jaxpr(jax.grad(loss))(weights)
    return {str(one.invars[0].aval.dtype) for one in found.jaxpr.eqns if one.primitive.name == "dot_general"}


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    job = linear_job()
    a, b, c = (training.train([job], Plan(seed, 40, False))[0] for seed in (1, 1, 2))
    for name in a.weights:
        np.testing.assert_array_equal(a.weights[name], b.weights[name])
    assert any((a.weights[name] != c.weights[name]).any() for name in a.weights)


def test_neighbours_in_a_stack_and_padding_do_not_matter() -> None:
    jobs = [linear_job(400, 0), linear_job(500, 1)]
    both = training.train(jobs, Plan(0, 40, False, width=3))
    alone = training.train(jobs[1:], Plan(0, 40, False, first=1, width=1))[0]
    for name in alone.weights:
        np.testing.assert_allclose(both[1].weights[name], alone.weights[name], atol=2e-4)
    assert len(both) == 2


def test_lowest_is_the_least_score_over_all_windows() -> None:
    job = linear_job(700)
    fitted = training.train([job], Plan(0, 40, False))[0]
    model = vae.model_of({name: jax.numpy.asarray(a) for name, a in fitted.weights.items()})
    terms, _ = jax.vmap(lambda w: vae.explain(model, w))(jax.numpy.asarray(job.windows))
    assert float(fitted.lowest) == pytest.approx(float(np.min(terms.nll + terms.kl)), rel=1e-4)


def test_nothing_is_compiled_twice_for_jobs_of_similar_size() -> None:
    training.train([linear_job(300)], Plan(0, 40, False))
    compiled = [f._cache_size() for f in (training._epoch, training._figures, training._lowest)]
    for n in (100, 301, 512):
        training.train([linear_job(n, owners=3)], Plan(5, 40, False))
    assert [f._cache_size() for f in (training._epoch, training._figures, training._lowest)] == compiled


def test_entities_weigh_the_same_however_many_records_they_have() -> None:
    owner = np.array([0] * 900 + [1] * 100, np.int32)
    shown = training._shown(training._by_owner(owner), None, Plan(0, 800, False), 0)
    assert shown.draws.shape == (20, 40, 128)
    assert float((shown.draws >= 900).mean()) == pytest.approx(0.5, abs=0.01)
    assert shown.draws.min() == 0
    assert shown.draws.max() == 999


def test_the_hold_out_is_the_latest_tenth_of_each_entity() -> None:
    train, held = training._split([(0, 100), (100, 120), (120, 121)])
    assert train == [(0, 90), (100, 118), (120, 121)]
    assert held == [(90, 100), (118, 120)]


def test_rehearsal_never_draws_from_the_hold_out() -> None:
    spans = [(0, 100), (100, 200)]
    train, held = training._split(spans)
    shown = training._shown(train, held, Plan(0, 800, True), 0)
    drawn = set(shown.draws.reshape(-1).tolist()) | set(shown.train.tolist())
    assert shown.held_out is not None
    assert not drawn & set(shown.held_out.tolist())


def test_constant_windows_collapse_and_it_is_said() -> None:
    reports: list[Report] = []
    training.train(
        [Job(np.zeros((300, SIZE), np.float32), np.zeros(300, np.int32))], Plan(0, 40, False), reports.append
    )
    assert reports[-1].train.active_units == 0
    assert "posterior collapse" in reports[-1].warnings[0]


def test_learning_by_heart_stops_early_and_it_is_said() -> None:
    random = np.random.default_rng(0)
    reports: list[Report] = []
    job = Job(random.normal(size=(40, 40)).astype(np.float32), np.zeros(40, np.int32))
    fitted = training.train([job], Plan(0, 800, True), reports.append)[0]
    rehearsal = [r for r in reports if r.phase == "rehearsal"]
    assert any("overfitting" in warning for warning in rehearsal[-1].warnings)
    assert fitted.steps < 800
    assert [r.steps for r in reports if r.phase == "final"][-1] == fitted.steps


def history(train: list[float], held: list[float] | None) -> list[Report]:
    def figures(loss: float) -> Figures:
        return Figures(-loss, loss, 0.0, 3)

    return [
        Report(
            0,
            "rehearsal",
            i + 1,
            len(train),
            40 * (i + 1),
            figures(t),
            None if held is None else figures(held[i]),
            (),
        )
        for i, t in enumerate(train)
    ]


@pytest.mark.parametrize(
    ("train", "held", "stop"),
    [
        (list(range(20, 0, -1)), list(range(20, 0, -1)), 20),  # both get better
        (list(range(20, 0, -1)), None, 20),  # nothing watched
        (list(range(20, 0, -1)), [*range(20, 10, -1), *range(10, 20)], 11),  # rises after the 11th
        (list(range(20, 0, -1)), [5.0] * 19 + [5.1], 20),  # within the noise
        (
            [5.0] * 20,
            [*range(20, 10, -1), *range(10, 20)],
            20,
        ),  # drift, not overfitting: train learns nothing
        (list(range(20, 0, -1)), list(range(1, 21)), 7),  # never before the KL has its full weight
    ],
)
def test_where_to_stop(train: list[float], held: list[float] | None, stop: int) -> None:
    assert training._stop(history([float(t) for t in train], held), SIZE) == stop
