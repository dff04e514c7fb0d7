"""What a sample of messages shows of a topic's features."""

from __future__ import annotations

import telemetry
from tocsin.pipelines.discovery import long_features, wide_features


def test_every_number_but_identity_and_label_in_order() -> None:
    values = [
        None,
        b"{",
        b'{"ts": 1, "h": {"id": 4, "up": 1}, "b": "0.5", "n": null, "z": "text", "f": true, "label": 1}',
        b'{"ts": 1, "a": 2, "z": 3, "k.l": 1, "n": null, "c": [1]}',
    ]
    assert wide_features(values, apart=["ts", "h.id", "label", ""]) == ("h.up", "b", "a", r"k\.l")


def test_a_fleet_shows_its_schema() -> None:
    fleet = telemetry.generate(1, entities=3, records=5, features=6, missing=0.3)
    assert set(wide_features(telemetry.messages(fleet), apart=["ts", "host"])) == set(fleet.features)


def test_metrics_by_name() -> None:
    values = [b'{"m": "b", "v": 1}', b'{"m": "a", "v": "NaN"}', b'{"m": "c", "v": "up"}', b'{"v": 1}', b"3"]
    assert long_features(values, name="m", value="v") == ("a", "b")
