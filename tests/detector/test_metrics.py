"""Metrics: what is exported is what was counted, in names that Prometheus' own checker accepts."""

import bisect
import math
import re
import subprocess
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics
from prometheus_client.parser import text_string_to_metric_families
from rigs.source import ROOT, modules
from tocsin.detector import metric_defs as defs
from tocsin.detector.metrics import Metrics, bucket_counts, bucket_quantile


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), top_k=2)


def fill(metrics: Metrics) -> None:
    """One series of every metric."""
    metrics.start_stream("hosts")
    for definition in defs.DEFINITIONS:
        labels = tuple(f"a {label}" for label in definition.labels)
        if definition.kind == "histogram":
            metrics.observe(definition, [0.1, 2.0], *labels)
        else:
            metrics.add(definition, 1, *labels)


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


@pytest.mark.prometheus
def test_promtool_accepts_the_whole_page(metrics: Metrics) -> None:
    fill(metrics)
    page = generate_latest(metrics.registry)
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_every_definition_is_exported_with_its_labels(metrics: Metrics) -> None:
    fill(metrics)
    families = {f.name: f for f in text_string_to_metric_families(generate_latest(metrics.registry).decode())}
    for definition in defs.DEFINITIONS:
        family = families[definition.name.removesuffix("_total")]
        assert family.type == definition.kind
        assert family.documentation == definition.help
        for found in family.samples:
            assert set(found.labels) - {"le"} == set(definition.labels)
    assert open_metrics(metrics.registry).endswith(b"# EOF\n")


def test_names_follow_the_rules() -> None:
    names = [definition.name for definition in defs.DEFINITIONS]
    assert len(set(names)) == len(names)
    for definition in defs.DEFINITIONS:
        assert definition.name.startswith("tocsin_")
        assert definition.name.endswith("_total") == (definition.kind == "counter")
        assert definition.help.endswith(".")
        assert list(definition.buckets) == sorted(definition.buckets)
        assert bool(definition.buckets) == (definition.kind == "histogram")
        entities = {"entity", "key", "alert_id"} & set(definition.labels)
        assert not entities or definition is defs.ENTITY_SCORE


def test_every_metric_is_kept_up_by_the_product() -> None:
    source = "".join((ROOT / path).read_text() for path in modules() if path.name != "metric_defs.py")
    names = [name for name, value in vars(defs).items() if isinstance(value, defs.Definition)]
    assert len(names) == len(defs.DEFINITIONS)
    assert [name for name in names if not re.search(rf"\b{name}\b", source)] == []


def test_known_series_exist_at_zero_from_the_start(metrics: Metrics) -> None:
    metrics.start_stream("hosts")
    assert sample(metrics, "tocsin_alerts_total", stream="hosts", severity="critical", status="firing") == 0
    assert sample(metrics, "tocsin_records_unscored_total", stream="hosts", verdict="late") == 0
    assert sample(metrics, "tocsin_score_bucket", stream="hosts", le="+Inf") == 0
    assert sample(metrics, "tocsin_stage_duration_seconds_count", stage="decode") == 0
    metrics.add(defs.RECORDS_SCORED, 3, "hosts")
    metrics.start_stream("hosts")
    assert sample(metrics, "tocsin_records_scored_total", stream="hosts") == 3


def test_choices_exclude_each_other(metrics: Metrics) -> None:
    metrics.start_stream("hosts")
    metrics.choose(defs.STREAM_PHASE, "training", "hosts")
    metrics.choose(defs.STREAM_PHASE, "live", "hosts")
    shown = {p: sample(metrics, "tocsin_stream_phase", stream="hosts", phase=p) for p in defs.PHASES}
    assert shown == {phase: float(phase == "live") for phase in defs.PHASES}


