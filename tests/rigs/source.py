"""The product's own source, as tests of its shape read it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("detector", "pipelines", "models", "thresholds")


class Import(NamedTuple):
    """One name that a module imports, made absolute: `tocsin.models.vae`."""

    module: str
    line: int


def files() -> list[Path]:
    """Every file of the package, relative to the root: modules and what travels with them."""
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    kept = [
        path for path in inside if "__pycache__" not in path.parts and path.suffix not in (".nbi", ".nbc")
    ]
    return sorted(
        path.relative_to(ROOT)
        for path in [*kept, *(ROOT / n for n in ("__init__.py", "errors.py", "py.typed"))]
    )


def modules() -> list[Path]:
    """Every module, relative to the root."""
    return [path for path in files() if path.suffix == ".py"]


def imports(path: Path, source: str) -> Iterator[Import]:
    """Every import of a module in every form, wherever in it."""
    package = ["tocsin", *path.parent.parts]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (Import(f"{stem}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and name_of(node.func) in (
            "import_module",
            "__import__",
            "find_spec",
        ):
            given = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if given and isinstance(given[0], str):
                dots = len(given[0]) - len(given[0].lstrip("."))
                base = package[: len(package) - dots + 1] if dots else []
                yield Import(".".join([*base, given[0].lstrip(".")]), node.lineno)


def name_of(node: ast.expr) -> str:
    """The last name of `a.b.c` or `c`, else nothing."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
