"""Has new datasets measured, one after the other, each by a process of its own (`measurer`).

Which ones are to be measured is in the database, so what a crash interrupts is measured after the next start; should
two registries measure the same version, the first result counts.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from headrace.errors import HeadraceError
from headrace.metrics import catalogue
from services.registry.catalog import Catalog
from services.registry.datasets import reference_of
from services.registry.measurer import Result, Task, decode_result, encode_task
from services.registry.registry import Registry
from services.registry.tables import DatasetRow

log = structlog.stdlib.get_logger("registry.measuring")

ROUND_SECONDS = 2.0
AGAIN_SECONDS = 20.0
"""Until what could not be reached is tried again."""
ENDED_SECONDS = 10.0
AT_ONCE = 20
"""Versions looked up in a round."""


class Measuring:
    """The thread that has datasets measured. bootstrap, archive: where their logs are."""

    def __init__(
        self,
        registry: Registry,
        catalog: Catalog,
        bootstrap: str,
        archive: str,
        metrics: CollectorRegistry,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """environment: of the processes that measure; None: ours."""
        self._registry = registry
        self._catalog = catalog
        self._bootstrap = bootstrap
        self._archive = archive
        self._environment = environment
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._go_round, name="measuring", daemon=True)
        self._ended = catalogue.REGISTRY_MEASURED.on(metrics)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and with it the measurement under way; it is made again after the next start."""
        self._stopping.set()
        self._catalog.fresh.set()
        with self._lock:
            if self._process is not None:
                self._process.kill()
        self._thread.join(ENDED_SECONDS)

    def _go_round(self) -> None:
        while True:
            self._catalog.fresh.clear()
            if self._stopping.is_set():  # asked after that, or the end could be overlooked for a while
                return
            pause = AGAIN_SECONDS
            try:
                waiting = [self._measure(row) for row in self._catalog.store.to_measure(AT_ONCE)]
                pause = AGAIN_SECONDS if not all(waiting) else ROUND_SECONDS
            except HeadraceError as error:
                log.warning("not measured yet", reason=str(error))
            except Exception:
                log.exception("measuring failed")  # and goes on: what was asked for must not be forgotten
            self._catalog.fresh.wait(pause)

    def _measure(self, row: DatasetRow) -> bool:
        """Have one measured; False if it has to be tried again."""
        result = self._run(self._task(row))
        if self._stopping.is_set():
            return False
        if result.measurement is not None:
            if self._catalog.store.measured(row, result.measurement):
                self._ended.labels("measured").inc()
            return True
        log.warning(
            "not measured", dataset=row.name, version=row.version, reason=result.failure, again=result.again
        )
        if result.again:
            return False  # in a later round; others must not wait for it
        self._catalog.store.failed(row, result.failure)
        self._ended.labels("failed").inc()
        return True

    def _task(self, row: DatasetRow) -> Task:
        stretches = reference_of(row).stretches(self._registry.adoptions(row.stream))
        return Task(self._bootstrap, self._archive, row.stream, stretches, row.created_ms, os.getpid())

    def _run(self, task: Task) -> Result:
        with self._lock:
            if self._stopping.is_set():
                return Result()
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "services.registry.measurer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
            )
        try:
            output, _ = process.communicate(encode_task(task))
        finally:
            with self._lock:
                self._process = None
        try:
            return decode_result(output)
        except msgspec.DecodeError:
            return Result(failure=f"the process that measured it ended with exit code {process.returncode}")
