"""A log that loses its beginning, as Kafka's do, and a store that fails when told."""

from bisect import bisect_left
from collections.abc import Callable, Iterator

from headrace.archive.store import ObjectStore, Store
from headrace.errors import Transient, Unusable
from headrace.history import Bounds, gone
from headrace.processor import Batch

TOPIC = "flights.log"
Kept = tuple[int, bytes | None, bytes | None]


class ShortenedHistory:
    """`History` over one partition. Offsets have holes; what lies below `first` is refused, also in mid-read."""

    def __init__(self, batch: int = 3, between: Callable[[], None] = lambda: None) -> None:
        self.records: list[Kept] = []
        self.first = 0
        self.end = 0
        self.batch = batch
        self.between = between

    def append(self, count: int, markers: int) -> None:
        """So many records, then so many offsets that carry none."""
        for offset in range(self.end, self.end + count):
            key = None if offset % 5 == 0 else b"k%d" % (offset % 3)
            self.records.append((offset, key, None if offset % 7 == 0 else b"v%d" % offset))
        self.end += count + markers

    def partitions(self, topic: str) -> int:
        return 1

    def bounds(self, topic: str, partition: int) -> Bounds:
        return Bounds(self.first, self.end)

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Batch]:
        while start < min(end, self.end):
            if start < self.first:
                raise Unusable(gone(topic, partition, start, self.first))
            low = bisect_left(self.records, (start,))
            found = [kept for kept in self.records[low : low + self.batch] if kept[0] < end]
            if not found:
                return
            offsets, keys, values = zip(*found, strict=True)
            yield Batch(topic, partition, offsets, keys, values)
            start = offsets[-1] + 1
            self.between()

    def expected(self, start: int, end: int) -> list[Kept]:
        """What a reader of the range must get."""
        return [kept for kept in self.records if start <= kept[0] < end]


class FailingStore:
    """A `Store` whose n-th write fails: not at all done (`lost`), or done but not acknowledged."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.writes_left = -1
        self.lost = True

    def fail_at(self, write: int, *, lost: bool) -> None:
        self.writes_left, self.lost = write, lost

    def _failing(self) -> bool:
        self.writes_left -= self.writes_left >= 0
        return self.writes_left == 0

    def create(self, path: str, data: bytes) -> bool:
        failing = self._failing()
        created = False if failing and self.lost else self.inner.create(path, data)
        if failing:
            raise Transient("crashed")
        return created

    def put(self, path: str, data: bytes) -> None:
        failing = self._failing()
        if not (failing and self.lost):
            self.inner.put(path, data)
        if failing:
            raise Transient("crashed")

    def get(self, path: str) -> bytes | None:
        return self.inner.get(path)

    def names(self, folder: str) -> list[str]:
        return self.inner.names(folder)


def memory_store() -> Store:
    return ObjectStore("memory:///")


def taken(batches: Iterator[Batch]) -> list[Kept]:
    """All records, one by one."""
    return [kept for batch in batches for kept in zip(batch.offsets, batch.keys, batch.values, strict=True)]
