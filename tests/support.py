"""What tests of several folders share: when a missing tool may be skipped, and names that do not collide."""

import os
import uuid

import pytest


def require_or_skip(condition: bool, reason: str) -> None:
    """Go on if `condition`; else skip, but fail where CI is set: there a skipped test would hide a missing tool."""
    if condition:
        return
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(f"required in CI: {reason}")
    pytest.skip(reason)


def fresh(prefix: str) -> str:
    """A stream name that no other test uses, so that tests may share one broker."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"
