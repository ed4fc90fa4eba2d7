"""Running a what-if replay: partitions in parallel, progress told, the state put away, an interrupted run gone on with.

The folder of a question holds, for each partition, its latest state, signed with the installation's key, and what was
to be read when the question was first asked; so the same question after Ctrl-C or kill -9 goes on and ends with the
same report, byte for byte. One partition is folded in this process; several in processes of their own, as the fold
takes a core. A state that cannot be used (damaged, other code) costs time: the log is still there.
"""

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import msgspec

from headrace import checkpoint
from headrace.adopting import adopt
from headrace.broker.locks import held
from headrace.collector import calm_the_collector
from headrace.contracts.stream import StreamContract
from headrace.errors import Fatal, HeadraceError, Transient, Unusable
from headrace.history import History
from headrace.replay.plan import Plan
from headrace.replay.whatif import Counted, PartitionReplay, Span, run, spans
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore

SAVE_SECONDS = 4.0
SAVE_SHARE = 20
"""Saving takes at most a 20th of the time: a large state is saved more seldom."""
LOCK_SECONDS = 5.0
"""How long a killed run's last process may take to notice."""
POLL_SECONDS = 0.1
MOST_UNFINISHED = 8
"""Questions whose interrupted runs are kept; the oldest goes."""

Told = Callable[[int], None]
"""Told the log offset that a partition has reached."""


