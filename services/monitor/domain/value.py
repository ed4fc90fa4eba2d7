"""What models cost, what their answers were worth, and what is left: counts and usage, priced.

Nothing of this is kept. A window's figures are computed when asked for, from its counts and from what scoring reported,
with today's prices and today's payoff, so a price or a payoff that is set later holds for the past too.

Bytes on the topics are shared: a prediction and an outcome hold the answers of all models that were asked, so what was
written is divided by how many answers each gave. What no model can be charged with stands apart, as `shared`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.contracts.payoff import Payoff, decisions, worth
from headrace.contracts.statistics import Quality, WindowSummary
from headrace.contracts.usage import Used
from services.monitor.domain.summaries import merge
from services.monitor.domain.tables import StreamTable
from services.monitor.domain.usage import SHARED, ByModel, StreamUsage
from services.monitor.domain.views import iso, named

GB = 1e9
HOUR = 3600.0


class Prices(msgspec.Struct, frozen=True):
    """What resources cost, each in `currency`; 0: nothing is charged for it, the quantity is shown all the same."""

    cpu_hour: float = 0.0
    memory_gb_hour: float = 0.0
    gb_written: float = 0.0
    currency: str = ""

    def cost(self, used: Used, written_bytes: int) -> float:
        """Of what was used and written."""
        return (
            used.cpu_ns / 1e9 / HOUR * self.cpu_hour
            + used.byte_seconds / GB / HOUR * self.memory_gb_hour
            + written_bytes / GB * self.gb_written
        )


class Ledger:
    """What one window, or several, come to: who answered how often and how well, what was written, what was used."""

    def __init__(self) -> None:
        self.predictions = WindowSummary("", "predictions", -1, 0)
        self.outcomes = WindowSummary("", "outcomes", -1, 0)
        self.used: ByModel = {}

    def add(self, predictions: WindowSummary, outcomes: WindowSummary, used: ByModel) -> None:
        """Add another window; of states the later one stays."""
        merge(self.predictions, predictions)
        merge(self.outcomes, outcomes)
        for name, more in used.items():
            mine = self.used.setdefault(name, Used())
            mine.add(more)
            mine.state_bytes = more.state_bytes or mine.state_bytes

    def view(self, prices: Prices, payoffs: Mapping[str, Payoff], roles: Mapping[str, str]) -> dict[str, Any]:
        """Plain JSON (shape: docs/value.md). payoffs, roles: by model, whatever its version."""
        asked = {name: said.answered + said.unanswered for name, said in self.predictions.answers.items()}
        scored = {name: tally.count + tally.unanswered for name, tally in self.outcomes.quality.items()}
        written = _divided(self.predictions.value_bytes, asked)
        for name, part in _divided(self.outcomes.value_bytes, scored).items():
            written[name] = written.get(name, 0) + part
        models = []
        for name in sorted({*asked, *scored, *self.used} - {SHARED}):
            who = named(name)
            used = self.used.get(name, Used())
            models.append(
                {**who, "role": roles.get(who["model"])}
                | {"decisions": asked.get(name, 0)}
                | _amounts(used, written.get(name, 0) + used.snapshot_bytes, prices)
                | _worth(self.outcomes.quality.get(name, Quality()), payoffs.get(who["model"]))
            )
        for row in models:
            row["return"] = None if row["value"] is None else row["value"] - row["cost"]
            row["per_decision"] = _per_decision(row)
        return {
            "models": models,
            "shared": _amounts(self.used.get(SHARED, Used()), written.get(SHARED, 0), prices),
        }


def window_ledger(table: StreamTable, usage: StreamUsage | None, start: int) -> Ledger:
    """One window over all partitions."""
    ledger = Ledger()
    used = {} if usage is None else usage.used(start)
    ledger.add(table.merged(start, "predictions"), table.merged(start, "outcomes"), used)
    return ledger


def total_ledger(table: StreamTable, usage: StreamUsage | None) -> Ledger:
    """Everything since the logs began, labels that were corrected and records that came late too."""
    ledger = Ledger()
    for (kind, _), total in sorted(table.totals.items()):
        if kind in ("predictions", "outcomes"):
            merge(ledger.predictions if kind == "predictions" else ledger.outcomes, total)
    if usage is not None:
        ledger.add(WindowSummary("", "predictions", -1, 0), WindowSummary("", "outcomes", -1, 0), usage.total)
        for name, used in (usage.used(usage.starts[-1]) if usage.starts else {}).items():
            ledger.used[name].state_bytes = used.state_bytes
    return ledger


def starts_between(table: StreamTable, usage: StreamUsage | None, start: int, end: int) -> list[int]:
    """Starts of the windows in [start, end) of which anything is known, rising."""
    used = [] if usage is None else [begin for begin in usage.starts if start <= begin < end]
    return sorted({*table.between(start, end), *used})


def placed(start: int, length_seconds: int) -> dict[str, Any]:
    """Where a window lies."""
    return {"start": start, "end": start + length_seconds * 1000, "start_time": iso(start)}


def _divided(amount: int, weights: Mapping[str, int]) -> dict[str, int]:
    """An amount by weight, whole to the last byte; to `SHARED` what is left, or all if nobody weighs anything."""
    total = sum(weight for weight in weights.values() if weight > 0)
    parts = {name: amount * max(weight, 0) // total for name, weight in weights.items()} if total else {}
    parts[SHARED] = amount - sum(parts.values())
    return parts


def _amounts(used: Used, written_bytes: int, prices: Prices) -> dict[str, Any]:
    return {
        "cpu_seconds": used.cpu_ns / 1e9,
        "state_bytes": used.state_bytes,
        "memory_gb_hours": used.byte_seconds / GB / HOUR,
        "bytes_written": written_bytes,
        "cost": prices.cost(used, written_bytes),
    }


def _worth(tally: Quality, payoff: Payoff | None) -> dict[str, Any]:
    if payoff is None:
        return {"valued": 0, "value": None}
    return {"valued": decisions(payoff, tally), "value": worth(payoff, tally)}


def _per_decision(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Cost by answers given, value by answers whose label has come: the two do not come at once."""
    cost = row["cost"] / row["decisions"] if row["decisions"] else None
    value = row["value"] / row["valued"] if row["value"] is not None and row["valued"] else None
    return {
        "cost": cost,
        "value": value,
        "return": None if cost is None or value is None else value - cost,
    }
