"""Anything that folds records, as a Processor: so that operators and other state keep the same laws.

An operator has its own way to be called, saved and resumed; the laws know one. What would break: an adapter that keeps
state of its own, as that would be tested instead.
"""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from headrace import checkpoint
from headrace.contracts.codec import encode
from headrace.processor import Batch, Outputs

S = TypeVar("S")

SAID = ("said", 0)
"""Where an adapted state's outputs go."""


class AsProcessor(Generic[S]):
    """`state` as a Processor.

    make: an empty state. fold: a batch into a state, gives what it says. save, load: the state as bytes and back; load
    raises `Unusable` for damaged bytes. They default to `headrace.checkpoint`, which takes the classes of
    `headrace.fold`, `headrace.operators` and `headrace.contracts`.
    """

    def __init__(
        self,
        make: Callable[[], S],
        fold: Callable[[S, Batch], Outputs],
        save: Callable[[S], bytes] = checkpoint.dumps,
        load: Callable[[bytes], S] = checkpoint.loads,
    ) -> None:
        self.state = make()
        self._fold = fold
        self._save = save
        self._load = load

    def process(self, batch: Batch) -> Outputs:
        """See the protocol."""
        return self._fold(self.state, batch)

    def snapshot(self) -> bytes:
        """See the protocol."""
        return self._save(self.state)

    def restore(self, state: bytes) -> None:
        """See the protocol."""
        self.state = self._load(state)

    def fingerprints(self) -> dict[str, str]:
        """None: give the laws a `state` to compare."""
        return {}


def said(answers: Iterable[Any]) -> Outputs:
    """What an adapted state says, as outputs: anything that JSON knows, one message each."""
    messages = [{"key": None, "value": encode(answer)} for answer in answers]
    return {SAID: messages} if messages else {}  # type: ignore[dict-item]  # a literal of Message's keys
