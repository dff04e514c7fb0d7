"""Dotted paths: keys with dots and backslashes, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.errors import SettingsError
from tocsin.pipelines import paths


@given(
    st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4)
)
def test_any_keys_make_a_path_that_splits_into_them(keys: list[str]) -> None:
    assert paths.split(".".join(map(paths.escape, keys))) == tuple(keys)


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "a\\"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(SettingsError, match="not a path"):
        paths.split(path)


def test_leaves_come_in_order_with_paths_that_find_them() -> None:
    content = {"a": 1, "b": {"c.d": 2, "e": {"f": None}, "g": {}}, "h": [3]}
    found = dict(paths.leaves(content))
    assert found == {"a": 1, r"b.c\.d": 2, "b.e.f": None, "h": [3]}
    for path, value in found.items():
        assert paths.lookup(content, paths.split(path)) == (True, value)
    assert paths.lookup(content, ("b", "x", "y")) == (False, None)
    assert paths.lookup(content, ("b", "e", "f", "z")) == (False, None)
    with pytest.raises(paths.NotAnObject, match="x"):
        paths.lookup(content, ("a", "x"))
