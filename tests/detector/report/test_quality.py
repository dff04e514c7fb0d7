"""The figures on labelled data, by hand and against brute force; cuts change nothing."""

import numpy as np
import pytest
from tocsin.detector.report.quality import (
    BIN_WIDTH,
    BINS,
    DAY_US,
    EARLY,
    LOWEST,
    Labelled,
    average_precision,
    together,
)

MINUTE = 60_000_000


def labelled(
    label: str,
    openings: list[int],
    inside: str = "",
    score: list[float] | None = None,
    cuts: tuple[int, ...] = (),
) -> Labelled:
    """One entity: a label per record ('.' none), rows that opened, '#' where an incident was open."""
    n = len(label)
    labels = np.array([-1 if c == "." else int(c) for c in label], np.int8)
    firing = np.array([c == "#" for c in inside.ljust(n)])
    scores = np.zeros(n) if score is None else np.array(score)
    held = Labelled()
    for part in np.split(np.arange(n), cuts):
        opened = np.array([i - part[0] for i in openings if i in part], np.int64)
        held.take(
            np.zeros(len(part), np.int32),
            part.astype(np.int64) * MINUTE,
            labels[part],
            scores[part],
            firing[part],
            opened,
        )
    return held


@pytest.mark.parametrize("cuts", [(), (1, 4, 5, 13), tuple(range(1, 24))])
def test_by_hand(cuts: tuple[int, ...]) -> None:
    #        0         1         2
    #        0123456789012345678901234
    label = "0001110000000000000000110"
    inside = "    ######    ##      ### "
    one = labelled(label, [4, 14, 20], inside, cuts=cuts).figures()[0]
    # Two events, [3, 5] and [22, 23]. 4 lies in the first; 14 and 20 are at most ten records before the second.
    assert (one.events, one.found, one.openings, one.false_openings) == (2, 2, 3, 0)
    assert one.recall == one.precision == 1.0
    assert one.delays_us.tolist() == [MINUTE, -8 * MINUTE]
    # 20 records are normal; of them open at 6 to 9, 14, 15 and 24.
    assert (one.normal, one.normal_inside) == (20, 7)
    assert one.inside == 0.35
    assert one.days == 24 * MINUTE / DAY_US


def test_an_opening_too_early_or_after_the_event_is_false() -> None:
    label = "0" * 20 + "1" * 3 + "0" * 5
    for row, true in ((20 - EARLY - 1, False), (20 - EARLY, True), (22, True), (23, False)):
        one = labelled(label, [row]).figures()[0]
        assert (one.found, one.false_openings) == (int(true), int(not true)), row
    one = labelled(label, [2, 23, 21]).figures()[0]
    assert one.precision == pytest.approx(1 / 3)
    assert one.false_per_day == pytest.approx(2 / (27 * MINUTE / DAY_US))


def test_an_event_that_is_cut_by_the_end_or_by_records_without_label_counts() -> None:
    one = labelled("0011", [3]).figures()[0]
    assert (one.events, one.found) == (1, 1)
    one = labelled("11.110", [2]).figures()[0]
    # The record without a label parts two events, and an incident that opened there says nothing.
    assert (one.events, one.found, one.openings) == (2, 0, 0)
    assert one.normal == 1


def test_without_labels_there_are_no_figures() -> None:
    assert labelled("....", [1]).figures() == {}


def test_entities_do_not_mix() -> None:
    held = Labelled()
    slot = np.array([0, 1, 0, 1, 1, 0], np.int32)
    label = np.array([1, 0, 1, 1, 0, 0], np.int8)
    held.take(slot, np.arange(6) * MINUTE, label, np.zeros(6), np.zeros(6, np.bool_), np.array([3]))
    figures = held.figures()
    assert [(one.events, one.found, one.openings) for one in figures.values()] == [(1, 0, 0), (1, 1, 1)]
    both = together(list(figures.values()))
    assert (both.events, both.found, both.openings, both.false_openings) == (2, 1, 1, 0)
    assert both.days == pytest.approx((5 + 3) * MINUTE / DAY_US)


def exact(label: np.ndarray, score: np.ndarray) -> float:
    """Average precision from its definition, over every distinct score."""
    total, recall = 0.0, 0.0
    for at in sorted(set(score.tolist()), reverse=True):
        above = score >= at
        precision = label[above].mean()
        now = label[above].sum() / label.sum()
        total += (now - recall) * precision
        recall = now
    return total


def test_average_precision() -> None:
    # By hand: 1 0 1 0 from above: 1/2 * 1 + 1/2 * 2/3.
    one = labelled("0101", [], score=[1.0, 2.0, 3.0, 4.0]).figures()[0]
    assert one.auc_pr == pytest.approx(1 / 2 + 1 / 3)
    assert one.base_rate == 0.5
    rng = np.random.default_rng(3)
    label = (rng.random(400) < 0.2).astype(np.int8)
    score = LOWEST + BIN_WIDTH * np.floor((rng.normal(size=400) + label - LOWEST) / BIN_WIDTH)
    held = labelled("".join(map(str, label)), [], score=score.tolist(), cuts=(100, 250))
    assert held.figures()[0].auc_pr == pytest.approx(exact(label, score))
    assert np.isnan(average_precision(np.zeros((2, BINS), np.int64)))
    assert np.isnan(labelled("000", []).figures()[0].auc_pr)
