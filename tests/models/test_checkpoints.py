"""Checkpoints of a training: gone on with to the bit; what cannot be used is left alone, and that is said."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from tocsin.models import checkpoints, training
from tocsin.models.checkpoints import EVERY_S, GOES_ON, KEPT_S, Checkpoints
from tocsin.models.course import Report
from tocsin.models.training import Fitted, Job, Plan

SIZE = 4

pytestmark = pytest.mark.slow
KEY = hashlib.sha256(b"records and options").hexdigest()
PLAN = Plan(0, 20, rehearse=True, width=2)


def jobs() -> list[Job]:
    random = np.random.default_rng(0)
    return [Job(random.normal(size=(n, SIZE)).astype(np.float32), np.zeros(n, np.int32)) for n in (130, 150)]


class Cut(Exception):
    """In the place of a kill."""


class Attempt:
    """One process's try at a training; `seconds` go by with each look at the clock."""

    def __init__(self, folder: Path, key: str = KEY, seconds: float = EVERY_S, now: float = 0.0) -> None:
        self.said: list[str] = []
        self.heard: list[Report] = []
        self._time, self._seconds = 0.0, seconds
        self.kept = Checkpoints(folder, key, self.said.append, self.clock, lambda: now)

    def clock(self) -> float:
        self._time += self._seconds
        return self._time

    def train(self, until: tuple[str, int] | None = None) -> list[Fitted]:
        def hear(report: Report) -> None:
            if (report.phase, report.epoch) == until:
                raise Cut
            self.heard.append(report)

        return training.train(jobs(), PLAN, hear, self.kept.of("final", 0))


@pytest.fixture(scope="module")
def whole() -> tuple[list[Fitted], list[Report]]:
    heard: list[Report] = []
    return training.train(jobs(), PLAN, heard.append), heard


def same(found: list[Fitted], wanted: list[Fitted]) -> None:
    assert len(found) == len(wanted)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("until", [("rehearsal", 7), ("final", 1), ("final", 12)], ids=str)
def test_a_training_that_was_cut_off_goes_on_to_the_same_bits(
    until: tuple[str, int], tmp_path: Path, whole: tuple[list[Fitted], list[Report]]
) -> None:
    first = Attempt(tmp_path)
    with pytest.raises(Cut):
        first.train(until)
    assert first.said == []
    steps, epoch = [], training._epoch
    second = Attempt(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_epoch", lambda *given: steps.append(given) or epoch(*given))
        same(second.train(), whole[0])
    assert second.heard == whole[1]
    assert second.said == [f"{GOES_ON} of a training that was cut off: {second.kept._folder}"]
    left = 2 * training.EPOCHS + 1 - until[1] - (training.EPOCHS if until[0] == "final" else 0)
    assert len(steps) == left
    # A third finds it finished, and a version that is registered leaves nothing behind.
    third = Attempt(tmp_path)
    same(third.train(), whole[0])
    assert third.heard == whole[1]
    third.kept.remove()
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_stack_is_written_every_thirty_seconds_and_a_finished_one_at_once(
    tmp_path: Path,
) -> None:
    attempt = Attempt(tmp_path, seconds=EVERY_S / 8)
    writes: list[int] = []
    write = attempt.kept.write
    attempt.kept.write = lambda name, data: (writes.append(len(attempt.heard)), write(name, data))  # type: ignore[method-assign,assignment]
    attempt.train()
    # The clock is looked at once an epoch and once a write, and two panels are heard of in each epoch.
    assert writes == [16, 32, 48, 64, 80]
    (folder,) = tmp_path.iterdir()
    assert [path.name for path in folder.iterdir()] == ["final-000000.checkpoint"]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_another_training_takes_nothing_and_says_so(
    tmp_path: Path, whole: tuple[list[Fitted], list[Report]]
) -> None:
    with pytest.raises(Cut):
        Attempt(tmp_path).train(("final", 2))
    other = Attempt(tmp_path, hashlib.sha256(b"other records").hexdigest())
    assert "it is of a training on other records" in other.said[0]
    # Not even where somebody puts it into its folder.
    (mine,) = tmp_path.iterdir()
    mine.rename(other.kept._folder)
    assert other.kept.of("final", 0).load({}) is None
    assert other.said[1].endswith("final-000000.checkpoint is not used: it is of another training")


Harm = Callable[[Path], None]


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def unlike(path: Path) -> None:
    rest = b'{"key":"","phase":"final","epoch":1}\nno tensors'
    path.write_bytes(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)


def open_to_all(path: Path) -> None:
    path.parent.chmod(0o777)


def unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (flipped, "it is corrupt"),
        (truncated, "it is corrupt"),
        (unlike, "it is not of this release's form"),
        (open_to_all, "it is not this user's alone to write to"),
        (unreadable, "Is a directory"),
    ],
)
def test_what_cannot_be_used_is_said_and_never_fails(
    harm: Harm, why: str, tmp_path: Path, whole: tuple[list[Fitted], list[Report]]
) -> None:
    with pytest.raises(Cut):
        Attempt(tmp_path).train(("final", 2))
    (path,) = tmp_path.glob("*/*.checkpoint")
    harm(path)
    attempt = Attempt(tmp_path)
    same(attempt.train(), whole[0])
    assert attempt.heard == whole[1]
    assert why in attempt.said[0]


def test_a_folder_that_cannot_be_written_is_said_once(
    tmp_path: Path, whole: tuple[list[Fitted], list[Report]]
) -> None:
    (tmp_path / "file").touch()
    attempt = Attempt(tmp_path / "file" / "hosts")
    same(attempt.train(), whole[0])
    (said,) = attempt.said
    assert "cannot be written" in said
    assert "Not a directory" in said


def test_what_nobody_went_on_with_for_a_week_is_removed(tmp_path: Path) -> None:
    with pytest.raises(Cut):
        Attempt(tmp_path).train(("final", 2))
    (folder,) = tmp_path.iterdir()
    written = folder.stat().st_mtime
    Attempt(tmp_path, "other", now=written + KEPT_S - 60)
    assert folder.exists()
    Attempt(tmp_path, "other", now=written + KEPT_S + 60)
    assert not folder.exists()


def test_what_is_remembered_beside_is_that_of_the_newest(tmp_path: Path) -> None:
    assert checkpoints.left_beside(tmp_path) is None
    for number in (1, 2):
        kept = Checkpoints(tmp_path, f"{number}" * 64, str, float, float, f"range {number}".encode())
        kept.write("a.checkpoint", b"")
        os.utime(kept._folder, (number, number))
    assert checkpoints.left_beside(tmp_path) == b"range 2"
    kept._folder.chmod(0o777)
    assert checkpoints.left_beside(tmp_path) == b"range 1"
