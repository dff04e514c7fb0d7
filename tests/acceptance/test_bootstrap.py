"""No model: the daemon counts what the topic holds, trains beside itself when it is enough, and goes live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil
import pytest
from rigs.daemon import Home, scored, until
from telemetry import keys, messages

pytestmark = pytest.mark.kafka

NEED = 300


def test_collects_trains_and_goes_live_saying_so(make_home: Callable[..., Home], trained: Any) -> None:
    home = make_home("bootstrap", untrained=True)
    home.write(train={"min_records": NEED, "min_span": "30d"})
    home.make_topics()
    rows = trained.fleet.entity < 4
    fleet = trained.fleet._replace(
        **{name: getattr(trained.fleet, name)[rows] for name in ("entity", "time_us", "values")}
    )
    values, names = messages(fleet), keys(fleet)
    daemon = home.start(live=False)
    home.send(values[:600], names[:600])

    def collected() -> dict[str, Any] | None:
        (stream,) = daemon.status()["streams"]
        found: dict[str, Any] | None = stream.get("collected")
        return found if found and found["records"] == 600 else None

    first = until(collected, "600 records to be counted")
    assert first["enough"] == 0
    assert first["entities"] == 4
    assert 0.4 < first["share"] < 0.6
    code, why = daemon.get("/-/ready")
    assert code == 503
    assert "collecting: 0 of 4 entities have enough records" in why
    assert daemon.get("/-/healthy")[0] == 200
    assert daemon.metric("tocsin_stream_phase", phase="collecting") == 1
    assert daemon.metric("tocsin_training_progress_ratio") == pytest.approx(first["share"], abs=0.01)
    port = daemon.url.rpartition(":")[2]
    assert "stream hosts: collecting" in home.run("status", TOCSIN__HTTP__PORT=port).stdout
    daemon.stop()
    # What was collected lies on the topic: a new process counts on from there.
    daemon = home.start(live=False)
    assert until(collected, "the same records to be counted again")["enough"] == 0
    home.send(values[600:1600], names[600:1600])
    until(lambda: daemon.metric("tocsin_stream_phase", phase="training") == 1, "training to begin")
    (child,) = [
        one for one in psutil.Process(daemon.process.pid).children(recursive=True) if "train" in one.cmdline()
    ]
    until(lambda: child.nice() >= 10, "the child to be niced")
    assert daemon.get("/-/healthy")[0] == 200
    home.send(values[1600:2000], names[1600:2000])
    daemon.ready(wait_s=240)
    home.send(values[2000:4000], names[2000:4000])
    home.caught_up()
    assert daemon.metric("tocsin_records_scored_total") > 1500
    assert [line["phase"] for line in daemon.said("phase")] == ["collecting", "training", "restoring", "live"]
    daemon.stop()
    live = scored(home.read("scores"))
    begins = {number: min(offset for part, offset in live if part == number) for number, _ in live}
    ends = {number: end for (_, number), end in home.ends().items()}
    assert set(live) == {(n, o) for n, begin in begins.items() for o in range(begin, ends[n])}
    assert len(live) >= 2400  # all that came after the training had begun
