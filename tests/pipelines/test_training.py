"""Training end to end on a small fleet: what it writes, that it repeats itself, that it keeps its budget."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from telemetry import generate
from tocsin.errors import ArtefactError, DataError
from tocsin.models import artefact
from tocsin.models.fitting import Recipe
from tocsin.models.packing import pack, unpack
from tocsin.models.panel import Scorer
from tocsin.models.registry import Registry
from tocsin.models.signing import ensure_pair, trust
from tocsin.pipelines import crossfit, sequences, training
from tocsin.pipelines.plan import make_plan
from tocsin.pipelines.records import NO_TIME, Records
from tocsin.pipelines.schema import FeatureSchema
from tocsin.pipelines.training import Options, encoded, manifest, scores_of, slow_half_life, train
from tocsin.thresholds.budget import parse_budget
from tocsin.thresholds.calibration import Calibration
from tocsin.thresholds.constants import DAY_US
from tocsin.thresholds.opening import openings_at
from tocsin.thresholds.state import Rules as Rules

LAGS = 5
OPTIONS = Options(steps=60, min_records=200, budget=parse_budget("20/day per entity"))


def collected(fleet):
    n = len(fleet.entity)
    records = Records(fleet.entity, np.zeros(n, np.int32), np.arange(n), fleet.time_us, fleet.values)
    return sequences.collect(
        [records], fleet.names.__getitem__, len(fleet.features), np.zeros(0, np.int32), LAGS, 16, 7 * DAY_US
    )


def small(seed: int = 11, entities: int = 3, records: int = 700):
    fleet = generate(seed=seed, entities=entities, records=records, features=4, missing=0.01)
    fleet.values[:, 2] = np.nan  # never present
    fleet.values[:, 3] = 7.0  # dead
    keep = (fleet.entity != 2) | (np.arange(len(fleet.entity)) < len(fleet.entity) * 3 // 5)
    return fleet._replace(**{n: getattr(fleet, n)[keep] for n in ("entity", "time_us", "values", "kind")})


@pytest.fixture(scope="module")
def fleet():
    return small()


@pytest.fixture(scope="module")
def schema(fleet):
    return FeatureSchema(fleet.features)


@pytest.fixture(scope="module")
def steps():
    return []


@pytest.fixture(scope="module")
def trained(fleet, schema, steps):
    return train(*collected(fleet), schema, OPTIONS, steps.append)


@pytest.mark.slow
def test_the_time_of_day_is_the_versions_own_and_few_days_are_said(fleet, schema) -> None:
    options = OPTIONS._replace(steps=20, time_of_day=True)
    trained = train(*collected(fleet), schema, options)
    assert trained.version.params.members["vae"].weights["decoder.first.kernel"].shape[1] == 8 + 6
    assert manifest(trained, schema, "fleet", "", 0.0).training["time_of_day"] is True
    (said,) = [warning for warning in trained.warnings if "time_of_day" in warning]
    assert "3 of 3 entities have records of less than 3 days" in said


def test_the_digest_is_of_all_that_the_bits_depend_on(fleet, schema, monkeypatch) -> None:
    def digest(series, options=OPTIONS):
        return training._digest(plan_of(series, min_records=200), schema, options)

    series, _ = collected(fleet)
    again, _ = collected(fleet)
    found = digest(series)
    assert digest(again) == found
    assert digest(series, OPTIONS._replace(seed=1)) != found
    for field in ("time_us", "values", "jump"):
        moved = getattr(again[0], field).copy()
        moved.flat[-1] += 1  # the last feature's, which is never missing
        assert digest([again[0]._replace(**{field: moved}), *again[1:]]) != found
    monkeypatch.setattr(training, "installed", lambda name: "99")
    assert digest(series) != found


def test_profile_panels_and_rows(trained) -> None:
    version = trained.version
    assert version.profile == "per_entity"
    assert version.columns == ("f00", "f01", "f03")
    assert list(version.entities) == ["host-00", "host-01", "host-02"]
    # host-02 has fewer than 500 records: the group's panel, the last, scores it and whoever is new
    assert version.panel.tolist() == [0, 1, 2, 2]
    assert version.params.ordinary.shape == (3, 4)
    assert version.location.shape == (4, 4, 3)
    assert trained.records == (696, 696, 416)
    assert version.calibration["half_life"].tolist() == [100.0] * 4
    assert version.calibration["trained_from_us"][-1] == NO_TIME
    assert (version.calibration["trained_to_us"] > version.calibration["trained_from_us"])[:3].all()
    assert set(Calibration._fields) < set(version.calibration)


def test_calibration_is_whole_and_the_prior_pools_it(trained) -> None:
    table = Calibration(**{name: trained.version.calibration[name] for name in Calibration._fields})
    np.testing.assert_array_equal(table.counts.sum(axis=1)[:3], trained.records)
    assert table.counts[3].sum() == sum(trained.records)
    assert table.span_us[3] == pytest.approx(table.span_us[:3].sum(), rel=0.1)
    assert (table.level > 0).all()
    assert trained.version.reference["mean"].shape == (3,)
    assert (trained.version.reference["sd"] > 0).all()
    assert trained.version.reference["mean"][2] == pytest.approx(0.25, abs=0.02)  # one of four is never there


def test_warnings_name_what_is_wrong_with_the_data(trained) -> None:
    text = "\n".join(trained.warnings)
    assert "never present and not used by the model: f02" in text
    assert "never change; only that they begin to can be noticed: f03" in text
    assert "fewer than 1000 records" in text


def test_progress_counts_to_its_end_and_history_has_both_splits(trained, steps) -> None:
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].done <= steps[-1].total
    assert {step.stage for step in steps} == {"fold", "final", "score"}
    phases = [epoch.phase for epoch in trained.history]
    assert phases == sorted(phases, reverse=True)  # rehearsal, then final
    first, last = trained.history[0], trained.history[-1]
    assert first.held_out is not None
    assert last.held_out is None
    assert last.train.loss < first.train.loss  # the KL weighs .2, so the ELBO itself may fall
    assert last.train.elbo == pytest.approx(-(last.train.reconstruction + last.train.kl), abs=1e-3)
    assert last.panels == 3


def test_same_seed_same_bytes_and_another_seed_others(fleet, schema, trained) -> None:
    again = train(*collected(fleet), schema, OPTIONS)
    assert encoded(again) == encoded(trained)
    other = train(*collected(fleet), schema, OPTIONS._replace(seed=1))
    assert encoded(other)[artefact.WEIGHTS] != encoded(trained)[artefact.WEIGHTS]


def test_version_survives_the_registry_to_the_bit(trained, schema, tmp_path: Path) -> None:
    signer, _ = ensure_pair(tmp_path / "key.pem")
    registry = Registry(tmp_path / "registry", "hosts")
    said = manifest(trained, schema, "hosts", "2026-01-01T00:00:00Z", 1.5)
    name = registry.register(said, encoded(trained), signer)
    loaded = registry.load(name, [trust(signer)])
    version = unpack(loaded)
    assert version._replace(params=None, calibration=None, reference=None, location=None, panel=None) == (
        trained.version._replace(
            name=name, params=None, calibration=None, reference=None, location=None, panel=None
        )
    )
    before, after = pack(trained.version), pack(version)
    for one, other in zip(before, after, strict=True):
        assert one.keys() == other.keys()
        assert all(one[key].tobytes() == other[key].tobytes() for key in one)
    assert loaded.manifest.baselines.keys() == {"mahalanobis", "lag_pca", "ewma_residual"}
    assert loaded.manifest.training["records"] == sum(trained.records)
    assert loaded.manifest.training["seed"] == 0
    assert loaded.manifest.libraries["jax"]
    assert len(loaded.manifest.history) == len(trained.history)
    series = collected(small())[0][0]
    window = series.windows(np.arange(10))
    scorer = Scorer(version.params, version.positions(schema.names), len(schema.names))
    wide = np.repeat(version.widened_location(schema.names)[:1], 10, axis=0)
    scored = scorer.score(np.zeros(10, np.int32), window, series.jump[:10], wide, series.phase(np.arange(10)))
    assert np.isfinite(scored.members).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, w, c: w.pop("params.ordinary"), "params.ordinary is missing"),
        (lambda m, w, c: w.pop("params.members.vae.weights.noise"), "do not fit together"),
        (lambda m, w, c: w.update({"params.ordinary": w["params.ordinary"].astype(np.float64)}), "float32"),
        (lambda m, w, c: w.update({"params.ordinary": w["params.ordinary"][:2]}), "has 2 panels"),
        (lambda m, w, c: w.pop("params.members.errs.sd"), r"errs\.sd is missing"),
        (
            lambda m, w, c: w.update({"params.whitening.mean": w["params.whitening.mean"][:, :9]}),
            "fit together",
        ),
        (lambda m, w, c: c.update(panel=c["panel"] + 1), "panel beyond"),
        (lambda m, w, c: c.pop("location"), "location is missing"),
        (lambda m, w, c: c.update(location=c["location"][:, :, :2]), "expected float32"),
        (lambda m, w, c: c.update({"calibration.level": c["calibration.level"][:2]}), "expected 4"),
        (lambda m, w, c: c.update(location=c["location"] * np.nan), "not finite"),
        (lambda m, w, c: m.update(members=["vae", "oracle"]), "members oracle"),
        (lambda m, w, c: m.update(members=["vae"]), "one value per panel and member"),
        (lambda m, w, c: m.update(profile="psychic"), "psychic"),
        (lambda m, w, c: m.update(profile="shared"), "there are 3 panels"),
    ],
)
def test_signed_versions_that_the_scorer_cannot_use_are_refused(
    trained, schema, tmp_path: Path, change, message: str
) -> None:
    said = msgspec.to_builtins(manifest(trained, schema, "hosts", "2026-01-01T00:00:00Z", 1.0))
    weights, calibration = (dict(part) for part in pack(trained.version))
    change(said, weights, calibration)
    loaded = artefact.Artefact(
        tmp_path, msgspec.convert(said, artefact.Manifest), weights, calibration, key="0" * 16
    )
    with pytest.raises(ArtefactError, match=message):
        unpack(loaded)


def test_levels_open_at_most_the_budget_on_train(fleet, schema) -> None:
    """The whole incident machine, run at the level over the cross-fitted scores it was found on."""
    series, counts = collected(fleet)
    trained = train(series, counts, schema, OPTIONS)
    plan = make_plan(
        series, schema.names, profile="auto", max_entity_models=200, min_records=200, min_span_us=DAY_US
    )
    fitted = crossfit.fit(plan.series, plan.groups, Recipe(steps=OPTIONS.steps))
    for i, one in enumerate(plan.series):
        history = fitted.histories[trained.version.panel[i]][i]
        opened, span, _ = openings_at(
            float(trained.version.calibration["level"][i]),
            scores_of(history),
            one.time_us,
            half_life=slow_half_life(one.records),
            rules=Rules(),
        )
        assert opened <= OPTIONS.budget.share(3) * span / DAY_US


@pytest.mark.slow
def test_shared_profile_has_one_panel_for_all(fleet, schema) -> None:
    version = train(*collected(fleet), schema, OPTIONS._replace(profile="shared")).version
    assert version.profile == "shared"
    assert version.panel.tolist() == [0, 0, 0, 0]
    assert version.params.ordinary.shape[0] == 1
    assert len({row.tobytes() for row in version.calibration["median"]}) == 4


def plan_of(series, features=("f00", "f01", "f02", "f03"), **changes):
    options = {"profile": "auto", "max_entity_models": 200, "min_records": 600, "min_span_us": DAY_US}
    return make_plan(series, features, **{**options, **changes})


def test_plan_leaves_short_entities_out_and_says_so(fleet) -> None:
    series, _ = collected(fleet)
    plan = plan_of(series)
    assert [one.entity for one in plan.series] == ["host-00", "host-01"]
    assert any("1 of 3 entities have fewer than 600 records" in text for text in plan.warnings)
    assert len(plan_of(series, min_span_us=3600 * 1_000_000).series) == 3
    assert plan_of(series, max_entity_models=1).own == ()
    with pytest.raises(DataError, match="max_entity_models"):
        plan_of(series, profile="per_entity", max_entity_models=1)


def test_too_little_to_train_on_is_said_with_numbers(fleet) -> None:
    series, _ = collected(fleet)
    with pytest.raises(DataError, match=r"host-00, has 700 usable records .* Needed are 5000"):
        plan_of(series, min_records=5000)
    with pytest.raises(DataError, match="nothing that was read could be scored"):
        plan_of([])
    tiny, _ = collected(generate(entities=2, records=90, features=4))
    with pytest.raises(DataError, match="Needed are 100"):
        plan_of(tiny, min_records=1, min_span_us=0)  # never below 100
    empty = [one._replace(values=one.values * np.nan) for one in series]
    with pytest.raises(DataError, match="none of the features"):
        plan_of(empty)


def test_folds_never_see_the_block_they_score() -> None:
    for records in (100, 101, 103, 696):
        blocks = [crossfit.edges(records)[b : b + 2] for b in range(crossfit.BLOCKS)]
        assert np.concatenate([np.arange(*block) for block in blocks]).tolist() == list(range(records))
        for b, (first, last) in enumerate(blocks):
            rows = crossfit.outside(records, b)
            assert len(rows) == records - (last - first)
            assert not ((rows >= first) & (rows < last)).any()
