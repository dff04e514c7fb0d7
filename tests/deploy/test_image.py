"""The Dockerfile: what a linter says, and what we ask of it besides. It is not built where these tests run."""

import importlib.util
import json
import re
import shutil
import subprocess
import sysconfig
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

from rigs.deployed import DEPLOY, instructions
from rigs.source import FOLDERS, ROOT, files
from tocsin.detector.settings_sections import Http

INSTRUCTIONS = instructions()
PACKAGES = {"jax", "numpy", "confluent-kafka", "typer", "tocsin"}
TOOLS = {"pip", "ruff", "mypy", "pytest", "uv", "hypothesis", "check-jsonschema"}


def all_of(kind: str) -> list[str]:
    return [rest for name, rest in INSTRUCTIONS if name == kind]


def last_stage() -> list[tuple[str, str]]:
    begin = max(at for at, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM")
    return INSTRUCTIONS[begin:]


def test_a_linter_finds_nothing() -> None:
    beside = Path(sysconfig.get_path("scripts"), "hadolint")
    command = str(beside) if beside.exists() else shutil.which("hadolint")
    assert command, "hadolint comes with the development dependencies"
    done = subprocess.run([command, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_begins_from_one_pinned_python_that_the_project_allows() -> None:
    images = {rest.split(" AS ")[0] for rest in all_of("FROM")}
    assert len(images) == 1
    found = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-\w+@sha256:[0-9a-f]{64}", images.pop())
    assert found
    assert found[1] == "3.11", "constraints.txt is made for it"


def test_nothing_comes_from_elsewhere() -> None:
    assert not all_of("ADD")
    text = (ROOT / "Dockerfile").read_text()
    for word in ("latest", "curl", "wget", "apt-get", "http://", "https://", "--index-url"):
        assert word not in text.replace("http://127.0.0.1:9469/-/healthy", ""), word


def test_what_is_installed_is_what_is_pinned() -> None:
    installs = [rest for rest in all_of("RUN") if "pip install" in rest]
    assert installs[0].split() == [
        *("pip", "install", "--require-hashes", "--no-deps", "--only-binary=:all:"),
        *("-r", "constraints.txt"),
    ]
    assert installs[1].startswith("pip install --no-deps --no-build-isolation . && pip check")
    assert len(installs) == 2


def test_it_runs_as_nobody_in_particular_and_says_how_it_is() -> None:
    stage = last_stage()
    names = [name for name, _ in stage]
    assert [rest for name, rest in stage if name == "USER"] == ["10001:10001"]
    assert names.index("USER") < names.index("ENTRYPOINT") < names.index("CMD")
    assert "HEALTHCHECK" in names
    assert all_of("EXPOSE") == [str(Http().port)]
    assert all_of("VOLUME") == ['["/var/lib/tocsin"]']


def test_every_command_is_a_list() -> None:
    for kind in ("ENTRYPOINT", "CMD"):
        [given] = all_of(kind)
        assert isinstance(json.loads(given), list)


def copied() -> set[str]:
    """What is copied from the build's context."""
    given = [rest.split() for rest in all_of("COPY") if not rest.startswith("--from")]
    return {source for words in given for source in words[:-1]}


def test_all_of_the_package_is_copied_and_nothing_more() -> None:
    sources = copied()
    root = {path.name for path in files() if len(path.parts) == 1}
    build = {"constraints.txt", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"}
    assert sources == {*FOLDERS, *root, *build, "deploy/prune.py"}


def test_the_builder_is_sent_what_is_copied_alone() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied()
    out = [line.removeprefix("**/") for line in lines[1:] if not line.startswith("!")]
    for name in ("__pycache__", "advance.kernel-1.nbi", "advance.kernel-1.nbc"):
        assert any(fnmatch(name, pattern) for pattern in out), name


def prune() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prune", DEPLOY / "prune.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_development_needs_is_taken_away_again() -> None:
    module = prune()
    gone = module.unneeded()
    assert not PACKAGES & set(gone)
    assert TOOLS & module.installed().keys() <= set(gone)
    assert gone[-1] == "pip"


def test_what_is_left_of_a_made_up_environment() -> None:
    requires = {
        "tocsin": ["a>=1", "c; extra == 'dev'", "Big_Name[x]"],
        "a": ["b; python_version >= '3'", "d; python_version < '3'"],
        "b": ["a"],
        "big-name": ["e; extra == 'x'", "f; extra == 'y'"],
        **{name: [] for name in "cdef"},
    }
    assert prune().needed("tocsin", requires) == {"tocsin", "a", "b", "big-name", "e"}
