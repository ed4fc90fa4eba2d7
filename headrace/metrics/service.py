"""What every service serves at `/metrics`: what it is, its requests, its process, the disk of its home."""

import shutil
from collections.abc import Callable
from pathlib import Path
from platform import python_version

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from headrace.metrics import catalogue


class Served:
    """The metrics of one service's requests, and those that need no feeding. home: None shows no disk."""

    def __init__(self, service: str, version: str, registry: CollectorRegistry, home: Path | None) -> None:
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        catalogue.BUILD_INFO.on(registry).labels(service, version, python_version()).set(1)
        self._requests = catalogue.HTTP_REQUESTS.on(registry)
        self._seconds = catalogue.HTTP_SECONDS.on(registry)
        if home is not None:
            catalogue.DISK_FREE.on(registry).labels().set_function(_of_disk(home, lambda disk: disk.free))
            catalogue.DISK_SIZE.on(registry).labels().set_function(_of_disk(home, lambda disk: disk.total))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; route: its template, status: 0 if the connection was cut."""
        self._requests.labels(method, route, f"{status // 100}xx" if status else "cut").inc()
        self._seconds.labels(method, route).observe(seconds)


def _of_disk(home: Path, figure: Callable[["shutil._ntuple_diskusage"], int]) -> Callable[[], float]:
    def ask() -> float:
        try:
            return figure(shutil.disk_usage(home))
        except OSError:
            return float("nan")  # there is no home yet, or its disk is gone

    return ask
