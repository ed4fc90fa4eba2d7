"""Doubles for ingest's unit tests: a cleanser with three rules, and a producer that acknowledges when told."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from headrace.contracts.events import Label, Observation
from headrace.errors import Poison
from headrace.processor import Message


class SimpleCleanser:
    """Takes {"id"?, "entity", "label"?} objects; the id `boom` makes it fail as no cleanser should."""

    def event(self, raw: bytes, *, now_ms: int, new_id: Callable[[], str]) -> Observation | Label:
        try:
            value: Any = json.loads(raw)
        except ValueError:
            raise Poison("not JSON", rule="json") from None
        if value.get("id") == "boom":
            raise RecursionError
        if "entity" not in value:
            raise Poison("no entity", rule="missing", field="entity")
        if "label" in value:
            return Label(value["id"], value["entity"], now_ms, value["label"])
        return Observation(value.get("id") or new_id(), value["entity"], now_ms, {})

    def observation(self, raw: bytes, *, now_ms: int, new_id: Callable[[], str]) -> Observation:
        event = self.event(raw, now_ms=now_ms, new_id=new_id)
        assert isinstance(event, Observation)
        return event

    def label(self, raw: bytes, *, now_ms: int) -> Label:
        event = self.event(raw, now_ms=now_ms, new_id=str)
        assert isinstance(event, Label)
        return event


class ManualProducer:
    """Keeps what was sent; acknowledges at once unless `hold` is set, fails what `fail` names by topic."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[Message]]] = []
        self.held: list[Future[list[tuple[int, int]]]] = []
        self.hold = False
        self.fail: dict[str, Exception] = {}
        self.level = 0.0

    def send(self, topic: str, messages: Sequence[Message]) -> "Future[list[tuple[int, int]]]":
        future: Future[list[tuple[int, int]]] = Future()
        future.set_running_or_notify_cancel()
        self.sent.append((topic, list(messages)))
        if topic in self.fail:
            future.set_exception(self.fail[topic])
        elif self.hold:
            self.held.append(future)
        else:
            future.set_result([(0, 0)] * len(messages))
        return future

    def pressure(self) -> float:
        return self.level
