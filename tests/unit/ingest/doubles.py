"""What ingest's unit tests share: a real cleanser that can also fail as none should, and a producer run by hand."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future

from headrace.contracts.cleanse import Cleanser
from headrace.contracts.events import Label, Observation
from headrace.contracts.stream import Field, StreamContract
from headrace.processor import Message

CONTRACT = StreamContract(
    "flights",
    "binary",
    [Field("entity", "string", feature=False, required=True), Field("x", "number")],
    entity="entity",
)


class FlawedCleanser(Cleanser):
    """The real one, but the text `boom` makes it fail with an error that is no `Poison`."""

    def __init__(self) -> None:
        super().__init__(CONTRACT)

    def event(self, raw: bytes | None, *, now_ms: int, new_id: Callable[[], str]) -> Observation | Label:
        _stumble(raw)
        return super().event(raw, now_ms=now_ms, new_id=new_id)

    def observation(self, raw: bytes | None, *, now_ms: int, new_id: Callable[[], str]) -> Observation:
        _stumble(raw)
        return super().observation(raw, now_ms=now_ms, new_id=new_id)


def _stumble(raw: bytes | None) -> None:
    if raw is not None and b"boom" in raw:
        raise RecursionError


class ManualProducer:
    """Keeps what was sent; acknowledges at once unless `hold` is set, fails what `fail` names by topic."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[Message]]] = []
        self.traces: list[str] = []
        self.held: list[Future[list[tuple[int, int]]]] = []
        self.hold = False
        self.fail: dict[str, Exception] = {}
        self.level = 0.0

    def send(
        self, topic: str, messages: Sequence[Message], *, traceparent: str = ""
    ) -> "Future[list[tuple[int, int]]]":
        future: Future[list[tuple[int, int]]] = Future()
        future.set_running_or_notify_cancel()
        self.sent.append((topic, list(messages)))
        self.traces.append(traceparent)
        if topic in self.fail:
            future.set_exception(self.fail[topic])
        elif self.hold:
            self.held.append(future)
        else:
            future.set_result([(0, 0)] * len(messages))
        return future

    def pressure(self) -> float:
        return self.level
