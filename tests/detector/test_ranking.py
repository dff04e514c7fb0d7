"""Which open incidents are shown first: the false-discovery rule beside a reference, and the order."""

import math

from hypothesis import given
from hypothesis import strategies as st
from tocsin.detector.ranking import Candidate, discoveries, ranked

p_values = st.floats(0, 1) | st.sampled_from([0.0, 1e-12, 0.01, 0.02, 0.05, 0.1, 1.0])


def reference(p_values: dict[str, float], q: float) -> set[str]:
    """Benjamini and Hochberg 1995, word for word: the largest i with P(i) <= i q / m, and all H(1) to H(i)."""
    m, best = len(p_values), -1.0
    for p in p_values.values():
        rank = sum(other <= p for other in p_values.values())
        if p <= rank * q / m or math.isclose(p, rank * q / m):
            best = max(best, p)
    return {name for name, p in p_values.items() if p <= best}


@given(st.dictionaries(st.text(max_size=4), p_values, max_size=12), st.floats(0.01, 0.5))
def test_the_rule_is_benjamini_and_hochbergs(p_values: dict[str, float], q: float) -> None:
    near = [p for p in p_values.values() for k in range(1, 13) if math.isclose(p, q * k / len(p_values))]
    if not near:  # where a p-value is the bound itself, to the last bit, either answer is right
        assert discoveries(p_values, q) == reference(p_values, q)


def test_an_example_from_their_paper() -> None:
    """The fifteen p-values of section 3.2; at q = .05 four are discoveries, where Bonferroni finds three."""
    p_values = [
        *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
        *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
    ]
    backwards = {f"h{i}": p for i, p in reversed(list(enumerate(p_values, 1)))}
    assert discoveries(backwards, 0.05) == {"h1", "h2", "h3", "h4"}


def test_one_that_fails_its_own_bound_passes_with_a_later_one() -> None:
    assert discoveries({"b": 0.05, "a": 0.06, "c": 0.07}, 0.1) == {"a", "b", "c"}
    assert discoveries({}, 0.1) == frozenset()


def candidate(name: str, p: float | None, basis: str = "empirical", **more: object) -> Candidate:
    return Candidate(name, str(more.get("severity", "warning")), more.get("score", 1.0), p, basis)


def test_what_has_no_usable_p_value_has_its_place_by_severity_and_is_no_discovery() -> None:
    known = [
        candidate("rest", 0.9),
        candidate("missing", None, score=9.0),
        candidate("beyond", 1e-12, "extrapolated", score=2.0),
        candidate("critical", 1e-12, "extrapolated", score=1.0, severity="critical"),
        candidate("unscored", None, score=None),
        candidate("second", 0.01),
        candidate("first", 0.001, "prior"),
        candidate("impossible", 2.0, score=0.5),
    ]
    found = ranked(known, 0.1)
    assert [one.alert_id for one in found] == [
        "critical",
        *("first", "second"),
        *("missing", "beyond", "impossible", "unscored"),
        "rest",
    ]
    assert [one.alert_id for one in found if one.discovery] == ["first", "second"]


def test_where_p_values_tie_severity_decides_then_the_score() -> None:
    known = [
        candidate("low", 0.01, score=1.0),
        candidate("critical", 0.01, score=0.5, severity="critical"),
        candidate("high", 0.01, score=2.0),
    ]
    assert [one.alert_id for one in ranked(known, 0.1)] == ["critical", "high", "low"]


@given(st.permutations([candidate(f"c{i}", 0.01 * (i // 2), score=float(i % 3)) for i in range(8)]))
def test_the_order_in_which_they_are_given_changes_nothing(known: list[Candidate]) -> None:
    assert ranked(known, 0.1) == ranked(sorted(known), 0.1)
