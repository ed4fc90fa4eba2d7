"""What a dataset version refers to: ranges of offsets of a stream's log, and what of them does not belong.

The rules are here, as functions of what the log has and who learnt from it; `services.registry.datasets` remembers, and
`headrace.datasets` reads.
"""

import re
from collections.abc import Mapping
from hashlib import sha256

import msgspec

from headrace.contracts.left_out import Below, LeftOut
from headrace.datasets import adoptions
from headrace.datasets.adoptions import Adoption
from headrace.datasets.measurement import Stretch
from headrace.errors import Unusable
from headrace.history import Bounds
from services.registry.domain.lineage import Life

DATASET_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")

Ranges = Mapping[str, tuple[int, int]]
"""Offsets from, and before, by partition."""
Asked = Mapping[int, tuple[int | None, int | None]]
"""As `Ranges`; None: from the log's first offset, to its end."""

_canonical = msgspec.json.Encoder(order="sorted").encode


class Reference(msgspec.Struct, frozen=True):
    """What a version is: with the same stream, ranges and `without` it is the same version."""

    stream: str
    ranges: dict[str, tuple[int, int]]
    without: LeftOut = LeftOut()

    @property
    def digest(self) -> str:
        """sha256 of its canonical JSON; the order in which parts to be left out are named does not matter."""
        without = {
            name: sorted({_canonical(part).decode() for part in parts})
            for name, parts in msgspec.structs.asdict(self.without).items()
        }
        return sha256(_canonical([self.stream, self.ranges, without])).hexdigest()

    def stretches(self, adopted: list[Adoption]) -> list[Stretch]:
        """What is to be measured."""
        left_out = (Below(self.without),) if self.without else ()
        return [
            Stretch(int(part), start, end, adoptions.before(adopted, int(part), start), left_out)
            for part, (start, end) in self.ranges.items()
        ]

    def contracts(self, adopted: list[Adoption]) -> list[int]:
        """Versions of the stream's contract in force over the ranges."""
        return adoptions.over(adopted, {int(part): span for part, span in self.ranges.items()})


def check_name(name: str) -> str:
    """Return `name` if a dataset may be called so, else raise `Unusable`."""
    if not DATASET_NAME.fullmatch(name):
        raise Unusable(
            f"{name!r} is no dataset name: use a-z, 0-9, _ and -, begin with a letter, at most 63 long",
            where="name",
        )
    return name


def resolved(asked: Asked | None, log: Mapping[int, Bounds]) -> dict[str, tuple[int, int]]:
    """The ranges that are meant, in a log that holds so much now. asked None: all of it.

    Partitions whose range is empty are left out. Raises `Unusable` if a range is not there, or nothing is left.
    """
    wanted = dict.fromkeys(log, (None, None)) if asked is None else asked
    found: dict[str, tuple[int, int]] = {}
    for partition, (since, before) in sorted(wanted.items()):
        if partition not in log:
            raise Unusable(f"the log has no partition {partition}", where="ranges")
        first, end = log[partition]
        start, stop = first if since is None else since, end if before is None else before
        if start < first:
            raise Unusable(f"partition {partition}: nobody has the offsets below {first}", where="ranges")
        if stop > end:
            raise Unusable(f"partition {partition}: the log ends at offset {end}", where="ranges")
        if start < stop:
            found[str(partition)] = (start, stop)
        elif since is not None and before is not None:
            raise Unusable(f"partition {partition}: a range begins before it ends", where="ranges")
    if not found:
        raise Unusable("there is no record in what was asked for", where="ranges")
    return found


def seen(life: Life, ranges: Ranges) -> dict[str, tuple[int, int]]:
    """Which part of the ranges a version has learnt from; what a rebuild left out is not looked at."""
    found = {}
    for partition, (start, end) in ranges.items():
        learnt = life.range(partition)
        if learnt is None:
            continue
        since = max(start, learnt[0])
        before = end if learnt[1] is None else min(end, learnt[1])
        if since < before:
            found[partition] = (since, before)
    return found


def share(part: Ranges, of: Ranges) -> float:
    """How much of ranges another part of them is, in offsets."""
    return _size(part) / _size(of)


def _size(ranges: Ranges) -> int:
    return sum(end - start for start, end in ranges.values())
