"""What a Kafka host commits when it stops: never less than what is committed already."""

from pathlib import Path
from typing import Any

import pytest

from headrace.kafka import host as hosts
from headrace.kafka.host import HostSettings, KafkaHost
from headrace.processor import Batch, Outputs
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore
from headrace.step import Run


class Still:
    """A processor with nothing in it."""

    def process(self, batch: Batch) -> Outputs:
        return {}

    def snapshot(self) -> bytes:
        return b"state"

    def restore(self, state: bytes) -> None:
        raise AssertionError("nothing is restored here")

    def fingerprints(self) -> dict[str, str]:
        return {}


class Recorder:
    """Stands in for the client objects: remembers which offsets were to be committed."""

    def __init__(self, *_: Any) -> None:
        self.committed: dict[tuple[str, int], int] = {}

    def write(self, _outputs: Any, offsets: list[Any], _group: Any) -> None:
        self.committed |= {(offset.topic, offset.partition): offset.offset for offset in offsets}

    def settle(self) -> None:
        pass

    def consumer_group_metadata(self) -> None:
        pass


def test_a_stop_in_the_middle_of_a_recovery_takes_no_offset_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partition 1 has relived up to 40 of 100 when it is told to stop: 100 must stay what is committed."""
    monkeypatch.setattr(hosts, "Consumer", Recorder)
    monkeypatch.setattr(hosts, "Transactions", Recorder)
    host = KafkaHost(
        HostSettings("nowhere:1", "group", "one"),
        lambda _topic, _partition: Still(),
        list,
        snapshots=SnapshotStore(tmp_path, Keys(b"k" * 32)),
    )
    done = Run(Still(), position=70, silent_until=70)
    done.since_snapshot = 5
    host._runs = {("s.log", 0): done, ("s.log", 1): Run(Still(), position=40, silent_until=100)}
    host._snapshot_all()
    committed = host._transactions.committed  # type: ignore[attr-defined]  # the recorder's
    assert committed == {("s.log", 0): 70}
