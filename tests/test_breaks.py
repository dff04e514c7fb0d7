"""The named breaks keep up with the code: each applies to it as it is, and names a test that is there."""

import re
import subprocess
import tomllib

import pytest
from rigs.source import ROOT

BREAKS = ROOT / "tests" / "breaks"
TABLE = tomllib.loads((BREAKS / "breaks.toml").read_text())


def test_every_patch_is_in_the_table_and_every_entry_has_its_patch() -> None:
    assert {path.stem for path in BREAKS.glob("*.patch")} == TABLE.keys()


@pytest.mark.parametrize("name", TABLE)
def test_a_break_applies_and_its_test_is_there(name: str) -> None:
    command = ["git", "apply", "--check", str(BREAKS / f"{name}.patch")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    path, _, test = TABLE[name]["test"].partition("::")
    function = test.partition("[")[0]
    assert re.search(rf"^def {function}\(", (ROOT / path).read_text(), re.MULTILINE)
