"""The page: it holds what was gathered, escapes all that comes from data, loads nothing, and keeps its size."""

from pathlib import Path

import numpy as np
import pytest
from reports import MINUTE_US, START_US, Made, Reader, minutes, stands_alone
from tocsin.detector.alerts import Severity
from tocsin.detector.report import facts, frame, page
from tocsin.detector.report.gather import KEPT
from tocsin.detector.report.markup import Html, el
from tocsin.errors import DataError
from tocsin.pipelines.windows import Verdict

EVIL = """</script><script>alert(1)</script>"'&<img src=x onerror=alert(2)>"""


def rendered(made: Made, stream: str = "web") -> str:
    return page.page(facts.report(made.gathered, stream))


@pytest.fixture
def made() -> Made:
    """Two entities; the second has one incident of two minutes in ten, and a label."""
    made = Made(["calm", "loud"])
    score = np.full(10, 0.1)
    label = np.zeros(10, np.int8)
    made.feed(0, minutes(10), score, label=label)
    score[4:7] = [2.0, 4.5, 2.0]
    label[4:6] = 1
    inside = np.isin(np.arange(10), (5, 6))
    made.feed(
        1,
        minutes(10),
        score,
        label=label,
        inside=inside,
        openings=[5],
        blocks=[(9, 0.7)],
        flags=[(9, "score")],
    )
    made.incident(1, START_US + 4 * MINUTE_US, START_US + 7 * MINUTE_US, [("cpu", 9.25, 1.5, 0.75)], peak=4.5)
    made.feed(1, minutes(3, 10), np.zeros(3), verdict=Verdict.LATE)
    return made


def test_the_facts_by_hand(made: Made) -> None:
    found = facts.report(made.gathered, "web")
    assert (found.records, found.scored, found.judged, found.openings) == (23, 20, 20, 1)
    assert found.verdicts["late"] == 3
    assert (found.entities, found.with_incidents) == (2, 1)
    assert found.entity_days == pytest.approx(2 * 9 / 1440)
    assert found.responsible == [("cpu", 0.75)]
    loud, calm = found.ranked
    assert (loud.name, calm.name) == ("loud", "calm")
    assert (loud.excess, loud.score, loud.threshold) == (3.5, 4.5, 1.0)
    assert loud.excess_us == START_US + 5 * MINUTE_US
    assert (loud.anomalous, loud.inside, loud.openings, loud.critical) == (3, 0.2, 1, 0)
    assert calm.excess == pytest.approx(-0.9)
    assert loud.incidents[0].ended_us == START_US + 7 * MINUTE_US
    assert found.quality is not None
    assert (found.quality.events, found.quality.found, found.quality.normal_inside) == (1, 1, 1)
    assert found.drifts[0].decided == 1
    assert found.drifts[0].series.high[0, 0] == np.float32(0.7)


def test_the_page_says_it(made: Made) -> None:
    text = Reader(rendered(made)).text
    for said in (
        "loud",
        "calm",
        "9.25",
        "1.5",
        "75.0 %",
        "1 of 1 events found",
        "3 records",
        "1/day per entity",
    ):
        assert said in text, said


def test_unjudged_records_are_no_findings() -> None:
    made = Made(["a"])
    made.feed(0, minutes(5), np.full(5, 9.0), judged=False, label=np.ones(5, np.int8))
    found = facts.report(made.gathered, "web")
    assert (found.scored, found.judged, found.quality) == (5, 0, None)
    assert found.ranked[0].excess == -np.inf
    assert "trained on" in Reader(rendered(made)).text


def test_what_comes_from_data_is_escaped() -> None:
    made = Made([EVIL, "b"], features=(EVIL, "f"), stream=EVIL)
    made.feed(0, minutes(5), np.full(5, 3.0), openings=[3], flags=[(4, "score")], blocks=[(4, 1.0)])
    made.incident(0, START_US, None, [(EVIL, 1.0, 2.0, 0.9)])
    content = rendered(made, EVIL)
    tags = Reader(content).tags
    assert [tag for tag, _ in tags].count("script") == 1
    assert not [tag for tag, _ in tags if tag in ("img", "iframe", "object", "link")]
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert Reader(content).text.count("alert(1)") > 3
    assert el("p", "<b>", Html("<i>"), title='"') == '<p title="&quot;">&lt;b&gt;<i></p>'


