"""Holds the rules against the tables: which windows are due, what they say of each model, which alerts follow.

Pure: tables and told alerts in, new alerts out. A scope's state can be had again from the last alert of that scope and
the windows after it, which is what `remember` and a fresh `Watch` do after a restart. Models come and go for as long as
the system lives, so only `SCOPES_KEPT` scopes are known at a time; the one that was judged or told least recently is
forgotten, and if its model comes back it starts over, which may tell an old alert again, under its old id.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable

from headrace.contracts.events import Alert
from headrace.contracts.statistics import Quality
from headrace.operators.tumbling import BEFORE_ALL_TIME
from services.monitor.domain import quality
from services.monitor.domain.rules import ANY_STREAM, Rule, Scope, alert
from services.monitor.domain.tables import Applied, StreamTable, Tables

SCOPES_KEPT = 100_000
"""Rules on models of streams that are remembered."""

ScopeKey = tuple[str, str, str]
"""(rule, stream, model)"""


class Watch:
    """All rules on all streams. Bounds: the tables', the rules', and `scopes_kept`."""

    def __init__(self, tables: Tables, *, scopes_kept: int = SCOPES_KEPT) -> None:
        self._tables = tables
        self._rules: dict[str, Rule] = {}
        self._scopes: OrderedDict[ScopeKey, Scope] = OrderedDict()
        self._scopes_kept = scopes_kept
        # Windows that start before this have been judged, by (rule, stream); what is not in it starts over.
        self._judged: dict[tuple[str, str], int] = {}
        self._models: dict[int, dict[str, tuple[int, Quality]]] = {}

    @property
    def rules(self) -> list[Rule]:
        """The rules in force, in their order."""
        return list(self._rules.values())

    def use(self, rules: Iterable[Rule]) -> None:
        """Put these rules in force. A rule that says something new judges again what came after its last alert."""
        before, self._rules = self._rules, {rule.name: rule for rule in rules}
        for name in before.keys() | self._rules.keys():
            old, new = before.get(name), self._rules.get(name)
            if old is None or new is None or old.digest() != new.digest() or old.since != new.since:
                for place in [place for place in self._judged if place[0] == name]:
                    del self._judged[place]

    def remember(self, told: Alert) -> None:
        """An alert that was told in an earlier life: its scope goes on from there. Oldest first."""
        scope = self._scope((told.rule, told.stream, told.model))
        if scope.decided_before is None or told.at >= scope.decided_before:
            scope.firing = told.state == "firing"
            scope.decided_before = told.at

    def changed(self, applied: Applied) -> None:
        """A summary came in: if its window was judged already, judge again all that came after the last alerts."""
        if applied.kind == "outcomes" and applied.start is not None:
            for place in [place for place in self._judged if place[1] == applied.stream]:
                if applied.start < self._judged[place]:
                    del self._judged[place]

    def due(self, stream: str, silent: Collection[int] = ()) -> list[Alert]:
        """Judge the windows of a stream that have closed since; the alerts that follow, oldest first.

        silent: partitions that hold nobody back (see `StreamTable.final_before`).
        """
        table = self._tables.streams.get(stream)
        edge = table.final_before("outcomes", silent) if table is not None else None
        if table is None or edge is None:
            return []
        found: list[Alert] = []
        for rule in self._rules.values():
            if rule.stream in (stream, ANY_STREAM):
                found += self._judge(rule, stream, table, edge)
        self._models.clear()
        return sorted(found, key=lambda told: told.at)

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
        found: list[Alert] = []
        for start in table.between(judged, edge):
            for model, (version, tally) in self._models_in(table, start).items():
                if rule.model not in ("", model):
                    continue
                scope = self._scope((*place, model))
                if scope.decided_before is not None and start < scope.decided_before:
                    continue
                value = _value(tally, rule.metric, table)
                state = scope.judge(rule, value, tally.count)
                if state is not None and value is not None:
                    end = start + table.length_seconds * 1000
                    scope.decided_before = end
                    found.append(
                        alert(
                            rule, stream=stream, model=model, version=version, state=state, value=value,
                            count=tally.count, at=end,
                        )
                    )  # fmt: skip
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

    def _models_in(self, table: StreamTable, start: int) -> dict[str, tuple[int, Quality]]:
        """Quality in a window by model, worked out once for all rules."""
        found = self._models.get(start)
        if found is None:
            found = self._models[start] = by_model(table.merged(start, "outcomes").quality)
        return found


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


def _value(tally: Quality, metric: str, table: StreamTable) -> float | None:
    contract = table.contract
    return quality.figures(tally, contract.task).get(metric) if contract is not None else None
