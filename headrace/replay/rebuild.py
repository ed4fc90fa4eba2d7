"""Folding the log again to make a model without some of its records (`ModelRebuilt`).

The state is a function of the log, so nothing here has to be kept: what lies in the store is a shortcut, written now
and then, that makes an interrupted rebuild go on where it was, and lets a rebuild that was prepared beside the live
shard be taken over within moments. Losing it costs time.
"""

import hashlib
from collections.abc import Callable

from headrace import checkpoint
from headrace.adopting import adopt
from headrace.contracts.codec import encode
from headrace.fold.edits import Edit
from headrace.fold.log import LogFold
from headrace.fold.parts import Rebuild
from headrace.fold.rebuilding import edit_of
from headrace.fold.shard import Shard
from headrace.history import History
from headrace.snapshots import SnapshotStore

STORE_RECORDS = 500_000
"""Log records folded between two shortcuts."""

Progress = Callable[[int, int], None]
"""Told now and then: offset reached, offset to reach."""


def unwatched(_offset: int, _until: int) -> None:
    """Nobody watches."""


class LogRebuilder:
    """Rebuilds from a history, with shortcuts in `store` (None: without)."""

    def __init__(
        self, history: History, store: SnapshotStore | None = None, progress: Progress = unwatched
    ) -> None:
        self._history = history
        self._store = store
        self._progress = progress

    def __call__(self, topic: str, partition: int, rebuild: Rebuild) -> tuple[Shard, Edit]:
        """The shard that holds the rebuilt model, after the record before `rebuild.until`; and what it left out.

        Raises `Unusable` if the log no longer has what is needed, `Transient` while it cannot be read.
        """
        folder = self._store.within(_folder(topic, partition, rebuild)) if self._store is not None else None
        start, shard = _shortcut(folder, rebuild.until) if folder is not None else (0, Shard())
        edit = edit_of(rebuild, partition)
        fold = LogFold(shard, edit)
        stored = start
        for batch in self._history.read(topic, partition, start, rebuild.until):
            fold.fold(batch.offsets, batch.values)
            start = batch.offsets[-1] + 1
            self._progress(start, rebuild.until)
            if folder is not None and start - stored >= STORE_RECORDS:
                _store(folder, start, shard)
                stored = start
        if folder is not None and start > stored:
            _store(folder, start, shard)
        return shard, edit


def forget(store: SnapshotStore, topic: str, partition: int, rebuild: Rebuild) -> None:
    """Remove the shortcut of a rebuild."""
    store.within(_folder(topic, partition, rebuild)).sweep(set())


def _folder(topic: str, partition: int, rebuild: Rebuild) -> str:
    """One for each model that is made; `until` and where the last exclusion ends do not change what is below both."""
    earlier, last = rebuild.without[:-1], [below.left_out for below in rebuild.without[-1:]]
    deployed = rebuild.deployed
    begun = rebuild.since if deployed is None else deployed.specification
    what = (topic, partition, rebuild.model, begun, earlier, last)
    return f"rebuilds/{topic}/{partition}/{hashlib.sha256(encode(what)).hexdigest()[:32]}"


def _shortcut(folder: SnapshotStore, until: int) -> tuple[int, Shard]:
    """The furthest stored state at or below `until`: (offset of the next record, shard)."""
    best, found = 0, Shard()
    for digest in folder.digests():
        match adopt(folder, digest):
            case int(offset), Shard() as shard if best < offset <= until:
                best, found = offset, shard
    return best, found


def _store(folder: SnapshotStore, offset: int, shard: Shard) -> None:
    """Keep a shortcut, instead of the one before. A full disk costs the shortcut, nothing else."""
    try:
        digest, _ = folder.put(checkpoint.dumps((offset, shard)))
    except OSError:
        return
    folder.sweep({digest})
