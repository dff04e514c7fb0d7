"""Starting a stream: whatever takes seconds happens before the first record."""

import subprocess
import sys

PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
import telemetry, versions
from tocsin.detector.startup import warm

fleet = telemetry.generate(seed=3, entities=3, records=150, features=3)
stand = versions.make_stand(Path({folder!r}), fleet, int(fleet.time_us.max()), versions=1)
warm(stand.stream, stand.schema, stand.rulings().ruling())
known = set(sys.modules)
import numpy as np
from tocsin.thresholds import drift
drift.decide(np.zeros(2))
late = sorted(set(sys.modules) - known)
assert not late, f"imported only when live: {{late[:5]}}"
needless = sorted(set(sys.modules) & {{"scipy.stats", "pandas", "sklearn", "river.drift.adwin"}})
assert needless == ["river.drift.adwin"], f"imported for nothing: {{needless}}"
"""


def test_a_warm_stream_has_imported_all_that_its_drift_detector_needs(tmp_path, request):
    paths = [str(request.config.rootpath)]
    program = PROGRAM.format(folder=str(tmp_path), paths=paths)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
