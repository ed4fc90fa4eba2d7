"""How fast a log is folded again, against the bare River loop, and whether memory stays flat while it is.

The log is a file of records, one a line, as long as asked for: the flights of 2013 in the order in which things became
known, then the same a year later under new ids. A rebuild decodes the records and folds them; nothing is encoded and
no broker takes part. The bare loop has its rows in memory and knows each label at once. Each turn is a process of its
own and the two take turns, since a machine's speed wanders; CPU time is given beside wall time, since others may work
on it too.

    python -m benchmarks.rebuild                    logistic regression over a million events, a forest over fewer
    python -m benchmarks.rebuild --full             a million for the forest, too (an hour)
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.workload import contract_of, control_records, labelled, log_records, years
from headrace.fold.log import LogFold
from services.scoring.processor import CHUNK_RECORDS

ROOT = Path(__file__).resolve().parent.parent
EVENTS = {"logistic": 1_000_000, "tree": 100_000, "arf10": 20_000}
FULL_EVENTS = {"logistic": 1_000_000, "arf10": 1_000_000}
BATCH_RECORDS = 4096

say = Console(stderr=True).print


def main() -> None:
    """Measure and print, or (as a contestant) fold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--events", type=int, default=0, help="of each model, instead of the usual numbers")
    parser.add_argument("--models", nargs="*", default=list(EVENTS))
    parser.add_argument("--fold", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.fold:
        print(json.dumps(fold(asked.fold)))
        return
    events = FULL_EVENTS if asked.full else EVENTS
    chosen = {model: asked.events or count for model, count in events.items() if model in asked.models}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        print(json.dumps(measure(Path(folder), chosen, asked.rounds)))


def measure(home: Path, events: dict[str, int], rounds: int) -> dict[str, Any]:
    """Results by model: rates, CPU time and their ratios (medians over the rounds), and memory on the way."""
    found: dict[str, Any] = {}
    for model, count in events.items():
        log = home / f"{model}.jsonl"
        write_log(log, model, count)
        turns: dict[str, list[dict[str, Any]]] = {"river": [], "headrace": []}
        for turn in range(rounds):
            say(f"rebuild, {model}, {count} events, round {turn + 1} of {rounds}")
            turns["river"].append(_child("benchmarks.river_loop", model, str(count)))
            turns["headrace"].append(_child("benchmarks.rebuild", "--fold", str(log)))
        log.unlink()
        found[model] = summary(count, turns)
        say(found[model])
    return found


def summary(count: int, turns: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, all rounds, and the rebuild's ratio to the loop, by wall time and by CPU time."""
    rates = {
        who: statistics.median(turn["events_per_second"] for turn in some) for who, some in turns.items()
    }
    cpu = {who: statistics.median(turn["cpu_us"] for turn in some) for who, some in turns.items()}
    return {
        "events": count,
        "events_per_second": {who: round(rate) for who, rate in rates.items()},
        "cpu_microseconds_per_event": {who: round(spent, 2) for who, spent in cpu.items()},
        "rounds": {who: [round(turn["events_per_second"]) for turn in some] for who, some in turns.items()},
        "ratios": {
            "to_river": round(rates["headrace"] / rates["river"], 3),
            "to_river_by_cpu": round(cpu["river"] / cpu["headrace"], 3),
        },
        "rss_mb_by_quarter": turns["headrace"][-1]["rss_mb_by_quarter"],
    }


def write_log(path: Path, model: str, count: int) -> None:
    """A log of `count` labelled events, one record a line."""
    with path.open("wb") as file:
        for record in control_records(contract_of("bench", labelled(2000)), model):
            file.write(record + b"\n")
        for record in log_records(years(count)):
            file.write(record + b"\n")


def fold(path: Path) -> dict[str, Any]:
    """Fold a log; the figures of this process."""
    with path.open("rb") as file:
        total = sum(1 for _ in file)
    log_fold = LogFold()
    shard = log_fold.shard
    memory: list[float] = []
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    start, cpu = time.perf_counter(), time.process_time()
    for offsets, values in _batches(path):
        for first in range(0, len(offsets), CHUNK_RECORDS):
            part = slice(first, first + CHUNK_RECORDS)
            log_fold.fold(offsets[part], values[part])
        if (offsets[-1] + 1) * 4 // total > len(memory):
            memory.append(_resident_mb())
    elapsed, spent = time.perf_counter() - start, time.process_time() - cpu
    events = shard.counters.labelled
    assert events * 2 + 2 == total, "every flight was labelled"
    return {
        "events_per_second": events / elapsed,
        "cpu_us": 1e6 * spent / events,
        "rss_mb_by_quarter": [round(size) for size in memory],
        "fingerprints": [slot.fingerprint() for slot in shard.slots.values()],
    }


def _batches(path: Path) -> Iterator[tuple[range, list[bytes]]]:
    offset = 0
    with path.open("rb") as file:
        while values := list(islice(file, BATCH_RECORDS)):
            yield range(offset, offset + len(values)), values
            offset += len(values)


def _child(module: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    main()
