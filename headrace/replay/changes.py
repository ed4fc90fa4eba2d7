"""What a what-if replay changes of a log: other models, another label policy, records left out, a range.

All of it as edits of the one fold (`headrace.fold.edits`), so a replay is a live shard over another log. The control
records of the past go, except contracts: those say what observations and labels mean. The models that are asked follow
the first contract, as if they had been deployed with it.
"""

from collections.abc import Sequence

import msgspec

from headrace.contracts.events import (
    ContractAdopted,
    Control,
    Label,
    LogRecord,
    ModelDeployed,
    Observation,
)
from headrace.contracts.left_out import Below
from headrace.contracts.stream import LabelSpec
from headrace.fold.edits import Edit, both, controlling, leaving_out
from headrace.fold.rebuilding import deployed_from_the_start
from headrace.replay.plan import Plan

NO_EVENT_TIME = 0
"""Deployments have none, as the registry's: they must not move a watermark."""
VERSION = 1

Edited = tuple[Sequence[LogRecord], Sequence[int]]


class Progress(msgspec.Struct):
    """How far a range is. latest: newest event time of what is counted. wait_ms: longest wait of a contract so far."""

    watermark: int = 0
    latest: int = 0
    wait_ms: int = 0
    is_done: bool = False


def changing(plan: Plan, partition: int, progress: Progress) -> Edit:
    """The edit that makes of a partition's log the one that the plan asks about. `progress` is kept up to date."""
    edit = redeployed(plan)
    if plan.without:
        edit = both(edit, leaving_out([Below(plan.without)], partition))
    if plan.folded_from is not None or plan.end is not None:
        edit = both(edit, within(plan, progress))
    return edit


def redeployed(plan: Plan) -> Edit:
    """The log with the plan's models and label policy."""
    deployments = [
        ModelDeployed(
            f"replay/{model.name}",
            NO_EVENT_TIME,
            model.name,
            VERSION,
            model.specification,
            "champion" if model is plan.models[0] else "challenger",
        )
        for model in plan.models
    ]

    def control(record: Control, _: int) -> LogRecord | None:
        if not isinstance(record, ContractAdopted):
            return None
        return msgspec.structs.replace(record, contract=plan.changed(record.contract))

    return both(controlling(control), deployed_from_the_start(deployments))


def within(plan: Plan, progress: Progress) -> Edit:
    """The log from where learning begins to where nothing that is counted is waited for any longer.

    Observations behind the range are folded until then: labels come when they came, and models go on learning while
    late observations of the range are answered. The end is when the watermark passes the last deadline in the range,
    the record that moves it there included: a place in the log, wherever batches end.
    """
    begin, end = plan.folded_from, plan.end

    def edit(records: Sequence[LogRecord], offsets: Sequence[int]) -> Edited:
        made: list[LogRecord] = []
        where: list[int] = []
        for record, offset in zip(records, offsets, strict=True):
            if progress.is_done:
                break
            if isinstance(record, Observation | Label):
                if begin is not None and begin.is_after(record.at, offset):
                    continue
            elif isinstance(record, ContractAdopted):
                _note_wait(progress, record)
            made.append(record)
            where.append(offset)
            if end is None:
                continue
            if isinstance(record, Observation) and end.is_after(record.at, offset):
                progress.latest = max(progress.latest, record.at)
            progress.watermark = max(progress.watermark, record.at)
            if end.by == "time":
                progress.is_done = progress.watermark >= end.value + progress.wait_ms
            elif offset >= end.value - 1:
                progress.is_done = progress.watermark > progress.latest + progress.wait_ms
        return made, where

    return edit


def _note_wait(progress: Progress, adopted: ContractAdopted) -> None:
    label = msgspec.convert(adopted.contract.get("label", {}), LabelSpec)
    progress.wait_ms = max(progress.wait_ms, 1000 * label.wait_seconds)
