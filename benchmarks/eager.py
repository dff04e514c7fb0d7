"""The daemon with snapshots as often as it is told to, whatever the input's bytes.

The state of a million entities is gigabytes, and would otherwise be written once ten times as much has come in.
"""

from __future__ import annotations

from tocsin.detector import stream
from tocsin.detector.cli import main

if __name__ == "__main__":
    stream.SNAPSHOT_BYTES = stream.SNAPSHOT_TIME = 1e12
    main()
