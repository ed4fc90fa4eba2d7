"""Holds the rules on metrics against the tables: which windows are due, what they say, which alerts follow.

Pure: tables and told alerts in, new alerts out. A scope's state can be had again from the last alert of that scope and
the windows after it, which is what `remember` and a fresh `Watch` do after a restart. Models come and go for as long as
the system lives, so only `SCOPES_KEPT` scopes are known at a time; the one that was judged or told least recently is
forgotten, and if its model comes back it starts over, which may tell an old alert again, under its old id.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from headrace.contracts.events import Alert
from headrace.contracts.statistics import Kind, Quality
from headrace.operators.tumbling import BEFORE_ALL_TIME
from services.monitor.domain import figures, quality
from services.monitor.domain.alerts import of_window
from services.monitor.domain.figures import Figure
from services.monitor.domain.rules import ANY_STREAM, Rule, Scope
from services.monitor.domain.tables import Applied, StreamTable, Tables
from services.monitor.domain.views import window_view

SCOPES_KEPT = 100_000
"""Rules on models of streams that are remembered."""

ScopeKey = tuple[str, str, str]
"""(rule, stream, model)"""

Silent = Mapping[Kind, Collection[int]]
"""Partitions by kind that hold nobody back (see `StreamTable.final_before`)."""
NOBODY: Silent = {}
JUDGED: tuple[Kind, ...] = ("log", "predictions", "outcomes")


class Watch:
    """All rules on metrics of all streams. Bounds: the tables', the rules', and `scopes_kept`."""

    def __init__(self, tables: Tables, *, scopes_kept: int = SCOPES_KEPT) -> None:
        self._tables = tables
        self._rules: dict[str, Rule] = {}
        self._scopes: OrderedDict[ScopeKey, Scope] = OrderedDict()
        self._scopes_kept = scopes_kept
        # Windows that start before this have been judged, by (rule, stream); what is not in it starts over.
        self._judged: dict[tuple[str, str], int] = {}
        # By stream: windows that start before this have been judged by some rule.
        self._reach: dict[str, int] = {}
        self._models: dict[int, dict[str, tuple[int, Quality]]] = {}
        self._views: dict[int, dict[str, Any]] = {}
        self.counted = 0
        """Figures that were held against a bound so far."""

    def use(self, rules: Iterable[Rule]) -> None:
        """Put these rules in force, but for those on drift.

        One that says something new judges again what came after its last alert.
        """
        before, self._rules = self._rules, {rule.name: rule for rule in rules if not rule.drift}
        for name in before.keys() | self._rules.keys():
            old, new = before.get(name), self._rules.get(name)
            if old is None or new is None or old.digest() != new.digest() or old.since != new.since:
                for place in [place for place in self._judged if place[0] == name]:
                    del self._judged[place]

    def remember(self, told: Alert) -> None:
        """A step that was told in an earlier life: its scope goes on from there. Oldest first."""
        if told.state not in ("firing", "resolved"):
            return
        scope = self._scope((told.rule, told.stream, told.model))
        if scope.decided_before is None or told.at >= scope.decided_before:
            scope.firing = told.state == "firing"
            scope.decided_before = told.at
            scope.fired = told.fired

    def changed(self, applied: Applied) -> None:
        """A summary came in: if its window was judged already, judge again all that came after the last alerts."""
        if applied.start is None or applied.start >= self._reach.get(applied.stream, BEFORE_ALL_TIME):
            return
        for name, rule in self._rules.items():
            place = (name, applied.stream)
            if figures.kind_of(rule.metric) == applied.kind and applied.start < self._judged.get(
                place, BEFORE_ALL_TIME
            ):
                del self._judged[place]

    def due(self, stream: str, silent: Silent = NOBODY) -> list[Alert]:
        """Judge the windows of a stream that have closed since; the alerts that follow, oldest first."""
        table = self._tables.streams.get(stream)
        if table is None:
            return []
        edges = {kind: table.final_before(kind, silent.get(kind, ())) for kind in JUDGED}
        found: list[Alert] = []
        for rule in self._rules.values():
            edge = edges[figures.kind_of(rule.metric)]
            if edge is not None and rule.stream in (stream, ANY_STREAM):
                found += self._judge(rule, stream, table, edge)
        self._forget_windows()
        return sorted(found, key=lambda told: told.at)

    def through(self, stream: str, edge: int) -> list[Alert]:
        """As `due`, but of the windows that start before `edge`, for who goes through the past step by step."""
        table = self._tables.streams[stream]
        found = [told for rule in self._rules.values() for told in self._judge(rule, stream, table, edge)]
        self._forget_windows()
        return found

    def _judge(self, rule: Rule, stream: str, table: StreamTable, edge: int) -> list[Alert]:
        """One rule over the windows before `edge` that it has not judged, in order, each model by itself."""
        place = (rule.name, stream)
        judged = self._judged.get(place)
        if judged is None:
            for (name, of, _), scope in self._scopes.items():
                if (name, of) == place:
                    scope.run = 0
            judged = BEFORE_ALL_TIME if rule.since is None else rule.since
        if edge <= judged:
            return []
        self._judged[place] = edge
        self._reach[stream] = max(edge, self._reach.get(stream, edge))
        found: list[Alert] = []
        for start in table.between(judged, edge):
            for model, figure in self._figures_in(table, start, rule.metric).items():
                if rule.model not in ("", model):
                    continue
                scope = self._scope((*place, model))
                if scope.decided_before is not None and start < scope.decided_before:
                    continue
                if not rule.counts(figure.value, figure.counted):
                    continue
                self.counted += 1
                state = scope.judge(rule, figure.value, figure.counted)
                if state is None:
                    continue
                end = scope.decided_before = start + table.length_seconds * 1000
                told = of_window(
                    rule, stream=stream, model=model, version=figure.version, state=state,
                    value=figure.value, count=figure.counted, at=end, fired="" if state == "firing" else scope.fired,
                )  # fmt: skip
                scope.fired = told.fired
                found.append(told)
        return found

    def _scope(self, key: ScopeKey) -> Scope:
        """The scope, made if need be; at the bound the one used least recently is forgotten."""
        scope = self._scopes.get(key)
        if scope is not None:
            self._scopes.move_to_end(key)
            return scope
        if len(self._scopes) >= self._scopes_kept:
            self._scopes.popitem(last=False)
        scope = self._scopes[key] = Scope()
        return scope

    def _figures_in(self, table: StreamTable, start: int, metric: str) -> dict[str, Figure]:
        """The figure in a window by model; what it is read from is worked out once for all rules."""
        contract = table.contract
        if not figures.is_quality(metric):
            view = self._views.get(start)
            if view is None:
                view = self._views[start] = window_view(table, start)
            return figures.find(view, metric)
        if contract is None:
            return {}
        models = self._models.get(start)
        if models is None:
            models = self._models[start] = by_model(table.merged(start, "outcomes").quality)
        name = metric.removeprefix("quality.")
        return {
            model: Figure(version, quality.figures(tally, contract.task).get(name), tally.count)
            for model, (version, tally) in models.items()
        }

    def _forget_windows(self) -> None:
        self._models.clear()
        self._views.clear()


def by_model(tallies: dict[str, Quality]) -> dict[str, tuple[int, Quality]]:
    """Tallies by `model@version` added up by model, each with the newest version in it."""
    found: dict[str, tuple[int, Quality]] = {}
    for name, tally in sorted(tallies.items()):
        model, _, version = name.rpartition("@")
        if not model:
            continue  # `other`: models beyond the bound, told apart by nobody
        newest, total = found.get(model, (0, Quality()))
        quality.merge(total, tally)
        found[model] = (max(newest, int(version)), total)
    return found
