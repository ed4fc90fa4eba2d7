"""How often would this rule have fired? The rule goes through the kept windows, or the kept drift, as it would have.

It is the very judging that is in force, over the past and with nothing told before, so it gives the same alerts under
the same ids. It goes step by step (`STEP_WINDOWS` at a time), so that whoever runs it can let others have a turn.
"""

from collections.abc import Iterable, Iterator

import msgspec

from headrace.contracts.events import Alert, DriftDetected
from services.monitor.domain.drifts import DriftWatch, fits
from services.monitor.domain.figures import kind_of
from services.monitor.domain.rules import ANY_STREAM, Rule
from services.monitor.domain.tables import Tables
from services.monitor.domain.watch import Watch

STEP_WINDOWS = 20
ALERTS_SHOWN = 1_000


class Trial(msgspec.Struct):
    """What came of it.

    looked_at: windows (or events of drift). judged: figures that were held against the bound, or events that the rule
    is about. fired, resolved: how often. alerts: the first `ALERTS_SHOWN` of them, by stream and time. kept_from: start
    of the oldest window (time of the oldest event) that there was to look at.
    """

    looked_at: int = 0
    judged: int = 0
    fired: int = 0
    resolved: int = 0
    alerts: list[Alert] = []
    kept_from: int | None = None

    def add(self, told: Iterable[Alert]) -> None:
        """Count these."""
        for alert in told:
            if alert.state == "firing":
                self.fired += 1
            else:
                self.resolved += 1
            if len(self.alerts) < ALERTS_SHOWN:
                self.alerts.append(alert)

    def see(self, at: int) -> None:
        """There is something to look at here."""
        self.kept_from = at if self.kept_from is None else min(self.kept_from, at)


def try_rule(
    rule: Rule, tables: Tables, drifts: Iterable[DriftDetected], start: int, end: int
) -> Iterator[Trial]:
    """Go through windows that start in [start, end), or drift of that time; yields the trial so far after each step."""
    since = start if rule.since is None else max(start, rule.since)
    asked = msgspec.structs.replace(rule, since=None)
    trial = Trial()
    if rule.drift:
        yield from _over_drift(trial, asked, tables, drifts, since, end)
    else:
        yield from _over_windows(trial, asked, tables, since, end)
    yield trial


def _over_windows(trial: Trial, rule: Rule, tables: Tables, start: int, end: int) -> Iterator[Trial]:
    streams = list(tables.streams) if rule.stream == ANY_STREAM else [rule.stream]
    watch = Watch(tables)
    watch.use([msgspec.structs.replace(rule, since=start)])
    for stream in streams:
        table = tables.streams.get(stream)
        edge = table.final_before(kind_of(rule.metric)) if table is not None else None
        if table is None or edge is None:
            continue
        starts = table.between(start, min(end, edge))
        if starts:
            trial.see(starts[0])
        for place in range(0, len(starts), STEP_WINDOWS):
            step = starts[place : place + STEP_WINDOWS]
            trial.add(watch.through(stream, step[-1] + 1))
            trial.looked_at += len(step)
            trial.judged = watch.counted
            yield trial


def _over_drift(
    trial: Trial, rule: Rule, tables: Tables, drifts: Iterable[DriftDetected], start: int, end: int
) -> Iterator[Trial]:
    watch = DriftWatch()
    watch.use([rule])
    told: list[Alert] = []
    for drift in drifts:
        if not start <= drift.at < end or rule.stream not in (ANY_STREAM, drift.stream):
            continue
        trial.see(drift.at)
        trial.looked_at += 1
        trial.judged += fits(rule, drift)
        told += watch.meet(drift)
        if trial.looked_at % STEP_WINDOWS == 0:
            yield trial
    for stream, table in tables.streams.items():
        told += watch.passed(stream, min(end, table.watermark() or start))
    trial.add(sorted(told, key=lambda alert: (alert.stream, alert.at)))
