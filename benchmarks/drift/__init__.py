"""How soon drifts are seen, and how often there is none: `make bench-drift`."""
