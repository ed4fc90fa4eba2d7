"""One partition of a log, read the slow and obvious way: what should have come out of it.

The oracle of the simulation. It imports the standard library and River, and nothing of Headrace: an independent reading
of docs/scoring.md, docs/contracts.md and docs/model-specifications.md. Written for being right, not for being fast; it
knows only what the simulation uses (binary labels, two kinds of features by key).
"""

import base64
import hashlib
import heapq
import importlib
import json
from typing import Any

from river import anomaly, compose

Event = dict[str, Any]


class Model:
    """One deployed model: a River estimator built from its specification, features by key, and what it has learnt."""

    def __init__(self, deployed: Event) -> None:
        self.name = deployed["model"]
        self.version = deployed["version"]
        self.specification = deployed["specification"]
        self.frozen = False
        self.deployed = True
        self.learnt: list[tuple[Event, bool]] = []
        self.features = [Feature(each) for each in self.specification.get("features", [])]
        self.estimator = build(self.specification["model"])

    def served(self, x: Event, entity: str, at: int) -> Event:
        inputs = self.specification.get("inputs")
        chosen = dict(x) if inputs is None else {name: x[name] for name in inputs if name in x}
        for feature in self.features:
            feature.compute(entity, at, chosen)
        return chosen

    def answer(self, served: Event) -> Event:
        """The part of a prediction that says what was said; empty if nothing was."""
        try:
            probabilities = self.estimator.predict_proba_one(dict(served))
        except Exception:
            return {}
        if not probabilities:
            return {}
        score = float(probabilities.get(True, 0.0))
        return {"answer": score > 0.5, "score": score} if 0.0 <= score <= 1.0 else {}

    def learn(self, served: Event, y: bool) -> None:
        """Learn; if the estimator raises, start over and learn everything else again."""
        if self.frozen:
            return
        try:
            self.estimator.learn_one(dict(served), y)
            self.learnt.append((served, y))
        except Exception:
            self.estimator = build(self.specification["model"])
            for before, truth in self.learnt:
                self.estimator.learn_one(dict(before), truth)


def build(node: Any) -> Any:
    """A River object from a node of a specification. Raises whatever there is to raise if it cannot be built."""
    if isinstance(node, list):
        return compose.Pipeline(*[build(step) for step in node])
    if isinstance(node, str):
        node = {"class": node}
    module, _, name = node["class"].rpartition(".")
    return getattr(importlib.import_module(f"river.{module}"), name)(**node.get("parameters", {}))


class Feature:
    """`count` of observations or `rate` of labels by entity, over a window cut into 12 panes; all panes are kept."""

    PANES = 12

    def __init__(self, declared: Event) -> None:
        self.name, self.kind = declared["name"], declared["kind"]
        self.width = declared["window_seconds"] * 1000 // self.PANES
        self.panes: dict[
            str, dict[int, list[int]]
        ] = {}  # entity -> pane -> [events, hits, newest event time]
        assert (self.kind, declared.get("of", "")) in (("count", ""), ("rate", "label"))

    def compute(self, entity: str, at: int, into: Event) -> None:
        panes = self.panes.get(entity, {})
        here = at // self.width
        late = bool(panes) and panes[max(panes)][2] > at
        seen = [
            pane
            for place, pane in panes.items()
            if here - self.PANES < place <= (max(panes) if late else here) and (not late or pane[2] <= at)
        ]
        count = sum(pane[0] for pane in seen)
        if self.kind == "count":
            into[self.name] = count
            self.add(entity, at, True)
        elif count:
            into[self.name] = sum(pane[1] for pane in seen) / count

    def add(self, entity: str, at: int, hit: bool) -> None:
        panes = self.panes.setdefault(entity, {})
        place = at // self.width
        if panes and place <= max(panes) - self.PANES:
            return
        pane = panes.setdefault(place, [0, 0, at])
        pane[0] += 1
        pane[1] += hit
        pane[2] = max(pane[2], at)
        for old in [old for old in panes if old <= max(panes) - self.PANES]:
            del panes[old]


