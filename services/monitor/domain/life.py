"""The lives of alerts, folded from the steps that were told: what fires, who has seen it, what has ended.

A step is told at least once and may come from another process, so each id counts once and the order within a life does
not matter: a step only ever adds to it. Bounds: `lives_kept` lives (those that have ended go first, then the oldest),
`STEPS_REMEMBERED` ids, `MUTES_KEPT` mutes.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from headrace.contracts.events import Alert, AlertsMuted
from services.monitor.domain import alerts
from services.monitor.domain.rules import Rule

LIVES_KEPT = 1_000
STEPS_REMEMBERED = 10_000
MUTES_KEPT = 1_000

LifeState = Literal["firing", "acknowledged", "resolved"]


class Step(msgspec.Struct):
    """One event of a life, and the wall time at which it was told."""

    alert: Alert
    told_at: int


class Life(msgspec.Struct):
    """An alert from its firing to its end."""

    fired: Step
    acknowledged: Step | None = None
    escalated: Step | None = None
    resolved: Step | None = None

    @property
    def state(self) -> LifeState:
        """Where it stands."""
        if self.resolved is not None:
            return "resolved"
        return "firing" if self.acknowledged is None else "acknowledged"

    @property
    def severity(self) -> str:
        """How severe it is by now."""
        return (self.escalated or self.fired).alert.severity

    @property
    def steps(self) -> list[Step]:
        """All that was told of it, oldest first."""
        told = (self.fired, self.acknowledged, self.escalated, self.resolved)
        return sorted((step for step in told if step is not None), key=lambda step: step.told_at)


class Lives:
    """Alerts by the id of the step that fired them."""

    def __init__(self, *, lives_kept: int = LIVES_KEPT) -> None:
        self._lives: OrderedDict[str, Life] = OrderedDict()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lives_kept = lives_kept

    def tell(self, alert: Alert, told_at: int) -> bool:
        """A step was told (wall time, ms). False if it was known."""
        if alert.id in self._seen:
            return False
        self._seen[alert.id] = None
        if len(self._seen) > STEPS_REMEMBERED:
            self._seen.popitem(last=False)
        step = Step(alert, told_at)
        if alert.state == "firing":
            self._lives[alert.id] = Life(step)
            if len(self._lives) > self._lives_kept:
                self._forget_one()
            return True
        life = self._lives.get(alert.fired) or self._by_scope(alert)
        if life is not None:
            setattr(life, alert.state, step)
        return True

    def get(self, id: str) -> Life | None:
        """The life that began with this step."""
        return self._lives.get(id)

    def all(self) -> list[Life]:
        """All that are kept, the oldest first."""
        return list(self._lives.values())

    def escalations(self, rules: Mapping[str, Rule], now: int) -> list[Alert]:
        """Those that nobody has acknowledged for too long, once each. now: wall time, ms."""
        found: list[Alert] = []
        for life in self._lives.values():
            rule = rules.get(life.fired.alert.rule)
            if rule is None or rule.escalate_after_seconds is None or life.state != "firing":
                continue
            if life.escalated is None and life.fired.told_at + 1000 * rule.escalate_after_seconds <= now:
                found.append(alerts.escalated(life.fired.alert, rule.escalate_after_seconds))
        return found

    def _by_scope(self, alert: Alert) -> Life | None:
        """Of an end from before ends named what they end: the newest life of its scope that has not ended."""
        if alert.alert:
            return None
        scope = (alert.rule, alert.stream, alert.model)
        for life in reversed(self._lives.values()):
            fired = life.fired.alert
            if life.resolved is None and (fired.rule, fired.stream, fired.model) == scope:
                return life
        return None

    def _forget_one(self) -> None:
        ended = (fired for fired, life in self._lives.items() if life.resolved is not None)
        del self._lives[next(ended, None) or next(iter(self._lives))]


class Mutes:
    """Mutes by id; the newest record under an id counts. At `MUTES_KEPT` the one that ends first is forgotten.

    The dictionary is replaced, never changed, so that deliveries may look at it on their thread.
    """

    def __init__(self) -> None:
        self._mutes: dict[str, AlertsMuted] = {}

    def tell(self, mute: AlertsMuted) -> None:
        """A mute was made, or ended. What ended it stays, in whichever order the two are read."""
        known = self._mutes.get(mute.id)
        if known is None or not known.ended:
            self._mutes = {**self._mutes, mute.id: mute}
        if len(self._mutes) > MUTES_KEPT:
            gone = min(self._mutes.values(), key=lambda one: one.until).id
            self._mutes = {known: mute for known, mute in self._mutes.items() if known != gone}

    def get(self, id: str) -> AlertsMuted | None:
        """The mute of this id."""
        return self._mutes.get(id)

    def active(self, now: int) -> list[AlertsMuted]:
        """Those in force, the oldest first. now: wall time, ms."""
        found = [mute for mute in self._mutes.values() if not mute.ended and now < mute.until]
        return sorted(found, key=lambda mute: mute.created)


def muted_by(alert: Alert, mutes: Iterable[AlertsMuted]) -> AlertsMuted | None:
    """The first of these mutes that the alert falls under."""
    for mute in mutes:
        if (
            mute.rule in ("", alert.rule)
            and mute.stream in ("", alert.stream)
            and mute.model in ("", alert.model)
            and mute.kind in ("", alert.kind)
        ):
            return mute
    return None
