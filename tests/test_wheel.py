"""The built wheel holds exactly the package, and runs without the source tree."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from rigs.source import FOLDERS, ROOT, files, modules


def run(*command: str, cwd: Path, **environ: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy in a folder of another name, without network."""
    source = tmp_path_factory.mktemp("build") / "a clone of any name"
    source.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith(".git"):
            shutil.copy(path, source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", cwd=source)
    [built] = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def target(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed by itself, beside the dependencies of the test environment."""
    target = tmp_path_factory.mktemp("target")
    pip = (
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
    )
    run(*pip, str(wheel), cwd=target)
    return target


def test_it_holds_exactly_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == {f"tocsin/{path.as_posix()}" for path in files()}


def test_it_carries_the_licence_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entries = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "tocsin = tocsin.detector.cli:main" in entries


def test_every_module_imports_from_it(target: Path) -> None:
    names = [
        ".".join(["tocsin", *path.with_suffix("").parts]).removesuffix(".__init__") for path in modules()
    ]
    names = [name for name in names if not name.endswith("__main__")]
    code = (
        "import importlib, json, sys\n"
        "print(json.dumps({name: importlib.import_module(name).__file__ for name in sys.argv[1:]}))"
    )
    found = json.loads(run(sys.executable, "-c", code, *names, cwd=target, PYTHONPATH=str(target)))
    assert {name for name, file in found.items() if not file.startswith(str(target))} == set()


def test_its_command_runs(target: Path, tmp_path: Path) -> None:
    script = str(target / "bin" / "tocsin")
    assert run(script, "--version", cwd=tmp_path, PYTHONPATH=str(target)).startswith("tocsin ")
    run(script, "init", cwd=tmp_path, PYTHONPATH=str(target))
    assert "valid" in run(
        sys.executable, "-m", "tocsin.detector.cli", "check", cwd=tmp_path, PYTHONPATH=str(target)
    )
