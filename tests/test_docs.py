"""The pages made from the code are current, and every link inside the documentation leads somewhere."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from rigs.source import ROOT

DOCS = ROOT / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["metrics.md", "settings.md", "commands.md"])
def test_generated_pages_are_current(page: str) -> None:
    assert (DOCS / page).read_text() == generator().PAGES[page](), "run `make docs`"


@pytest.mark.parametrize("page", [*DOCS.glob("*.md"), ROOT / "README.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+://|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target