class Workbench:
    """The folder of one question: what it reads, and each partition's state. keys: sign the states."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        self.folder = folder
        self._store = SnapshotStore(folder, keys)

    @contextmanager
    def alone(self, name: str = "run") -> Iterator[None]:
        """Hold the folder: nobody else works at `name` in it. Raises `BrokerError` if somebody goes on doing so."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        busy = "the same replay is running in another process"
        with held(self.folder / f"{name}.lock", wait_seconds=LOCK_SECONDS, busy=busy):
            yield

    def remove(self) -> None:
        """Forget everything about the question."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def spans(self, found: Callable[[], list[Span]]) -> list[Span]:
        """As they were when the replay began; `found` says how they are now."""
        path = self.folder / "spans.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[Span])
        except (OSError, msgspec.MsgspecError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            spans = found()
            _write(path, msgspec.json.encode(spans))
            return spans

    def save(self, partition: int, state: bytes, position: int, *, is_complete: bool = False) -> None:
        """Put a state away; the one before goes."""
        store = self._store.within(str(partition))
        digest, _ = store.put(state)
        pointer = {"digest": digest, "position": position, "complete": is_complete}
        _write(self._pointer(partition), json.dumps(pointer).encode())
        store.sweep({digest})

    def load(self, partition: int) -> tuple[Any, bool]:
        """What the state that an earlier run has left of a partition holds, and whether it is the final one.

        None: there is none that can be used; the log is still there.
        """
        digest, is_complete = self._stored(partition)
        state = adopt(self._store.within(str(partition)), digest) if digest else None
        return state, state is not None and is_complete

    def result(self, partition: int) -> Counted:
        """What came of a partition: this run has made it, or `load`ed it. Raises `Unusable` if it is not there."""
        digest, is_complete = self._stored(partition)
        if not is_complete:
            raise Unusable(f"partition {partition} is not through")
        return Counted(*checkpoint.loads(self._store.within(str(partition)).get(digest)))

    def _stored(self, partition: int) -> tuple[str, bool]:
        try:
            pointer: dict[str, Any] = json.loads(self._pointer(partition).read_bytes())
            return str(pointer["digest"]), bool(pointer["complete"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", False

    def position(self, partition: int) -> int:
        """How far a partition was when its state was put away."""
        try:
            return int(json.loads(self._pointer(partition).read_bytes())["position"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _pointer(self, partition: int) -> Path:
        return self.folder / f"{partition}.json"


def run_all(
    history: History,
    plan: Plan,
    contract: StreamContract,
    bench: Workbench,
    told: Callable[[int, int], None],
    *,
    processes: int | None = None,
) -> tuple[list[Span], Counted]:
    """Run every partition, and put together what came of it.

    told: partition and log offset, now and then. processes: most at a time, None as many as there are cores; 1 folds
    here. Raises `Unusable` if the log no longer holds what is asked for, `Transient` while it cannot be read.
    """
    with bench.alone():
        all_spans = bench.spans(lambda: spans(history, plan.stream))
        at_once = min(processes or os.cpu_count() or 1, len(all_spans))
        if at_once == 1:
            for span in all_spans:
                run_partition(
                    history,
                    plan,
                    contract,
                    span,
                    bench,
                    lambda at, n=span.partition: told(n, at),  # type: ignore[misc]
                )
        else:
            _Crew(history, plan, contract, bench, told).run(all_spans, at_once)
        return all_spans, merged(bench, all_spans)


def run_partition(
    history: History, plan: Plan, contract: StreamContract, span: Span, bench: Workbench, told: Told
) -> None:
    """Fold one partition to its end, putting the state away now and then; `bench` then holds its `Counted`."""
    state, is_complete = bench.load(span.partition)
    if is_complete:
        told(span.end)
        return
    replay = PartitionReplay(plan, contract, span)
    if state is not None:
        replay.restore(state)
    calm_the_collector()
    saved = time.monotonic()
    pause = SAVE_SECONDS
    for _ in run(history, replay):
        told(replay.position)
        began = time.monotonic()
        if began - saved > pause:
            bench.save(span.partition, replay.state(), replay.position)
            saved = time.monotonic()
            pause = max(SAVE_SECONDS, SAVE_SHARE * (saved - began))
    bench.save(
        span.partition,
        checkpoint.dumps(msgspec.structs.astuple(replay.counted())),
        replay.position,
        is_complete=True,
    )
    told(span.end)


def merged(bench: Workbench, all_spans: list[Span]) -> Counted:
    """What came of all partitions. Raises `Unusable` if one has not been run to its end."""
    total: Counted | None = None
    for span in all_spans:
        counted = bench.result(span.partition)
        if total is None:
            total = counted
            continue
        total.tallies.merge(counted.tallies)
        total.folded_to |= counted.folded_to
        total.known_from |= counted.known_from
        for name, counts in counted.models.items():
            present = total.models.setdefault(name, dict.fromkeys(counts, 0))
            total.models[name] = {what: present[what] + counts[what] for what in counts}
        total.counters = {name: total.counters[name] + counted.counters[name] for name in total.counters}
    if total is None:
        raise Unusable("the log has no partitions")
    return total


class _Crew:
    """Processes that fold a partition each."""

    def __init__(
        self,
        history: History,
        plan: Plan,
        contract: StreamContract,
        bench: Workbench,
        told: Callable[[int, int], None],
    ) -> None:
        self._task = (history, plan, contract, bench)
        self._told = told
        self._context = multiprocessing.get_context("spawn")  # a Kafka client does not survive a fork
        self._errors = self._context.SimpleQueue()

    def run(self, all_spans: list[Span], at_once: int) -> None:
        """All partitions, `at_once` at a time. Whatever ends this ends the processes too."""
        positions: Any = self._context.Array("q", len(all_spans), lock=False)
        waiting, working = list(all_spans), dict[int, BaseProcess]()
        try:
            while waiting or working:
                while waiting and len(working) < at_once:
                    span = waiting.pop(0)
                    arguments = (*self._task, span, positions, self._errors, os.getpid())
                    process: BaseProcess = self._context.Process(target=_work, args=arguments, daemon=True)
                    process.start()
                    working[span.partition] = process
                time.sleep(POLL_SECONDS)
                for partition, position in enumerate(positions):
                    if position:
                        self._told(partition, position)
                for partition in [n for n, one in working.items() if not one.is_alive()]:
                    self._check(working.pop(partition))
        finally:
            for one in working.values():
                one.terminate()
                one.join()

    def _check(self, process: BaseProcess) -> None:
        process.join()
        if not self._errors.empty():
            kind, text = self._errors.get()
            raise {"Unusable": Unusable, "Transient": Transient}.get(kind, Fatal)(text)
        if process.exitcode:
            raise Fatal(f"a process of the replay ended with exit code {process.exitcode}")


def _work(
    history: History,
    plan: Plan,
    contract: StreamContract,
    bench: Workbench,
    span: Span,
    positions: Any,
    errors: Any,
    parent: int,
) -> None:
    """One partition in a process of its own; ends when its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes

    def told(position: int) -> None:
        positions[span.partition] = position
        if os.getppid() != parent:
            os._exit(1)

    try:
        with bench.alone(f"partition-{span.partition}"):
            run_partition(history, plan, contract, span, bench, told)
    except HeadraceError as error:
        errors.put((type(error).__name__, str(error)))


def thin_out(folder: Path, present: str) -> None:
    """Of the unfinished runs in `folder` keep the youngest, and `present`."""
    if not folder.is_dir():
        return
    others = [path for path in folder.iterdir() if path.is_dir() and path.name != present]
    others.sort(key=lambda path: path.stat().st_mtime)
    for path in others[: max(0, len(others) - MOST_UNFINISHED + 1)]:
        shutil.rmtree(path, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    """In one step: a crash leaves the old file or the new one."""
    fresh = path.with_suffix(".part")
    fresh.write_bytes(content)
    fresh.replace(path)
