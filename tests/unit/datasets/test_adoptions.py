"""Which contract was in force where: before an offset, and over a range."""

from typing import Any

import pytest

from headrace.datasets.adoptions import Adoption, before, over
from headrace.testing import builders

PLAIN: dict[str, Any] = builders.contract().to_dict()
ADOPTIONS = [
    Adoption(1, {"0": 0, "1": 0}, PLAIN),
    Adoption(2, {"0": 10, "1": 5}, PLAIN),
    Adoption(3, None, PLAIN),  # decided, and not in the log yet
]


@pytest.mark.parametrize(
    ("partition", "offset", "version"),
    [(0, 0, None), (0, 1, 1), (0, 10, 1), (0, 11, 2), (1, 10, 2), (2, 10, None)],
)
def test_before_an_offset(partition: int, offset: int, version: int | None) -> None:
    """The record that adopts a contract is not under it."""
    found = before(ADOPTIONS, partition, offset)
    assert (None if found is None else found.version) == version
    assert found is None or found.contract == PLAIN


@pytest.mark.parametrize(
    ("ranges", "versions"),
    [
        ({0: (0, 10)}, [1]),
        ({0: (0, 11)}, [1, 2]),
        ({0: (10, 11)}, [1, 2]),
        ({0: (11, 99)}, [2]),
        ({0: (1, 5), 1: (6, 9)}, [1, 2]),
        ({0: (12, 12), 1: (1, 5)}, [1]),
        ({2: (0, 99)}, []),
    ],
)
def test_over_ranges(ranges: dict[int, tuple[int, int]], versions: list[int]) -> None:
    assert over(ADOPTIONS, ranges) == versions
