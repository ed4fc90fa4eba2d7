"""Rules on drift: which events people are told of, and when such an alert ends.

Drift says that something *has moved*; nothing ever says that it has moved back. So an alert of drift lasts for a time:
until `rearm_seconds` of event time have passed since it fired. Whatever else moves meanwhile in its scope (rule,
stream, model, kind, subject, group) belongs to it and is not told again; the first event after that fires anew. What
concerns a model also ends when another has become the champion, and another version of it is told anew. This depends on
the events' own times and on the last alert told, so reading events again, or in another life, tells nothing twice.

Pure: events and told alerts in, new alerts out. At `scopes_kept` the scope that fired least recently is forgotten.
"""

from collections import OrderedDict
from collections.abc import Iterable

from headrace.contracts.events import Alert, DriftDetected
from services.monitor.domain import alerts
from services.monitor.domain.rules import ANY_STREAM, Rule

SCOPES_KEPT = 10_000

ScopeKey = tuple[str, str, str, str, str, str]
"""(rule, stream, model, kind, subject, group)"""


class DriftWatch:
    """All rules on drift. Bounds: the rules', and `scopes_kept`."""

    def __init__(self, *, scopes_kept: int = SCOPES_KEPT) -> None:
        self._rules: dict[str, Rule] = {}
        self._scopes: OrderedDict[ScopeKey, Alert] = OrderedDict()
        # The last alerts whose end was not told, by stream, as every stream is asked about every second.
        self._open: dict[str, dict[ScopeKey, Alert]] = {}
        self._scopes_kept = scopes_kept

    def use(self, rules: Iterable[Rule]) -> None:
        """Put these rules in force; those on metrics are passed over."""
        self._rules = {rule.name: rule for rule in rules if rule.drift}

    def remember(self, told: Alert) -> None:
        """A step that was told in an earlier life. Oldest first."""
        key = _scope(told.rule, told)
        if told.state == "firing":
            self._put(key, told)
        elif told.state == "resolved" and key in self._scopes and told.alert == self._scopes[key].id:
            self._close(key)

    def meet(self, drift: DriftDetected) -> list[Alert]:
        """An event came in; what follows."""
        found: list[Alert] = []
        for rule in self._rules.values():
            if not fits(rule, drift):
                continue
            told = alerts.of_drift(rule, drift)
            key = _scope(rule.name, told)
            last = self._scopes.get(key)
            if last is not None:
                ends = last.at + rule.rearm_seconds * 1000
                same = drift.version == last.version
                if drift.at <= last.at or (same and drift.at < ends):
                    continue
                found += self._end(key, min(ends, drift.at))
            self._put(key, told)
            found.append(told)
        return found

    def passed(self, stream: str, now: int) -> list[Alert]:
        """A stream's event time has come to `now`; the alerts that end by it."""
        found: list[Alert] = []
        for key, fired in list(self._open.get(stream, {}).items()):
            rule = self._rules.get(fired.rule)
            ends = fired.at + rule.rearm_seconds * 1000 if rule is not None else None
            if ends is not None and ends <= now:
                found += self._end(key, ends)
        return sorted(found, key=lambda told: told.at)

    def succeeded(self, stream: str, champion: tuple[str, int], now: int) -> list[Alert]:
        """(model, version) is the stream's champion, whose event time has come to `now`; what ends by that."""
        found: list[Alert] = []
        for key, fired in list(self._open.get(stream, {}).items()):
            if fired.model and (fired.model, fired.version) != champion:
                self._close(key)
                found.append(alerts.succeeded(fired, champion, max(fired.at, now)))
        return found

    def _put(self, key: ScopeKey, fired: Alert) -> None:
        if key not in self._scopes and len(self._scopes) >= self._scopes_kept:
            self._close(self._scopes.popitem(last=False)[0])
        self._scopes[key] = fired
        self._scopes.move_to_end(key)
        self._open.setdefault(fired.stream, {})[key] = fired

    def _end(self, key: ScopeKey, at: int) -> list[Alert]:
        """The end of a scope's last alert, if it was not told."""
        fired = self._close(key)
        return [] if fired is None else [alerts.rearmed(fired, at)]

    def _close(self, key: ScopeKey) -> Alert | None:
        of_stream = self._open.get(key[1], {})
        fired = of_stream.pop(key, None)
        if not of_stream:
            self._open.pop(key[1], None)
        return fired


def fits(rule: Rule, drift: DriftDetected) -> bool:
    """Whether the rule asks to be told of this."""
    return (
        drift.kind in rule.drift
        and rule.stream in (ANY_STREAM, drift.stream)
        and rule.model in ("", drift.model)
        and rule.subject in ("", drift.subject)
        and rule.group in ("", drift.group)
        and (rule.since is None or drift.at >= rule.since)
    )


def _scope(rule: str, told: Alert) -> ScopeKey:
    return (rule, told.stream, told.model, told.kind, told.metric, told.group)