class Watcher:
    """Says which observations are outliers; keeps every value and every score."""

    def __init__(self, stream: str, spec: Event, fields: list[str]) -> None:
        self.spec, self.fields = spec, fields
        self.window = spec.get("window", 1000)
        self.quarter = self.window // 4
        self.values: dict[str, list[float]] = {name: [] for name in fields}
        self.deciles: dict[str, tuple[float, float, float]] = {}
        self.scores: list[float] = []
        seed = int(hashlib.blake2b(stream.encode(), digest_size=4).hexdigest(), 16)
        self.trees = anomaly.HalfSpaceTrees(n_trees=25, height=6, window_size=self.window, seed=seed)
        self.seen = 0

    def judge(self, x: Event) -> Event:
        """The part of a prediction that says what is unusual; then learn."""
        beyond, places = [], dict.fromkeys(self.fields, 0.5)
        for name in self.fields:
            if name not in x:
                continue
            if name in self.deciles:
                is_beyond, places[name] = self.compare(x[name], *self.deciles[name])
                beyond += [name] * is_beyond
            values = self.values[name]
            values.append(x[name])
            if len(values) % self.quarter == 0:
                newest = sorted(values[-self.window :])
                tenth, half = len(newest) // 10, len(newest) // 2
                self.deciles[name] = (newest[tenth], newest[half], newest[len(newest) - 1 - tenth])
        told: Event = {"outliers": beyond} if beyond and "bounds" in self.spec["methods"] else {}
        if "trees" in self.spec["methods"]:
            told |= self.ask_trees(places)
        self.seen += 1
        return told

    def compare(self, value: float, low: float, middle: float, high: float) -> tuple[bool, float]:
        """Whether it is out of bounds, and its place between 0 and 1."""
        away = value - middle
        unit = high - middle if away > 0 else middle - low
        if away == 0:
            return False, 0.5
        if unit == 0:
            return False, 1.0 if away > 0 else 0.0
        fence = self.spec.get("fence", 4.0) * unit
        is_beyond = value > middle + fence if away > 0 else value < middle - fence
        return is_beyond, min(1.0, max(0.0, 0.5 + away / unit / 8))

    def ask_trees(self, places: dict[str, float]) -> Event:
        told: Event = {}
        if self.seen >= self.quarter + self.window:
            score = self.trees.score_one(places)
            told["anomaly"] = score
            if self.is_rare(score):
                told["anomalous"] = True
            self.scores.append(score)
        if self.seen >= self.quarter:
            self.trees.learn_one(places)
        return told

    def is_rare(self, score: float) -> bool:
        """Above the k-th highest score of the last whole block, and among the k highest of its own."""
        bound, begin, k = float("inf"), 0, 1
        while begin + (size := round(k / self.spec.get("share", 0.001)) - 1) <= len(self.scores):
            bound = sorted(self.scores[begin : begin + size])[-k]
            begin, k = begin + size, min(2 * k, 4)
        higher = [other for other in self.scores[begin:] if other >= score]
        return score > bound and len(higher) < k


