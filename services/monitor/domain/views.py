"""What the monitor shows: one window, or the total, of a stream as plain JSON (shape: docs/monitor.md)."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from headrace.contracts.statistics import Answers, Delay, Kind, Quality, WindowSummary
from headrace.contracts.stream import Task
from services.monitor.domain import delays, quality, sketches
from services.monitor.domain.summaries import merge
from services.monitor.domain.tables import StreamTable

KINDS: tuple[Kind, ...] = get_args(Kind)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ByKind = dict[Kind, WindowSummary]


def window_view(table: StreamTable, start: int) -> dict[str, Any]:
    """One window over all partitions."""
    length_ms = table.length_seconds * 1000
    kinds = {kind: table.merged(start, kind) for kind in KINDS}
    return {
        "start": start,
        "end": start + length_ms,
        "start_time": iso(start),
        "closed": all(summary.closed for summary in kinds.values()),
        "revised": sum(summary.revised for summary in kinds.values()),
        **_figures(kinds, _task(table), table.length_seconds),
        "estimate": [{**named(name), **one} for name, one in estimates(table, [start], kinds["predictions"])],
    }


def estimates(
    table: StreamTable, starts: Sequence[int], predictions: WindowSummary
) -> Iterator[tuple[str, dict[str, Any]]]:
    """By `model@version`, what its answers in these windows are estimated to be worth.

    predictions: the sum of those windows. Of other streams than binary ones nothing is estimated.
    """
    if starts and _task(table) == "binary":
        for name, said in sorted(predictions.answers.items()):
            yield name, table.estimator.view(name, said, starts)


def total_view(table: StreamTable) -> dict[str, Any]:
    """Everything since the logs began."""
    kinds: ByKind = {kind: WindowSummary("", kind, -1, table.length_seconds) for kind in KINDS}
    watermarks: dict[Kind, int] = {}
    for (kind, _), total in sorted(table.totals.items()):
        merge(kinds[kind], total)
        if total.watermark is not None:
            watermarks[kind] = max(watermarks.get(kind, total.watermark), total.watermark)
    late = {kind: summary.late for kind, summary in kinds.items()}
    return {"watermarks": watermarks, "late": late, **_figures(kinds, _task(table), None)}


def iso(at_ms: int) -> str | None:
    """Event time for people; None beyond the years that have a name."""
    try:
        return (
            (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
    except OverflowError:
        return None


def _task(table: StreamTable) -> Task | None:
    contract = table.contract
    return contract.task if contract is not None else None


def _figures(kinds: ByKind, task: Task | None, seconds: int | None) -> dict[str, Any]:
    log, outcomes = kinds["log"], kinds["outcomes"]
    counts: dict[str, int] = {
        "observations": log.observations,
        "labels": log.labels,
        "controls": log.controls,
        "predictions": kinds["predictions"].records,
        "outcomes": outcomes.records,
        "rejected": kinds["rejected"].records,
        "undecodable": sum(summary.undecodable for summary in kinds.values()),
    }
    view: dict[str, Any] = {"counts": counts}
    if seconds is not None:
        view["per_second"] = {
            name: counts[name] / seconds
            for name in ("observations", "labels", "predictions", "outcomes", "rejected")
        }
    return view | {
        "statuses": dict(sorted(outcomes.statuses.items())),
        "label_delay": _delay_view(outcomes.delay),
        "quality": [_quality_view(name, tally, task) for name, tally in sorted(outcomes.quality.items())],
        "answers": [_answers_view(name, said) for name, said in sorted(kinds["predictions"].answers.items())],
        "missing": {name: _share(count, log.observations) for name, count in sorted(log.missing.items())},
        "outliers": _outliers_view(kinds["predictions"]),
        "rejected": [
            {"rule": name.partition("/")[0], "field": name.partition("/")[2], "count": count}
            for name, count in sorted(kinds["rejected"].rejected.items())
        ],
    }


def _share(count: int, of: int) -> dict[str, Any]:
    return {"count": count, "share": count / of if of else None}


def _outliers_view(predictions: WindowSummary) -> dict[str, Any]:
    records = predictions.records
    return {
        **_share(predictions.flagged, records),
        "anomalous": _share(predictions.anomalous, records),
        "fields": {name: _share(count, records) for name, count in sorted(predictions.outliers.items())},
    }


def _delay_view(delay: Delay) -> dict[str, Any]:
    p50, p90 = delays.quantile_ms(delay, 0.5), delays.quantile_ms(delay, 0.9)
    return {
        "count": delay.count,
        "early": delay.early,
        "mean_seconds": delay.sum_ms / delay.count / 1000 if delay.count else None,
        "p50_seconds": None if p50 is None else p50 / 1000,
        "p90_seconds": None if p90 is None else p90 / 1000,
    }


def named(name: str) -> dict[str, Any]:
    """The model and version of a `model@version`."""
    model, _, version = name.rpartition("@")
    return {"model": model, "version": int(version)} if model else {"model": name, "version": 0}


def _quality_view(name: str, tally: Quality, task: Task | None) -> dict[str, Any]:
    return {**named(name), **quality.figures(tally, task)}


def _answers_view(name: str, said: Answers) -> dict[str, Any]:
    return {
        **named(name),
        "answered": said.answered,
        "unanswered": said.unanswered,
        "mean_score": said.score_sum / said.scored if said.scored else None,
        "median": sketches.quantile(said.scores, 0.5),
        "classes": dict(sorted(said.classes.items())),
    }
