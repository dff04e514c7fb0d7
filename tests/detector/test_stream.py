"""A stream's loop without a broker: what it waits for before it reads on, when it is ready, and how it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, Literal
from unittest.mock import MagicMock, call

import numpy as np
import pytest
from tocsin.detector import applying, recovery, runner, stream, takeover
from tocsin.detector.changelog import PIECE_BYTES, Applied, Pair, Snapshot, encode_applied, encode_owner
from tocsin.detector.changelog_fold import Restored
from tocsin.detector.checkpoints import PIECES
from tocsin.detector.clocks import Clocks
from tocsin.detector.flights import BATCH, Flight
from tocsin.detector.http import NotNow
from tocsin.detector.owned import Owned
from tocsin.detector.refusals import Refusals
from tocsin.detector.restore import Recovered
from tocsin.detector.runner import StreamRunner
from tocsin.detector.settings import Decode, Settings, Stream
from tocsin.detector.stopping import StopAsked, Stopping
from tocsin.detector.stream import StreamLoop
from tocsin.detector.stream_setup import Setup
from tocsin.detector.takeover import Takeover
from tocsin.errors import BrokerError, BrokerUnavailable, UnreadableTopic
from tocsin.pipelines.brokers.base import END, Batch, DataLoss, Events, Part, StillWaiting, TransactionFailed
from tocsin.pipelines.decoding import Reason, Rejection

PART = ("t", 0)
COMING = [("t", 1), ("t", 2)]
NOTHING = Batch([], [], [], [], [], [], None)


def batch(*offsets: int, part: Part = PART) -> Batch:
    n = len(offsets)
    return Batch([part[0]] * n, [part[1]] * n, list(offsets), [0] * n, [None] * n, [b"12345"] * n, None)


class Rulings:
    """Changes 0 to `newest` are known; each is its own ruling."""

    newest = 0

    def known(self) -> list[int]:
        return list(range(self.newest + 1))

    def ruling(self, version: int | None = None) -> Any:
        return SimpleNamespace(change=self.newest if version is None else version, label="")


Guarantee = Literal["at_least_once", "exactly_once"]


class Stage:
    """A loop on fakes that own partition 0 of topic t from offset 5, and what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, guarantee: Guarantee = "at_least_once") -> None:
        self.rulings = Rulings()
        self.acknowledging = True
        self.written: list[Pair] = []
        self.acted: list[tuple[int, int]] = []
        self.taken: list[int] = []
        self.incoming = NOTHING
        self.stopping = Stopping(lambda: 0.0)
        broker, chain, self.control = MagicMock(), MagicMock(), MagicMock()
        self.broker = broker
        self.control.arrived.return_value = []
        chain.state.parts = [PART]
        chain.state.rulings = [self.rulings.ruling()]
        chain.state.table.torn = 0
        self.state, self.consumer, self.producer = (
            chain.state,
            broker.consumer.return_value,
            broker.producer.return_value,
        )
        self.producer.flush.side_effect = self.flush
        self.producer.produce.side_effect = lambda topic, value, key, **_: self.written.append((key, value))
        self.consumer.consume.side_effect = self.consume
        reader: Any = SimpleNamespace(read=self.read)
        monkeypatch.setattr(applying, "act", self.act)
        self.loop = StreamLoop(
            Setup(
                stream=Stream(name="s", topics=("t",), guarantee=guarantee),
                decode=MagicMock(),
                broker=broker,
                chain=chain,
                reader=reader,
                rulings=self.rulings,  # type: ignore[arg-type]
                control=self.control,
                ledger=MagicMock(),
                worker=MagicMock(),
                clocks=Clocks(monotonic=iter(range(10**6)).__next__),
                config_hash="",
                commit_every_s=3.0,
                snapshot_every_s=1e9,
                writer=1,
                beat=lambda: None,
                starts={PART: 5},
                stopping=self.stopping,
                same_layout=lambda: None,
            )
        )

    def own(self) -> Owned:
        self.loop.owned[PART] = owned = Owned(PART, 0, 5, 5, None)
        return owned

    def stand_still(self) -> None:
        """Own the partition, at a moment that does not pass."""
        self.own()
        self.loop._s = self.loop._s._replace(clocks=Clocks(monotonic=lambda: 0.0))

    def flush(self, timeout_s: float) -> None:
        if not self.acknowledging:
            raise StillWaiting("the changelog's leader is away")

    def consume(self, most: int, timeout_s: float) -> Batch:
        found, self.incoming = self.incoming, NOTHING
        return found

    def read(self, found: Batch) -> Any:
        self.taken += found.offset
        return SimpleNamespace(
            next_offsets={PART: found.offset[-1] + 1},
            first_offsets={PART: found.offset[0]},
            sizes={PART: 5 * found.size},
            rows=0,
            rejected=[],
            tally=MagicMock(),
        )

    def act(self, chain: Any, rulings: Any, stream: str, index: int, version: int, offset: int) -> Any:
        self.acted.append((version, offset))
        self.state.rulings[index] = rulings.ruling(version)
        return np.zeros(0, [("kind", np.uint8)])

    def key(self, offset: int, version: int) -> bytes:
        return encode_applied(
            "t", Applied(partition=0, first_offset=offset, version=version, config_hash="")
        )[0]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def test_no_record_passes_a_change_that_is_written_but_not_acknowledged(stage: Stage) -> None:
    stage.own()
    stage.loop._turn()
    stage.rulings.newest, stage.acknowledging, stage.incoming = 2, False, batch(5, 6)
    for _ in range(3):
        stage.loop._turn()
        stage.rulings.newest = 3  # came meanwhile: it waits its turn
    assert [key for key, _ in stage.written] == [stage.key(5, 1), stage.key(5, 2)], "written once each"
    assert (stage.acted, stage.taken) == ([], [])
    stage.acknowledging = True
    stage.loop._turn()
    assert stage.acted == [(1, 5), (2, 5)]
    assert stage.taken == [5, 6]
    stage.loop._turn()
    assert (stage.acted[2:], stage.written[2:]) == ([(3, 7)], [(stage.key(7, 3), stage.written[2][1])])


