from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tocsin.models.panel import PanelParams
from tocsin.models.version import Version


@pytest.fixture
def version(made_up_panel: Callable[..., PanelParams]) -> Version:
    location = np.arange(3 * 4 * 2, dtype=np.float32).reshape(3, 4, 2)
    return Version(
        name="v1",
        columns=("mem", "cpu"),
        schema_hash="x",
        lags=2,
        profile="shared",
        members=("vae", "half", "errs", "jump"),
        params=made_up_panel(1, 2, 2),
        entities={"a": 0, "b": 1},
        panel=np.zeros(3, np.int32),
        location=location,
        calibration={},
        reference={},
        trained_entities=2,
    )


def test_an_unknown_entity_has_the_groups_row(version: Version) -> None:
    assert [version.entity_row(name) for name in ("a", "b", "c")] == [0, 1, 2]


def test_columns_are_found_among_the_streams_features(version: Version) -> None:
    assert version.positions(("cpu", "disk", "mem")) == (2, 0)
    with pytest.raises(KeyError, match="mem"):
        version.positions(("cpu", "disk"))


def test_locations_widen_to_the_stream(version: Version) -> None:
    wide = version.widened_location(("cpu", "disk", "mem"))
    assert wide.shape == (3, 4, 3)
    np.testing.assert_array_equal(wide[:, :, 2], version.location[:, :, 0])
    np.testing.assert_array_equal(wide[:, :, 0], version.location[:, :, 1])
    np.testing.assert_array_equal(wide[:, :, 1], [[0, 1, 0, 1]] * 3)