def test_a_partition_given_up_leaves_no_series(metrics: Metrics) -> None:
    metrics.set(defs.LAG, 5, "hosts", "t", "0")
    metrics.set(defs.LAG, 6, "hosts", "t", "1")
    metrics.drop(defs.LAG, "hosts", "t", "0")
    assert sample(metrics, "tocsin_consumer_lag_records", stream="hosts", topic="t", partition="0") is None
    assert metrics.value(defs.LAG, "hosts", "t", "1") == 6


def test_entities_are_bounded(metrics: Metrics) -> None:
    metrics.replace(defs.ENTITY_SCORE, {("a",): 1.0, ("b",): 3.0, ("c",): 2.0}, "hosts")
    shown = {e: sample(metrics, "tocsin_entity_score", stream="hosts", entity=e) for e in "abc"}
    assert shown == {"a": None, "b": 3.0, "c": 2.0}
    metrics.replace(defs.ENTITY_SCORE, {("a",): 1.0}, "hosts")
    assert sample(metrics, "tocsin_entity_score", stream="hosts", entity="b") is None


def test_wrong_labels_are_a_bug(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match=r"tocsin_alerts_total has the labels"):
        metrics.add(defs.ALERTS, 1, "hosts")


@given(st.lists(st.floats(-1e6, 1e6) | st.sampled_from(defs.SCORE) | st.just(math.nan)))
def test_buckets_hold_what_is_at_most_their_bound(values: list[float]) -> None:
    counts, total = bucket_counts(values, defs.SCORE)
    expected = [0] * (len(defs.SCORE) + 1)
    kept = [value for value in values if not math.isnan(value)]
    for value in kept:
        expected[bisect.bisect_left(defs.SCORE, value)] += 1
    assert counts.tolist() == expected
    assert total == pytest.approx(math.fsum(kept), abs=1e-6)


def test_a_histogram_does_not_care_how_values_were_batched(metrics: Metrics) -> None:
    values = np.random.default_rng(0).normal(0.5, 1.5, 1000)
    metrics.observe(defs.SCORE_HISTOGRAM, values, "whole")
    for part in np.split(values, [1, 7, 500]):
        metrics.observe(defs.SCORE_HISTOGRAM, part, "parts")
    whole, _ = metrics.histogram(defs.SCORE_HISTOGRAM, "whole")
    parts, _ = metrics.histogram(defs.SCORE_HISTOGRAM, "parts")
    assert whole.tolist() == parts.tolist()
    assert sample(metrics, "tocsin_score_bucket", stream="whole", le="0.5") == (values <= 0.5).sum()
    assert sample(metrics, "tocsin_score_bucket", stream="whole", le="+Inf") == 1000


def test_quantiles_are_those_of_prometheus() -> None:
    """Worked by hand after promql/quantile.go: linear in the bucket that holds the rank."""
    bounds = (-1.0, 0.0, 1.0, 2.0)
    assert bucket_quantile(0.5, [0, 0, 10, 10, 0], bounds) == 1.0
    assert bucket_quantile(0.75, [0, 0, 10, 10, 0], bounds) == 1.5
    assert bucket_quantile(0.1, [10, 0, 0, 0, 0], bounds) == -1.0
    assert bucket_quantile(0.9, [0, 0, 0, 0, 4], bounds) == 2.0
    assert bucket_quantile(0.5, [4, 0], (8.0,)) == 4.0
    assert math.isnan(bucket_quantile(0.5, [0, 0, 0, 0, 0], bounds))


def test_threads_lose_nothing(metrics: Metrics) -> None:
    def work() -> None:
        for _ in range(500):
            metrics.add(defs.RECORDS_SCORED, 1, "hosts")
            metrics.observe(defs.SCORE_HISTOGRAM, [0.1, 0.2], "hosts")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        generate_latest(metrics.registry)
    for thread in threads:
        thread.join()
    assert metrics.value(defs.RECORDS_SCORED, "hosts") == 2000
    assert sample(metrics, "tocsin_score_bucket", stream="hosts", le="+Inf") == 4000
