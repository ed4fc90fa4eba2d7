"""Logs for the tests of datasets: made up from a seed, read in batches of any size."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from headrace.contracts.codec import encode
from headrace.contracts.events import Label, Observation
from headrace.contracts.stream import Field, LabelSpec, StreamContract
from headrace.history import Bounds
from headrace.processor import Batch
from headrace.testing import builders

Kept = tuple[int, bytes | None, bytes | None]

CONTRACT = builders.contract(
    fields=[Field("n", "number"), Field("t", "string"), Field("b", "boolean"), Field("m", "integer", personal=True,
                                                                                     feature=True)],
    label=LabelSpec(wait_seconds=50),
)  # fmt: skip


class Log:
    """`History` over given partitions."""

    def __init__(self, *parts: Sequence[Kept], batch: int = 1000) -> None:
        self.parts = parts
        self.batch = batch

    def partitions(self, topic: str) -> int:
        return len(self.parts)

    def bounds(self, topic: str, partition: int) -> Bounds:
        records = self.parts[partition]
        return Bounds(0, records[-1][0] + 1 if records else 0)

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Batch]:
        records = [one for one in self.parts[partition] if start <= one[0] < end]
        for place in range(0, len(records), self.batch):
            offsets, keys, values = zip(*records[place : place + self.batch], strict=True)
            yield Batch(topic, partition, offsets, keys, values)


def at_offsets(values: Sequence[bytes | None], *, hole: int = 0) -> list[Kept]:
    """Records with keys; every `hole`-th offset carries none."""
    offsets = [place for place in range(2 * len(values)) if not hole or place % hole != hole - 1]
    return [(offset, b"k%d" % (offset % 3), value) for offset, value in zip(offsets, values, strict=False)]


def events(seed: int, count: int, contract: StreamContract = CONTRACT) -> list[Any]:
    """A contract, then observations and labels in disorder: repeated, early, late, second, without the other."""
    chance = random.Random(seed)
    made: list[Any] = [builders.adopted(contract)]
    waiting: list[tuple[str, int]] = []
    for number in range(count):
        at = 1000 * number - (5000 if chance.random() < 0.1 else 0)
        identity = f"o{number if chance.random() < 0.95 else max(0, number - 3)}"
        x: dict[str, Any] = {"n": chance.gauss(5.0, 3.0), "t": chance.choice("abcdefgh"), "m": number}
        if chance.random() < 0.7:
            x["b"] = chance.random() < 0.2
        made.append(Observation(identity, f"e{number % 17}", at, x, chance.choice(["", "web", "file"])))
        waiting.append((identity, at))
        while waiting and chance.random() < 0.5:
            known, since = waiting.pop(chance.randrange(len(waiting)))
            made.append(
                Label(
                    known,
                    f"e{number % 17}",
                    since + chance.randrange(60_000),
                    chance.random() < 0.3,
                    "labels",
                )
            )
        if chance.random() < 0.02:
            made.append(Label(f"never{number}", "e", at, True))
    return made


def values(made: Sequence[Any]) -> list[bytes | None]:
    """As they lie in a log."""
    return [one if isinstance(one, bytes) else encode(one) for one in made]
