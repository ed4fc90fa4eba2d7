"""What a what-if replay is asked: which models, over which part of a stream's log, under which label policy.

A plan is plain data with a digest, so that the same question, asked again after a crash, is known as the same and goes
on where it stopped. What does not change the answer (how often progress is saved, how many processes) is not in it.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import msgspec

import headrace
from headrace.contracts import stream as contracts
from headrace.contracts.left_out import LeftOut, describe
from headrace.contracts.times import parse_ms, to_text
from headrace.errors import Unusable
from headrace.fold import specification

SERVED = "served"
"""In a report, what the champion of the time said, whichever it was."""

POLICY = "wait=DURATION, expiry=drop|negative, second=ignore|correct"
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
MOST_MODELS = 12
MOST_THRESHOLDS = 20
DIGEST_LENGTH = 16


class Bound(NamedTuple):
    """A place in a log: an offset of its partition, or an event time in milliseconds."""

    by: Literal["offset", "time"]
    value: int

    def is_after(self, at: int, offset: int) -> bool:
        """Whether a record at this event time and offset lies before the bound."""
        return (offset if self.by == "offset" else at) < self.value

    def __str__(self) -> str:
        return f"offset {self.value}" if self.by == "offset" else to_text(self.value)


class Candidate(msgspec.Struct, frozen=True):
    """A model that is asked: the name it goes by in the report, and its specification."""

    name: str
    specification: dict[str, Any]


class Plan(msgspec.Struct, frozen=True):
    """One what-if question about a stream.

    models: the first plays the champion. start, end: what is counted are the outcomes of observations from `start` on
    and before `end`. warm_up: models learn from here on, before they are counted; None: from `start` on. policy: label
    fields of the contract that are to be otherwise. thresholds: binary only, the first decides instead of 0.5.
    """

    stream: str
    models: list[Candidate]
    start: Bound | None = None
    end: Bound | None = None
    warm_up: Bound | None = None
    policy: dict[str, Any] = {}
    thresholds: list[float] = []
    without: LeftOut = LeftOut()

    @property
    def folded_from(self) -> Bound | None:
        """Where learning begins; None: with the log."""
        return self.warm_up or self.start

    @property
    def digest(self) -> str:
        """Names the question; other code may answer it otherwise, so the version is part of it."""
        text = msgspec.json.encode([headrace.__version__, self.to_dict()], order="deterministic")
        return hashlib.sha256(text).hexdigest()[:DIGEST_LENGTH]

    def to_dict(self) -> dict[str, Any]:
        """Plain form, as the report shows it."""

        def shown(bound: Bound | None) -> int | str | None:
            return None if bound is None else bound.value if bound.by == "offset" else to_text(bound.value)

        return {
            "stream": self.stream,
            "models": [msgspec.to_builtins(model) for model in self.models],
            "from": shown(self.start),
            "to": shown(self.end),
            "warm_up": shown(self.warm_up),
            "label_policy": self.policy,
            "thresholds": self.thresholds,
            "without": describe(self.without),
        }

    def counts(self, at: int, offset: int) -> bool:
        """Whether an observation at this event time and offset is counted."""
        if self.start is not None and self.start.is_after(at, offset):
            return False
        return self.end is None or self.end.is_after(at, offset)

    def changed(self, contract: dict[str, Any]) -> dict[str, Any]:
        """The plain form of a contract with the plan's label policy."""
        return (
            {**contract, "label": {**contract.get("label", {}), **self.policy}} if self.policy else contract
        )


def check(plan: Plan, contract: contracts.StreamContract) -> contracts.StreamContract:
    """The contract under the plan's policy. Raises `Unusable` if the plan contradicts itself or the stream."""
    changed = contracts.from_dict(plan.changed(contract.to_dict()))
    _check_models(plan, changed)
    check_bounds(plan.stream, contract.partitions, (plan.start, plan.end, plan.warm_up))
    if plan.warm_up is not None and plan.start is None:
        raise Unusable("a warm-up without a start counts nothing differently: say from where on to count")
    for first, last, what in (
        (plan.start, plan.end, "the range to count"),
        (plan.warm_up, plan.start, "the warm-up"),
    ):
        if first and last and first.by == last.by and first.value >= last.value:
            raise Unusable(f"{what} ends before it begins: {first} to {last}")
    if plan.thresholds and contract.task != "binary":
        raise Unusable(f"{plan.stream} asks a {contract.task} question: a threshold needs a binary one")
    return changed


def check_bounds(stream: str, partitions: int, bounds: Iterable[Bound | None]) -> None:
    """Raise `Unusable` if a bound is an offset and the stream has more partitions than one."""
    if partitions > 1 and any(bound is not None and bound.by == "offset" for bound in bounds):
        raise Unusable(f"{stream} has {partitions} partitions, each with offsets of its own: give a time")


def _check_models(plan: Plan, contract: contracts.StreamContract) -> None:
    if not plan.models:
        raise Unusable("name at least one model")
    if len(plan.models) > MOST_MODELS:
        raise Unusable(f"at most {MOST_MODELS} models at once, not {len(plan.models)}")
    names = [model.name for model in plan.models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Unusable(f"two models are called {twice!r}; models take their names from their files")
    if SERVED in names:
        raise Unusable(f"what happened is called {SERVED!r} in the report: give the model another name")
    for model in plan.models:
        try:
            specification.check(model.specification, task=contract.task, fields=contract.fields)
        except Unusable as error:
            raise Unusable(
                f"{model.name} does not fit {plan.stream}: {error.reason}", where=error.where
            ) from None


def parse_bound(text: str) -> Bound | None:
    """An offset (digits alone) or an RFC 3339 event time; None for "". Raises `Unusable`."""
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return Bound("offset", int(text))
    try:
        return Bound("time", parse_ms(text))
    except ValueError:
        raise Unusable(f"{text!r} is neither an offset nor a time such as 2013-02-01T00:00:00Z") from None


def parse_policy(text: str) -> dict[str, Any]:
    """Label fields from `wait=3d,expiry=negative`. Raises `Unusable`; whether they fit the stream is `check`'s."""
    policy: dict[str, Any] = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        name, _, value = part.partition("=")
        if name == "wait":
            policy["wait_seconds"] = seconds(value)
        elif name == "expiry" and value in ("drop", "negative"):
            policy["expiry"] = value
        elif name == "second" and value in ("ignore", "correct"):
            policy["second"] = value
        else:
            raise Unusable(f"{part!r} is no label policy; write {POLICY}")
    return policy


def parse_thresholds(texts: list[str]) -> list[float]:
    """Thresholds from `0.3` or `0.2,0.3`, in the order given. Raises `Unusable`."""
    thresholds: list[float] = []
    for text in ",".join(texts).split(",") if texts else []:
        try:
            threshold = float(text)
        except ValueError:
            raise Unusable(f"{text!r} is no threshold; write a number between 0 and 1") from None
        if not 0.0 < threshold < 1.0:
            raise Unusable(f"a threshold lies between 0 and 1, not at {text}")
        if threshold not in thresholds:
            thresholds.append(threshold)
    if len(thresholds) > MOST_THRESHOLDS:
        raise Unusable(f"at most {MOST_THRESHOLDS} thresholds at once, not {len(thresholds)}")
    return thresholds


def seconds(text: str) -> int:
    """Read `90s`, `15min`, `2h` or `3d`. Raises `Unusable`."""
    found = re.fullmatch(r"(\d{1,9})(s|min|h|d)", text, re.ASCII)
    if found is None:
        raise Unusable(f"{text!r} is no duration; write 90s, 15min, 2h or 3d")
    return int(found[1]) * SECONDS[found[2]]
