"""A snapshot is put in place only where every array is what this program would have written."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from tocsin.detector.changelog import Snapshot
from tocsin.detector.recovery import Recovery
from tocsin.detector.snapshot_rows import ADDED
from tocsin.detector.state import StreamState, decision_of
from tocsin.errors import StateError
from tocsin.pipelines.admission import Limits
from tocsin.pipelines.schema import FeatureSchema
from tocsin.pipelines.slots import capacity

PART = ("metrics", 0)


def taken() -> tuple[StreamState, Snapshot]:
    state = StreamState(FeatureSchema(("cpu",)), 8, 4)
    part = state.part(*PART)
    state.rulings[part] = cast(Any, SimpleNamespace(note=lambda: {"change": 0, "model": "m"}))
    slots = state.table.intern_all(part, ["a", "b"])
    state.reserve()
    state.assigned.owner[slots] = part
    return state, state.snapshot(part, 5)


@pytest.mark.parametrize(
    "alter",
    [
        lambda array: array.astype(np.float64),
        lambda array: array[:, :1],
        lambda array: array[:1],
        lambda array: np.zeros((), np.float32),
    ],
)
def test_an_array_of_another_type_or_shape_is_refused(alter: Any) -> None:
    """None of these would numpy refuse: it widens, and repeats what is too small."""
    state, snapshot = taken()
    field = "window.values"
    state.restore(0, snapshot, cast(Any, None))
    with pytest.raises(StateError, match=rf"no usable field {field} \(it is float"):
        state.restore(
            0,
            snapshot._replace(blocks=[{**snapshot.slots, field: alter(snapshot.slots[field])}]),
            cast(Any, None),
        )


def test_an_array_that_is_missing_is_named() -> None:
    _, snapshot = taken()
    slots = {name: array for name, array in snapshot.slots.items() if name != "decision.fast"}
    with pytest.raises(StateError, match=r"no usable field decision\.fast \(it is not there\)"):
        decision_of(snapshot._replace(blocks=[slots]), PART, "a")


def test_a_field_that_is_younger_than_the_format_may_be_missing() -> None:
    """An earlier program wrote the snapshot; the field begins as for a new partition."""
    state, snapshot = taken()
    assert set(snapshot.part) > ADDED
    state.progress.entities[0] = 9
    before = {name: array for name, array in snapshot.part.items() if name not in ADDED}
    state.restore(0, snapshot._replace(part=before), cast(Any, None))
    assert state.progress.entities.tolist() == [0]


def test_room_for_all_partitions_is_made_at_once_and_within_the_limit() -> None:
    """The counts come from the changelog: a wrong one cannot ask for all memory."""
    state, _ = taken()
    state.limits = Limits(entities=5_000)
    chain: Any = SimpleNamespace(state=state)
    rest: Any = dict.fromkeys(Recovery._fields)
    Recovery(**{**rest, "chain": chain}).make_room([4_000, 0, 1 << 60])
    assert capacity(state.window) == state.table.size + 9_000


def test_partitions_that_come_back_need_no_more_room() -> None:
    """Whose slots are free again, however often they go."""
    state, _ = taken()
    other = state.part("metrics", 1)
    for _ in range(3):
        state.reserve(4_000)
        state.table.intern_all(other, [f"host-{number}" for number in range(4_000)])
        state.drop(other)
    assert capacity(state.window) == 4_002
