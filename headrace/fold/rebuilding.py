"""Which records make a rebuilt model: contracts, its own deployment, and the data that is not left out.

With nothing left out this gives the very model that was deployed (a law, and tested as one): other models on the
stream do not touch it, and a freeze is what a rebuild undoes.
"""

from collections.abc import Sequence

import msgspec

from headrace.contracts.events import ContractAdopted, Control, LogRecord, ModelDeployed
from headrace.fold.edits import Edit, both, controlling, leaving_out
from headrace.fold.parts import Rebuild


def edit_of(rebuild: Rebuild, partition: int) -> Edit:
    """The log that makes the model, as an edit of the log that is."""
    since = rebuild.since if rebuild.deployed is None else -1

    def control(record: Control, offset: int) -> LogRecord | None:
        return record if isinstance(record, ContractAdopted) or offset == since else None

    edit = both(controlling(control), leaving_out(rebuild.without, partition))
    return edit if rebuild.deployed is None else both(edit, deployed_from_the_start([rebuild.deployed]))


def deployed_from_the_start(deployments: Sequence[ModelDeployed]) -> Edit:
    """The log with deployments behind every contract: a shard takes each once, whatever comes again with its id."""
    plainly = [msgspec.structs.replace(deployed, learnt=False) for deployed in deployments]

    def edit(
        records: Sequence[LogRecord], offsets: Sequence[int]
    ) -> tuple[Sequence[LogRecord], Sequence[int]]:
        if not any(type(record) is ContractAdopted for record in records):
            return records, offsets
        made: list[LogRecord] = []
        where: list[int] = []
        for record, offset in zip(records, offsets, strict=True):
            behind = plainly if isinstance(record, ContractAdopted) else []
            made += [record, *behind]
            where += [offset] * (1 + len(behind))
        return made, where

    return edit
