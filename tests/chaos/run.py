"""`python -m tests.chaos.run --seed N`: load, faults, recovery, verdict. `make chaos SEED=N` is this.

Exit code 0: nothing lost, doubled or wrong, every state is that of a clean replay, no process ended by itself in a way
that no fault explains, and the lag was gone in time. The numbers are printed and, with --output, written as JSON.
"""

import argparse
import contextlib
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import checker, faults, fingerprints, follower, stream
from tests.chaos.cluster import Cluster, Memory
from tests.chaos.load import Load

TOPICS = tuple(
    f"{stream.STREAM}.{kind}"
    for kind in ("inbox", "log", "predictions", "outcomes", "rejected", "checkpoints")
)
LOG, INBOX = f"{stream.STREAM}.log", f"{stream.STREAM}.inbox"
GROUP = "headrace.scoring"
RATE = 120.0
"""Observations a second: what two cores carry beside broker, services and readers, with room to catch up."""
CAUGHT_UP_SECONDS = 60.0
"""The lag has to be gone so long after the last fault."""
RECOVERED_SECONDS = 30.0
"""No fault may keep a partition silent for longer, though the next ones follow within seconds."""
LARGEST_BYTES = 700 * 1024 * 1024
"""No service may ever take more memory than this."""


@dataclass
class Report:
    """What is printed and written. Times in seconds, memory in MB."""

    seed: int
    seconds: float = 0.0
    events: int = 0
    accepted: dict[str, int] = field(default_factory=dict)
    log_records: int = 0
    poison: int = 0
    http_answers: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    not_reached: list[str] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    states_compared: int = 0
    states_restored: int = 0
    recovery: dict[str, dict[str, float]] = field(default_factory=dict)
    caught_up_seconds: float = 0.0
    ends_by_themselves: list[str] = field(default_factory=list)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    detail: list[dict[str, Any]] = field(default_factory=list)

    def good(self) -> bool:
        """Whether every promise was kept."""
        return not self.findings


def plan(rng: random.Random) -> Any:
    """Faults without end: whole decks, shuffled."""
    while True:
        cards = faults.deck()
        rng.shuffle(cards)
        yield from cards


def run(seed: int, seconds: float, home: Path, kinds: tuple[str, ...] = (), rate: float = RATE) -> Report:
    """One run. kinds: exactly these faults in this order; else from the seed until `seconds` of faults are over."""
    rng = random.Random(seed)
    report = Report(seed)
    cluster = Cluster(home)
    disk = _disk(home / "snapshots", report) if not kinds or "disk_full" in kinds else None
    started = time.monotonic()
    try:
        cluster.open()
        cluster.up()
        deploy(cluster)
        reader = follower.Follower(cluster.bootstrap, TOPICS)
        load = Load(
            seed, rate, url=cluster.services["ingest-0"].url(), key=cluster.key, bootstrap=cluster.bootstrap
        )
        load.start()
        time.sleep(3.0)
        harm = faults.Harm(cluster, rng, disk)
        done: list[faults.Done] = []
        until = time.monotonic() + seconds
        for kind in kinds or plan(rng):
            if not kinds and time.monotonic() > until:
                break
            done.append(harm.do(kind))
            _say(f"{time.monotonic() - started:6.1f} s  {kind}  {done[-1].note or 'not reached'}")
            time.sleep(rng.uniform(1.0, 4.0))
        report.caught_up_seconds = _caught_up(cluster, reader, report, exactly=False)
        load.finish(90.0)
        _caught_up(cluster, reader, report, exactly=True)
        shown = cluster.ask("scoring-0", "GET", f"/v1/streams/{stream.STREAM}/metrics")
        cluster.stop("scoring-0")
        report.findings += harm.findings
        _judge(report, cluster, load, reader, shown)
        _count(report, cluster, load, done, reader.logs)
    finally:
        cluster.down()
        if disk is not None:
            disk.close()
    report.seconds = time.monotonic() - started
    return report


def _disk(folder: Path, report: Report) -> faults.SmallDisk | None:
    try:
        return faults.SmallDisk(folder)
    except OSError as error:
        report.not_reached.append(f"disk_full: no small disk can be mounted here ({error})")
        return None


