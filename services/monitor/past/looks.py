"""Looks at the past for the API: each in a process of its own, one at a time, answers kept for who asks again.

Reading a stretch of the log and going through it takes a core for a second or so: in this process it would take it
from the data plane. What is found of an alarm does not change once its stretch is whole, so it is kept; while labels
are outstanding it is looked up anew after a while.
"""

import subprocess
import sys
import threading
import time
from collections import OrderedDict
from typing import Any

import msgspec
import structlog

from headrace.contracts.events import DriftDetected
from headrace.contracts.statistics import ContractFacts
from headrace.errors import Transient, Unusable
from services.monitor.domain.tolerance import Tolerance
from services.monitor.domain.why.explanation import Explanation

log = structlog.get_logger("headrace.monitor.past")

LOOK_SECONDS = 60.0
KEPT = 64
"""Explanations that are kept; the one that was asked for longest ago goes first."""
FRESH_SECONDS = 30.0
"""For so long one holds that more labels would change."""


class Looks:
    """Runs `python -m services.monitor.past`. Safe to use from several threads."""

    def __init__(self, bootstrap: str, *, seconds: float = LOOK_SECONDS) -> None:
        self._bootstrap = bootstrap
        self._seconds = seconds
        self._turn = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Explanation]] = OrderedDict()
        self._guard = threading.Lock()

    def why(
        self, drift: DriftDetected, facts: ContractFacts, earliest: int = 0, latest: int | None = None
    ) -> Explanation:
        """An alarm explained, by records from offset `earliest` on (that of the like alarm before) to `latest`.

        Raises `Transient` if another look is under way or this one takes too long, `Unusable` if there is too little.
        """
        with self._guard:
            known = self._kept.get(drift.id)
            if known is not None and (known[1].complete or time.monotonic() < known[0] + FRESH_SECONDS):
                self._kept.move_to_end(drift.id)
                return known[1]
        request: dict[str, Any] = {
            "task": "why",
            "stream": drift.stream,
            "partition": drift.partition,
            "drift": drift,
        }
        request |= {"facts": facts, "earliest": earliest, "latest": latest}
        found = msgspec.convert(self._look(request), Explanation)
        with self._guard:
            self._kept[drift.id] = (time.monotonic(), found)
            self._kept.move_to_end(drift.id)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found

    def check(
        self, stream: str, partition: int, facts: ContractFacts, tolerance: Tolerance, since: dict[str, int]
    ) -> dict[str, Any]:
        """What watches do on the references that begin at `since`: offsets for `fields` and `errors`. As `why`."""
        found: dict[str, Any] = self._look(
            {
                "task": "check", "stream": stream, "partition": partition, "facts": facts, "tolerance": tolerance,
                "since": since,
            }
        )  # fmt: skip
        return found

    def _look(self, request: dict[str, Any]) -> Any:
        if not self._turn.acquire(blocking=False):
            raise Transient("another look at the past is under way; try again soon")
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "services.monitor.past"],
                input=msgspec.json.encode({"bootstrap": self._bootstrap, **request}),
                capture_output=True,
                timeout=self._seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Transient(f"the look at the past was not done in {self._seconds:.0f} s") from None
        finally:
            self._turn.release()
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            log.error("a look at the past failed", said=said[-20:])
            raise Transient(f"the look at the past failed: {said[-1] if said else 'no reason given'}")
        answer = msgspec.json.decode(done.stdout)
        if "error" in answer:
            raise (Unusable if answer["kind"] == "Unusable" else Transient)(answer["error"])
        return answer["result"]
