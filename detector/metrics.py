"""Metrics: a store that is updated once per batch, and read by Prometheus.

    metrics = Metrics(CollectorRegistry())
    metrics.add(RECORDS_SCORED, 4096, "hosts")
    metrics.observe(SCORE_HISTOGRAM, scores, "hosts")

`metric_defs.py` lists what there is. The client library's own classes take a microsecond per value and cannot
take a batch, so the numbers are held here and handed over when scraped.
"""

from __future__ import annotations

import itertools
import platform
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from .. import __version__
from .metric_defs import BUILD_INFO, DEFINITIONS, ENTITY_SCORE, READY, Definition

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

Labels = tuple[str, ...]


class _Histogram:
    """Counts per bucket, the last one beyond all bounds, and the sum."""

    __slots__ = ("counts", "sum")

    def __init__(self, bounds: int) -> None:
        self.counts: NDArray[np.int64] = np.zeros(bounds + 1, np.int64)
        self.sum = 0.0


class Metrics:
    """All series of a process. Every method may be called from any thread.

    `registry` gets the series and those of the process itself; `top_k` bounds the one metric with entities.
    """

    def __init__(self, registry: CollectorRegistry, top_k: int = 0) -> None:
        self.registry = registry
        self.top_k = top_k
        self._lock = threading.Lock()
        self._values: dict[str, dict[Labels, float]] = {d.name: {} for d in DEFINITIONS}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {d.name: {} for d in DEFINITIONS}
        self.set(BUILD_INFO, 1, __version__, platform.python_version())
        self.set(READY, 0)
        self._zero(())
        registry.register(_Bridge(self))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)

    def start_stream(self, stream: str) -> None:
        """Let a stream's series of known labels exist at 0, so that a rate sees the first event."""
        self._zero(("stream",), stream)

    def _zero(self, first: Labels, *given: str) -> None:
        for definition in DEFINITIONS:
            choices = dict(definition.choices)
            rest = definition.labels[len(first) :]
            plain = definition.kind == "gauge" and not choices
            if definition.labels[: len(first)] != first or plain or not choices.keys() >= set(rest):
                continue
            for values in itertools.product(*(choices[label] for label in rest)):
                if definition.kind == "histogram":
                    self.observe(definition, (), *given, *values)
                else:
                    self.add(definition, 0, *given, *values)

    def add(self, definition: Definition, amount: float, *labels: str) -> None:
        """Add to a counter (or a gauge)."""
        key = _checked(definition, labels)
        with self._lock:
            series = self._values[definition.name]
            series[key] = series.get(key, 0.0) + float(amount)

    def set(self, definition: Definition, value: float, *labels: str) -> None:
        """Set a gauge."""
        key = _checked(definition, labels)
        with self._lock:
            self._values[definition.name][key] = float(value)

    def observe(self, definition: Definition, values: ArrayLike, *labels: str) -> None:
        """Add values to a histogram, one or an array of any length; NaN is left out."""
        key = _checked(definition, labels)
        counts, total = bucket_counts(values, definition.buckets)
        with self._lock:
            histogram = self._histograms[definition.name].setdefault(key, _Histogram(len(definition.buckets)))
            histogram.counts += counts
            histogram.sum += total

    def choose(self, definition: Definition, choice: str, *labels: str) -> None:
        """Set one of the last label's choices to 1 and the others to 0."""
        for value in dict(definition.choices)[definition.labels[-1]]:
            self.set(definition, float(value == choice), *labels, value)

    def replace(self, definition: Definition, values: Mapping[Labels, float], *first: str) -> None:
        """Replace all series whose labels begin with `first`; `values` has the labels after them."""
        if definition is ENTITY_SCORE:
            kept = sorted(values.items(), key=lambda item: (-item[1], item[0]))[: self.top_k]
            values = dict(kept)
        series = {_checked(definition, (*first, *rest)): float(value) for rest, value in values.items()}
        with self._lock:
            self._drop(definition, first)
            self._values[definition.name].update(series)

    def drop(self, definition: Definition, *first: str) -> None:
        """Remove every series whose labels begin with `first`: a partition that is owned no more."""
        with self._lock:
            self._drop(definition, first)

    def _drop(self, definition: Definition, first: Labels) -> None:
        store: dict[Labels, Any] = (
            self._histograms[definition.name]
            if definition.kind == "histogram"
            else self._values[definition.name]
        )
        for key in [key for key in store if key[: len(first)] == first]:
            del store[key]

    def value(self, definition: Definition, *labels: str) -> float:
        """What a counter or gauge shows, 0 where there is no such series."""
        with self._lock:
            return self._values[definition.name].get(labels, 0.0)

    def histogram(self, definition: Definition, *labels: str) -> tuple[NDArray[np.int64], float]:
        """Counts per bucket (the last is beyond all bounds) and the sum."""
        with self._lock:
            found = self._histograms[definition.name].get(labels) or _Histogram(len(definition.buckets))
            return found.counts.copy(), found.sum

    def families(self) -> Iterator[Metric]:
        """Everything, in the order of the definitions, in the client library's terms."""
        for definition in DEFINITIONS:
            yield (
                self._histogram_family(definition)
                if definition.kind == "histogram"
                else self._family(definition)
            )

    def _family(self, definition: Definition) -> Metric:
        kind = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
        family = kind(definition.name, definition.help, labels=definition.labels)
        with self._lock:
            series = sorted(self._values[definition.name].items())
        for labels, value in series:
            family.add_metric(labels, value)
        return family

    def _histogram_family(self, definition: Definition) -> Metric:
        family = HistogramMetricFamily(definition.name, definition.help, labels=definition.labels)
        bounds = [*map(floatToGoString, definition.buckets), "+Inf"]
        with self._lock:
            series = [
                (key, h.counts.copy(), h.sum) for key, h in sorted(self._histograms[definition.name].items())
            ]
        for labels, counts, total in series:
            cumulative = np.cumsum(counts).tolist()
            family.add_metric(labels, list(zip(bounds, cumulative, strict=True)), total)
        return family


