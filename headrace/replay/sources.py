"""What replays read, found for an installation: the log's history, what scoring has committed, its snapshots.

The one place that puts Kafka and files together for the tools of this package.
"""

from dataclasses import dataclass
from pathlib import Path

from headrace.archive.history import with_archive
from headrace.contracts.events import Snapshot
from headrace.contracts.topics import LOG, SCORING_GROUP, topic
from headrace.history import History
from headrace.kafka import admin
from headrace.kafka.checkpoints import pointers
from headrace.kafka.history import KafkaHistory
from headrace.recovery import folder_of
from headrace.replay.rebuild import LogRebuilder
from headrace.replay.states import States
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore


@dataclass(frozen=True, slots=True)
class Sources:
    """bootstrap: Kafka's address. store: scoring's snapshots; None where they are out of reach (replays then start at
    the log's beginning). archive: its URL, "" if there is none.
    """

    bootstrap: str
    store: SnapshotStore | None
    archive: str = ""

    @classmethod
    def of(cls, bootstrap: str, snapshots: Path, key_file: Path, archive: str) -> "Sources":
        """Snapshots are used if their key is there to check them with; it is never made here."""
        store = SnapshotStore(snapshots, Keys.at(key_file)) if key_file.is_file() else None
        return cls(bootstrap, store, archive)

    @property
    def history(self) -> History:
        """What the topics hold, and below that the archive."""
        return with_archive(KafkaHistory(self.bootstrap), self.archive)

    @property
    def states(self) -> States:
        """Scoring's snapshots."""
        return States(
            lambda name, partition: pointers(self.bootstrap, SCORING_GROUP, (name, partition)),
            lambda name, partition: (
                self.store.within(folder_of(SCORING_GROUP, (name, partition))) if self.store else None
            ),
        )

    @property
    def rebuilder(self) -> LogRebuilder:
        """Folds again for rebuilt models, with scoring's shortcuts."""
        return LogRebuilder(self.history, self.store)

    def partitions(self, stream: str) -> int:
        """How many shards a stream has."""
        return self.history.partitions(topic(LOG, stream))

    def snapshots(self, stream: str, partition: int) -> list[Snapshot]:
        """The snapshots that a shard's pointer names, oldest first."""
        return self.states.known(topic(LOG, stream), partition)

    def answered(self, stream: str, partition: int) -> int:
        """The log offset up to which scoring has committed its answers."""
        return admin.committed_offset(self.bootstrap, SCORING_GROUP, topic(LOG, stream), partition)
