"""The changelog: what was written comes back, at any point of a crash, or a StateError says why not."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.detector import changelog
from tocsin.detector.changelog import (
    BLOCK,
    Applied,
    Decision,
    Layout,
    Marker,
    Pair,
    Snapshot,
    encode_applied,
    encode_decision,
    encode_layout,
    encode_owner,
    encode_snapshot,
)
from tocsin.detector.changelog_fold import Restored, Restorer, forget
from tocsin.errors import StateError

GOLDEN = Path(__file__).parents[1] / "golden"
TOPIC, PART = "metrics.v1", 3


def numbers(seed: int, *shape: int) -> np.ndarray:
    """Values that no library's version changes."""
    return (np.arange(np.prod(shape)) * 37 + seed * 11).reshape(shape) % 101 / 8


def snapshot(seed: int, rows: int = 5) -> Snapshot:
    slots = {
        "window.values": numbers(seed, rows, 4, 3).astype(np.float32),
        "decision.S": numbers(seed + 1, rows),
        "decision.phase": numbers(seed + 2, rows).astype(np.uint8),
    }
    blocks = [{name: array[at : at + BLOCK] for name, array in slots.items()} for at in range(0, rows, BLOCK)]
    part = {"watermark": np.array(seed * 10, np.int64), "drift": numbers(seed + 3, 2, 3)}
    return Snapshot(seed * 100, [f"host-{i} é" for i in range(rows)], blocks, part, {"config": f"c{seed}"})


def same(a: Snapshot | None, b: Snapshot | None) -> bool:
    if a is None or b is None:
        return a is b
    arrays = all(
        list(x) == list(y) and all(x[n].tobytes() == y[n].tobytes() and x[n].shape == y[n].shape for n in x)
        for x, y in ((a.slots, b.slots), (a.part, b.part))
    )
    return arrays and (a.next_offset, a.entities, a.note) == (b.next_offset, b.entities, b.note)


def written(
    shot: Snapshot, previous: Marker | None, writer: int = 1, term: int = 0
) -> tuple[list[Pair], Marker]:
    pairs, marker = encode_snapshot(TOPIC, PART, shot, previous, writer, term, piece_bytes=150)
    return list(pairs), marker


def restorer_of(log: Iterable[Pair]) -> Restorer:
    restorer = Restorer()
    for offset, (key, value) in enumerate(log):
        restorer.feed(key, value, offset)
    return restorer


def restore(log: list[Pair]) -> Restored:
    return restorer_of(log).restored(TOPIC, PART)


def compacted(log: list[Pair], upto: int) -> list[Pair]:
    """What a broker may keep: of the first `upto` messages only the last of each key, then the rest."""
    last = {key: at for at, (key, _) in enumerate(log[:upto])}
    return [pair for at, pair in enumerate(log) if at >= upto or last[pair[0]] == at]


@given(st.integers(1, 6), st.data())
def test_the_last_complete_snapshot_survives_a_crash_anywhere_and_any_compaction(n: int, data: Any) -> None:
    log: list[Pair] = []
    ends, marker = [], None
    for seed in range(1, n + 1):
        pairs, marker = written(snapshot(seed, rows=seed), marker)
        log += pairs
        ends.append(len(log))
    cut = data.draw(st.integers(0, len(log)), label="the crash")
    kept = compacted(log[:cut], data.draw(st.integers(0, cut), label="compacted up to"))
    complete = sum(end <= cut for end in ends)
    found = restore(kept)
    assert same(found.snapshot, snapshot(complete, rows=complete) if complete else None)
    assert not found.torn
    pieces = written(snapshot(complete, rows=complete), None)[0][:-1] if complete else []
    assert found.size == sum(len(value or b"") - 32 for _, value in pieces)