class _Bridge(Collector):
    """Lets a registry read the store."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.families()


def bucket_counts(values: ArrayLike, bounds: tuple[float, ...]) -> tuple[NDArray[np.int64], float]:
    """How many values fall into each bucket (upper bounds inclusive, one more beyond them), and their sum."""
    array = np.asarray(values, np.float64).ravel()
    array = array[~np.isnan(array)]
    counts = np.bincount(np.searchsorted(bounds, array, side="left"), minlength=len(bounds) + 1)
    return counts.astype(np.int64), float(array.sum())


def bucket_quantile(q: float, counts: ArrayLike, bounds: tuple[float, ...]) -> float:
    """The q-quantile of bucketed values, as PromQL's histogram_quantile computes it.

    Linear within a bucket; the lowest bucket counts from 0 if its bound is positive, else it is its bound;
    beyond the highest bound it is that bound; NaN without values. (Prometheus, promql/quantile.go.)
    """
    held = np.asarray(counts, np.float64)
    total = held.sum()
    if total == 0:
        return float("nan")
    rank = q * total
    cumulative = np.cumsum(held)
    index = int(np.searchsorted(cumulative[:-1], rank, side="left"))
    if index == len(bounds):
        return bounds[-1]
    if index == 0 and bounds[0] <= 0:
        return bounds[0]
    low = bounds[index - 1] if index else 0.0
    before = cumulative[index - 1] if index else 0.0
    return float(low + (bounds[index] - low) * ((rank - before) / held[index]))


def _checked(definition: Definition, labels: Labels) -> Labels:
    """Label values, as many as there are labels: anything else is a bug of the caller."""
    if len(labels) != len(definition.labels):
        raise ValueError(f"{definition.name} has the labels {definition.labels}, got {labels}")
    return labels
