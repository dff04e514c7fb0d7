"""Starting a stream: no start waits for the drift detectors, and no drift block does."""

import subprocess
import sys

PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
import telemetry, versions
from tocsin.detector.startup import warm, warm_detectors

fleet = telemetry.generate(seed=3, entities=3, records=150, features=3)
stand = versions.make_stand(Path({folder!r}), fleet, int(fleet.time_us.max()), versions=1)
warm(stand.stream, stand.schema, stand.rulings().ruling())
assert "river" not in sys.modules, "a start waits for it"
warm_detectors()
known = set(sys.modules)
import numpy as np
from tocsin.thresholds import drift
drift.decide(np.zeros(2))
late = sorted(set(sys.modules) - known)
assert not late, f"imported only when live: {{late[:5]}}"
"""


def test_detectors_are_imported_beside_the_loop_and_then_all_of_them(tmp_path, request):
    paths = [str(request.config.rootpath)]
    program = PROGRAM.format(folder=str(tmp_path), paths=paths)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
