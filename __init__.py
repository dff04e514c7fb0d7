"""Tocsin, an alarm bell for telemetry.

The names below are the public API. Each is imported when it is first used, so that `import tocsin` costs nothing
and a service that only reads alerts loads neither models nor training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .detector.alerts import Alert, Kind, Resolution, Severity, Status
    from .detector.subscriber import AlertSubscriber
    from .detector.subscriber_options import Unreadable

__version__ = "0.1.0"
__all__ = [
    "Alert",
    "AlertSubscriber",
    "Kind",
    "Resolution",
    "Severity",
    "Status",
    "Unreadable",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .detector import alerts, subscriber, subscriber_options

    found = next(vars(home)[name] for home in (alerts, subscriber_options, subscriber) if name in vars(home))
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