def test_the_page_loads_nothing_and_forbids_it(made: Made) -> None:
    stands_alone(rendered(made))


@pytest.mark.parametrize(
    ("records", "said"), [(0, "holds no records"), (4, "None of the records could be scored")]
)
def test_a_range_without_scores_gives_a_page_that_says_so(records: int, said: str) -> None:
    made = Made(["a"])
    if records:
        made.feed(0, minutes(records), np.zeros(records), verdict=Verdict.ALL_MISSING)
    content = rendered(made)
    assert said in Reader(content).text
    assert ("4 records" in content) == bool(records)


def test_the_strongest_incidents_are_kept() -> None:
    made = Made(["a"])
    made.feed(0, minutes(3), np.zeros(3))
    for i in range(KEPT + 20):
        peak = 9.0 if i == 0 else 2.0 + i / 1000
        at = START_US + i * MINUTE_US
        made.incident(0, at, at + 1, peak=peak, severity=Severity.CRITICAL)
    held = list(made.gathered.incidents[0].values())
    assert len(held) == KEPT
    assert sorted(one.peak for one in held)[-1] == 9.0
    assert min(one.peak for one in held if one.peak < 9) == pytest.approx(2.0 + 21 / 1000)
    assert made.gathered.severities == {"critical": KEPT + 20}
    assert f"the {KEPT} incidents with the highest peaks" in Reader(rendered(made)).text


def test_the_same_replay_gives_the_same_page(made: Made) -> None:
    assert rendered(made) == rendered(made)


def test_what_does_not_fit_is_left_out_and_said(made: Made) -> None:
    found = facts.report(made.gathered, "web")
    whole = page.page(found)
    less = page.page(found, limit=len(whole.encode()) - 2000)
    assert len(less.encode()) <= len(whole.encode()) - 2000
    text = Reader(less).text
    assert 'id="e1"' in less
    assert 'id="e2"' not in less
    assert "1 more entity of 2" in text


def test_it_is_written_whole_or_not_at_all(made: Made, tmp_path: Path) -> None:
    found = facts.report(made.gathered, "web")
    path = tmp_path / "report.html"
    assert page.write(path, found) == path.stat().st_size
    with pytest.raises(DataError, match="Name a file in a folder that exists"):
        page.write(tmp_path / "missing" / "report.html", found)
    for folder in (tmp_path, Path()):
        with pytest.raises(DataError, match="cannot be written: Is a directory"):
            frame.check_writable(folder)
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.slow
def test_a_month_of_a_hundred_entities_keeps_the_size() -> None:
    entities, days = 120, 30
    made = Made(
        [f"host-{i:03d}.rack.example" for i in range(entities)], [f"feature_{f:02d}" for f in range(40)]
    )
    rng = np.random.default_rng(5)
    slot = np.tile(np.arange(entities, dtype=np.int32), 1440)
    peaks = np.full(entities, -np.inf)
    for day in range(days):
        time_us = np.repeat(minutes(1440, 1440 * day), entities)
        score = rng.normal(0, 1, len(slot))
        np.maximum.at(peaks, slot, score)
        label = (rng.random(len(slot)) < 0.001).astype(np.int8)
        made.feed(slot, time_us, score, 2.5 + 0.1 * rng.normal(size=len(slot)), inside=score > 3, label=label)
        for entity in range(entities):
            for hour in (3, 15):
                at = START_US + (day * 24 + hour) * 60 * MINUTE_US
                causes = [(f"feature_{f:02d}", rng.normal() * 1e3, rng.normal(), 0.2) for f in range(5)]
                made.incident(entity, at, at + 20 * MINUTE_US, causes, peak=float(rng.uniform(2, 6)))
    found = facts.report(made.gathered, "web")
    content = page.page(found)
    assert len(content.encode()) <= 10_000_000
    assert len(found.ranked) == facts.DETAILED
    assert "more entities of 120" in Reader(content).text
    # No peak was lost on the way from 43,200 records an entity to at most 1,024 buckets.
    for one in found.ranked:
        index = int(one.name[5:8])
        assert len(one.series.time_us) <= 1024
        assert one.series.high[:, 0].max() == np.float32(peaks[index])
