"""Alert rules: a figure of windows stays beyond a bound, or a detector says that something has moved.

A rule on a figure looks at closed windows in order, one model of one stream at a time (or the stream itself), and is a
state machine with hysteresis: quiet until `for_windows` judged windows in a row break the bound, then firing until as
many in a row are back beyond `clear`. Windows with too few records, or in which the figure has no value, are not
judged: they neither break a run nor lengthen it. Decisions depend on the windows and on the last alert that was told,
on nothing else, so a restart takes the same ones. Rules on drift: see `services.monitor.domain.drifts`.
"""

import hashlib
import re
from typing import Literal, TypeGuard, get_args

import msgspec

from headrace.contracts.events import DriftKind
from headrace.contracts.topics import STREAM_NAME
from headrace.errors import Unusable
from services.monitor.domain.listing import read_list
from services.monitor.domain.quality import METRICS

ANY_STREAM = "*"
RULES_KEPT = 1000
RULE_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")

METRIC_PATH = re.compile(r"[a-z][a-z0-9_]*(\.[^.\s]{1,200}){1,4}")
LONGEST_SECONDS = 366 * 24 * 3600

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[str, ...] = get_args(Severity)
"""From the least to the most."""


class Rule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What people want to be told. Either a metric with a bound and hysteresis, or kinds of drift.

    stream: its name, or `*` for each. model: "" for each. Of a metric: its path (see `domain.figures`), exactly one of
    below and above; clear: the bound to be reached again (default: the same bound; for `below` it may not be lower, for
    `above` not higher); minimum_count: records a window must have to be judged. Of drift: the kinds; subject, group: ""
    for each; rearm_seconds: event time until the alert ends and the next such drift is told. Of both:
    escalate_after_seconds: wall time until an alert that nobody acknowledges is told once more, one severity higher;
    since: windows that start, and drift that was seen, before (ms) are not looked at.
    """

    name: str
    stream: str
    metric: str = ""
    kind: Literal["quality"] = "quality"
    model: str = ""
    below: float | None = None
    above: float | None = None
    clear: float | None = None
    for_windows: int = 1
    minimum_count: int = 1
    severity: Severity = "warning"
    since: int | None = None
    drift: list[DriftKind] = []
    subject: str = ""
    group: str = ""
    rearm_seconds: int = 24 * 3600
    escalate_after_seconds: int | None = None

    @property
    def bound(self) -> float:
        """What may not be crossed."""
        return self.below if self.below is not None else self.above or 0.0

    def breaks(self, value: float) -> bool:
        """Whether a window's value is beyond the bound."""
        return value < self.bound if self.below is not None else value > self.bound

    def clears(self, value: float) -> bool:
        """Whether a window's value is good enough to end an alert."""
        bound = self.bound if self.clear is None else self.clear
        return value >= bound if self.below is not None else value <= bound

    def counts(self, value: float | None, count: int | None) -> TypeGuard[float]:
        """Whether a window is judged: the figure has a value, and stands on enough (count None: whatever it is)."""
        return value is not None and (count is None or count >= self.minimum_count)

    def digest(self) -> str:
        """Short name of what the rule says; `since` is no part of it."""
        document = {key: value for key, value in msgspec.to_builtins(self).items() if key != "since"}
        return hashlib.sha256(msgspec.json.encode(document, order="deterministic")).hexdigest()[:12]


class Scope(msgspec.Struct):
    """One rule on one model of one stream.

    run: judged windows in a row that speak for a change. decided_before: windows that start before it are behind the
    last alert and are never looked at again.
    """

    firing: bool = False
    run: int = 0
    decided_before: int | None = None
    fired: str = ""
    """Id of the alert that it fired last."""

    def judge(
        self, rule: Rule, value: float | None, count: int | None
    ) -> Literal["firing", "resolved"] | None:
        """Look at the next window; the change it brings, if any."""
        if not rule.counts(value, count):
            return None
        speaks = rule.clears(value) if self.firing else rule.breaks(value)
        self.run = self.run + 1 if speaks else 0
        if self.run < rule.for_windows:
            return None
        self.run = 0
        self.firing = not self.firing
        return "firing" if self.firing else "resolved"


def read_rules(document: object) -> list[Rule]:
    """Rules from the plain form: a list of rules, or an object with the list under `rules`.

    Raises `Unusable` saying which rule and what is wrong with it.
    """
    return read_list(document, "rules", RULES_KEPT, _read_rule)


def _read_rule(entry: object, where: str) -> Rule:
    try:
        rule = msgspec.convert(entry, Rule)
    except msgspec.ValidationError as error:
        raise Unusable(str(error), where=where) from None
    if not RULE_NAME.fullmatch(rule.name):
        raise Unusable("a-z, 0-9, _, . and -, at most 100 long", where=f"{where}.name")
    if rule.stream != ANY_STREAM and not STREAM_NAME.fullmatch(rule.stream):
        raise Unusable(f"{rule.stream!r} is no stream name, nor {ANY_STREAM!r}", where=f"{where}.stream")
    if rule.escalate_after_seconds is not None and not 1 <= rule.escalate_after_seconds <= LONGEST_SECONDS:
        raise Unusable(f"1 to {LONGEST_SECONDS}", where=f"{where}.escalate_after_seconds")
    if rule.drift:
        _check_drift(rule, where)
    else:
        _check_metric(rule, where)
    return rule


def _check_metric(rule: Rule, where: str) -> None:
    if rule.metric not in METRICS and not METRIC_PATH.fullmatch(rule.metric):
        raise Unusable(
            f"{rule.metric!r} is none of {', '.join(METRICS)}, nor the path of a figure (missing.FIELD.share)",
            where=f"{where}.metric",
        )
    if (rule.below is None) == (rule.above is None):
        raise Unusable("say either below or above", where=where)
    if not all(_is_finite(value) for value in (rule.below, rule.above, rule.clear)):
        raise Unusable("bounds are finite numbers", where=where)
    if rule.clear is not None:
        if rule.below is not None and rule.clear < rule.below:
            raise Unusable("may not lie under `below`", where=f"{where}.clear")
        if rule.above is not None and rule.clear > rule.above:
            raise Unusable("may not lie over `above`", where=f"{where}.clear")
    if rule.for_windows < 1 or rule.minimum_count < 1:
        raise Unusable("for_windows and minimum_count are at least 1", where=where)
    if rule.subject or rule.group:
        raise Unusable("subject and group belong to rules on drift", where=where)


def _check_drift(rule: Rule, where: str) -> None:
    if rule.metric or not all(bound is None for bound in (rule.below, rule.above, rule.clear)):
        raise Unusable("a rule is about drift or about a metric, not both", where=where)
    if not 1 <= rule.rearm_seconds <= LONGEST_SECONDS:
        raise Unusable(f"1 to {LONGEST_SECONDS}", where=f"{where}.rearm_seconds")


def _is_finite(value: float | None) -> bool:
    return value is None or abs(value) < float("inf")


DEFAULT_RULES = (
    Rule("default-concept-bias", ANY_STREAM, drift=["concept", "bias"], severity="warning"),
    Rule("default-data-prediction", ANY_STREAM, drift=["data", "prediction"], severity="info"),
)
"""What is in force while there is no rules file."""
