"""Starting a stream: whatever takes seconds happens before the first record."""

import subprocess
import sys

import msgspec
import pytest
from tocsin.detector import startup
from tocsin.models.panel import Scorer

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
"""


def test_a_warm_stream_has_imported_all_that_its_drift_detector_needs(tmp_path, request):
    paths = [str(request.config.rootpath)]
    program = PROGRAM.format(folder=str(tmp_path), paths=paths)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_was_compiled_ahead_of_a_first_model_is_what_scores_it(shared_stand):
    startup.compile_ahead(shared_stand.stream)
    version = shared_stand.models[shared_stand.names[0]].version
    scorer = Scorer(
        version.params, version.positions(shared_stand.schema.names), len(shared_stand.schema.names)
    )
    scorer.warm()
    assert scorer.compilations == 0


@pytest.mark.parametrize("unknown", [{"features": ()}, {"profile": "per_entity"}])
def test_a_shape_that_only_the_training_tells_is_not_guessed(shared_stand, monkeypatch, unknown):
    monkeypatch.setattr(startup.fitting, "fit_panel", lambda *_: pytest.fail("it was guessed"))
    startup.compile_ahead(msgspec.structs.replace(shared_stand.stream, **unknown))
