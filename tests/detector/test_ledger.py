"""What is counted of a batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry
from tocsin.detector import metric_defs as defs
from tocsin.detector.clocks import Clocks
from tocsin.detector.ledger import Ledger
from tocsin.detector.metrics import Metrics
from tocsin.pipelines.decoding import Tally


def test_a_batch_without_a_usable_row_is_counted_too() -> None:
    """Long format at low rates: each batch is one measurement, and one of an unknown name gives no row."""
    metrics = Metrics(CollectorRegistry())
    ledger = Ledger(metrics, "s", Clocks())
    batch: Any = SimpleNamespace(size=1)
    for tally in (Tally(unknown=1), Tally(infinite=2)):
        read: Any = SimpleNamespace(tally=tally)
        ledger.batch(batch, read, None)
    counted = (defs.RECORDS_CONSUMED, defs.POINTS_UNKNOWN, defs.VALUES_INFINITE, defs.RECORDS_SCORED)
    assert [metrics.value(one, "s") for one in counted] == [2, 1, 2, 0]