def restored(**more: Any) -> Restored:
    return Restored(None, None, [], [], False)._replace(**more)


def runner_of(stage: Stage) -> StreamRunner:
    made = StreamRunner(
        Settings(streams=(stage.loop.stream,)),
        stage.loop.stream,
        MagicMock(),
        MagicMock(),
        MagicMock(),
        Clocks(),
        stage.stopping,
    )
    made.phase, made.loop = "live", stage.loop
    return made


def recovering(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]
) -> Callable[[], dict[Part, int]]:
    """An assignment of two partitions, each with a silent replay in which something happens."""
    parts = COMING
    monkeypatch.setattr(
        takeover,
        "read_changelog",
        lambda *_: SimpleNamespace(entities=lambda *_: 0, restored=lambda *_: restored(), term=lambda *_: 3),
    )
    stage.consumer.committed.return_value = dict.fromkeys(parts, 7)
    stage.consumer.end_offsets.return_value = dict.fromkeys(parts, 7)

    def recover(part: Part, found: Recovered, committed: int | None, *, anew: bool) -> tuple[Owned, int]:
        meanwhile()
        return Owned(part, 0, 7, 7, None), 2

    old = stage.loop._takeover
    stage.loop._takeover = old._replace(
        recovery=SimpleNamespace(
            **{**old.recovery._asdict(), "recover": recover, "make_room": lambda _: None}
        )
    )
    stage.loop._takeover.checkpoints.snapshot = lambda *_: None  # type: ignore[method-assign]
    return lambda: stage.loop._assigned(parts)


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_who_owns_partitions_is_acknowledged_before_their_state_is_read(
    guarantee: Guarantee, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a transaction afterwards: its own writes could not be read back, and no earlier owner can write any more."""
    stage = Stage(monkeypatch, guarantee)
    stage.producer = stage.broker.transactions.return_value
    stage.producer.produce.side_effect = lambda topic, value, key, **_: stage.written.append((key, value))
    stage.producer.open = False
    stage.producer.flush.side_effect = lambda _: done.append("acknowledged")
    if guarantee == "at_least_once":
        stage.broker.producer.return_value.flush.side_effect = lambda _: done.append("acknowledged")
    done: list[str] = []
    assigned = recovering(stage, monkeypatch, lambda: done.append("restored"))
    stale = Applied(partition=1, first_offset=60, version=5, config_hash="", writer=9)

    def of(topic: str, partition: int) -> Restored:
        return restored()._replace(overruled=(stale,) if partition == 1 else ())

    def read(*_: object) -> SimpleNamespace:
        done.append("read")
        return SimpleNamespace(entities=lambda *_: 0, restored=of, term=lambda *_: 3)

    def ends(parts: Iterable[Part]) -> dict[Part, int]:
        done.append("ends")
        return dict.fromkeys(parts, 7)

    monkeypatch.setattr(takeover, "read_changelog", read)
    stage.consumer.end_offsets.side_effect = ends
    assigned()
    expected = ["read", "ends", "restored", "restored"]
    expected.insert(0 if guarantee == "at_least_once" else len(expected), "acknowledged")
    assert done[:5] == expected
    assert stage.written[:2] == [encode_owner("t", part, 1) for _, part in COMING]
    assert (encode_applied("t", stale)[0], None) in stage.written, "an overruled change is struck out"


@pytest.mark.parametrize(
    ("snapshot_at", "committed", "end", "recovered_to", "anew"),
    [
        (5, 9, 9, 9, False),
        (5, None, 9, None, False),
        (5, 9, 7, 7, False),
        (8, 9, 7, None, True),
        (8, 8, 7, None, True),
        (None, 9, 7, 7, False),
    ],
)
def test_an_input_that_ends_before_what_was_read_of_it_is_read_from_its_beginning(
    snapshot_at: int | None,
    committed: int | None,
    end: int,
    recovered_to: int | None,
    anew: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its state goes as far as what is left, and not beyond; what it holds is late when it is read again."""
    stage = Stage(monkeypatch)
    shot = None if snapshot_at is None else Snapshot(snapshot_at, [], [], {}, {"change": 0, "model": "m"})
    known = restored(snapshot=shot)
    read = SimpleNamespace(entities=lambda *_: 0, restored=lambda *_: known, term=lambda *_: 3)
    monkeypatch.setattr(takeover, "read_changelog", lambda *_: read)
    stage.consumer.committed.return_value, stage.consumer.end_offsets.return_value = (
        {PART: committed},
        {PART: end},
    )
    stage.consumer.begin_offsets.return_value = {PART: 2}
    stage.state.snapshot.side_effect = lambda index, at, topic_id: Snapshot(at, [], [], {}, {})
    recovery, asked = MagicMock(), []

    def recover(part: Part, found: Recovered, committed: int | None, *, anew: bool) -> tuple[Owned, int]:
        asked.append((committed, anew))
        return Owned(part, 0, committed or snapshot_at or 0, committed or snapshot_at or 0, None), 0

    recovery.recover.side_effect, recovery.chain.state = recover, stage.state
    stage.loop._takeover = stage.loop._takeover._replace(recovery=recovery)
    starts = stage.loop._assigned([PART])
    assert asked == [(recovered_to, anew)]
    cut = end < max(committed or 0, snapshot_at or 0)
    assert starts == {PART: 2 if cut else committed or snapshot_at}
    written = [key for key, _ in stage.written]
    assert (b"t/0/snapshot/3" in written) == (cut or snapshot_at is None), "it says where it goes on"
    stored = [one.args[0] for one in stage.consumer.commit.call_args_list]
    assert stored == ([{PART: 2}] if cut else []), "what is stored lies ahead of that"


def test_where_partitions_begin_is_committed_before_their_first_record_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else what comes until the first commit would be passed over where that fails, and the policy is `latest`."""
    stage = Stage(monkeypatch, "exactly_once")
    transactions = stage.broker.transactions.return_value
    stage.own()
    assigned = recovering(stage, monkeypatch, lambda: None)
    starts = assigned()
    begun = {part: owned.next_offset for part, owned in stage.loop.owned.items()}
    assert begun == {PART: 5, **starts}
    assert transactions.commit.call_args == call(begun, stage.consumer)
    # what was open, and the beginning
    transactions.commit.side_effect = [None, TransactionFailed("nobody answers")]
    assert assigned() == dict.fromkeys(COMING, END), "nothing is read yet"


def test_a_change_goes_out_in_one_transaction_with_what_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, "exactly_once")
    transactions = stage.broker.transactions.return_value
    transactions.open, transactions.flush.side_effect = False, StillWaiting("not acknowledged yet")
    sent: list[Any] = []
    transactions.produce.side_effect = lambda topic, value, key, **_: sent.append(value)
    stage.own()
    stage.loop._turn()
    stage.rulings.newest, stage.incoming = 1, batch(5)
    stage.loop._turn()
    assert (stage.acted, stage.taken) == ([(1, 5)], [5])
    assert b'"told":true' in sent[0]


def test_ready_means_assigned_and_restored(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    one = runner_of(stage)
    told: list[str | None] = [one.unready()]
    assigned = recovering(stage, monkeypatch, lambda: told.append(one.unready()))
    assert assigned() == dict.fromkeys(COMING, 7)
    assert one.unready() is None
    # A partition that comes later is restored before the stream is ready again.
    assigned()
    assert told == ["stream s is live, but its partitions are not assigned and restored yet"] * 5
    assert one.unready() is None
    stage.loop._revoked(COMING)
    assert one.unready() is not None


def test_a_stop_ends_a_silent_replay_and_commits_nothing_of_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two partitions come to one that is owned: that one is committed, and of the others nothing is said."""
    stage.own().next_offset = 6
    snapshots: list[Part] = []
    begun: list[int] = []

    def meanwhile() -> None:
        begun.append(1)
        stage.loop._takeover.recovery.beat()
        stage.stopping.ask()
        stage.loop._takeover.recovery.beat()

    assigned = recovering(stage, monkeypatch, meanwhile)
    monkeypatch.setattr(
        stage.loop._checkpoints, "snapshot", lambda owned: snapshots.extend(o.part for o in owned)
    )
    stage.consumer.consume.side_effect = lambda *_: assigned()
    stage.consumer.close.side_effect = lambda: stage.loop._revoked([PART, *COMING])
    stage.loop.run()
    assert begun == [1], "the next partition is not begun"
    assert snapshots == [PART]
    stage.consumer.commit.assert_called_once_with({PART: 6})


def test_offsets_are_committed_as_often_as_is_set(stage: Stage) -> None:
    """The clock goes on by a second at each look."""
    stage.own()
    due: list[float] = []

    def checkpoint(now: float) -> None:
        due.append(now)
        stage.loop._committed_at = now

    stage.loop._checkpoint = checkpoint
    for _ in range(20):
        stage.loop._turn()
    gaps = [after - before for before, after in pairwise(due)]
    assert len(gaps) > 2
    assert 3.0 <= min(gaps) <= max(gaps) < 8.0


def test_the_last_snapshot_is_acknowledged_although_no_offset_is_left_to_commit(stage: Stage) -> None:
    owned = stage.own()
    owned.next_offset = owned.committed = 6
    stage.state.snapshot.return_value = Snapshot(6, [], [], {}, {})
    done: list[str] = []
    stage.producer.produce.side_effect = lambda *_, **__: done.append("written")
    stage.producer.flush.side_effect = lambda _: done.append("acknowledged")
    stage.loop._revoked([PART])
    assert done[-2:] == ["written", "acknowledged"]
    stage.consumer.commit.assert_not_called()


def test_no_state_is_written_before_what_it_contains_is_acknowledged(stage: Stage) -> None:
    stage.own()
    stage.loop._s = stage.loop._s._replace(snapshot_every_s=0.0)
    stage.state.snapshot.return_value = Snapshot(6, [], [], {}, {})
    stage.incoming, stage.acknowledging = batch(5), False
    for _ in range(5):
        stage.loop._turn()
    assert (stage.taken, stage.written) == ([5], []), "alerts may be on their way"
    stage.acknowledging = True
    for _ in range(5):
        stage.loop._turn()
    assert b"t/0/snapshot/0" in [key for key, _ in stage.written]


def test_records_are_scored_while_a_large_snapshot_goes_out(stage: Stage) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 9 * PIECE_BYTES + 7, np.uint8)
    stage.state.snapshot.side_effect = lambda _, at, topic_id: Snapshot(at, [], [], {"noise": noise}, {})
    stage.loop._s = stage.loop._s._replace(snapshot_every_s=0.0)
    owned = stage.own()
    steps: list[tuple[int, int]] = []
    for offset in range(5, 40):
        stage.incoming = batch(offset)
        stage.loop._turn()
        steps.append((len(stage.taken), sum(b"/snapshot" in (key or b"") for key, _ in stage.written)))
        if owned.marker is not None:
            break
    pieces = [written for _, written in steps]
    assert set(np.diff(pieces)) <= {0, 3, PIECES}
    assert pieces[-1] == 11
    assert sum(0 < written < 11 for _, written in steps) >= 2
    assert np.diff([taken for taken, _ in steps]).tolist() == [1] * (len(steps) - 1)
    assert owned.marker is not None
    assert owned.marker.next_offset == owned.snapshot_offset < owned.next_offset


