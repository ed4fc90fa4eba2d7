"""The events that tell people: one for each step in an alert's life, each under an id that follows from what it says.

An id is made of the rule (by what it says, not only its name), what fired it and the step, so whoever decides a step
again, after a crash or in another process, tells the same event under the same id.
"""

from typing import Literal

import msgspec

from headrace.contracts.codec import decode_alert
from headrace.contracts.events import Alert, DriftDetected
from headrace.contracts.times import to_text
from services.monitor.domain.identity import identity
from services.monitor.domain.rules import SEVERITIES, Rule

LONGEST_ID = 200
SHOWN_ID = 12
"""Digits of an id that people are told; it is found by them."""


def of_window(
    rule: Rule,
    *,
    stream: str,
    model: str,
    version: int,
    state: Literal["firing", "resolved"],
    value: float,
    count: int | None,
    at: int,
    fired: str = "",
) -> Alert:
    """A figure crossed a bound. `at`: the end of the window that decided it. fired: of an end, what it ends."""
    side, bound = ("below", rule.bound) if rule.below is not None else ("above", rule.bound)
    if state == "resolved":
        side, bound = "back beyond", rule.bound if rule.clear is None else rule.clear
    windows = "in the last window" if rule.for_windows == 1 else f"in {rule.for_windows} windows in a row"
    whose = f"{rule.metric} of {model}" if model else rule.metric
    counted = "" if count is None else f" ({count} counted in the last)"
    return Alert(
        id=identity(rule.name, rule.digest(), stream, model, str(at), state),
        stream=stream,
        rule=rule.name,
        severity=rule.severity,
        state=state,
        metric=rule.metric,
        value=value,
        bound=bound,
        at=at,
        model=model,
        version=version,
        reason=f"{whose} is {value:.6g}, {side} {bound:g} {windows}{counted}",
        alert=fired,
    )


def of_drift(rule: Rule, drift: DriftDetected) -> Alert:
    """Something has moved, and a rule asks to be told."""
    whose = f" of {drift.model}" if drift.model else ""
    among = f" among {drift.group}" if drift.group else ""
    moved = (
        "" if drift.before is None or drift.after is None else f": {drift.before:.6g} to {drift.after:.6g}"
    )
    since = f", since {_text(drift.since_at)}" if drift.since_at >= 0 else ""
    return Alert(
        id=identity(rule.name, rule.digest(), "drift", drift.id, "firing"),
        stream=drift.stream,
        rule=rule.name,
        severity=rule.severity,
        state="firing",
        metric=drift.subject,
        value=drift.evidence,
        bound=drift.threshold,
        at=drift.at,
        model=drift.model,
        version=drift.version,
        reason=f"{drift.kind} drift of {drift.subject}{whose}{among}{moved}{since} ({drift.method}); "
        f"headrace drift why {drift.id[:SHOWN_ID]} says more",
        kind=drift.kind,
        drift=drift.id,
        group=drift.group,
        method=drift.method,
        partition=drift.partition,
        offset=drift.offset,
        since_offset=drift.since_offset,
        since_at=drift.since_at,
        before=drift.before,
        after=drift.after,
    )


def rearmed(fired: Alert, at: int) -> Alert:
    """Drift was told long enough ago: the alert ends, and the next drift is told again."""
    return _step(fired, "resolved", at=at, reason="its time is over: the next such drift is told again")


def succeeded(fired: Alert, champion: tuple[str, int], at: int) -> Alert:
    """Another model answers, or another version of it."""
    model, version = champion
    return _step(fired, "resolved", at=at, reason=f"{model}@{version} is the champion now")


def acknowledged(fired: Alert, by: str, why: str) -> Alert:
    """Somebody has seen it."""
    return _step(fired, "acknowledged", by=by, why=why)


def escalated(fired: Alert, after_seconds: float) -> Alert:
    """Nobody has seen it for too long: one severity more."""
    higher = SEVERITIES[min(SEVERITIES.index(fired.severity) + 1, len(SEVERITIES) - 1)]
    reason = f"nobody has acknowledged it for {after_seconds:g} s: {fired.reason}"
    return _step(fired, "escalated", severity=higher, reason=reason)


def read(value: bytes | None) -> Alert | None:
    """A record of the alerts topic, which others write to as well; None if it is no alert to tell people of."""
    try:
        alert = decode_alert(value)  # type: ignore[arg-type]  # None raises TypeError
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
        return None
    sound = alert.severity in SEVERITIES and alert.id.isprintable() and 0 < len(alert.id) <= LONGEST_ID
    return alert if sound else None


def plain(alert: Alert) -> dict[str, object]:
    """All members, also those that have their default value (the wire leaves them out)."""
    return {name: getattr(alert, name) for name in alert.__struct_fields__}


def _step(fired: Alert, state: str, **changes: object) -> Alert:
    return msgspec.structs.replace(
        fired, id=identity(fired.fired, state), alert=fired.fired, state=state, **changes
    )


def _text(ms: int) -> str:
    try:
        return to_text(ms)
    except OverflowError:
        return str(ms)
