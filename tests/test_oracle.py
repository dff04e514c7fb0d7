"""The oracle of `make faults` and `make soak` sees each thing that it is there to see, and nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from rigs.daemon import Home, Message
from tocsin.detector.scores import ScoreRows, ScoresWriter, encode, score_record
from tocsin.pipelines.brokers.base import Batch, Headers

from benchmarks.faults.oracle import Planted, judge
from benchmarks.faults.soak import slope

TOPIC = "input"
ID = "a" * 26


def score(offset: int, value: float = 1.5, incident: str | None = None) -> bytes:
    missing = "warming" if math.isnan(value) else None
    return encode(
        score_record("host-1", offset, 0, offset, "trained", value, 0.5, 2.0, value > 2, incident, missing)
    )


def alert(entity: str = "host-1", status: str = "firing", at: str = "2024-01-01T00:00:02Z") -> Message:
    value = {"alert_id": ID, "status": status, "labels": {"entity": entity}, "event_time": at}
    headers: Headers = [("ce_id", f"{ID}/{status}".encode())]
    return Message(0, 0, 0, b"", json.dumps(value).encode(), headers)


def letter(offset: int) -> Message:
    place: Headers = [("tocsin.error.partition", b"0"), ("tocsin.error.offset", b"%d" % offset)]
    return Message(0, 0, 0, b"", b"", place)


class Stream:
    """A stream of four records: one without a score, two with, and one that nobody could read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scores = [score(0, math.nan), score(1), score(2, 3.0, ID)]
        self.letters = [letter(3)]
        self.alerts = [alert()]

    def run(self, *arguments: str, wait_s: float) -> None:
        assert arguments[:3] == ("replay", "--since", "start")
        with ScoresWriter(self.folder / "scores.parquet") as file:
            file.write(
                ScoreRows(
                    timestamp=[0, 1, 2],
                    entity=["host-1"] * 3,
                    score=[math.nan, 1.5, 3.0],
                    p_value=[0.5] * 3,
                    threshold=[2.0] * 3,
                    anomalous=[False, False, True],
                    partition=[0] * 3,
                    offset=[0, 1, 2],
                    incident=[None, None, ID],
                    top_features=[None] * 3,
                    top_shares=[None] * 3,
                    null_reason=["warming", None, None],
                    calibration_version=["trained"] * 3,
                )
            )
        line = json.dumps({"alert_id": ID, "status": "firing"})
        (self.folder / "alerts.ndjson").write_text(line + "\n")

    def ends(self) -> dict[tuple[str, int], int]:
        return {(TOPIC, 0): 4}

    def batches(self, role: str, *, headers: bool) -> list[Batch]:
        assert (role, headers) == ("scores", False)
        count, values = len(self.scores), list[bytes | None](self.scores)
        none: list[bytes | None] = [None] * count
        return [Batch([TOPIC] * count, [0] * count, list(range(count)), [0] * count, none, values, None)]

    def read(self, role: str) -> list[Message]:
        return {"dead_letter": self.letters, "alerts": self.alerts}[role]


PLANTED = [Planted("host-1", 1_704_067_201_000_000, 1_704_067_203_000_000)]


def judged(home: Stream) -> dict[str, int]:
    """What the oracle finds wrong, and that it says so."""
    verdict = judge(cast(Home, home), PLANTED, None)
    assert (verdict.records, verdict.expected, verdict.state_equal) == (4, 1, True)
    names = ("lost", "doubled", "differing", "missed", "alerts_lost", "alerts_doubled", "alerts_foreign")
    wrong = {name: value for name in names if (value := getattr(verdict, name))}
    assert verdict.good == (not wrong.keys() - {"doubled", "alerts_doubled"})
    return wrong


@pytest.fixture
def home(tmp_path: Path) -> Stream:
    return Stream(tmp_path)


def test_nothing_is_found_where_nothing_is_wrong(home: Stream) -> None:
    assert judged(home) == {}


def test_a_record_in_neither_scores_nor_letters_is_lost(home: Stream) -> None:
    del home.scores[1], home.letters[0]
    assert judged(home) == {"lost": 2}


def test_what_is_told_again_is_doubled(home: Stream) -> None:
    home.scores.append(home.scores[1])
    home.letters.append(letter(3))
    home.alerts *= 3
    assert judged(home) == {"doubled": 2, "alerts_doubled": 2}


@pytest.mark.parametrize(
    "other", [score(1, float(np.nextafter(1.5, 2))), score(1, math.nan), score(1, 1.5, ID)]
)
def test_the_last_bit_of_a_score_and_the_words_beside_it_count(home: Stream, other: bytes) -> None:
    home.scores[1] = other
    assert judged(home) == {"differing": 1}


def test_a_score_of_what_the_replay_does_not_score_differs(home: Stream) -> None:
    home.scores.append(score(3))
    home.letters.clear()
    assert judged(home) == {"differing": 1}


def test_an_alert_that_nobody_was_told_is_lost_and_the_planted_one_missed(home: Stream) -> None:
    home.alerts.clear()
    assert judged(home) == {"missed": 1, "alerts_lost": 1}


def test_an_alert_that_the_replay_does_not_know_is_foreign(home: Stream) -> None:
    home.alerts.append(alert(status="resolved"))
    assert judged(home) == {"alerts_foreign": 1}


@pytest.mark.parametrize("other", [alert(entity="host-2"), alert(at="2024-01-01T00:00:04Z")])
def test_a_planted_alert_has_to_open_in_its_entity_and_in_its_time(home: Stream, other: Message) -> None:
    home.alerts[0] = other
    assert judged(home) == {"missed": 1}


def test_the_slope_of_a_line_with_noise_lies_in_its_interval_and_a_flat_one_is_told_from_it() -> None:
    rng = np.random.default_rng(1)
    at_s = np.arange(0, 45 * 60, 2.0)
    for mib_h in (0.0, 40.0):
        size = (500 + mib_h * at_s / 3600 + rng.normal(0, 0.5, len(at_s))) * (1 << 20)
        found = slope(at_s.tolist(), size.tolist(), seed=2)
        assert found.low <= mib_h <= found.high
        assert found.high - found.low < 4
    with pytest.raises(ValueError, match="9 minutes"):
        slope(at_s[:270].tolist(), size[:270].tolist(), seed=2)
