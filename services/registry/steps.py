"""A trial's step as a process: started, watched, killed; and where the states of trials lie."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from headrace.contracts.topics import LOG, topic
from headrace.replay.rebuild import forget
from headrace.signing import Keys, secret_key
from headrace.snapshots import SnapshotStore
from services.registry.domain.race import Step
from services.registry.trial import Told, TrialTask, plan_of

KILLED_SECONDS = 5.0

_encode = msgspec.json.Encoder().encode
_told = msgspec.json.Decoder(Told).decode


class States(NamedTuple):
    """Where trials read the log, and where they keep what they have learnt: best where scoring keeps its snapshots."""

    bootstrap: str
    folder: Path
    key_file: Path
    archive: str
    environment: Mapping[str, str]
    """The processes'."""

    def forget(self, task: TrialTask) -> None:
        """Remove what a trial has left."""
        store = SnapshotStore(self.folder, Keys.at(self.key_file))
        for partition in task.until:
            forget(store, topic(LOG, task.stream), partition, plan_of(task))


class RunningStep:
    """One step under way, in a process of its own that ends with this one."""

    def __init__(self, task: TrialTask, environment: Mapping[str, str]) -> None:
        secret_key(Path(task.key_file))
        self._limits = task.limits
        self._started = time.monotonic()
        self._told = Told(of=sum(task.until.values()))
        self._overtime = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.registry.trial"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, args=(_encode(task),), daemon=True)
        self._reader.start()

    @property
    def progress(self) -> tuple[int, int]:
        """(offsets folded, of how many)."""
        return self._told.done, self._told.of

    def has_ended(self) -> bool:
        """Whether the process has; one that is over its time is ended."""
        if time.monotonic() - self._started > self._limits.wall_seconds:
            self._overtime = True
            self.kill()
        return self._process.poll() is not None

    @property
    def again(self) -> str:
        """Why it has to be run again."""
        return self._told.failed

    def result(self) -> tuple[Step | None, str]:
        """(what came of it, else why the trial is to be stopped); neither: it has to be run again."""
        self._reader.join(KILLED_SECONDS)
        told = self._told
        if told.step is not None:
            return told.step, ""
        if self._overtime:
            return None, "it took more than wall_seconds"
        if told.over:
            return None, f"it took more than {told.over}"
        if told.failed:
            return None, "" if told.away else told.failed
        code = self._process.returncode
        return (
            None,
            f"its process was ended by signal {-code}" if code < 0 else f"its process ended with code {code}",
        )

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait(KILLED_SECONDS)

    def _read(self, task: bytes) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(task)
            self._process.stdin.close()
            for line in self._process.stdout:
                self._told = _told(line)
        except (OSError, ValueError, msgspec.DecodeError):
            pass  # it has ended in the middle: the exit code says how
