"""A what-if replay as a process that a test can kill; arguments: folder, partitions, seconds to pause at each batch.

Reads a made-up log in memory and prints the report. States are saved often.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from headrace.history import Bounds
from headrace.memory import MemoryHistory
from headrace.processor import Batch
from headrace.replay import running
from headrace.replay.report import document
from tests.unit.replay.streams import KEYS, asked, contract_of, lived

BATCH = 200
OBSERVATIONS = 1_200

running.SAVE_SECONDS = 0.2
running.SAVE_SHARE = 0


class Slow:
    """A history that takes its time."""

    def __init__(self, history: MemoryHistory, pause: float) -> None:
        self._history, self._pause = history, pause

    def partitions(self, name: str) -> int:
        return self._history.partitions(name)

    def bounds(self, name: str, partition: int) -> Bounds:
        return self._history.bounds(name, partition)

    def read(self, name: str, partition: int, start: int, end: int) -> Iterator[Batch]:
        for at in range(start, end, BATCH):
            time.sleep(self._pause if name.endswith(".log") else 0.0)
            yield from self._history.read(name, partition, at, min(end, at + BATCH))


def main(folder: str, partitions: str, pause: str) -> None:
    contract = contract_of("binary", int(partitions))
    plan = asked("binary", thresholds=[0.3])
    history = Slow(MemoryHistory(lived("binary", OBSERVATIONS, int(partitions))), float(pause))
    bench = running.Workbench(Path(folder), KEYS)
    read, counted = running.run_all(history, plan, contract, bench, lambda *_: None, processes=2)
    print(json.dumps(document(plan, contract, read, counted)))


if __name__ == "__main__":
    main(*sys.argv[1:])
