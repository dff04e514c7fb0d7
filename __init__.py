"""Tocsin, an alarm bell for telemetry."""

__version__ = "0.1.0"
__all__ = ["__version__"]
