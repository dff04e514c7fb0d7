"""Calibration, tails, incidents, drift, recalibration. Arrays in, decisions out."""
