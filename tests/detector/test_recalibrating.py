"""What a recalibration is made of: which scores count, and what the change carries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tocsin.detector.changes import Recalibration, SettingsChange, unpack_arrays
from tocsin.detector.recalibrating import Recent, kept, of_scores_topic, propose
from tocsin.detector.ruling import Ruling
from tocsin.detector.scores import message_of, score_record
from tocsin.detector.settings import Stream
from tocsin.detector.when import When
from tocsin.errors import DataError
from tocsin.pipelines.brokers import Broker, open_broker
from tocsin.thresholds.budget import Budget, parse_budget
from versions import STAMP, Stand

SECOND = 1_000_000


def recent(records: int, seed: int = 1) -> Recent:
    found = Recent()
    found.times = [10 * SECOND * i for i in range(records)]
    found.scores = np.random.default_rng(seed).normal(0, 0.3, records).tolist()
    return found


def rulings_with(stand: Stand, *changes: Recalibration) -> Ruling:
    return stand.rulings(changes).ruling()


@pytest.fixture
def ruling(shared_stand: Stand) -> Ruling:
    return rulings_with(shared_stand)


@pytest.fixture
def names(ruling: Ruling) -> list[str]:
    return sorted(ruling.rows)


def proposed(
    ruling: Ruling, found: dict[str, Recent], budget: Budget | None = None, glob: str | None = None
) -> Recalibration:
    return propose(ruling, found, budget, glob, "ada", "why").change


# -- what the change carries ------------------------------------------------------------------------


def test_the_change_names_those_with_enough_recent_scores_known_or_not(
    ruling: Ruling, names: list[str], shared_stand: Stand
) -> None:
    found = {names[0]: recent(256), names[1]: recent(255), "new": recent(400), "newer": recent(255)}
    proposal = propose(ruling, found, None, None, "ada", "why")
    change = proposal.change
    assert change.names == sorted([names[0], "new"])
    assert (change.budget, change.entities) == (None, len(names) + 2)
    lines = {line.entity: line for line in proposal.rows}
    assert lines.keys() == {*names, "new"}
    assert {one for one, line in lines.items() if not kept(line)} == set(change.names)
    for name in names[1:]:
        assert lines[name].level_after == lines[name].level_before  # 1/hour per entity, as before
    prior = unpack_arrays(change.prior or {}, "the prior")
    assert prior["counts"].sum() == 256 + 400
    after = rulings_with(shared_stand, change)
    assert (after.budget, after.entities) == (ruling.budget, len(names) + 2)
    assert after.origins([names[0], names[1], "new", "newer"]).tolist() == [1, -1, 1, -2]


def test_with_a_glob_everything_else_stays(ruling: Ruling, names: list[str], shared_stand: Stand) -> None:
    found = {name: recent(300) for name in [*names[:2], "new"]}
    change = proposed(ruling, found, glob=names[1])
    assert change.names == [names[1]]
    assert (change.budget, change.entities, change.prior) == (None, None, None)
    after = rulings_with(shared_stand, change)
    assert (after.share, after.entities, after.rules) == (ruling.share, ruling.entities, ruling.rules)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(after.prior, ruling.prior, strict=True))
    moved = after.origins(names) != ruling.origins(names)
    assert np.flatnonzero(moved).tolist() == [1]


def test_a_budget_alone_names_nobody(ruling: Ruling, names: list[str], shared_stand: Stand) -> None:
    proposal = propose(ruling, {}, parse_budget("50/hour per entity"), None, "ada", "why")
    assert proposal.change.names == []
    assert all(map(kept, proposal.rows))
    assert any(line.level_after < line.level_before for line in proposal.rows)  # what it will come to
    assert proposal.prior_after < proposal.prior_before
    after = rulings_with(shared_stand, proposal.change)
    assert (after.budget.text, after.entities) == ("50/hour per entity", ruling.entities)
    assert after.origins(names).tolist() == ruling.origins(names).tolist()
    assert after.prior.level[0] == proposal.prior_after


def test_a_second_one_starts_from_the_first(ruling: Ruling, names: list[str], shared_stand: Stand) -> None:
    first = proposed(ruling, {names[0]: recent(300), "new": recent(300)}, parse_budget("9/day"))
    between = rulings_with(shared_stand, first)
    second = proposed(between, {names[1]: recent(500, seed=2)}, glob=names[1])
    after = rulings_with(shared_stand, first, second)
    assert (after.budget.text, after.entities) == ("9/day", len(names) + 1)
    assert after.origins([*names[:3], "new"]).tolist() == [1, 2, -1, 1]
    assert after.calibration.counts[after.rows[names[1]]].sum() == 500
    third = propose(after, {}, parse_budget("1/day"), None, "ada", "why")
    assert third.entities == len(names) + 1
    assert "new" in {line.entity for line in third.rows}


def test_a_budget_by_the_default_rule_stays_one(shared_stand: Stand, names: list[str]) -> None:
    ruling = rulings_with(shared_stand)._replace(by_default=True, budget=parse_budget("1/day per entity"))
    proposal = propose(ruling, {names[0]: recent(300)}, None, None, "ada", "why")
    assert proposal.change.budget is None
    assert proposal.budget.text == "20/day"  # the rule's, for 40 entities
    settings = shared_stand.settings
    assert not ruling.recalibrated
    assert settings.thresholds.budget
    assert not shared_stand.rulings([SettingsChange(settings={}, **STAMP)]).ruling().by_default


def test_nothing_to_alter_is_said(ruling: Ruling, names: list[str]) -> None:
    with pytest.raises(DataError, match=r"^No entity has 256 recent scores"):
        proposed(ruling, {names[0]: recent(255)})
    with pytest.raises(DataError, match=r"^No entity that matches 'x\*' has 256 recent scores"):
        proposed(ruling, {names[0]: recent(300)}, glob="x*")


# -- scores from their topic -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scores() -> Iterator[Broker]:
    """A topic shared by two streams, one of which has changed its model."""
    broker = open_broker("embedded")
    admin, producer = broker.admin(), broker.producer()
    admin.create("scores", 1)
    labels = ("v1.1", "v1+4.2", "v2.3", "v2+9.4", "w1.1")
    for offset, label in enumerate(label for label in labels for _ in range(3)):
        incident = f"in {label}"
        message = message_of(
            score_record("a", offset * SECOND, 0, offset, label, float(offset), 0.5, 1.0, False, incident)
        )
        producer.produce("scores", message.value, message.key, 0)
    # One that was told again after a crash, and one that is warming up.
    for at, label, score in ((6, "v2.3", 6.0), (99, "", float("nan"))):
        message = message_of(score_record("a", at * SECOND, 0, at, label, score, 0.5, 1.0, False, None, None))
        producer.produce("scores", message.value, message.key, 0)
    producer.flush(10)
    yield broker
    broker.close()


STREAM = Stream(name="s", scores="scores")


def test_only_scores_of_the_model_in_force_count(scores: Broker) -> None:
    found = of_scores_topic(scores, STREAM, None, "v2")
    assert found.keys() == {"a"}
    assert found["a"].scores == [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    assert found["a"].incidents == {"in v2.3", "in v2+9.4"}
    assert of_scores_topic(scores, STREAM, When(10_000), "v2")["a"].scores == [10.0, 11.0]


def test_when_nothing_is_left_it_says_why(scores: Broker) -> None:
    with pytest.raises(
        DataError, match=r"no score of that time by the model in force, v3\. It holds 16 of other"
    ):
        of_scores_topic(scores, STREAM, None, "v3")
    with pytest.raises(DataError, match="no score of that time by the model in force, v1"):
        of_scores_topic(scores, STREAM, When(6_000), "v1")
