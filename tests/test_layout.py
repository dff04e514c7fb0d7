"""The house rules that a machine can hold: who may import whom, clocks, the environment, length."""

import ast
from pathlib import Path

import pytest
from rigs.source import FOLDERS, ROOT, imports, modules, name_of

LEAVES = {"errors", "__version__"}  # of the root, for everybody
MAY_IMPORT = {
    "detector": {"detector", "pipelines", "models", "thresholds"},
    "pipelines": {"pipelines", "models", "thresholds"},
    "models": {"models"},
    "thresholds": {"thresholds"},
    "__init__.py": {"detector"},  # the public API, lazily
}
WORLD = {"confluent_kafka", "prometheus_client", "http", "socketserver", "typer", "rich", "socket", "psutil"}
SETTINGS = {"detector/settings.py", "detector/settings_source.py"}
LONGEST = 400

# From decode to incident nothing may know what time it is.
CHAIN = (
    "pipelines/decod*.py",
    "pipelines/records.py",
    "pipelines/slots.py",
    "pipelines/admission.py",
    "pipelines/windows.py",
    "pipelines/location.py",
    "pipelines/align*.py",
    "pipelines/paths.py",
    "pipelines/schema.py",
    "pipelines/timestamps.py",
    "thresholds/*.py",
    "models/panel.py",
    "models/scaling.py",
    "models/whitening.py",
    "models/version.py",
    "models/vae.py",
    "models/members/*.py",
    "models/training.py",
    "models/course.py",
    "pipelines/held.py",
    "pipelines/brokers/administration.py",
    "pipelines/brokers/base.py",
    "errors.py",
    "detector/chain.py",
    "detector/gate.py",
    "detector/state.py",
    "detector/outcome.py",
    "detector/acting.py",
    "detector/feedback.py",
    "detector/changelog.py",
    "detector/changelog_fold.py",
    "detector/arrays.py",
    "detector/beforehand.py",
    "detector/scattered.py",
    "detector/snapshot_rows.py",
    "detector/wire.py",
    "detector/ruling.py",
    "detector/rulings.py",
)
CLOCKS = {"time", "sched", "timeit"}
CLOCK_CALLS = {"now", "today", "utcnow", "monotonic", "perf_counter", "time_ns", "process_time"}


def forbidden(path: Path, source: str) -> list[str]:
    """The imports of a module that its folder may not have."""
    folder = path.parts[0]  # or the file, at the root
    wrong = []
    for found in imports(path, source):
        top, *rest = found.module.split(".")
        if top == "tocsin":
            target = rest[0] if rest else ""
            allowed = MAY_IMPORT.get(folder, set()) | LEAVES
            if target not in allowed:
                wrong.append(f"{path}:{found.line} imports {found.module}")
        elif top in WORLD and folder in ("models", "thresholds", "__init__.py", "errors.py"):
            wrong.append(f"{path}:{found.line} imports {found.module}")
        elif top in FOLDERS:
            wrong.append(f"{path}:{found.line} imports {found.module} by its folder's name")
    return wrong


@pytest.mark.parametrize("path", modules(), ids=str)
def test_dependencies_point_one_way(path: Path) -> None:
    assert forbidden(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("models/a.py", "import tocsin.detector"),
        ("models/a.py", "from tocsin import detector"),
        ("models/a.py", "from tocsin.thresholds.jit import kernel"),
        ("models/a.py", "from .. import thresholds"),
        ("models/a.py", "from ..thresholds import jit"),
        ("models/members/a.py", "from ...thresholds.jit import kernel"),
        ("models/members/a.py", "def f():\n    from ... import pipelines"),
        (
            "thresholds/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..models import vae",
        ),
        ("thresholds/a.py", "import importlib\nimportlib.import_module('tocsin.models.vae')"),
        (
            "thresholds/a.py",
            "from importlib import import_module as get\nimport_module('..models', __package__)",
        ),
        ("thresholds/a.py", "__import__('confluent_kafka')"),
        ("thresholds/a.py", "import http.server"),
        ("pipelines/brokers/a.py", "from ...detector.settings import load"),
        ("pipelines/a.py", "import tocsin"),
        ("pipelines/a.py", "from models import vae"),
        ("errors.py", "from .detector import settings"),
        ("errors.py", "import http"),
        ("__init__.py", "from .pipelines import brokers"),
        ("__init__.py", "import confluent_kafka"),
    ],
)
def test_the_rule_sees_every_form(path: str, source: str) -> None:
    assert len(forbidden(Path(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "models/members/a.py",
            "from ...errors import TocsinError\nfrom ..vae import VAE\nfrom . import base",
        ),
        (
            "pipelines/brokers/a.py",
            "from ...errors import BrokerError\nimport confluent_kafka\nfrom ...models import vae",
        ),
        (
            "detector/cli/a.py",
            "from ... import __version__\nfrom ...thresholds import jit\nfrom ..settings import load",
        ),
        ("__init__.py", "def f():\n    from .detector import alerts"),
    ],
)
def test_the_rule_allows_what_it_should(path: str, source: str) -> None:
    assert forbidden(Path(path), source) == []


