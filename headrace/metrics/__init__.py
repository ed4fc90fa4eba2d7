"""Prometheus metrics: the form they are declared in, the catalogue of all of them, and what every service serves."""
