"""What is counted of a batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry
from tocsin.detector import metric_defs as defs
from tocsin.detector.changes import Feedback, Verdict, Versioned
from tocsin.detector.clocks import Clocks
from tocsin.detector.control_feed import Arrived
from tocsin.detector.ledger import Ledger
from tocsin.detector.metrics import Metrics
from tocsin.detector.outcome import Evicted, nothing
from tocsin.pipelines.decoding import Tally
from tocsin.pipelines.records import Records
from versions import STAMP


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


def test_who_gave_way_is_counted_by_why() -> None:
    metrics = Metrics(CollectorRegistry())
    ledger = Ledger(metrics, "s", Clocks())
    records = Records(
        *(np.zeros(0, kind) for kind in (np.int32, np.int32, np.int64, np.int64)), np.zeros((0, 1))
    )
    for evicted in (Evicted(3, 0), Evicted(2, 1)):
        read: Any = SimpleNamespace(tally=Tally())
        batch: Any = SimpleNamespace(size=0)
        ledger.batch(batch, read, nothing(records)._replace(evicted=evicted))
    assert [metrics.value(defs.EVICTED, "s", why) for why in ("limit", "ttl")] == [5, 1]


def test_feedback_is_counted_by_what_was_said() -> None:
    metrics = Metrics(CollectorRegistry())
    ledger = Ledger(metrics, "s", Clocks())
    said: list[Verdict] = ["false", "true", "false", "expected"]
    for version, verdict in enumerate(said):
        change = Feedback(
            alert_id="0" * 32,
            entity="e",
            topic="t",
            partition=0,
            starts_at="2026-01-31T12:00:00.000000Z",
            verdict=verdict,
            until="2026-01-31T13:00:00.000000Z" if verdict == "expected" else None,
            epoch=1,
            reach=None,
            counted=True,
            **STAMP,
        )
        ledger.change(Arrived(Versioned(version, change), ""))
    counted = {
        verdict: metrics.value(defs.FEEDBACK, "s", verdict) for verdict in ("false", "true", "expected")
    }
    assert counted == {"false": 2, "true": 1, "expected": 1}
    assert metrics.registry.get_sample_value(defs.FEEDBACK.name, {"stream": "t", "verdict": "true"}) is None
