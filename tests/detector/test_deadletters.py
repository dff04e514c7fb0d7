"""Dead letters stay as they came; the breaker trips at one record, however batches are cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.detector.deadletters import (
    DETAIL_BYTES,
    MAX_ATTEMPTS,
    Failed,
    attempt_of,
    closed,
    dead_letter,
    looping,
    unreadable,
    update,
)

payloads = st.none() | st.binary(max_size=40)
headers = st.lists(st.tuples(st.text(max_size=10), payloads), max_size=4)


@given(payloads, payloads, st.none() | headers)
def test_key_value_and_headers_stay_as_they_came(
    key: bytes | None, value: bytes | None, sent: list[tuple[str, bytes | None]] | None
) -> None:
    letter = dead_letter(Failed("t", 3, 44, 1700, key, value, sent), "unreadable", "why", "s", "0.1.0")
    assert letter.key == key
    assert letter.value == value
    assert letter.headers[: len(sent or [])] == (sent or [])
    assert dict(letter.headers[len(sent or []) :]) == {
        "tocsin.error.topic": b"t",
        "tocsin.error.partition": b"3",
        "tocsin.error.offset": b"44",
        "tocsin.error.timestamp": b"1700",
        "tocsin.error.reason": b"unreadable",
        "tocsin.error.detail": b"why",
        "tocsin.error.stream": b"s",
        "tocsin.error.version": b"0.1.0",
        "tocsin.error.attempt": b"1",
    }


def test_a_letter_that_comes_back_is_counted_and_ends() -> None:
    sent: list[tuple[str, bytes | None]] = [("trace", b"\xff\x00"), ("trace", None)]
    rounds = 0
    while not looping(sent):
        rounds += 1
        sent = dead_letter(Failed("t", 0, rounds, -1, None, b"x", sent), "unreadable", "", "s", "1").headers
        assert attempt_of(sent) == rounds
        assert sent[:2] == [("trace", b"\xff\x00"), ("trace", None)]
        assert len(sent) == 11
    assert rounds == MAX_ATTEMPTS


@pytest.mark.parametrize("count", [None, b"", b"many", b"-1", "２".encode()])
def test_a_strange_count_is_none(count: bytes | None) -> None:
    assert attempt_of([("tocsin.error.attempt", count)]) == 0


@given(st.text(st.characters(codec=None, exclude_categories=[]), max_size=1000))
def test_details_are_bounded_utf8(detail: str) -> None:
    letter = dead_letter(Failed("t", 0, 0, 0, None, None, None), "r", detail, "s", "1")
    found = dict(letter.headers)["tocsin.error.detail"] or b""
    assert len(found) <= DETAIL_BYTES
    assert len(found.decode()) > len(detail) - 4 or len(found) > DETAIL_BYTES - 4


@given(
    st.lists(st.booleans(), max_size=300),
    st.lists(st.integers(0, 40), max_size=30),
    st.integers(1, 60),
    st.floats(0.05, 0.95),
)
def test_the_breaker_is_a_function_of_the_records(
    bad: list[bool], cuts: list[int], window: int, share: float
) -> None:
    naive = next(
        (i for i in range(len(bad)) if sum(bad[max(0, i - window + 1) : i + 1]) > share * window), None
    )
    whole = update(closed(window), np.array(bad, bool), share)
    assert whole[1] == naive
    breaker, at, tripped = closed(window), 0, None
    for size in [*cuts, len(bad)]:
        breaker, found = update(breaker, np.array(bad[at : at + size], bool), share)
        if found is not None and tripped is None:
            tripped = at + found
        at += len(bad[at : at + size])
    assert tripped == naive
    np.testing.assert_array_equal(breaker.last, whole[0].last)


def test_the_error_says_what_where_and_what_to_do() -> None:
    breaker, at = update(closed(10), np.ones(8, bool), 0.5)
    assert at == 5
    error = str(unreadable("metrics", 3, 44, breaker, {"not_json": 7, "missing_time": 1}))
    assert (
        "Topic 'metrics' has become unreadable: 8 of the last 10 records up to partition 3, offset 44"
        in error
    )
    assert "not_json (7), missing_time (1)" in error
    assert "nothing after its committed offsets is skipped" in error
