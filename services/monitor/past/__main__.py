"""`python -m services.monitor.past`: one look at the past, in a process of its own, so that the monitor does not wait.

Reads one JSON request from standard input, writes one JSON answer to standard output: `{"result": ...}`, or
`{"error": text, "kind": "Unusable" | "Transient"}`. It runs at low priority, within bounds of processor time and
memory, and ends when whoever asked has ended.
"""

import os
import sys
import time
from typing import Any, Literal

import msgspec

from headrace.child import watch
from headrace.contracts.events import DriftDetected
from headrace.contracts.statistics import ContractFacts
from headrace.contracts.topics import LOG, topic
from headrace.errors import HeadraceError
from headrace.kafka.history import KafkaHistory
from services.monitor.domain import checking
from services.monitor.domain.tolerance import Tolerance
from services.monitor.domain.why.explanation import explain
from services.monitor.past import reading

NICENESS = 10
CPU_SECONDS = 60.0
MEMORY_MB = 1_500.0


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """What to do.

    why: the event `drift`; earliest, latest: where the like event before it was decided, and where the change of the
    next one began. check: the references of a partition that begin with the offsets in `since`.
    """

    task: Literal["why", "check"]
    bootstrap: str
    stream: str
    partition: int
    facts: ContractFacts
    drift: DriftDetected | None = None
    earliest: int = 0
    latest: int | None = None
    tolerance: Tolerance = Tolerance()
    since: dict[Literal["fields", "errors"], int] = {}


def main() -> int:
    """Answer one request; exit code 0 if there is an answer, also if it is an error of the asker's."""
    parent = os.getppid()
    os.nice(NICENESS)
    watch(parent, CPU_SECONDS, MEMORY_MB, lambda limit: print(f"over {limit}", file=sys.stderr, flush=True))
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        answer: dict[str, Any] = {"result": (_why if request.task == "why" else _check)(request)}
    except HeadraceError as error:
        answer = {"error": str(error), "kind": type(error).__name__}
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def _why(request: Request) -> Any:
    history, drift = KafkaHistory(request.bootstrap), request.drift
    assert drift is not None
    first = history.bounds(topic(LOG, request.stream), request.partition).first
    wanted = reading.around(drift, max(first, request.earliest), request.latest)
    stretch, complete = reading.read(
        history, request.stream, request.partition, request.facts, wanted, reading.began(drift)
    )
    return explain(drift, reading.both_sides(stretch), complete=complete)


def _check(request: Request) -> Any:
    history = KafkaHistory(request.bootstrap)
    first, end = history.bounds(topic(LOG, request.stream), request.partition)
    began = time.process_time()
    found = []
    for what, look in (("fields", checking.of_fields), ("errors", checking.of_errors)):
        start = min(max(first, request.since.get(what, 0)), end)  # type: ignore[call-overload]  # one of two words
        wanted = reading.Range(start, min(start + reading.SIDE, end), start)
        stretch, _ = reading.read(history, request.stream, request.partition, request.facts, wanted, start)
        check = look(stretch, request.tolerance)
        if check is not None:
            found.append(check)
    return {"checks": found, "cpu_seconds": round(time.process_time() - began, 2)}


if __name__ == "__main__":
    sys.exit(main())