def test_a_stop_is_seen_between_two_batches_of_a_replay() -> None:
    stopping = Stopping(lambda: 0.0)
    side = MagicMock()
    side.consume.return_value = batch(5, 6)
    side.position.return_value = {PART: 7}
    parts = MagicMock(), MagicMock(), MagicMock(), "s", side, lambda _: 0, stopping.check, MagicMock()
    replay = recovery.Recovery(*parts)
    side.consume.side_effect = lambda *_: stopping.ask() or batch(5, 6)
    snapshot = Snapshot(5, [], [], {}, {"change": 0, "model": "m"})
    replay.rulings.newest = 0  # type: ignore[misc]
    replay.rulings.ruling.return_value.model.name = "m"  # type: ignore[attr-defined]
    with pytest.raises(StopAsked):
        replay.recover(PART, Recovered(snapshot, None, [], 777), 100)
    assert side.consume.call_count == 1


def test_a_restart_knows_how_large_the_last_snapshot_was_and_what_came_since() -> None:
    side, reader = MagicMock(), MagicMock()
    side.position.side_effect = [{PART: 5}, {PART: 7}, {PART: 9}]
    side.consume.side_effect = [batch(5, 6), batch(7, 8)]
    reader.read.side_effect = lambda found: SimpleNamespace(rows=0, sizes={PART: 5 * found.size})
    rulings = MagicMock(newest=0)
    rulings.ruling.return_value.model.name = "m"
    parts = MagicMock(), reader, rulings, "s", side, lambda _: 0, lambda: None, MagicMock()
    replay = recovery.Recovery(*parts)
    snapshot = Snapshot(5, [], [], {}, {"change": 0, "model": "m"})
    owned, replayed = replay.recover(PART, Recovered(snapshot, None, [], 777), 9)
    assert (owned.snapshot_bytes, owned.bytes_in, owned.snapshot_offset, owned.next_offset) == (777, 20, 5, 9)
    assert replayed == 4
    assert side.assign.call_args_list == [call([(*PART, 5)]), call([])], "it reads nothing more"


