"""Every dependency that is declared does real work, and every one that works is declared and pinned."""

import re
import sys
import tomllib

import pytest
from rigs.source import ROOT, imports, modules

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [re.match(r"[A-Za-z0-9-]+", line)[0] for line in PROJECT["dependencies"]]  # type: ignore[index]
DEVELOPMENT = [
    re.match(r"[A-Za-z0-9-]+", line)[0]  # type: ignore[index]
    for lines in PROJECT.get("optional-dependencies", {}).values()
    for line in lines
]


def import_name(distribution: str) -> str:
    return distribution.replace("-", "_").lower()


def imported() -> dict[str, set[str]]:
    """Top-level name -> modules of the product that import it."""
    found: dict[str, set[str]] = {}
    for path in modules():
        for one in imports(path, (ROOT / path).read_text()):
            found.setdefault(one.module.split(".")[0], set()).add(str(path))
    return found


@pytest.mark.parametrize("distribution", RUNTIME)
def test_each_is_imported_by_the_product(distribution: str) -> None:
    assert imported().get(import_name(distribution)), f"nothing imports {distribution}"


@pytest.mark.parametrize("distribution", [*RUNTIME, *DEVELOPMENT])
def test_each_is_explained_in_one_line(distribution: str) -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    assert len(re.findall(rf"^\| `{distribution}` \| .{{10,}} \|$", page, re.MULTILINE)) == 1


def test_the_page_names_no_others() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    assert set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)) == {*RUNTIME, *DEVELOPMENT}


def test_nothing_else_is_imported() -> None:
    declared = {import_name(distribution) for distribution in RUNTIME}
    known = {"tocsin", "", *declared, *sys.stdlib_module_names}
    # jaxlib comes with jax, which pins it.
    assert {name: where for name, where in imported().items() if name not in known | {"jaxlib"}} == {}


@pytest.mark.parametrize("distribution", [*RUNTIME, *DEVELOPMENT])
def test_each_is_pinned_with_hashes(distribution: str) -> None:
    pins = (ROOT / "constraints.txt").read_text()
    assert re.search(
        rf"^{re.escape(distribution)}==\S+ .*\\\n\s+--hash=sha256:", pins, re.MULTILINE | re.IGNORECASE
    )


def test_the_pins_name_no_address() -> None:
    assert "://" not in (ROOT / "constraints.txt").read_text()