@pytest.mark.parametrize("rows", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 7])
@pytest.mark.parametrize("compress", [True, False])
def test_many_entities_come_back_in_blocks_in_their_order(rows: int, compress: bool) -> None:
    pairs, _ = encode_snapshot(TOPIC, PART, snapshot(3, rows), None, 1, 0, compress)
    found = restore(pairs).snapshot
    assert found is not None
    assert same(found, snapshot(3, rows))
    assert [len(block["decision.S"]) for block in found.blocks] == [
        min(BLOCK, rows - at) for at in range(0, rows, BLOCK)
    ]
    for number in {0, rows // 2, rows - 1} if rows else ():
        row = found.row(number)
        assert row["decision.S"].tolist() == [found.slots["decision.S"][number]]
        row["decision.S"][0] = -1.0
    with pytest.raises(IndexError):
        found.row(rows)


def test_a_block_that_holds_nothing_is_refused_when_it_is_gone_through() -> None:
    shot = snapshot(1)
    found = restore(written(shot._replace(blocks=[{}]), None)[0]).snapshot
    assert found is not None
    with pytest.raises(StateError, match="a block of its entities holds nothing"):
        found.row(0)


def test_what_is_read_once_can_be_read_again() -> None:
    found = restore(written(snapshot(2), None)[0]).snapshot
    assert found is not None
    assert same(found, found)


def test_sides_alternate_and_pieces_stay_small() -> None:
    marker: Marker | None = None
    sides = []
    for seed in range(4):
        pairs, marker = written(snapshot(seed), marker)
        assert len(pairs) > 3
        assert all(len(value or b"") <= 150 + 40 for _, value in pairs[:-1])
        assert {key.split(b"/")[4] for key, _ in pairs[:-1]} == {marker.side.encode()}
        sides.append(marker.side)
    assert sides == ["A", "B", "A", "B"]


def term(
    log: list[Pair], marker: Marker | None, writer: int, seeds: Iterable[int]
) -> tuple[list[Pair], Marker]:
    """What somebody adds to a log who takes the partition over; with the first snapshot all before it is struck out."""
    word = encode_owner(TOPIC, PART, writer)
    known = restorer_of([*log, word])
    number, old = known.term(TOPIC, PART, writer), known.restored(TOPIC, PART).snapshot_keys
    added = [word]
    for seed in seeds:
        pairs, marker = written(snapshot(seed), marker, writer, number)
        added += [*pairs, *((key, None) for key in old)]
        old = ()
    assert marker is not None
    return added, marker


@given(st.integers(0, 3), st.integers(0, 3), st.data())
def test_who_lost_the_partition_tears_no_snapshot_of_who_has_it(n: int, late: int, data: Any) -> None:
    """1 is suspended while 2 takes over; awake again it writes on, between and after what 2 writes."""
    log, marker = term([], None, 1, [1, 2])
    new, _ = term(log, marker, 2, range(3, 3 + n))
    stale: list[Pair] = []
    for seed in range(90, 90 + late):
        pairs, marker = written(snapshot(seed), marker, 1, 0)
        stale += pairs
    stale = stale[: data.draw(st.integers(0, len(stale)), label="it writes")]
    mixed = data.draw(st.permutations([True] * (len(new) - 1) + [False] * len(stale)), label="in the order")
    owner, other = iter(new[1:]), iter(stale)
    log += [new[0], *(next(owner if mine else other) for mine in mixed)]
    cut = data.draw(st.integers(len(log) - len(mixed), len(log)), label="the crash")
    kept = [
        *compacted(log[:cut], data.draw(st.integers(0, cut), label="compacted")),
        encode_owner(TOPIC, PART, 3),
    ]
    complete = [seed for seed in range(3, 3 + n) if any(pair in log[:cut] for pair in marks(new, seed))]
    found = restore(kept)
    if complete:
        assert same(found.snapshot, snapshot(complete[-1]))
        assert not found.torn
    else:
        assert any(same(found.snapshot, snapshot(seed)) for seed in (1, 2, *range(90, 90 + late)))
    assert set(found.snapshot_keys) == {
        key for key, value in kept if value is not None and b"/snapshot/" in key
    } - {key for key, value in dict(kept).items() if value is None}


def marks(log: list[Pair], seed: int) -> list[Pair]:
    """The markers of a snapshot."""
    said = b'"next_offset":%d,"pieces"' % (seed * 100)
    return [(key, value) for key, value in log if key.count(b"/") == 3 and value and said in value]


def test_a_snapshot_by_whom_the_partition_was_taken_from_counts_for_nothing() -> None:
    """It may hold a change that it let act where it does not act."""
    log, marker = term([], None, 1, [1])
    new, _ = term(log, marker, 2, [])
    stale, _ = written(snapshot(9), marker, 1, 0)
    assert same(restore(log + new + stale).snapshot, snapshot(1))
    assert same(restore(compacted(log + new + stale, 1000)).snapshot, snapshot(9)), "the older marker is gone"


def test_a_term_is_higher_than_every_one_before_it() -> None:
    log, marker = term([], None, 1, [1])
    new, _ = term(log, marker, 2, [2])
    restorer = restorer_of(log + new)
    assert restorer.term(TOPIC, PART, 1) == 0
    assert restorer.term(TOPIC, PART, 2) == len(log)
    assert restorer.term(TOPIC, PART, None) == len(log + new)
    assert restorer.term(TOPIC, PART + 1, None) == 0, "of a partition that nothing is known of"
    half, _ = written(snapshot(3), marker, 2, 5_000)
    copied = restorer_of([*log, half[0], encode_owner(TOPIC, PART, 3)])
    assert copied.term(TOPIC, PART, 3) == copied.term(TOPIC, PART, None) == 5_001


def test_the_first_snapshot_of_a_term_leaves_none_of_those_before_it() -> None:
    log, marker = term([], None, 1, [1, 2, 3])
    new, _ = term(log, marker, 2, [4])
    found = restore(log + new)
    assert same(found.snapshot, snapshot(4))
    assert all(b"/snapshot/%d" % len(log) in key for key in found.snapshot_keys)


def test_the_one_before_is_taken_where_the_newest_is_not_whole() -> None:
    log, marker = term([], None, 1, [1, 2])
    assert marker.side == "B"
    found = restore([pair for pair in log if pair[0] != b"metrics.v1/3/snapshot/0/B/1"])
    assert found.torn
    assert same(found.snapshot, snapshot(1))
    assert found.marker is not None
    assert found.marker.side == "A", "the next snapshot must go over the torn one"


def test_a_marker_of_another_term_than_its_key_is_refused() -> None:
    pairs, _ = written(snapshot(1), None)
    with pytest.raises(StateError, match="it says that it is of the term 0"):
        restore([*pairs[:-1], (b"metrics.v1/3/snapshot/4", pairs[-1][1])])


def test_nothing_whole_is_an_error_that_names_the_key() -> None:
    pairs, _ = written(snapshot(1), None)
    with pytest.raises(
        StateError, match=r"'metrics\.v1/3/snapshot/0' cannot be restored: the pieces of snapshot 1"
    ):
        restore(pairs[1:])


def test_applied_changes_and_decisions_come_back_in_order() -> None:
    applied = [
        Applied(partition=PART, first_offset=at, version=v, config_hash="h") for at, v in ((900, 2), (20, 1))
    ]
    decisions = [
        Decision(partition=PART, offset=5, kind="drift", of="score", time_us=1),
        Decision(partition=PART, offset=4, kind="level_change", of="a/b", time_us=1, values={"S": 0.5}),
    ]
    log = [encode_applied(TOPIC, a) for a in applied] + [encode_decision(TOPIC, d) for d in decisions]
    other = encode_applied(TOPIC, Applied(partition=4, first_offset=1, version=7, config_hash="h"))
    found = restore([*log, *log, other])
    assert found.applied == applied[::-1]
    assert found.decisions == decisions[::-1]


def applied_by(writer: int, version: int, first_offset: int) -> Pair:
    return encode_applied(
        TOPIC,
        Applied(partition=PART, first_offset=first_offset, version=version, config_hash="h", writer=writer),
    )


def test_a_change_by_whom_the_partition_was_taken_from_is_overruled() -> None:
    """1 is suspended while 2 takes over; awake again it lets change 5 act at 60, before it learns of that."""
    log = [
        encode_owner(TOPIC, PART, 1),
        applied_by(1, 4, 20),
        encode_owner(TOPIC, PART, 2),
        applied_by(1, 5, 60),
        applied_by(2, 5, 80),
        encode_owner(TOPIC, PART, 1),
        applied_by(1, 6, 90),
    ]
    found = restore(log)
    assert [(one.version, one.first_offset) for one in found.applied] == [(4, 20), (5, 80), (6, 90)]
    assert [(one.version, one.first_offset) for one in found.overruled] == [(5, 60)]
    assert restore([*log, (log[3][0], None)]).overruled == ()
    again = restore([*log, applied_by(1, 5, 60)])
    assert [one.first_offset for one in again.applied] == [20, 60, 80, 90]
    assert again.overruled == ()


def test_what_the_next_owner_struck_out_stays_out_whatever_is_compacted() -> None:
    """Without its tombstone, the change would count again once the owner before it is compacted away."""
    log = [
        encode_owner(TOPIC, PART, 2),
        applied_by(1, 5, 60),
        applied_by(2, 5, 80),
        encode_owner(TOPIC, PART, 3),
    ]
    assert [one.first_offset for one in restore(compacted(log, 4)).applied] == [60, 80]
    log.append((log[1][0], None))
    for upto in range(len(log) + 1):
        found = restore(compacted(log, upto))
        assert [one.first_offset for one in found.applied] == [80]


def test_forgetting_leaves_nothing() -> None:
    one, marker = written(snapshot(1), None)
    two, _ = written(snapshot(2), marker)
    log = [
        *one,
        *two,
        encode_owner(TOPIC, PART, 1),
        applied_by(1, 7, 1),
        applied_by(2, 7, 2),
    ]
    log.append(encode_decision(TOPIC, Decision(partition=PART, offset=5, kind="drift", of="x", time_us=1)))
    log += forget(TOPIC, PART, restore(log))
    assert restore(log) == Restored(None, None, [], [], False)
    last = dict(log)
    assert not [key for key, value in last.items() if value is not None]


def test_layouts() -> None:
    restorer = Restorer()
    restorer.feed(*encode_layout(Layout(topic=TOPIC, partitions=8)))
    assert restorer.layouts[TOPIC].partitions == 8
    restorer.feed(f"{TOPIC}/partitions".encode(), None)
    assert not restorer.layouts


def test_a_slot_array_of_another_length_is_a_mistake() -> None:
    shot = snapshot(1)
    wrong = {**shot.slots, "decision.S": np.zeros(4)}
    with pytest.raises(ValueError, match="decision"):
        written(shot._replace(blocks=[wrong]), None)
    with pytest.raises(ValueError, match="5 entities have no rows"):
        written(shot._replace(blocks=[]), None)


def whole_log() -> list[Pair]:
    pairs, marker = written(snapshot(1), None, 7, 1)
    more, _ = written(snapshot(2), marker, 7, 1)
    return [
        encode_layout(Layout(topic=TOPIC, partitions=8)),
        encode_owner(TOPIC, PART, 7),
        encode_applied(
            TOPIC, Applied(partition=PART, first_offset=100, version=7, config_hash="ab12", writer=7)
        ),
        *pairs,
        encode_decision(
            TOPIC,
            Decision(partition=PART, offset=150, kind="drift", of="score", time_us=1_700_000_000_000_000),
        ),
        *more,
    ]


def kept(version: str) -> list[Pair]:
    """What a version of the format has written."""
    lines = [line.split() for line in (GOLDEN / f"changelog-{version}.txt").read_text().splitlines()]
    return [(bytes.fromhex(key), bytes.fromhex(value)) for key, value in lines]


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "2.0"])
def test_what_earlier_versions_wrote_is_read(version: str) -> None:
    found, expected = restore(kept(version)), restore(whole_log())
    assert same(found.snapshot, snapshot(2))
    replace = msgspec.structs.replace
    writer = 0 if version in ("1.0", "1.1") else 7
    assert found.applied == [replace(one, schema_version=version, writer=writer) for one in expected.applied]
    assert found.decisions == [replace(one, schema_version=version) for one in expected.decisions]