@pytest.mark.parametrize("path", modules(), ids=str)
def test_no_module_is_too_long(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("path", [path for path in modules() if str(path) not in SETTINGS], ids=str)
def test_only_the_settings_read_the_environment(path: Path) -> None:
    """Setting a variable for a library is allowed (`os.environ[...] = ...`), reading one is not."""
    tree = ast.parse((ROOT / path).read_text())
    allowed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            allowed.add(id(node.value))
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "setdefault"
        ):
            allowed.add(id(node.func.value))
    for node in ast.walk(tree):
        named = name_of(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        assert named not in ("getenv", "getenvb", "environb"), f"{path} reads the environment"
        if isinstance(node, ast.Attribute) and node.attr == "environ" and name_of(node.value) == "os":
            assert id(node) in allowed, f"{path}:{node.lineno} reads the environment"
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            assert "environ" not in {alias.name for alias in node.names}, f"{path}:{node.lineno}"


def chain() -> list[Path]:
    return sorted({path.relative_to(ROOT) for pattern in CHAIN for path in ROOT.glob(pattern)})


def clocks(path: Path, source: str) -> list[str]:
    """Where a module imports or asks a clock."""
    wrong = [
        f"{path}:{found.line} imports {found.module}"
        for found in imports(path, source)
        if found.module.split(".")[0] in CLOCKS
    ]
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    asked = (func for func in calls if isinstance(func, ast.Attribute) and func.attr in CLOCK_CALLS)
    return wrong + [f"{path}:{func.lineno} asks {ast.unparse(func)}" for func in asked]


@pytest.mark.parametrize("path", chain(), ids=str)
def test_no_module_of_the_chain_knows_the_time(path: Path) -> None:
    assert clocks(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    "source", ["import time", "from time import monotonic", "from datetime import datetime\ndatetime.now()"]
)
def test_the_rule_sees_clocks(source: str) -> None:
    assert clocks(Path("thresholds/a.py"), source)


def imported(path: Path) -> set[Path]:
    """The modules of the product that a module needs, itself among them, however far down."""
    names = {".".join(["tocsin", *one.with_suffix("").parts]): one for one in modules()}
    found: set[Path] = set()
    open_ = [path]
    while open_:
        one = open_.pop()
        if one not in found:
            found.add(one)
            named = (each.module for each in imports(one, (ROOT / one).read_text()))
            open_ += [names[n] for m in named for n in (m, m.rpartition(".")[0]) if n in names]
    return found


def test_the_chain_is_all_that_it_needs() -> None:
    assert len(chain()) > 20
    assert imported(Path("detector/chain.py")) - set(chain()) == set()


def test_nothing_is_pickled() -> None:
    for path in modules():
        found = {found.module.split(".")[0] for found in imports(path, (ROOT / path).read_text())}
        assert not found & {"pickle", "cloudpickle", "dill", "marshal", "shelve"}, path


def test_json_is_read_by_decoders_that_are_made_with_their_module() -> None:
    """msgspec learns a type when it is first met, and a thread that meets it meanwhile crashes the process."""
    for path in modules():
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.Call) and name_of(node.func) in ("decode", "loads"):
                typed = [keyword.arg for keyword in node.keywords if keyword.arg == "type"]
                assert not typed, f"{path}:{node.lineno} types a message where two streams may meet"