class Reading:
    """What one partition's records give, as the JSON documents that should be on the topics, in order."""

    def __init__(self, log_topic: str, partition: int) -> None:
        self.predictions: list[Event] = []
        self.outcomes: list[Event] = []
        self.rejected: list[Event] = []
        self.champion: Model | None = None
        self.canary: Model | None = None
        self.share = 0.0
        self.models: list[Model] = []
        self.watcher: Watcher | None = None
        self.forgotten = 0
        self.by_canary = 0
        self.labels = 0
        self.early: dict[str, tuple[Event, int]] = {}
        self.waiting: dict[str, tuple[Event, Event, list[tuple[Model, Event]]]] = {}
        self._origin = f"{log_topic}/{partition}"
        self._contract: Event | None = None
        self._policy: Event = {}
        self._limits: Event = {}
        self._controls: set[str] = set()
        self._known: dict[str, Event | None] = {}
        self._deadlines: list[tuple[int, int, str]] = []
        self._now = 0

    def read(self, offset: int, raw: bytes | None) -> None:
        """Fold one record."""
        record = decode(raw)
        if record is None:
            self._reject(offset, raw, "log_record", 0)
            return
        if record["at"] > self._now:
            self._now = record["at"]
            while self._deadlines and self._deadlines[0][0] < self._now:
                self._overdue(*heapq.heappop(self._deadlines), offset)
        kind = record["type"]
        if kind in ("observation", "label") and self._contract is None:
            self._reject(offset, raw, "no_contract", self._now)
        elif kind == "observation":
            self._observe(record, offset)
        elif kind == "label" and not isinstance(record["y"], bool):
            self._reject(offset, raw, "label_type", self._now)
        elif kind == "label":
            self.labels += 1
            self._label(record, offset)
        elif record["id"] not in self._controls:
            self._controls.add(record["id"])
            if not self._control(record):
                self._reject(offset, raw, "control", self._now)

    # -- observations and labels ------------------------------------------------------------------------------------

    def _observe(self, record: Event, offset: int) -> None:
        identity = record["id"]
        if identity in self._known:
            return
        prediction = {name: record[name] for name in ("id", "entity", "at")} | {"offset": offset}
        first = self.canary if self._is_canarys(record["entity"]) else self.champion
        self.by_canary += first is not None and first is not self.champion
        asked = []
        for model in [first] * (first is not None) + [model for model in self.models if model is not first]:
            served = model.served(record["x"], record["entity"], record["at"])
            said = {"model": model.name, "version": model.version} | model.answer(served)
            asked.append((model, served))
            if model is first:
                prediction |= said
            else:
                prediction.setdefault("challengers", []).append(said)
        flags = self.watcher.judge(record["x"]) if self.watcher is not None else {}
        self.predictions.append(prediction | flags)
        self.waiting[identity] = (record, prediction, asked)
        self._known[identity] = None
        self._set_deadline(record["at"], offset, identity)
        while len(self.waiting) > self._limits["pending"]:
            self._expire(next(iter(self.waiting)), self._now, offset)
        self._forget()
        if identity in self.early:
            label, _ = self.early.pop(identity)
            self._resolve(label, offset)

    def _is_canarys(self, entity: str) -> bool:
        if self.canary is None:
            return False
        digest = hashlib.blake2b(f"{self.canary.name}/{entity}".encode(), digest_size=4).hexdigest()
        return int(digest, 16) / 2**32 < self.share

    def _forget(self) -> None:
        """Drop the oldest ids, but none that waits: that one counts as seen just now."""
        while len(self._known) > self._limits["remembered"]:
            oldest = next(iter(self._known))
            first = self._known.pop(oldest)
            if oldest in self.waiting:
                self._known[oldest] = first
            else:
                self.forgotten += 1

    def _label(self, label: Event, offset: int) -> None:
        identity = label["id"]
        if identity in self.waiting:
            self._resolve(label, offset)
        elif identity in self._known:
            first = self._known[identity]
            if self._policy["second"] == "ignore" or first is None:
                self._end_label(label, "ignored", offset)
            else:
                changed = {"at": label["at"], "status": "corrected", "offset": offset, "y": label["y"]}
                revised = {name: value for name, value in first.items() if name != "previous_y"} | changed
                if first.get("y") is not None:
                    revised["previous_y"] = first["y"]
                self._known[identity] = revised
                self.outcomes.append(revised)
        elif identity in self.early:
            self._end_label(label, "ignored", offset)
        else:
            self.early[identity] = (label, offset)
            self._set_deadline(label["at"], offset, identity)
            while len(self.early) > self._limits["early_labels"]:
                oldest = next(iter(self.early))
                self._end_label(self.early.pop(oldest)[0], "unmatched", offset)

    def _resolve(self, label: Event, offset: int) -> None:
        self._end_observation(label["id"], "labelled", label["at"], offset, label["y"])

    def _expire(self, identity: str, at: int, offset: int) -> None:
        negative = self._policy["expiry"] == "negative"
        self._end_observation(identity, "expired", at, offset, False if negative else None)

    def _end_observation(self, identity: str, status: str, at: int, offset: int, y: bool | None) -> None:
        record, prediction, asked = self.waiting.pop(identity)
        outcome = {**prediction, "at": at, "status": status, "offset": offset}
        outcome |= {"observed_at": record["at"], "prediction_offset": prediction["offset"]}
        if y is not None:
            outcome["y"] = y
            for model, served in asked:
                if model.deployed:
                    model.learn(served, y)
                    for feature in model.features:
                        if feature.kind == "rate":
                            feature.add(record["entity"], at, y)
        if self._policy["second"] == "correct" and identity in self._known:
            self._known[identity] = outcome
        self.outcomes.append(outcome)

    def _end_label(self, label: Event, status: str, offset: int) -> None:
        told = {name: label[name] for name in ("id", "entity", "at", "y")}
        self.outcomes.append(told | {"status": status, "offset": offset})

    # -- time -------------------------------------------------------------------------------------------------------

    def _set_deadline(self, at: int, offset: int, identity: str) -> None:
        heapq.heappush(self._deadlines, (at + 1000 * self._policy["wait_seconds"], offset, identity))

    def _overdue(self, deadline: int, since: int, identity: str, offset: int) -> None:
        if identity in self.waiting and self.waiting[identity][1]["offset"] == since:
            self._expire(identity, deadline, offset)
        elif identity in self.early and self.early[identity][1] == since:
            self._end_label(self.early.pop(identity)[0], "unmatched", offset)

    # -- control ----------------------------------------------------------------------------------------------------

    def _control(self, record: Event) -> bool:
        """Follow a decision; False if it cannot be followed."""
        if record["type"] == "contract":
            self._contract = record["contract"]
            self._policy = {"wait_seconds": 7 * 24 * 3600, "expiry": "drop", "second": "ignore"}
            self._policy |= self._contract.get("label", {})
            self._limits = {"pending": 200_000, "remembered": 400_000, "early_labels": 10_000}
            self._limits |= self._contract.get("limits", {})
            self._watch(self._contract)
            return True
        before = next((model for model in self.models if model.name == record["model"]), None)
        if record["type"] == "deploy":
            try:
                made = Model(record)
            except Exception:
                return False
            if before is not None:
                self._leave(before)
            self.models.append(made)
            if record.get("role", "champion") == "champion":
                self.champion, self.canary = made, None
            return True
        if before is None:
            return False
        if record["type"] == "promote":
            self.champion, self.canary = before, None
        elif record["type"] == "share":
            if before is self.champion:
                return False
            self.canary, self.share = before if record["share"] > 0 else None, record["share"]
        elif record["type"] == "freeze":
            before.frozen = record.get("frozen", True)
        else:
            self._leave(before)
        return True

    def _watch(self, contract: Event) -> None:
        spec = contract.get("outliers")  # none, or an empty one: nobody watches
        fields = [each["name"] for each in contract["fields"] if each["type"] == "number"]
        if not spec:
            self.watcher = None
        elif self.watcher is None or (self.watcher.spec, self.watcher.fields) != (spec, fields):
            self.watcher = Watcher(contract["name"], spec, fields)

    def _leave(self, model: Model) -> None:
        model.deployed = False
        self.models.remove(model)
        if self.champion is model:
            self.champion = None
        if self.canary is model:
            self.canary = None

    def _reject(self, offset: int, raw: bytes | None, rule: str, at: int) -> None:
        original = base64.b64encode(raw or b"").decode()
        told = {"at": at, "rule": rule, "original": original, "origin": f"{self._origin}/{offset}"}
        self.rejected.append(told)


FIELDS = {
    "observation": {"id": str, "entity": str, "at": int, "x": dict},
    "label": {"id": str, "entity": str, "at": int, "y": (str, int, float, bool)},
    "contract": {"id": str, "at": int, "version": int, "contract": dict},
    "deploy": {"id": str, "at": int, "model": str, "version": int, "specification": dict},
    "promote": {"id": str, "at": int, "model": str},
    "share": {"id": str, "at": int, "model": str, "share": (int, float)},
    "freeze": {"id": str, "at": int, "model": str},
    "retire": {"id": str, "at": int, "model": str},
}
"""What a record of each kind must have."""


def decode(raw: bytes | None) -> Event | None:
    """The record, None if these bytes are none."""
    try:
        record = json.loads(raw or b"")
        fields = FIELDS[record["type"]]
    except (ValueError, KeyError, TypeError):
        return None
    return record if all(isinstance(record.get(name), kind) for name, kind in fields.items()) else None
