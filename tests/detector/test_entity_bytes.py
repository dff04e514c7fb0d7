"""What an entity takes in memory: no more than was promised, and what docs/state.md says."""

from __future__ import annotations

import re

from rigs.source import ROOT
from tocsin.detector.settings import Stream
from tocsin.detector.startup import alignment_of
from tocsin.detector.state import StreamState
from tocsin.models.members import TABLE
from tocsin.pipelines.alignment import Alignment
from tocsin.pipelines.schema import FeatureSchema

PROMISED = 6 * 1024
FEATURES = tuple(f"feature-{number}" for number in range(25))
ROW = re.compile(r"^\| (?P<what>.*) \| (?P<arrays>.*?) ?\| (?P<bytes>\d+) \|$", re.MULTILINE)


def state_of(counters: tuple[str, ...] = (), alignment: Alignment | None = None) -> StreamState:
    return StreamState(FeatureSchema(FEATURES, counters), 16, len(TABLE), alignment)


def page() -> str:
    _, _, text = (ROOT / "docs" / "state.md").read_text().partition("## What an entity takes\n")
    return text.partition("\n## ")[0]


def test_the_table_of_the_page_is_what_the_arrays_take() -> None:
    fields = state_of().bytes_by_field()
    *rows, total = ROW.finditer(page())
    listed = []
    for row in rows:
        arrays = re.findall(r"`([^`]+)`", row["arrays"])
        print(f"{row['bytes']:>5}  {row['what']}")
        assert int(row["bytes"]) == sum(fields[name] for name in arrays), row["what"]
        listed += arrays
    print(f"{total['bytes']:>5}  {total['what']}")
    assert sorted(listed) == sorted(fields)
    assert int(total["bytes"]) == sum(fields.values()) == state_of().bytes_per_entity() <= PROMISED


def test_what_counters_and_open_periods_add() -> None:
    plain = state_of().bytes_per_entity()
    assert f"counter takes {state_of(FEATURES[:1]).bytes_per_entity() - plain} more" in page()
    alignment = alignment_of(Stream(name="s", topics=("t",), format="json_long"))
    aligned = state_of(alignment=alignment).bytes_per_entity() - plain
    assert f"long format takes {aligned} more" in page()
