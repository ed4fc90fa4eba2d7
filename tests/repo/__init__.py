"""Checks on the repository itself: style limits, documents in step with the code, deployment files that fit it."""
