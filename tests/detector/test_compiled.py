"""Compiled code between starts: found again, checked to the byte, and never taken from where others may write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import json
from collections import Counter
import jax, jax.numpy as jnp
from tocsin.detector.compiled import kept
seen = Counter()
jax.monitoring.register_event_listener(lambda event, **more: seen.update([event.rpartition("/")[2]]))
jax.jit(lambda x: x + 1)(jnp.ones(3))  # before the block, as loading a version does
with kept():
    out = jax.jit(lambda x: jnp.sin(x) * 2)(jnp.arange(8.0))
print(json.dumps([seen["cache_hits"], seen["cache_misses"], out.tolist()]))
"""


class Ran(NamedTuple):
    hits: int
    misses: int
    out: list[float]
    said: str


def run(cache: Path, **environment: str) -> Ran:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**inherited, "XDG_CACHE_HOME": str(cache), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    hits, misses, out = json.loads(done.stdout)
    return Ran(hits, misses, out, done.stderr)


def entries(cache: Path) -> list[Path]:
    return sorted(cache.glob("tocsin/xla-*/*-cache"))


def test_a_second_start_compiles_nothing_and_computes_the_same(tmp_path: Path) -> None:
    first, second = run(tmp_path), run(tmp_path)
    assert (first.hits, first.said) == (0, "")
    assert first.misses > 0
    assert (second.hits, second.misses, second.said) == (first.misses, 0, "")
    assert second.out == first.out
    (folder,) = tmp_path.glob("tocsin/xla-*")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_an_entry_that_was_cut_off_or_changed_is_compiled_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    whole = {path: path.read_bytes() for path in entries(tmp_path)}
    cut = next(iter(whole))
    cut.write_bytes(whole[cut][:100])
    (cut.parent / "jit_other-0123-cache").write_bytes(b"not ours")
    again = run(tmp_path)
    assert (again.hits, again.misses, again.said) == (first.misses - 1, 1, "")
    assert again.out == first.out
    assert set(entries(tmp_path)) == set(whole)
    assert run(tmp_path).misses == 0


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    run(tmp_path)
    (folder,) = tmp_path.glob("tocsin/xla-*")
    folder.chmod(0o770)
    open_to_others = run(tmp_path)
    assert open_to_others.hits == 0
    assert "compiled code is not kept" in open_to_others.said


def test_without_a_place_to_write_it_goes_on_and_says_so(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    nowhere = run(place)
    assert nowhere.hits == 0
    assert "compiled code is not kept" in nowhere.said
    assert nowhere.out == run(tmp_path).out


def test_a_cache_that_was_given_to_jax_stays_the_one(tmp_path: Path) -> None:
    own = tmp_path / "own"
    ran = run(tmp_path / "ours", JAX_COMPILATION_CACHE_DIR=str(own))
    assert ran.said == ""
    assert entries(tmp_path / "ours") == []
