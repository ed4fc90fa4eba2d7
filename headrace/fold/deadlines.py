"""When what waits has waited too long: labels are due within the contract's `wait_seconds` of event time.

Most labels come long before that. So nothing is kept for what waits until the first of them may be overdue; then all
that still wait enter a heap together, and few do.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from headrace.fold.parts import Early, Waiting

NEVER = 1 << 63
"""Later than any event time, in ms."""


class Deadlines:
    """The deadlines of what waits, under the contract that it came under.

    waiting, early: the shard's own, by id, oldest first. Bound: entries of the heap that wait no more are at most as
    many as what waits, and a thousand.
    """

    __slots__ = ("_early", "_entered", "_heap", "_waiting", "due", "wait_ms")

    def __init__(self, waiting: dict[str, Waiting], early: dict[str, Early]) -> None:
        self.wait_ms = 0
        """How long a label is waited for. Only `adopt` changes it."""
        self.due = NEVER
        """Nothing is overdue before event time is later than this; whoever adds to what waits lowers it."""
        self._waiting = waiting
        self._early = early
        self._heap: list[tuple[int, int, str]] = []
        self._entered = -1
        """What came before this offset is in the heap, if it waits."""

    def __len__(self) -> int:
        return len(self._heap)

    def adopt(self, wait_seconds: int, offset: int) -> None:
        """Whatever comes from this offset on is waited for so long."""
        self._enter(offset)
        self.wait_ms = wait_seconds * 1000

    def put_back(self, identity: str, early: Early) -> None:
        """Wait again, under what is in force now, for the observation of a label that came before."""
        deadline = early.label.at + self.wait_ms
        heappush(self._heap, (deadline, early.offset, identity))
        self.due = min(self.due, deadline)

    def passed(self, now: int, offset: int) -> Iterator[tuple[int, str]]:
        """(deadline, id) of all that came before `offset` and still wait, though due before `now`; first due first."""
        self._enter(offset)
        heap = self._heap
        while heap and heap[0][0] < now:
            deadline, since, identity = heappop(heap)
            if self._waits(since, identity):
                yield deadline, identity
        self.due = heap[0][0] if heap else NEVER

    def _enter(self, offset: int) -> None:
        heap, entered, wait_ms = self._heap, self._entered, self.wait_ms
        if len(heap) > 2 * (len(self._waiting) + len(self._early)) + 1000:
            heap = self._heap = [entry for entry in heap if self._waits(entry[1], entry[2])]
            heapify(heap)
        for identity, waiting in reversed(self._waiting.items()):
            prediction = waiting.prediction
            if prediction.offset < entered:
                break
            heappush(heap, (prediction.at + wait_ms, prediction.offset, identity))
        for identity, early in reversed(self._early.items()):
            if early.offset < entered:
                break
            heappush(heap, (early.label.at + wait_ms, early.offset, identity))
        self._entered = offset

    def _waits(self, since: int, identity: str) -> bool:
        """Whether what came at that offset still waits; the id alone may have come again."""
        waiting = self._waiting.get(identity)
        if waiting is not None:
            return waiting.prediction.offset == since
        early = self._early.get(identity)
        return early is not None and early.offset == since
