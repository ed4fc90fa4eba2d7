"""One running system for all tests of this folder; each test has streams of its own."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.system import System, running_system


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Broker and four services as real processes."""
    with running_system(tmp_path_factory.mktemp("system")) as running:
        yield running