def deploy(cluster: Cluster) -> None:
    """The stream and its two models; returns when scoring has taken them up."""
    cluster.ask("registry-0", "POST", "/v1/streams", {"contract": stream.CONTRACT})
    for name, specification in stream.MODELS.items():
        cluster.ask("registry-0", "POST", "/v1/models", {"name": name, "specification": specification})
        role = "champion" if name == stream.CHAMPION else "challenger"
        path = f"/v1/streams/{stream.STREAM}/deployments"
        cluster.ask("registry-0", "POST", path, {"model": name, "role": role})
    deadline = time.monotonic() + 30
    while follower.committed(cluster.bootstrap, GROUP, LOG, stream.PARTITIONS)[0] < 1:
        if time.monotonic() > deadline:
            raise TimeoutError("scoring did not take the stream up")
        time.sleep(0.2)


def _caught_up(cluster: Cluster, reader: follower.Follower, report: Report, *, exactly: bool) -> float:
    """Wait until what lies in inbox and log now is committed; returns the seconds. exactly: and nothing new comes."""
    started = time.monotonic()
    ends = {topic: reader.ends(topic) for topic in (INBOX, LOG)}
    while True:
        behind = []
        for group, topic in ((GROUP, LOG), ("headrace.ingest", INBOX), ("headrace.monitor.3600", LOG)):
            at = follower.committed(cluster.bootstrap, group, topic, stream.PARTITIONS)
            if any(at[number] < end for number, end in ends[topic].items()):
                behind.append(group)
        took = time.monotonic() - started
        now = {topic: reader.ends(topic) for topic in (INBOX, LOG)}
        if not behind and (not exactly or now == ends):
            return took
        if took > CAUGHT_UP_SECONDS:
            report.findings.append(f"{', '.join(behind)} still behind after {took:.0f} s")
            return took
        if exactly:
            ends = now
        time.sleep(0.3)


def _judge(
    report: Report, cluster: Cluster, load: Load, reader: follower.Follower, shown: dict[str, Any]
) -> None:
    after = follower.read_all(cluster.bootstrap, TOPICS)
    deadline = time.monotonic() + 15
    while any(len(reader.logs[place]) < len(after[place]) for place in after) and time.monotonic() < deadline:
        time.sleep(0.1)
    during = reader.stop()
    replayed = checker.expected(after, stream.STREAM)
    verdict = checker.check(after, stream.STREAM, load.sent, replayed)
    ends = {
        partition: records[-1].offset + 1 for (topic, partition), records in after.items() if topic == LOG
    }
    committed = follower.committed(cluster.bootstrap, GROUP, LOG, stream.PARTITIONS)
    checker.check_committed(verdict, committed, ends)
    checker.check_readers(verdict, during, after)
    checker.check_metrics(verdict, shown, replayed)
    compared = fingerprints.compare(after, stream.STREAM, cluster.home, GROUP)
    verdict.find("a stored state is not that of a clean fold", compared.findings)
    if compared.at_end < stream.PARTITIONS:
        verdict.find("no state was stored at the clean stop", [str(compared)])
    verdict.find("the load found", load.failures)
    report.lost, report.doubled, report.wrong = verdict.lost, verdict.doubled, verdict.wrong
    report.states_compared = compared.compared
    report.states_restored = compared.restored
    report.findings += verdict.shown()


def _count(
    report: Report, cluster: Cluster, load: Load, done: list[faults.Done], during: follower.Logs
) -> None:
    report.events = load.sent.events
    report.accepted = {"observations": len(load.sent.observations), "labels": len(load.sent.labels)}
    report.poison = len(load.sent.refused) + len(load.sent.placed)
    report.http_answers = load.sent.answers
    report.log_records = sum(len(records) for (topic, _), records in during.items() if topic == LOG)
    report.faults = dict(Counter(one.kind.partition(":")[0] for one in done if one.reached))
    report.not_reached += [one.kind for one in done if not one.reached]
    recovered = recoveries(done, during)
    report.detail = [
        {**asdict(one), "recovered_seconds": seconds} for one, seconds in zip(done, recovered, strict=True)
    ]
    report.findings += [
        f"{one.kind}: the next output came {seconds:.0f} s later"
        for one, seconds in zip(done, recovered, strict=True)
        if seconds is not None and seconds > RECOVERED_SECONDS
    ]
    for kind in sorted(report.faults):
        times = [
            seconds
            for one, seconds in zip(done, recovered, strict=True)
            if one.kind.partition(":")[0] == kind and seconds is not None
        ]
        if times:
            report.recovery[kind] = {"median": statistics.median(times), "max": max(times)}
    for end in cluster.unplanned():
        report.ends_by_themselves.append(f"{end.name} code {end.code}: {end.words}")
        if end.code != 1:  # 1 is how a service asks to be started again
            report.findings.append(f"{end.name} ended by itself with code {end.code}: {end.words}")
    report.memory = _memory(cluster.memory)
    for name, figures in report.memory.items():
        if figures["largest"] * 1e6 > LARGEST_BYTES:
            report.findings.append(f"{name} took {figures['largest']:.0f} MB")


