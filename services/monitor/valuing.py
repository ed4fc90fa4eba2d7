"""What is needed to say what models cost and earn: usage as scoring reports it, prices, the payoffs of deployments.

Usage comes from `headrace.usage`, a compacted topic: it is read from its start, and from then on looked at every
second. It is read on a thread and merged on the event loop's, as the tables are.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog
from prometheus_client import CollectorRegistry

from headrace.contracts.events import DeploymentAnnounced
from headrace.contracts.payoff import Payoff, read_payoff
from headrace.contracts.statistics import ContractFacts
from headrace.contracts.topics import USAGE
from headrace.errors import Transient, Unusable
from headrace.kafka.tail import Tail
from headrace.metrics import catalogue
from services.monitor.domain.tables import Tables
from services.monitor.domain.usage import UsageTable
from services.monitor.domain.value import Prices, total_ledger

log = structlog.get_logger("headrace.monitor.valuing")

BATCH = 1_000
WAIT_SECONDS = 1.0

Deployments = Mapping[tuple[str, str], DeploymentAnnounced]


class Valuing:
    """Usage, prices and payoffs. deployments: by (stream, model), as they are announced at the moment."""

    def __init__(self, usage: UsageTable, prices: Prices, deployments: Callable[[], Deployments]) -> None:
        self.usage = usage
        self.prices = prices
        self._deployments = deployments

    def payoffs(self, stream: str, contract: ContractFacts | None) -> dict[str, Payoff]:
        """The payoff of each model of a stream that has one."""
        found: dict[str, Payoff] = {}
        for (of, model), deployed in self._deployments().items():
            if of == stream and deployed.payoff is not None and contract is not None:
                with suppress(Unusable):  # the registry refuses such; whoever else writes there gets no value
                    found[model] = read_payoff(deployed.payoff, contract.task)
        return found

    def roles(self, stream: str) -> dict[str, str]:
        """Where each model of a stream stands now."""
        return {model: known.role for (of, model), known in self._deployments().items() if of == stream}

    async def follow(self, bootstrap: str) -> None:
        """Merge what is reported, for ever; waits for a topic that is not there yet."""
        while True:
            try:
                tail = await asyncio.to_thread(
                    Tail, bootstrap, USAGE.name, start="earliest", client_id="headrace-monitor-usage"
                )
                break
            except Transient as error:
                log.warning("usage cannot be read yet", reason=str(error))
                await asyncio.sleep(WAIT_SECONDS)
        try:
            while True:
                try:
                    records = await asyncio.to_thread(tail.read, BATCH, WAIT_SECONDS)
                except Transient as error:
                    log.warning("usage cannot be read for now", reason=str(error))
                    await asyncio.sleep(WAIT_SECONDS)
                    continue
                for record in records:
                    self.usage.apply(record.value)
        finally:
            await asyncio.to_thread(tail.close)


class ValueMetrics:
    """Cost and value as Prometheus sees them: totals by model version, of a bounded number of streams and models."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges = {
            "cpu_seconds": catalogue.MONITOR_MODEL_CPU.on(registry),
            "state_bytes": catalogue.MONITOR_MODEL_STATE.on(registry),
            "bytes_written": catalogue.MONITOR_MODEL_WRITTEN.on(registry),
            "cost": catalogue.MONITOR_MODEL_COST.on(registry),
            "value": catalogue.MONITOR_MODEL_VALUE.on(registry),
        }

    def refresh(self, tables: Tables, valuing: Valuing) -> None:
        """Show the totals as they are now."""
        for stream in sorted(tables.streams):
            table = tables.streams[stream]
            ledger = total_ledger(table, valuing.usage.streams.get(stream))
            view = ledger.view(valuing.prices, valuing.payoffs(stream, table.contract), {})
            for row in view["models"]:
                labels = (stream, row["model"], str(row["version"]))
                for name, gauge in self._gauges.items():
                    if row[name] is not None:
                        gauge.labels(*labels).set(row[name])
                    else:
                        gauge.forget(*labels)  # nobody says any more what its answers are worth
