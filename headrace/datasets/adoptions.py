"""Which contract was in force where in a log: from the offsets at which each version was adopted."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from headrace.contracts.events import ContractAdopted


class Adoption(NamedTuple):
    """A version of a stream's contract. offsets: where it was adopted, by partition; None: it is not in the log yet."""

    version: int
    offsets: Mapping[str, int] | None
    contract: Mapping[str, Any]


def before(adoptions: Iterable[Adoption], partition: int, offset: int) -> ContractAdopted | None:
    """What was in force before the record at an offset of a partition; None: nothing yet."""
    latest = None
    for one in adoptions:
        if one.offsets is not None and one.offsets.get(str(partition), offset) < offset:
            latest = one
    if latest is None:
        return None
    return ContractAdopted(f"in-force/{latest.version}", 0, latest.version, dict(latest.contract))


def over(adoptions: Sequence[Adoption], ranges: Mapping[int, tuple[int, int]]) -> list[int]:
    """Versions in force anywhere in ranges of offsets (from, and before), by partition."""
    found: set[int] = set()
    for partition, (start, end) in ranges.items():
        if start >= end:
            continue
        first = before(adoptions, partition, start)
        if first is not None:
            found.add(first.version)
        found.update(
            one.version
            for one in adoptions
            if one.offsets is not None and start <= one.offsets.get(str(partition), -1) < end
        )
    return sorted(found)
