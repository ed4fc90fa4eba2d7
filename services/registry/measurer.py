"""`python -m services.registry.measurer`: measures one dataset, in a process of its own.

Reading and profiling a log takes a core for as long as it lasts. In the registry's own process that would hold up
every request; here it holds up nobody, and a log that takes too much memory ends this process and not that one. The
task comes on standard input, the result goes to standard output.
"""

import os
import sys

import msgspec

from headrace.collector import calm_the_collector
from headrace.datasets.measurement import Measurement, Stretch
from headrace.errors import HeadraceError, Transient

NICE = 10
"""Whoever waits for an answer of the services goes first."""


class Task(msgspec.Struct, frozen=True):
    """What to measure, where to read it, and who waits for it."""

    bootstrap: str
    archive: str
    stream: str
    stretches: list[Stretch]
    made_ms: int
    parent: int


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of a task. failure: why there is no measurement; again: later there may be one."""

    measurement: Measurement | None = None
    failure: str = ""
    again: bool = False


encode_task = msgspec.json.Encoder().encode
decode_result = msgspec.json.Decoder(Result).decode


def main() -> int:
    """Measure, and write what came of it."""
    from headrace.datasets.measure import measure  # not for who only wants to start this process
    from headrace.datasets.source import Source

    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    os.nice(NICE)
    calm_the_collector()

    def told(_: int) -> None:
        if os.getppid() != task.parent:
            os._exit(1)  # nobody waits for it any more

    try:
        source = Source.of(task.bootstrap, task.archive)
        result = Result(measure(source, task.stream, task.stretches, task.made_ms, told))
    except HeadraceError as error:
        result = Result(None, str(error), again=isinstance(error, Transient))
    sys.stdout.buffer.write(msgspec.json.encode(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
