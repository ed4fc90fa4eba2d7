"""Drift detection with one budget of false alarms: pure, deterministic, the same however records are batched."""
