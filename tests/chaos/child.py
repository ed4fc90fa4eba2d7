"""`python -m tests.chaos.child SERVICE`: a service's own `main`, with the named points and, if asked, a mutation.

Ends itself when the harness is gone, so that a harness that is killed leaves no services behind. SIGUSR1 makes it
write where all its threads are: a process that hangs is a finding, and this is its first question.
"""

import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.chaos import mutants, points

MUTANT = "CHAOS_MUTANT"
"""Environment variable: the name of a mutation in `mutants`."""


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(9)


def main(service: str) -> int:
    """Run `services.SERVICE` as its own `__main__` would."""
    _tell("child started")
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if os.environ.get(MUTANT):  # first, so that the points stand around what it leaves
        mutants.MUTANTS[os.environ[MUTANT]]()
    if points.ARMED in os.environ:
        points.install(service, Path(os.environ[points.ARMED]))
    entry = importlib.import_module(f"services.{service}.__main__")
    _tell_when_the_host_starts()
    code: int = entry.main()
    return code


def _tell(event: str) -> None:
    """A line as the services write them, so that stages of a start can be told from one file."""
    now = datetime.now(UTC).isoformat()
    print(json.dumps({"event": event, "level": "info", "timestamp": now}), file=sys.stderr, flush=True)


def _tell_when_the_host_starts() -> None:
    owner, attribute = points.find("headrace.kafka.host", "KafkaHost.run")
    original = getattr(owner, attribute)

    def told(self: Any) -> None:
        _tell("host starts")
        original(self)

    setattr(owner, attribute, told)


if __name__ == "__main__":
    service = sys.argv.pop(1)  # what is left is the service's own
    sys.exit(main(service))
