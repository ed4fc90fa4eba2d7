"""Cost and value over HTTP: what each model used, what its answers were worth, window by window and in all."""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query

from headrace.web import Problem, require
from services.monitor.api import FIRST, LAST, WINDOWS_AT_ONCE, read_time
from services.monitor.domain.tables import Tables
from services.monitor.domain.value import Ledger, placed, starts_between, total_ledger, window_ledger
from services.monitor.valuing import Valuing


def build_value_routes(tables: Tables, valuing: Valuing) -> APIRouter:
    """The route over the tables and what is known of usage, prices and payoffs."""
    routes = APIRouter(prefix="/v1", tags=["monitor"])

    @routes.get("/streams/{stream}/value", dependencies=[Depends(require("reader"))])
    async def value(
        stream: str,
        start: Annotated[str | None, Query(alias="from", description="RFC 3339 or ms; inclusive")] = None,
        end: Annotated[str | None, Query(alias="to", description="RFC 3339 or ms; exclusive")] = None,
        limit: Annotated[int, Query(ge=1, le=WINDOWS_AT_ONCE, description="the newest are given")] = 24,
    ) -> dict[str, Any]:
        """Decisions, resources, cost, value and return by model version.

        Windows with a start in [from, to), oldest first, at most `limit` of the newest. The total is of these windows
        if `from` or `to` is given, else of everything since the logs began.
        """
        table = tables.streams.get(stream)
        if table is None:
            raise Problem(404, "Unknown stream", f"nothing has been counted of {stream!r} yet")
        usage = valuing.usage.streams.get(stream)
        matching = starts_between(table, usage, read_time(start, "from", FIRST), read_time(end, "to", LAST))
        payoffs, roles = valuing.payoffs(stream, table.contract), valuing.roles(stream)
        ledgers = [(begin, window_ledger(table, usage, begin)) for begin in matching[-limit:]]
        everything = start is None and end is None
        total = total_ledger(table, usage) if everything else _sum(ledger for _, ledger in ledgers)
        return {
            "stream": stream,
            "window_seconds": table.length_seconds,
            "prices": msgspec.to_builtins(valuing.prices),
            "payoffs": {model: msgspec.to_builtins(payoff) for model, payoff in sorted(payoffs.items())},
            "matching": len(matching),
            "windows": [
                placed(begin, table.length_seconds) | ledger.view(valuing.prices, payoffs, roles)
                for begin, ledger in ledgers
            ],
            "total": {"of": "everything" if everything else "windows"}
            | total.view(valuing.prices, payoffs, roles),
        }

    return routes


def _sum(ledgers: Iterable[Ledger]) -> Ledger:
    total = Ledger()
    for ledger in ledgers:
        total.add(ledger.predictions, ledger.outcomes, ledger.used)
    return total
