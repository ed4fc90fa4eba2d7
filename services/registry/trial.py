"""`python -m services.registry.trial`: one step of a retraining, a process of its own, within limits.

Reads its task (`TrialTask`) from standard input and writes a line of JSON (`Told`) to standard output now and then, the
last with what came of it. The step is the very fold that a deployment of the trial with the log learnt would make
(`headrace.replay.rebuild`), so what it leaves in the store is what the shard takes over if it wins.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from headrace import child
from headrace.collector import calm_the_collector
from headrace.contracts.events import ModelDeployed
from headrace.contracts.left_out import Below, LeftOut
from headrace.contracts.payoff import Counts
from headrace.contracts.stream import Task
from headrace.contracts.topics import LOG, topic
from headrace.errors import HeadraceError, Transient
from headrace.fold.metrics import TALLIES, BinaryTally, MulticlassTally, RegressionTally
from headrace.fold.parts import Rebuild
from headrace.replay.rebuild import LogRebuilder
from headrace.replay.sources import Sources
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore
from services.registry.domain.race import Limits, Step
from services.registry.measurer import NICE

TELL_SECONDS = 0.5


class TrialTask(msgspec.Struct, frozen=True):
    """What is to be folded. until: before which offset, by partition. limits: what is left of the trial's.

    snapshots, key_file: where the states lie. parent: the process that waits for it.
    """

    bootstrap: str
    snapshots: str
    key_file: str
    archive: str
    stream: str
    task: Task
    model: str
    specification: dict[str, Any]
    without: LeftOut
    until: dict[int, int]
    limits: Limits
    parent: int


class Told(msgspec.Struct, omit_defaults=True):
    """What a step tells. done, of: offsets. over, failed: why it ended without a `step`; away: it may yet be done."""

    done: int = 0
    of: int = 0
    step: Step | None = None
    over: str = ""
    failed: str = ""
    away: bool = False


def plan_of(task: TrialTask) -> Rebuild:
    """The fold that is to be made, by partition up to its own offset."""
    deployed = ModelDeployed("trial", 0, task.model, 1, task.specification, "challenger", True, task.without)
    left_out = (Below(task.without, None),) if task.without else ()
    return Rebuild(task.model, -1, left_out, 0, deployed)


def losses(tally: BinaryTally | MulticlassTally | RegressionTally) -> tuple[int, float]:
    """(labels, loss summed over them). No answer loses as much as the worst one, where there is a worst one."""
    if isinstance(tally, RegressionTally):
        return tally.count, tally.absolute
    labels = tally.count + tally.unanswered
    if isinstance(tally, MulticlassTally):
        return labels, float(labels - sum(tally.hits.values()))
    wrong = tally.fp + tally.fn
    return labels, (tally.brier if tally.scored else float(wrong)) + tally.unanswered


def counts(tally: BinaryTally | MulticlassTally | RegressionTally) -> Counts:
    """What a payoff is computed from."""
    if isinstance(tally, BinaryTally):
        right = tally.tp + tally.tn
        return Counts(tally.count, right, tally.tp, tally.fp, tally.tn, tally.fn)
    if isinstance(tally, MulticlassTally):
        return Counts(tally.count, sum(tally.hits.values()))
    return Counts(tally.count, numeric=tally.count, absolute=tally.absolute, squared=tally.squared)


def run(task: TrialTask, rebuilder: LogRebuilder) -> Step:
    """Fold every partition as far as the task says."""
    started, cpu = time.perf_counter(), time.process_time()
    plan, total, states = plan_of(task), TALLIES[task.task](), []
    for partition, until in sorted(task.until.items()):
        shard, _ = rebuilder(topic(LOG, task.stream), partition, plan._replace(until=until))
        slot = shard.slots.get(task.model)
        if slot is not None:
            total.merge(slot.metrics.overall())
            states.append(slot.fingerprint())
    labels, loss = losses(total)
    return Step(
        labels=labels,
        loss=loss,
        metrics=total.view(),
        cpu_seconds=time.process_time() - cpu,
        wall_seconds=time.perf_counter() - started,
        memory_mb=child.peak_mb(),
        fingerprint=",".join(states),
        counts=counts(total),
    )


def main() -> int:
    """Run the task. Exit code 0: it was done; 1: it could not be, 3: it was over a limit, and said so."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=TrialTask)
    os.nice(NICE)
    calm_the_collector()
    limits = task.limits
    child.watch(task.parent, limits.cpu_seconds, limits.memory_mb, lambda limit: _tell(Told(over=limit)))
    sources = Sources(
        task.bootstrap,
        SnapshotStore(Path(task.snapshots), Keys.at(Path(task.key_file))),
        task.archive,
    )
    of, finished, told = sum(task.until.values()), 0, 0.0

    def progress(done: int, until: int) -> None:
        nonlocal finished, told
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            _tell(Told(done=finished + done, of=of))
        if done >= until:
            finished += until

    try:
        step = run(task, LogRebuilder(sources.history, sources.store, progress))
    except HeadraceError as error:
        _tell(Told(failed=str(error), away=isinstance(error, Transient)))
        return 1
    except MemoryError:
        _tell(Told(over="memory"))
        return 3
    _tell(Told(done=of, of=of, step=step))
    return 0


def _tell(told: Told) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
