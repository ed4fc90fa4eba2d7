"""What the monitor shows of many windows taken together: fields, quality by segment, bias (shape: docs/monitor.md)."""

from collections.abc import Sequence
from typing import Any

from headrace.contracts.statistics import SCORE_BINS, FieldTally, Quality, WindowSummary
from services.monitor.domain import fairness, fields, quality, sketches
from services.monitor.domain.estimating import ASSUMES
from services.monitor.domain.tables import StreamTable
from services.monitor.domain.views import estimates, iso, named

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def fields_view(table: StreamTable, starts: Sequence[int]) -> dict[str, Any]:
    """The values of every field."""
    summary = table.merged_over(starts, "log")
    contract = table.contract
    types = contract.types if contract is not None else {}
    return {
        **_span(table, starts, summary),
        "observations": summary.observations,
        "fields": [
            {
                "field": name,
                "type": types.get(name),
                "missing": summary.missing.get(name, 0),
                **_field_view(tally),
            }
            for name, tally in sorted(summary.fields.items())
        ],
    }


def quality_view(table: StreamTable, starts: Sequence[int]) -> dict[str, Any]:
    """Every model's figures, calibration and confusion, its figures by group, and what is estimated before labels.

    A model that has answered, and of which no label is known, is there with counts of 0.
    """
    summary = table.merged_over(starts, "outcomes")
    asked = table.merged_over(starts, "predictions")
    contract = table.contract
    task = contract.task if contract is not None else None
    estimated = {name: one | {"assumes": ASSUMES} for name, one in estimates(table, starts, asked)}
    return {
        **_span(table, starts, summary),
        "models": [
            {
                **named(name),
                **quality.figures(tally, task),
                "estimate": estimated.get(name),
                "calibration": fairness.calibration(tally, SCORE_BINS) if task == "binary" else None,
                "confusion": _confusion(tally),
                "segments": [
                    {"field": field, "group": group, **quality.figures(scored, task)}
                    for field, by_group in sorted(summary.groups.get(name, {}).items())
                    for group, scored in sorted(by_group.items())
                ],
            }
            for name in sorted(summary.quality.keys() | asked.answers.keys())
            for tally in (summary.quality.get(name, Quality()),)
        ],
    }


def fairness_view(table: StreamTable, starts: Sequence[int]) -> dict[str, Any]:
    """Bias figures of every model by every sensitive field. Models of tasks that are not binary have none."""
    summary = table.merged_over(starts, "outcomes")
    contract = table.contract
    sensitive = contract.sensitive if contract is not None and contract.task == "binary" else []
    return {
        **_span(table, starts, summary),
        "smallest_group": fairness.SMALLEST,
        "models": [
            {
                **named(name),
                "field": field,
                **fairness.assess(by_field[field], summary.quality.get(name, Quality())),
            }
            for name, by_field in sorted(summary.groups.items())
            for field in sensitive
            if field in by_field
        ],
    }


def _span(table: StreamTable, starts: Sequence[int], summary: WindowSummary) -> dict[str, Any]:
    length_ms = table.length_seconds * 1000
    return {
        "windows": len(starts),
        "from": iso(starts[0]) if starts else None,
        "to": iso(starts[-1] + length_ms) if starts else None,
        "revised": summary.revised,
    }


def _field_view(tally: FieldTally) -> dict[str, Any]:
    shown: dict[str, Any] = {"count": tally.count, "mistyped": tally.mistyped}
    if tally.least is not None:
        variance = fields.variance(tally)
        shown |= {
            "mean": fields.mean(tally),
            "deviation": None if variance is None else variance**0.5,
            "least": tally.least,
            "greatest": tally.greatest,
            "quantiles": {f"{q:g}": sketches.quantile(tally.sketch, q) for q in QUANTILES},
        }
    elif tally.count:
        most = sorted(tally.values.items(), key=lambda entry: (-entry[1], entry[0]))
        shown |= {"values": dict(most), "other": tally.other, "new": tally.new}
    return shown


def _confusion(tally: Quality) -> dict[str, dict[str, int]]:
    if tally.confusion:
        return tally.confusion
    if not tally.tp + tally.fp + tally.tn + tally.fn:
        return {}
    return {"true": {"true": tally.tp, "false": tally.fn}, "false": {"true": tally.fp, "false": tally.tn}}
