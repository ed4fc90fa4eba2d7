"""The faults, and a plan of them drawn from a seed.

Each does its harm, waits as long as it lasts, and takes back what would not heal by itself. What a seed decides is
which faults come in which order with which numbers; when exactly a process is hit is, as in life, not repeatable.
"""

import contextlib
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import points, stream
from tests.chaos.cluster import SPARE, Cluster

SESSION_SECONDS = 6
POINT_PATIENCE_SECONDS = 15.0
MOST_PASSES = {"before_publish": 1, "after_publish": 1, "during_recovery": 2}
"""How often a place is passed before the fault, at most; 6 where nothing is said."""
DISK_BYTES = 48 * 1024 * 1024
DIGEST_LETTERS = 64
"""In the name of a snapshot."""


@dataclass
class Done:
    """A fault that was done. begun: the moment of the harm, ended: of its end, in seconds since 1970. note: what
    exactly. reached: whether it could be done.
    """

    kind: str
    begun: float
    ended: float = 0.0
    note: str = ""
    reached: bool = True


class Harm:
    """The faults over one cluster. disk: the small disk that snapshots lie on, None if there is none."""

    def __init__(self, cluster: Cluster, rng: random.Random, disk: "SmallDisk | None") -> None:
        self._cluster = cluster
        self._rng = rng
        self._disk = disk
        self.findings: list[str] = []

    def do(self, kind: str) -> Done:
        """Do one fault, whole."""
        self._hurt()
        done = Done(kind, self._begun)
        name, _, detail = kind.partition(":")
        work: Callable[..., str | None] = getattr(self, f"_{name}")
        note = work(detail) if detail else work()
        done.begun, done.ended = self._begun, time.time()
        if note is None:
            done.reached = False
        else:
            done.note = note
        return done

    def _hurt(self) -> None:
        """Now comes the harm; what went before was preparation."""
        self._begun = time.time()

    # -- processes --------------------------------------------------------------------------------------------------

    def _kill(self, name: str) -> str:
        self._cluster.signal(name, signal.SIGKILL)
        return name

    def _point(self, detail: str) -> str | None:
        """Arm a process and wait until it has come by: `NAME/POINT/ACTION`."""
        name, point, action = detail.split("/")
        service = self._cluster.services[name]
        life, count = service.lives, self._rng.randint(1, MOST_PASSES.get(point, 6))
        self._cluster.expect_end(name, action == "kill")
        points.arm(service.armed, point, count, action)
        if point == "during_recovery":  # which takes a death to begin with
            self._cluster.signal(name, signal.SIGKILL)
        elif name == "registry-0":
            self._promote()
        deadline = time.monotonic() + POINT_PATIENCE_SECONDS
        while service.armed.exists():
            if time.monotonic() > deadline:
                service.armed.unlink(missing_ok=True)
                if service.lives == life:
                    self._cluster.expect_end(name, False)
                return None
            time.sleep(0.02)
        self._hurt()
        return f"{name} {point} {action}, pass {count}"

    def _promote(self) -> str:
        """A control record: the other model becomes champion."""
        path = f"/v1/streams/{stream.STREAM}/deployments"
        found = self._cluster.ask("registry-0", "GET", path)["deployments"]
        other = next(entry["model"] for entry in found if entry["role"] != "champion")
        self._cluster.ask("registry-0", "POST", f"{path}/{other}/promote")
        return str(other)

    def _zombie(self) -> str:
        """Stop scoring for longer than its session; a twin takes over; wake the old one."""
        self._cluster.start(SPARE)
        self._cluster.wait_ready(SPARE)
        time.sleep(self._rng.uniform(0.5, 2.0))
        seconds = SESSION_SECONDS + self._rng.uniform(2.0, 5.0)
        self._hurt()
        self._cluster.signal("scoring-0", signal.SIGSTOP)
        time.sleep(seconds)
        # Whether it goes on or gives up is its own affair: it may find that it was fenced.
        self._cluster.expect_end("scoring-0", True)
        self._cluster.signal("scoring-0", signal.SIGCONT)
        time.sleep(4.0)
        self._cluster.expect_end("scoring-0", False)
        self._cluster.stop(SPARE)
        return f"{seconds:.1f} s"

    def _orphan(self) -> str | None:
        """A twin dies in the middle of a transaction and never comes back to end it: who takes over has to wait."""
        self._cluster.start(SPARE)
        self._cluster.wait_ready(SPARE)
        twin = self._cluster.services[SPARE]
        twin.wanted = False
        self._cluster.expect_end(SPARE, True)
        points.arm(twin.armed, "after_offsets_before_commit", 3)
        deadline = time.monotonic() + POINT_PATIENCE_SECONDS
        while twin.armed.exists():
            if time.monotonic() > deadline:
                twin.armed.unlink(missing_ok=True)
                self._cluster.stop(SPARE)
                return None
            time.sleep(0.02)
        self._hurt()
        time.sleep(SESSION_SECONDS + 4.0)
        return "the twin, for good"

    def _storm(self) -> str:
        """A second scoring comes and goes."""
        rounds = 4
        for number in range(rounds):
            self._cluster.start(SPARE)
            if number < rounds - 1:  # the last goes in the middle of its start
                self._cluster.wait_ready(SPARE)
            time.sleep(self._rng.uniform(0.5, 2.0))
            if number % 2:
                self._cluster.stop(SPARE)
            else:
                self._cluster.services[SPARE].wanted = False
                self._cluster.signal(SPARE, signal.SIGKILL)
            time.sleep(self._rng.uniform(0.5, 2.0))
        return f"{rounds} rounds"

    # -- the broker and the way to it -------------------------------------------------------------------------------

    def _broker(self) -> str:
        self._cluster.kill_broker()
        return "kill -9"

    def _delay(self) -> str:
        seconds = self._rng.uniform(0.1, 0.6)
        self._cluster.proxy.delay_seconds = seconds
        time.sleep(self._rng.uniform(4.0, 8.0))
        self._cluster.proxy.heal()
        return f"{seconds:.2f} s a chunk"

    def _cut(self) -> str:
        return f"{self._cluster.proxy.cut(self._whom())} connections"

    def _reset(self) -> str:
        return f"{self._cluster.proxy.reset(self._whom())} connections"

    def _half_open(self) -> str:
        who = self._rng.choice(["scoring", "ingest", "monitor", ""])
        count = self._cluster.proxy.half_open(who)
        seconds = self._rng.uniform(5.0, 12.0)
        time.sleep(seconds)
        self._cluster.proxy.heal()
        return f"{count} connections of {who or 'all'}, {seconds:.1f} s"

    def _whom(self) -> str:
        return self._rng.choice(["", "scoring", "ingest", "monitor"])

    # -- snapshots --------------------------------------------------------------------------------------------------

    def _disk_full(self) -> str | None:
        """No byte left for snapshots while several are due; then a kill, then room again."""
        if self._disk is None:
            return None
        with self._disk.full():
            time.sleep(6.0)
            self._hurt()
            self._cluster.signal("scoring-0", signal.SIGKILL)
            time.sleep(4.0)
        left = [path.name for path in self._disk.folder.rglob("*.part")]
        if left:
            self.findings.append(f"half-written snapshots stay on a full disk: {left}")
        return "snapshots, with a kill meanwhile"

    def _damage(self, how: str) -> str | None:
        """The newest snapshots (they may belong to either partition) are damaged, then scoring is killed."""
        folder = self._cluster.home / "snapshots"
        files = [path for path in folder.rglob("*") if path.is_file() and len(path.name) == DIGEST_LETTERS]
        newest = sorted(files, key=lambda path: path.stat().st_mtime)[-stream.PARTITIONS :]
        if not newest:
            return None
        for path in newest:
            damage(path, how, self._rng)
        self._cluster.signal("scoring-0", signal.SIGKILL)
        return f"{how}, {len(newest)} snapshots"