def test_the_marker_says_how_many_entities_there_are() -> None:
    restorer = Restorer()
    assert restorer.entities(TOPIC, PART) == 0
    for key, value in whole_log():
        restorer.feed(key, value)
    assert restorer.entities(TOPIC, PART) == len(snapshot(2).entities)


def test_the_format_is_what_it_was() -> None:
    """To the byte, of uncompressed snapshots: zstd's output may differ between its versions."""
    assert kept("2.0") == raw_log()


def raw_log() -> list[Pair]:
    """The log with uncompressed snapshots, whose bytes are the program's own."""
    pairs, marker = encode_snapshot(TOPIC, PART, snapshot(1), None, 7, 1, compress=False, piece_bytes=400)
    more, _ = encode_snapshot(TOPIC, PART, snapshot(2), marker, 7, 1, compress=False, piece_bytes=400)
    log = whole_log()
    return [*log[:3], *pairs, *(p for p in log if b"/decision/" in p[0]), *more]


@given(st.data())
def test_damaged_values_are_state_errors_that_name_the_key(data: Any) -> None:
    log = whole_log()
    at = data.draw(st.integers(0, len(log) - 1))
    key, value = log[at]
    assert value is not None
    broken = bytearray(value)
    broken[data.draw(st.integers(0, len(broken) - 1))] ^= data.draw(st.integers(1, 255))
    log[at] = (key, bytes(broken))
    with pytest.raises(StateError) as fault:
        restore(log)
    assert repr(key.decode()) in str(fault.value)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([k for k, _ in whole_log()]) | st.binary(max_size=30), st.binary(max_size=80)
        )
    )
)
def test_any_bytes_at_all(log: list[Pair]) -> None:
    with suppress(StateError):
        restore(log)


def test_newer_formats_are_named_and_additions_ignored() -> None:
    key, value = encode_applied(TOPIC, Applied(partition=PART, first_offset=1, version=7, config_hash="h"))
    assert value is not None
    more = value[9:-1] + b',"later":{"x":1}}'
    assert restore([(key, changelog.checked_line(more))]).applied[0].version == 7
    newer = value[9:].replace(b'"2.0"', b'"3.3"')
    with pytest.raises(
        StateError, match=r"change/00000000000000000001/7' has schema_version 3\.3, newer than"
    ):
        restore([(key, changelog.checked_line(newer))])
    pairs, _ = written(snapshot(1), None)
    piece = bytearray(pairs[0][1] or b"")
    piece[4] = 3
    with pytest.raises(StateError, match="snapshot/0/A/0' has the piece format 3, newer than the 2"):
        restore([(pairs[0][0], bytes(piece))])


def test_keys_of_a_later_kind_are_left_alone() -> None:
    assert (
        restore([(f"{TOPIC}/3/later/x".encode(), b"?"), (b"x", b"?"), (None or b"", b"?")]).snapshot is None
    )
