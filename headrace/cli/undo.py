"""`headrace undo`: a deployed model goes on as if some records had never been learnt.

Freeze, fold beside the live shard, hand over: learning stops at once, answering never. The fold is prepared here, so
the shard has only what came meanwhile left to fold when the decision reaches it in the log. Without the preparation
(the snapshots' key is not on this machine) the outcome is the same, and the shard pauses while its log is folded.
"""

import time
from typing import Annotated, Any

import msgspec
import typer

from headrace.cli.common import Json, Reason, client_of, sources_of
from headrace.cli.home import Home
from headrace.cli.output import Output, count, duration, guarded
from headrace.cli.progress import Bar
from headrace.client import Client
from headrace.contracts.left_out import FORMS, Below, LeftOut, describe, parse
from headrace.errors import Transient, Unusable

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 600.0


@guarded
def undo(
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    model: Annotated[str, typer.Argument(help="Name of the deployed model.")],
    without: Annotated[list[str], typer.Option(help=f"Leave out {FORMS}; may be repeated.")],
    freeze: Annotated[
        bool, typer.Option("--freeze/--no-freeze", help="Stop its learning until the hand-over.")
    ] = True,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Rebuild a model without a subject, a source or a range, and hand over to it; nothing else is lost or doubled."""
    home, output = Home.from_environment(), Output(as_json)
    left_out = parse(without)
    began = time.monotonic()
    with client_of(home) as client:
        partitions = _standing(client, stream, model)
        if freeze:
            client.change_deployment(stream, model, "freeze", reason=reason)
            output.say(f"{model} answers on and does not learn")
        _prepare(home, output, stream, model, partitions, left_out)
        answer = client.rebuild_deployment(stream, model, without, reason=reason)
        offsets = {int(partition): int(offset) for partition, offset in (answer.get("offsets") or {}).items()}
        with output.waiting("handing over"):
            _wait(client, stream, model, int(answer["version"]), set(offsets))
    seconds = time.monotonic() - began
    document = {"stream": stream, "model": model, "version": answer["version"], "offsets": offsets,
                "without": without, "seconds": round(seconds, 2)}  # fmt: skip
    output.answer(document)
    where = ", ".join(f"{partition}: {offset}" for partition, offset in offsets.items())
    output.say(
        f"{model} is version {answer['version']} from these log offsets on: {where} ({duration(seconds)})"
    )
    output.next(f"headrace rebuild {model}@{answer['version']} --stream {stream} --verify   proves it")


def _standing(client: Client, stream: str, model: str) -> dict[int, dict[str, Any]]:
    """The model's entry on each shard."""
    found = {}
    for partition, shard in client.metrics(stream)["partitions"].items():
        entry = next((one for one in shard["models"] if one["model"] == model), None)
        if entry is None:
            raise Unusable(f"{model} does not stand on {stream}")
        found[int(partition)] = entry
    return found


def _prepare(
    home: Home,
    output: Output,
    stream: str,
    model: str,
    partitions: dict[int, dict[str, Any]],
    left_out: LeftOut,
) -> None:
    """Fold what there is already and leave it where the shards will look."""
    from headrace.contracts.topics import LOG, topic
    from headrace.fold.parts import Rebuild
    from headrace.replay.rebuild import LogRebuilder

    sources = sources_of(home)
    if sources.store is None:
        output.say("the snapshots are not on this machine: each shard will fold its log by itself")
        return
    with Bar(output, f"folding {stream} without {', '.join(describe(left_out))}", None) as bar:
        rebuilder = LogRebuilder(
            sources.history, sources.store, lambda done, end: bar.update(done, f"of {count(end)}")
        )
        for partition, entry in sorted(partitions.items()):
            earlier = msgspec.convert(entry["left_out"], tuple[Below, ...])
            until = sources.answered(stream, partition)
            plan = Rebuild(model, entry["since"], (*earlier, Below(left_out)), until)
            rebuilder(topic(LOG, stream), partition, plan)


def _wait(client: Client, stream: str, model: str, version: int, partitions: set[int]) -> None:
    """Until every shard has handed over."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            standing = _standing(client, stream, model)
        except Transient:
            standing = {}  # busy with it
        if partitions <= {partition for partition, entry in standing.items() if entry["version"] >= version}:
            return
        if time.monotonic() > deadline:
            raise Transient(
                f"not every shard has handed over after {PATIENCE_SECONDS:.0f} s; it will, see the logs"
            )
        time.sleep(POLL_SECONDS)
