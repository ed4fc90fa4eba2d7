"""The data catalog: makes datasets, and says who learnt from them and which of them a version has seen."""

import threading
from typing import NamedTuple

from headrace.contracts.left_out import LeftOut
from headrace.contracts.topics import LOG, topic
from headrace.history import History
from services.registry.datasets import DatasetStore, reference_of
from services.registry.domain import datasets as rules
from services.registry.domain.audit import By
from services.registry.domain.datasets import Asked, Ranges, Reference
from services.registry.domain.lineage import Life
from services.registry.registry import Registry, check_partitions
from services.registry.tables import DatasetRow

MOST_LINKS = 200
"""Versions of models shown with a dataset, and of datasets looked through for a model: the newest."""


class Link(NamedTuple):
    """A dataset and a model version that learnt from part of it. share: of the dataset's offsets."""

    dataset: DatasetRow
    life: Life
    ranges: Ranges
    share: float


class Catalog:
    """Datasets of the registry's streams. history: of their logs. Safe to use from several threads."""

    def __init__(self, registry: Registry, store: DatasetStore, history: History) -> None:
        self.store = store
        self.fresh = threading.Event()
        """Set when there is something to be measured."""
        self._registry = registry
        self._history = history

    def create(
        self, name: str, stream: str, asked: Asked | None, without: LeftOut, description: str, by: By
    ) -> tuple[int, bool]:
        """Make a version of a dataset, or find the one that refers to the same: (version, whether it is new).

        Raises `Unusable`, `Absent`, `Conflict`, `Transient`.
        """
        rules.check_name(name)
        adopted = self._registry.adoptions(stream)
        partitions = self._registry.store.stream(stream).partitions
        check_partitions(without, stream, partitions)
        log = {part: self._history.bounds(topic(LOG, stream), part) for part in range(partitions)}
        reference = Reference(stream, rules.resolved(asked, log), without)
        answer = self.store.create(name, reference, reference.contracts(adopted), description, by)
        self.fresh.set()
        return answer

    def seen_by(self, row: DatasetRow) -> list[Link]:
        """Versions that learnt from a dataset, the newest first."""
        found = _links([row], self._registry.lives(row.stream))
        return found[::-1][:MOST_LINKS]

    def seen(self, stream: str, life: Life) -> list[Link]:
        """Datasets of the stream that a version learnt from, the newest first."""
        return _links(self.store.of_stream(stream, MOST_LINKS), [life])


def _links(rows: list[DatasetRow], lives: list[Life]) -> list[Link]:
    found = []
    for row in rows:
        ranges = reference_of(row).ranges
        for life in lives:
            part = rules.seen(life, ranges)
            if part:
                found.append(Link(row, life, part, rules.share(part, ranges)))
    return found