def recoveries(done: list[faults.Done], during: follower.Logs) -> list[float | None]:
    """For each fault the seconds from its beginning to the first committed prediction, in every partition, of an
    observation that entered the log after it; what was under way when the fault came does not count.
    """
    written: dict[tuple[int, int], float] = {
        (partition, record.offset): record.written
        for (topic, partition), records in during.items()
        if topic == LOG
        for record in records
    }
    answered: dict[int, list[tuple[float, float]]] = {}
    for (topic, partition), records in during.items():
        if topic == f"{stream.STREAM}.predictions":
            answered[partition] = [
                (written[partition, json.loads(record.value or b"")["offset"]], record.seen)
                for record in records
            ]
    found: list[float | None] = []
    for one in done:
        firsts = [
            min((seen for entered, seen in pairs if entered > one.begun), default=None)
            for pairs in answered.values()
        ]
        known = [first for first in firsts if first is not None]
        found.append(max(known) - one.begun if len(known) == len(firsts) else None)
    return found


def _memory(lives: list[Memory]) -> dict[str, dict[str, float]]:
    """Largest size, and how fast the longest life of each service grew after its first ten seconds."""
    figures: dict[str, dict[str, float]] = {}
    for name in sorted({life.name for life in lives}):
        mine = [life for life in lives if life.name == name and life.samples]
        if not mine:
            continue
        longest = max(mine, key=lambda life: life.samples[-1][0])
        steady = [(at, size) for at, size in longest.samples if at > 10]
        slope = 0.0
        if len(steady) > 10:
            slope = statistics.linear_regression(*zip(*steady, strict=True)).slope
        figures[name] = {
            "largest": max(size for life in mine for _, size in life.samples) / 1e6,
            "longest_life_seconds": longest.samples[-1][0],
            "growth_per_minute": slope * 60 / 1e6,
            "lives": len({life.life for life in lives if life.name == name}),
        }
    return figures


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def shown(report: Report) -> str:
    """The report for people."""
    lines = [
        f"seed {report.seed}: {report.seconds:.0f} s",
        f"{report.events} events sent, {report.log_records} log records, {report.poison} poison; {report.accepted}",
        f"faults: {report.faults}; not reached: {report.not_reached or 'none'}",
        f"lost {report.lost}, doubled {report.doubled}, wrong {report.wrong}",
        f"{report.states_compared} stored states compared with a clean replay, {report.states_restored} of them whole",
        f"backlog of the last fault done after {report.caught_up_seconds:.1f} s (bound: {CAUGHT_UP_SECONDS:.0f})",
        "seconds from a fault to the next committed output, median / max:",
        *(
            f"  {kind:<10} {times['median']:5.1f} / {times['max']:5.1f}"
            for kind, times in report.recovery.items()
        ),
        "memory, MB (largest; growth a minute in the longest life):",
        *(
            f"  {name:<10} {figures['largest']:5.0f}; {figures['growth_per_minute']:+.1f} in "
            f"{figures['longest_life_seconds']:.0f} s; {figures['lives']:.0f} lives"
            for name, figures in report.memory.items()
        ),
        f"HTTP answers: {report.http_answers}",
        *(f"ended by itself, started again: {line}" for line in report.ends_by_themselves),
        *(f"FOUND {line}" for line in report.findings),
        "every promise kept" if report.good() else "NOT every promise kept",
    ]
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--seconds", type=float, default=240.0, help="how long faults are done")
    parser.add_argument("--rate", type=float, default=RATE, help="observations a second")
    parser.add_argument("--faults", default="", help="exactly these, by comma")
    parser.add_argument("--output", type=Path, help="a JSON file for the numbers")
    parser.add_argument(
        "--keep", type=Path, help="work in this folder and leave it (logs, snapshots, broker)"
    )
    options = parser.parse_args()
    kinds = tuple(kind for kind in options.faults.split(",") if kind)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        report = run(options.seed, options.seconds, folder / "home", kinds, options.rate)
    finally:
        if not options.keep:
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)
    print(shown(report))
    if options.output:
        options.output.write_text(json.dumps(asdict(report), indent=2) + "\n")
    return 0 if report.good() else 1


if __name__ == "__main__":
    sys.exit(main())
