"""Folds, beside the live shards, what a decision will ask them for, so that they pause for moments and not for a log.

The state lies where they will look (`headrace.replay.rebuild`). Where the snapshots are not on this machine the outcome
is the same, and each shard folds its log by itself when the decision reaches it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headrace.cli.common import sources_of
from headrace.cli.home import Home
from headrace.cli.output import Output, count
from headrace.cli.progress import Bar
from headrace.client import Client

if TYPE_CHECKING:
    from headrace.fold.parts import Rebuild


def prepare(home: Home, output: Output, stream: str, what: str, plans: "Mapping[int, Rebuild]") -> None:
    """Fold each partition's log as its plan says, up to what has been answered by now. what: for people."""
    from headrace.contracts.topics import LOG, topic
    from headrace.replay.rebuild import LogRebuilder

    sources = sources_of(home)
    if sources.store is None:
        output.say("the snapshots are not on this machine: each shard will fold its log by itself")
        return
    with Bar(output, what, None) as bar:
        rebuilder = LogRebuilder(
            sources.history, sources.store, lambda done, end: bar.update(done, f"of {count(end)}")
        )
        for partition, plan in sorted(plans.items()):
            until = sources.answered(stream, partition)
            rebuilder(topic(LOG, stream), partition, plan._replace(until=until))


def prepare_learnt(home: Home, output: Output, client: Client, stream: str, model: str, version: int) -> None:
    """Fold what a model would have learnt had it been there from the start."""
    from headrace.client import calls
    from headrace.contracts.events import ModelDeployed
    from headrace.fold.parts import Rebuild

    found: dict[str, Any] = client.get("registry", f"{calls.model_path(model)}/versions/{version}")
    deployed = ModelDeployed("prepared", 0, model, version, found["specification"], learnt=True)
    plan = Rebuild(model, -1, (), 0, deployed)
    partitions = range(client.stream(stream)["partitions"])
    prepare(home, output, stream, f"teaching {model} the log of {stream}", dict.fromkeys(partitions, plan))
