"""Records that a shard still has to fold and its topic no longer has: read from a longer history, a batch a turn.

A consumer that asks for offsets which retention has removed is usually moved to the oldest record left. A model would
then go on as another model, in silence. So a partition whose run stands below its topic's first offset is paused, and
fed from the archive, through the same transactions as ever, until the topic can go on; without an archive the process
ends and says what is gone.
"""

from collections.abc import Iterator
from typing import NamedTuple

from headrace.errors import Fatal, Unusable
from headrace.history import History, gone
from headrace.processor import Batch
from headrace.recovery import Place


class Fed(NamedTuple):
    """What a turn gives: batches, and the partitions whose topic can go on now."""

    batches: dict[Place, Batch]
    done: list[Place]


class Backfills:
    """The partitions that are behind their topics. history: None knows no more than the topics."""

    def __init__(self, history: History | None) -> None:
        self._history = history
        self._reads: dict[Place, Iterator[Batch]] = {}

    def begin(self, place: Place, position: int, first: int) -> None:
        """The run at `place` needs offsets position <= offset < first. Raises `Fatal` if nobody has them."""
        if self._history is None:
            raise Fatal(gone(*place, position, first))
        self._reads[place] = self._history.read(*place, position, first)

    def __len__(self) -> int:
        return len(self._reads)

    def __contains__(self, place: Place) -> bool:
        return place in self._reads

    def drop(self, place: Place) -> None:
        """Forget what was to be read: the partition has been given up, or is built again."""
        self._reads.pop(place, None)

    def take(self) -> Fed:
        """The next batch of each. Raises `Fatal` if records are gone, `Transient` while they cannot be read."""
        fed = Fed({}, [])
        for place, read in list(self._reads.items()):
            try:
                batch = next(read, None)
            except Unusable as error:
                raise Fatal(str(error)) from None
            if batch is None:
                self.drop(place)
                fed.done.append(place)
            else:
                fed.batches[place] = batch
        return fed
