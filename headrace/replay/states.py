"""Where a fold over the past may begin: the snapshots that a shard has kept, newest at or below an offset first.

They are a shortcut only. One that is damaged, lost, or of other code is passed over, and it is said which; then an
older one is taken, then the log's start.
"""

from collections.abc import Callable
from typing import NamedTuple

from headrace.adopting import adopt
from headrace.contracts.events import Snapshot
from headrace.fold.shard import Shard
from headrace.snapshots import SnapshotStore


class Start(NamedTuple):
    """Where a fold begins: the state before `offset`."""

    offset: int
    shard: Shard


class States:
    """The stored states of shards. known: the snapshots of (log topic, partition), oldest first; store: their bytes."""

    def __init__(
        self,
        known: Callable[[str, int], list[Snapshot]],
        store: Callable[[str, int], SnapshotStore | None],
    ) -> None:
        self.known = known
        self._store = store

    def at_or_below(self, topic: str, partition: int, offset: int) -> Start | None:
        """The newest usable state at or below `offset`; None means the log's start."""
        store = self._store(topic, partition)
        if store is None:
            return None
        for saved in reversed(self.known(topic, partition)):
            if saved.offset <= offset:
                shard = adopt(store, saved.digest)
                if isinstance(shard, Shard):
                    return Start(saved.offset, shard)
        return None


NO_STATES = States(lambda _topic, _partition: [], lambda _topic, _partition: None)
"""Every fold begins at the log's start."""