def test_of_a_topic_made_anew_no_change_is_past_by_its_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    """They act in their order from its beginning on, and none overwrites a newer one."""
    stage = Stage(monkeypatch)
    stage.broker.admin.return_value.topic_id.return_value = "new"
    stage.state.snapshot.return_value = Snapshot(2, [], [], {}, {})
    owned = stage.own()
    owned.pending.extend(
        Applied(partition=0, first_offset=at, version=version, config_hash="")
        for at, version in ((3, 8), (98, 7), (99, 0))
    )
    stage.loop._takeover.begin_anew(owned, 2)
    assert stage.acted == [(7, 2), (8, 2)]
    assert not owned.pending


def test_a_topic_made_anew_waits_for_what_was_sent_before(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state holds what the alerts say, so it may not be there before them."""
    stage.stand_still()
    stage.acknowledging = False
    stage.consumer.events.return_value = Events([DataLoss("t", 0, wanted=7, resumed=2)], {}, 0)
    monkeypatch.setattr(stage.stopping, "left", lambda: 0.0)
    stage.loop._turn()
    assert isinstance(stage.loop._undone, BrokerUnavailable)
    assert stage.written == []
    stage.consumer.commit.assert_not_called()


@pytest.mark.parametrize("told", [False, True])
def test_what_a_change_closed_is_told_again_unless_the_transaction_told_it(
    told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change acts at the very offset where a restart goes on."""
    acted: list[int] = []
    monkeypatch.setattr(recovery, "act", lambda *given: acted.append(given[4]))
    rulings, chain = MagicMock(newest=3), MagicMock()
    rulings.ruling.return_value.model.name, rulings.ruling.return_value.change = "m", 0
    chain.state.part.return_value, chain.state.rulings = 0, [rulings.ruling()]
    side = MagicMock()
    side.position.return_value = {}
    chain.restore.return_value = 0
    replay = recovery.Recovery(chain, MagicMock(), rulings, "s", side, lambda _: 0, lambda: None, MagicMock())
    changes = [
        Applied(partition=0, first_offset=at, version=version, config_hash="", told=told)
        for at, version in ((5, 2), (6, 3))
    ]
    snapshot = Snapshot(5, [], [], {}, {"change": 0, "model": "m"})
    owned, _ = replay.recover(PART, Recovered(snapshot, None, changes, 0), 5)
    assert acted == [2] * told
    assert [one.version for one in owned.pending] == [2, 3][told:]
    early = [Applied(partition=0, first_offset=1, version=4, config_hash="", told=told), *changes]
    owned, _ = replay.recover(PART, Recovered(snapshot, None, early, 0), None, anew=True)
    assert [one.version for one in owned.pending] == ([] if told else [4, 2, 3]), (
        "offsets say nothing any more"
    )


def test_slots_are_freed_only_once_nothing_that_was_decoded_is_on_its_way(stage: Stage) -> None:
    stage.own()
    done: list[str] = []
    flights = stage.loop._flights
    flights.land = lambda: done.append("landed") or flights._flights.popleft()  # type: ignore[assignment]
    stage.state.release.side_effect = lambda: done.append(f"released with {len(flights)} under way")
    stage.state.idle = set(range(BATCH - 1))
    flights.start(batch(5))
    flights.start(batch(6))
    assert done == []
    stage.state.idle.add(BATCH)
    flights.start(batch(7))
    assert done == ["landed", "landed", "released with 0 under way"]
    assert stage.taken == [5, 6, 7]


def test_after_a_thin_batch_records_gather_but_not_after_a_full_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.stand_still()
    slept: list[float] = []
    monkeypatch.setattr(stream.time, "sleep", slept.append)
    stage.incoming = batch(*range(5, 5 + BATCH))
    stage.loop._turn()
    stage.loop._turn()
    assert slept == []
    for first, size, rest in ((BATCH, 1, stream.FEW_S), (BATCH + 1, stream.FEW, stream.GATHER_S)):
        slept.clear()
        stage.incoming = batch(*range(5 + first, 5 + first + size))
        stage.loop._turn()
        stage.loop._turn()
        assert slept == [rest]
        stage.loop._turn()
        assert slept == [rest]


@pytest.mark.parametrize(("gathered_at", "soon"), [(7.0, stream.VISIBLE_S), (0.0, stream.VISIBLE_BEHIND_S)])
def test_with_transactions_an_alert_is_committed_soon_and_later_while_behind(
    stage: Stage, gathered_at: float, soon: float
) -> None:
    """While the batches are full, latency is not what a commit decides, and each keeps records waiting."""
    stage.loop._outbox = MagicMock(transactional=True, expecting=True)
    stage.loop._flights = MagicMock(__len__=lambda _: 1)
    stage.loop._gathered_at, stage.loop._committed_at = gathered_at, 0.0
    assert [stage.loop._commit_due(now) for now in (soon - 0.001, soon)] == [False, True]


def test_while_records_gather_what_is_under_way_is_sent_once_it_is_through(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.stand_still()
    done: list[str] = []
    monkeypatch.setattr(stream.time, "sleep", lambda _: done.append("slept"))
    flights = stage.loop._flights
    monkeypatch.setattr(flights, "land", lambda: done.append("landed") or flights._flights.popleft())
    under_way: Future[Any] = Future()
    flights._flights.append(Flight(batch(5), stage.read(batch(5)), under_way))
    stage.loop._gathered_at = 0.01
    stage.loop._gather()
    assert done == []
    under_way.set_result(None)
    stage.loop._gather()
    assert done == ["landed", "slept"]


class Letters:
    """As much of an outbox and a ledger as refusals use."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, str]] = []
        self.counted: Counter[str] = Counter()

    def refuse(self, found: Batch, message: int, reason: str, detail: str) -> bool:
        self.sent.append((message, reason))
        return True

    def refused(self, counts: Mapping[str, int]) -> None:
        self.counted.update(counts)


def test_new_entities_without_a_place_are_dead_letters_said_once_that_trip_no_breaker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    letters: Any = Letters()
    refusals = Refusals(letters, letters, Decode(breaker_records=10))
    read: Any = SimpleNamespace(rejected=[], message=np.array([0, 1, 1, 2, 3]))
    outcome: Any = SimpleNamespace(
        refused=np.zeros(0, np.int64), turned=np.array([1, 2, 4]), why=np.array([1, 1, 2], np.uint8)
    )
    bad: Any = SimpleNamespace(rejected=[Rejection(0, Reason.EMPTY, "")], message=np.zeros(0, np.int64))
    refusals.send(batch(0), bad, None)
    for _ in range(5):
        refusals.send(batch(5, 6, 7, 8), read, outcome)
    assert letters.sent[1:3] == [(1, "entities_full"), (3, "too_many_new")]
    assert letters.counted == {"empty": 1, "entities_full": 5, "too_many_new": 5}
    said = [record for record in caplog.records if record.name.endswith("refusals")]
    assert [record.reason for record in said] == ["entities_full", "too_many_new"]  # type: ignore[attr-defined]
    for _ in range(5):
        refusals.send(batch(9), bad, None)
    with pytest.raises(UnreadableTopic):
        refusals.send(batch(9), bad, None)


def test_a_question_that_waits_too_long_is_given_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "ANSWER_S", 0.05)
    one = runner_of(stage)
    one.thread = MagicMock()  # it is alive, and busy
    with pytest.raises(NotNow, match="stream s is busy"):
        one.entities(10, "")


def test_a_partition_that_ends_before_what_was_read_goes_on_at_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What came of the old topic in the same batch is taken first; what retention took changes nothing."""
    stage = Stage(monkeypatch)
    stage.broker.admin.return_value.topic_id.return_value = "new"
    stage.stand_still()
    owned = stage.loop.owned[PART]
    stage.incoming = batch(5, 6)
    stage.state.snapshot.return_value = Snapshot(2, [], [], {}, {})
    losses = [DataLoss("t", 0, wanted=7, resumed=2), DataLoss("t", 1, wanted=7, resumed=2)]
    stage.consumer.events.return_value = Events(losses, {}, 0)
    stage.loop._turn()
    assert stage.taken == [5, 6]
    assert (owned.next_offset, owned.committed, owned.topic_id) == (2, 2, "new")
    assert owned.snapshot_offset == 2, "before anything of the new topic is committed"
    stage.consumer.events.return_value = Events([DataLoss("t", 0, wanted=2, resumed=9)], {}, 0)
    stage.loop._turn()
    assert (owned.next_offset, owned.topic_id) == (2, "new")


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_a_broker_that_goes_away_during_a_takeover_is_waited_for(
    guarantee: Guarantee, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was owned before is taken over again with it: nothing may be read in between."""
    stage = Stage(monkeypatch, guarantee)
    stage.own()
    stage.consumer.assignment = [PART, *COMING]
    faults = iter([BrokerUnavailable("nobody answers")] * 2)

    def take(self: Takeover, parts: list[Part]) -> tuple[dict[Part, Owned], int]:
        for fault in faults:
            raise fault
        return {part: Owned(part, 0, 7, 7, None) for part in parts}, 0

    monkeypatch.setattr(Takeover, "take", take)
    assert stage.loop._assigned(COMING) == dict.fromkeys(COMING, END)
    assert stage.loop.restoring
    stage.loop._roll_back()
    assert sorted(stage.loop.owned) == sorted([PART, *COMING])
    stage.consumer.seek.assert_called_once_with(dict.fromkeys([PART, *COMING], 7))
    given_up: Any = stage.loop._s.ledger.rolled_back
    assert given_up.call_count == (guarantee == "exactly_once")
    assert not stage.loop.restoring


def test_a_broker_that_gives_topics_no_ids_is_not_asked_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded one in another process would not answer."""
    stage = Stage(monkeypatch)
    stage.broker.capabilities.topic_ids = False
    assert stage.loop._takeover.topic_ids(["t"]) == {"t": ""}
    stage.broker.admin.assert_not_called()


# -- exactly once ----------------------------------------------------------------------------------


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A loop with transactions that owns its partition, and takes it over at offset 7 whenever it has to."""
    stage = Stage(monkeypatch, "exactly_once")
    stage.own()
    stage.consumer.assignment = [PART]

    def take(self: Takeover, parts: list[Part]) -> tuple[dict[Part, Owned], int]:
        return {part: Owned(part, 0, 7, 7, None) for part in parts}, 0

    monkeypatch.setattr(Takeover, "take", take)
    return stage


def fail(stage: Stage, fault: TransactionFailed) -> None:
    """A transaction fails at the next commit, and the loop comes to it."""
    stage.broker.transactions.return_value.commit.side_effect = [fault, None]
    stage.loop.owned[PART].next_offset += 1
    with pytest.raises(TransactionFailed):
        stage.loop._checkpoint(10.0)
    stage.loop._undone = fault
    stage.loop._roll_back()


def test_a_transaction_that_failed_is_given_up_and_all_goes_on_from_what_is_committed(once: Stage) -> None:
    before = once.loop.owned[PART]
    fail(once, TransactionFailed("timed out"))
    assert once.loop.owned[PART] is not before
    once.state.drop.assert_called_with(0)
    once.consumer.seek.assert_called_once_with({PART: 7})
    once.broker.transactions.return_value.close.assert_called_once_with()
    assert once.broker.transactions.call_count == 2
    assert once.broker.transactions.call_args_list[0] == once.broker.transactions.call_args_list[1]
    assert not once.loop.restoring


def test_it_waits_for_a_broker_that_is_away(once: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    take, answers = Takeover.take, iter([BrokerUnavailable("nobody answers")])

    def away(self: Takeover, parts: list[Part]) -> tuple[dict[Part, Owned], int]:
        for fault in answers:
            raise fault
        return take(self, parts)

    monkeypatch.setattr(Takeover, "take", away)
    fail(once, TransactionFailed("timed out"))
    once.consumer.seek.assert_called_once_with({PART: 7})


def test_every_commit_bears_the_offsets_of_all_partitions_moved_or_not(once: Stage) -> None:
    producer = once.broker.transactions.return_value
    other = ("t", 1)
    once.loop.owned[other] = Owned(other, 0, 3, 3, None)
    once.loop.owned[PART].next_offset = 6
    once.loop._checkpoint(10.0)
    assert producer.commit.call_args.args[0] == {PART: 6, other: 3}
    once.loop.owned[PART].snapshot_offset = 6
    once.loop.owned[other].next_offset = 4
    once.loop._revoked([PART])
    assert producer.commit.call_args.args[0] == {PART: 6, other: 4}


def test_partitions_that_were_lost_take_the_transaction_with_them(once: Stage) -> None:
    once.loop._lost([PART])
    assert once.loop._undone is not None
    assert once.written == []
    once.broker.transactions.return_value.commit.assert_not_called()
    assert once.loop._assigned([PART]) == {PART: END}  # taken over once the loop comes to it
    once.loop._roll_back()
    once.consumer.seek.assert_called_once_with({PART: 7})


def test_one_that_is_fenced_again_and_again_ends_and_says_why(once: Stage) -> None:
    fenced = TransactionFailed("fenced", fenced=True)
    fail(once, fenced)
    fail(once, fenced)
    with pytest.raises(BrokerError, match="a \\[stream\\] transactional_id of its own"):
        fail(once, fenced)
