"""`python -m tests.chaos.restart_time`: kill -9 of scoring under load, and where the time to its next output goes.

Measured from the signal: the process is there (its first line of Python), it has loaded everything (`host` starts), its
partitions are assigned and their states restored, the first prediction of an observation that came after the kill is
committed. Prints a line a kill and the medians.
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from tests.chaos import follower, run, stream
from tests.chaos.cluster import Cluster
from tests.chaos.faults import Done
from tests.chaos.load import Load

REST_SECONDS = 12.0


def measure(kills: int, rate: float, home: Path) -> list[dict[str, float]]:
    """One entry a kill: seconds from the signal to each stage."""
    cluster = Cluster(home, HEADRACE_SCORING_SNAPSHOT_RECORDS="2000")
    try:
        cluster.open()
        cluster.up(("registry-0", "ingest-0", "scoring-0"))
        run.deploy(cluster)
        reader = follower.Follower(cluster.bootstrap, run.TOPICS)
        url = cluster.services["ingest-0"].url()
        load = Load(1, rate, url=url, key=cluster.key, bootstrap=cluster.bootstrap)
        load.start()
        done = []
        for _ in range(kills):
            time.sleep(REST_SECONDS)
            done.append(Done("kill", time.time()))
            cluster.signal("scoring-0", signal.SIGKILL)
        time.sleep(REST_SECONDS)
        load.finish(30)
        recovered = run.recoveries(done, reader.stop())
        said = _said(cluster.services["scoring-0"].log)
    finally:
        cluster.down()
    return [
        {
            "process": _first(said, "child started", one.begun),
            "loaded": _first(said, "host starts", one.begun),
            "restored": _last_assigned(said, one.begun),
            "first_output": seconds or float("nan"),
        }
        for one, seconds in zip(done, recovered, strict=True)
    ]


def _said(log: Path) -> list[tuple[float, str]]:
    """(seconds since 1970, event) of every line."""
    lines = []
    for line in log.read_text("utf-8").splitlines():
        entry = json.loads(line)
        lines.append((datetime.fromisoformat(entry["timestamp"]).timestamp(), entry["event"]))
    return lines


def _first(said: list[tuple[float, str]], event: str, since: float) -> float:
    return next(at for at, what in said if what == event and at > since) - since


def _last_assigned(said: list[tuple[float, str]], since: float) -> float:
    return [at for at, what in said if what == "assigned" and at > since][stream.PARTITIONS - 1] - since


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--rate", type=float, default=100.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        measured = measure(options.kills, options.rate, Path(folder) / "home")
    for one in measured:
        print("  ".join(f"{name} {seconds:.2f}" for name, seconds in one.items()))
    print(
        "median:",
        "  ".join(f"{name} {statistics.median(one[name] for one in measured):.2f}" for name in measured[0]),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