def damage(path: Path, how: str, rng: random.Random) -> None:
    """Flip one bit of a file, cut it short, or remove it."""
    if how == "removed":
        path.unlink()
        return
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    else:
        del content[rng.randrange(len(content)) :]
    path.write_bytes(content)


class SmallDisk:
    """A file system of a few megabytes on `folder`; needs root. Raises OSError if it cannot be had."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        answer = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "chaos", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise OSError(answer.stderr.strip())

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Not one byte left."""
        ballast = self.folder / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        assert shutil.disk_usage(self.folder).free < 8192
        try:
            yield
        finally:
            ballast.unlink()

    def close(self) -> None:
        """Unmount."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


def deck() -> list[str]:
    """Every fault there is, the frequent ones more than once."""
    kinds = ["kill:scoring-0"] * 3 + ["kill:ingest-0"] * 2 + ["kill:monitor-0", "kill:registry-0"]
    for name, service in (("scoring-0", "scoring"), ("ingest-0", "ingest"), ("monitor-0", "monitor")):
        kinds += [f"point:{name}/{point}/kill" for point in points.POINTS[service]]
    kinds += ["point:registry-0/before_publish/kill", "point:registry-0/after_publish/kill"]
    kinds += ["point:scoring-0/before_commit/fail", "point:ingest-0/before_commit/fail"]
    kinds += [
        "zombie",
        "zombie",
        "orphan",
        "orphan",
        "broker",
        "broker",
        "storm",
        "disk_full",
        "promote",
        "promote",
    ]
    kinds += ["delay", "cut", "cut", "reset", "half_open", "half_open"]
    kinds += ["damage:flipped", "damage:cut", "damage:removed"]
    return kinds


SHORT = (
    "kill:scoring-0",
    "point:scoring-0/after_offsets_before_commit/kill",
    "kill:ingest-0",
    "cut",
    "damage:flipped",
    "point:ingest-0/before_commit/fail",
    "broker",
    "zombie",
)
"""The short run's faults, in this order: one of each family."""
