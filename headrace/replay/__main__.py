"""`python -m headrace.replay`: one look at the past, in a process of its own, for a service that must not stand still.

Reads one JSON request from standard input, writes one JSON answer to standard output: `{"result": ...}`, or
`{"error": text, "kind": "Unusable" | "Transient" | ...}`. It runs at low priority, beside the live shards, and ends
when whoever asked has ended: a fold that nobody waits for would else go on for as long as its log takes.
"""

import os
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec

from headrace.errors import HeadraceError, Unusable
from headrace.replay.explain import Explainer
from headrace.replay.rebuild import Progress
from headrace.replay.recheck import recheck
from headrace.replay.sources import Sources

NICENESS = 10


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """What to do, and where everything is.

    explain: the prediction of observation `id` on any of `streams`. recheck: a stretch of partition `partition` of the
    one stream, chosen by `pick`.
    """

    task: Literal["explain", "recheck"]
    bootstrap: str
    snapshots: str
    key_file: str
    archive: str
    streams: list[str]
    id: str = ""
    partition: int = 0
    pick: float = 0.0


def main() -> int:
    """Answer one request; exit code 0 if there is an answer, also if it is an error of the asker's."""
    parent = os.getppid()
    os.nice(NICENESS)
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        answer: dict[str, Any] = {"result": _answer(request, ending_with(parent))}
    except HeadraceError as error:
        answer = {"error": str(error), "kind": type(error).__name__}
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def ending_with(parent: int) -> Progress:
    """Shown to nobody; ends this process once `parent`, which started it, is gone."""

    def told(_offset: int, _until: int) -> None:
        if os.getppid() != parent:
            os._exit(1)

    return told


def _answer(request: Request, progress: Progress) -> Any:
    sources = Sources.of(request.bootstrap, Path(request.snapshots), Path(request.key_file), request.archive)
    if request.task == "recheck":
        verdict = recheck(sources, request.streams[0], request.partition, request.pick, progress)
        return {**msgspec.to_builtins(verdict), "well": verdict.well}
    explainer = Explainer(sources.history, sources.states, sources.rebuilder, progress)
    looked = [explainer.find(stream, request.id) for stream in request.streams]
    found = [one for one in looked if one is not None]
    if not found:
        return None
    if len(found) > 1:
        raise Unusable(
            f"an id of several streams ({', '.join(one.stream for one in found)}): say which with ?stream="
        )
    return explainer.explain(found[0], sources.answered(found[0].stream, found[0].partition))


if __name__ == "__main__":
    sys.exit(main())
