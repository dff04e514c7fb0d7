"""Changes and the fold of what is in force."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.detector.changes import (
    START,
    BudgetChange,
    Calibrated,
    Change,
    Feedback,
    InForce,
    Promotion,
    Recalibration,
    Resolve,
    Revert,
    Rollback,
    SettingsChange,
    Stored,
    Versioned,
    apply,
    decode,
    encode,
    fold,
    key_of,
    message_of,
    pack_arrays,
    unpack_arrays,
)
from tocsin.errors import DataError

WHO: dict[str, str] = {"author": "ada", "reason": "why not", "created_at": "2026-01-31T12:00:00.000000Z"}


def recalibration(model: str = "m1", budget: str = "2/day", id_: str = "r", **settings: Any) -> Recalibration:
    rows = {"counts": np.arange(6, dtype=np.float32).reshape(2, 3), "level": np.array([1.5, np.inf])}
    prior = {name: array[:1] for name, array in rows.items()}
    return Recalibration(
        id=id_,
        **WHO,
        model=model,
        budget=budget,
        entities=2,
        names=["a", "b"],
        calibration=pack_arrays(rows),
        prior=pack_arrays(prior),
        settings=settings,
    )


ALL: list[Change | Stored] = [
    recalibration(),
    Promotion(id="p", **WHO, model="m2"),
    Rollback(id="b", **WHO, model="m1"),
    BudgetChange(id="c", **WHO, budget="1/day", max_incidents=9),
    SettingsChange(id="s", **WHO, settings={"incidents.k": 4}),
    Resolve(id="x", **WHO, alert_id="0" * 32, entity="é/1", topic="t", partition=3),
    Feedback(
        id="f",
        **WHO,
        alert_id="0" * 32,
        entity="é/1",
        topic="t",
        partition=3,
        starts_at="2026-01-31T11:00:00.000000Z",
        verdict="expected",
        until="2026-01-31T13:00:00.000000Z",
        epoch=2,
        reach=1.25,
        counted=True,
    ),
    Revert(id="v", **WHO, version=4),
    Stored(id="z", **WHO, of="recalibration", sha256="0" * 64, size=9),
]


@pytest.mark.parametrize("change", ALL, ids=lambda change: type(change).__name__)
def test_every_change_survives_the_wire(change: Change) -> None:
    message = message_of(change)
    assert decode(message.value, "x") == change
    assert message.key == key_of(change) == f"change/{change.id}".encode()


def test_golden_bytes() -> None:
    expected = (
        b'{"kind":"budget","id":"c","author":"ada","reason":"why not",'
        b'"created_at":"2026-01-31T12:00:00.000000Z",'
        b'"schema_version":"1.0","budget":"1/day","max_incidents":9}'
    )
    assert encode(ALL[3]) == expected


def test_arrays_come_back_bit_for_bit() -> None:
    arrays = {
        "a": np.array([[1.5, np.nan, -0.0]]),
        "b": np.array([True, False]),
        "c": np.zeros((0, 3), np.uint16),
        "d": np.arange(4, dtype=">i8"),
    }
    again = unpack_arrays(pack_arrays(arrays), "x")
    for name, array in arrays.items():
        assert again[name].shape == array.shape
        assert again[name].tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("|O", (2,)), ("<f8", (3,)), ("<f8", (-2,)), ("<f8", (1 << 40, 1 << 40)), ("<f8", (1,) * 9)],
)
def test_arrays_that_are_not_what_they_say(dtype: str, shape: tuple[int, ...]) -> None:
    good = pack_arrays({"a": np.ones(2)})["a"]
    with pytest.raises(DataError, match="change 7: the array 'a'"):
        unpack_arrays({"a": type(good)(dtype, shape, good.data)}, "change 7")
    with pytest.raises(DataError, match="does not decompress"):
        unpack_arrays({"a": type(good)("<f8", (2,), b"no")}, "change 7")


@given(st.binary(max_size=60) | st.sampled_from([encode(change) for change in ALL]), st.data())
def test_damaged_changes_are_data_errors(value: bytes, data: Any) -> None:
    broken = bytearray(value or b"?")
    broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(broken), "change 7")
    except DataError as fault:
        assert "change 7" in str(fault)  # noqa: PT017 - many damaged texts are still valid


def test_rows_must_fit_the_entities() -> None:
    wrong = recalibration()
    value = encode(wrong).replace(b'"names":["a","b"]', b'"names":["a"]')
    with pytest.raises(DataError, match="other rows than its entities"):
        decode(value, "change 7")


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        (b"2026-01-31T11:00", b"2026-13-31T11:00"),
        (b'"2026-01-31T13:00:00.000000Z"', b'"noon"'),
        (b'"2026-01-31T13:00:00.000000Z"', b"null"),
        (b'"verdict":"expected"', b'"verdict":"true"'),
        (b'"verdict":"expected"', b'"verdict":"perhaps"'),
    ],
)
def test_feedback_whose_times_are_none_is_refused(there: bytes, instead: bytes) -> None:
    (feedback,) = (change for change in ALL if isinstance(change, Feedback))
    value = encode(feedback)
    assert decode(value, "change 7") == feedback
    assert there in value
    with pytest.raises(DataError, match="change 7 is not as its schema says"):
        decode(value.replace(there, instead), "change 7")


def test_unknown_kinds_and_newer_majors_are_named() -> None:
    with pytest.raises(DataError, match="change 7 is not as its schema says"):
        decode(b'{"kind":"surprise","schema_version":"1.2"}', "change 7")
    with pytest.raises(DataError, match="newer than the 1"):
        decode(encode(ALL[3]).replace(b'"1.0"', b'"2.0"'), "change 7")
    later = encode(ALL[3])[:-1] + b',"later":1}'
    assert decode(later, "change 7") == ALL[3]


def versioned(*changes: Change) -> list[Versioned]:
    return [Versioned(10 * (i + 1), change) for i, change in enumerate(changes)]


def test_what_is_in_force_after_each() -> None:
    state = fold(
        versioned(
            Promotion(id="1", **WHO, model="m1"),
            recalibration("m1", "2/day", k=4),
            BudgetChange(id="2", **WHO, budget="9/day"),
            Resolve(id="x", **WHO, alert_id="0" * 32, entity="e", topic="t", partition=0),
        )
    )
    assert state.version == 40
    assert state.in_force == InForce(
        budget="9/day", model="m1", recalibration=Calibrated(20, "m1"), settings={"k": 4}
    )


def test_a_model_brings_its_own_calibration() -> None:
    state = fold(versioned(recalibration(), Promotion(id="1", **WHO, model="m2")))
    assert state.in_force.recalibration is None
    assert state.in_force.budget == "2/day"


def test_a_recalibration_for_another_model_is_refused() -> None:
    changes = versioned(Promotion(id="1", **WHO, model="m2"), recalibration("m1"))
    state = fold(changes)
    assert state.in_force == InForce(model="m2")
    assert state.version == 20
    assert "m1, but m2 is in force" in state.refused


def test_recalibrations_of_one_model_lie_over_each_other_and_one_of_some_entities_says_nothing_else() -> None:
    some = msgspec.structs.replace(recalibration("m1", id_="s"), budget=None, entities=None, prior=None)
    assert decode(encode(some), "x") == some
    state = fold(versioned(recalibration("m1", "1/day"), some, some))
    assert state.in_force == InForce(budget="1/day", recalibration=Calibrated(30, "m1", (10, 20)))
    other = apply(state, Versioned(40, recalibration("m2", "3/day")))  # no promotion has named a model yet
    assert other.in_force == InForce(budget="3/day", recalibration=Calibrated(40, "m2"))


def test_revert_installs_what_was_in_force_before() -> None:
    one, two = recalibration("m1", "1/day", "1"), recalibration("m1", "5/day", "2")
    state = fold(versioned(one, two, Revert(id="3", **WHO, version=20)))
    assert state.in_force == InForce(budget="1/day", recalibration=Calibrated(10, "m1"))
    back = apply(state, Versioned(40, Revert(id="4", **WHO, version=30)))
    assert back.in_force == InForce(budget="5/day", recalibration=Calibrated(20, "m1", (10,)))
    first = apply(back, Versioned(50, Revert(id="5", **WHO, version=10)))
    assert first.in_force == InForce()


def test_reverting_a_promotion_brings_its_calibration_back() -> None:
    changes = versioned(
        Promotion(id="1", **WHO, model="m1"),
        recalibration("m1"),
        Promotion(id="2", **WHO, model="m2"),
        Revert(id="3", **WHO, version=30),
    )
    state = fold(changes)
    assert state.in_force == InForce(model="m1", budget="2/day", recalibration=Calibrated(20, "m1"))


def test_a_calibration_of_another_model_never_comes_back() -> None:
    changes = versioned(
        Promotion(id="1", **WHO, model="m1"),
        recalibration("m1"),
        recalibration("m1"),
        Promotion(id="2", **WHO, model="m2"),
        Revert(id="3", **WHO, version=30),
    )
    state = fold(changes)
    assert "a calibration of the model m1 was in force, but m2 scores now" in state.refused
    assert state.in_force.model == "m2"
    assert state.in_force.recalibration is None


@pytest.mark.parametrize("version", [10, 20, 99, -1])
def test_reverting_what_set_nothing_is_refused(version: int) -> None:
    resolve = Resolve(id="x", **WHO, alert_id="0" * 32, entity="e", topic="t", partition=0)
    state = fold(versioned(resolve, Revert(id="3", **WHO, version=version)))
    assert state.in_force == InForce()
    assert f"version {version}" in state.refused


sets = st.sampled_from(["1/day", "2/day", "3/day"])
steps = st.one_of(
    st.builds(lambda b: BudgetChange(id="b", **WHO, budget=b), sets),
    st.builds(lambda m: Promotion(id="p", **WHO, model=m), st.sampled_from(["m1", "m2"])),
    st.builds(lambda m: recalibration(m), st.sampled_from(["m1", "m2"])),
    st.builds(lambda k: SettingsChange(id="s", **WHO, settings={"k": k}), st.integers(1, 3)),
    st.builds(lambda v: Revert(id="v", **WHO, version=10 * v), st.integers(0, 8)),
)


@given(st.lists(steps, max_size=8), steps)
def test_reverting_the_last_change_undoes_it(history: list[Change], last: Change) -> None:
    before = fold(versioned(*history))
    after = apply(before, Versioned(1000, last))
    undone = apply(after, Versioned(1001, Revert(id="u", **WHO, version=1000)))
    assert undone.in_force == before.in_force


@given(st.lists(steps, max_size=8), st.integers(0, 8))
def test_the_fold_can_be_cut_anywhere(history: list[Change], at: int) -> None:
    changes = versioned(*history)
    state = START
    for change in changes[:at]:
        state = apply(state, change)
    for change in changes[at:]:
        state = apply(state, change)
    assert state == fold(changes)
