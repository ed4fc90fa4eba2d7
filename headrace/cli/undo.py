"""`headrace undo`: a deployed model goes on as if some records had never been learnt.

Freeze, fold beside the live shard, hand over: learning stops at once, answering never. The fold is prepared here, so
the shard has only what came meanwhile left to fold when the decision reaches it in the log (`headrace.cli.preparing`).
"""

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from headrace.cli.common import Json, Reason, client_of
from headrace.cli.home import Home
from headrace.cli.output import Output, duration, guarded, places
from headrace.cli.preparing import prepare
from headrace.client import Client
from headrace.contracts.left_out import FORMS, Below, LeftOut, describe, parse
from headrace.errors import Transient, Unusable

if TYPE_CHECKING:
    from headrace.fold.parts import Rebuild

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
        plans = {partition: _plan(model, entry, left_out) for partition, entry in partitions.items()}
        try:
            prepare(home, output, stream, f"folding {stream} without {', '.join(describe(left_out))}", plans)
            answer = client.rebuild_deployment(stream, model, without, reason=reason)
        except BaseException:  # Ctrl-C too: a fold may take long
            if freeze:
                output.say(f"{model} stays frozen until the same command is given again", style="yellow")
            raise
        offsets = {int(partition): int(offset) for partition, offset in (answer.get("offsets") or {}).items()}
        with output.waiting("handing over"):
            _wait(client, stream, model, int(answer["version"]), set(offsets))
    seconds = time.monotonic() - began
    document = {"stream": stream, "model": model, "version": answer["version"], "offsets": offsets,
                "without": without, "seconds": round(seconds, 2)}  # fmt: skip
    output.answer(document)
    output.say(
        f"{model} is version {answer['version']} from these log offsets on: {places(offsets)} ({duration(seconds)})"
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


def _plan(model: str, entry: dict[str, Any], left_out: LeftOut) -> "Rebuild":
    """What a shard will be asked for, whatever it has reached by then."""
    from headrace.contracts.events import ModelDeployed
    from headrace.fold.parts import Rebuild

    earlier = msgspec.convert(entry["left_out"], tuple[Below, ...])
    deployed = msgspec.convert(entry["deployed"], ModelDeployed | None)
    return Rebuild(model, entry["since"], (*earlier, Below(left_out)), 0, deployed)


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
