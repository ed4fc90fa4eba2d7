"""Answers by Idempotency-Key: the same key with the same body gets the same answer, with another body a refusal.

It spares a retrying client from double work; it is not what keeps events from counting twice. The store lives in one
process, is bounded by count, bytes and age, and forgets on restart. The real guard is the fold, which drops an id it
has seen; that is why ids generated under an Idempotency-Key are derived from it (see `ids.keyed_ids`).
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from headrace.errors import Unusable

Answer = TypeVar("Answer")


class KeyReused(Unusable):
    """An Idempotency-Key came back with another body. Duty: a new key for a new body."""


class _Entry(Generic[Answer]):
    __slots__ = ("answer", "at_ms", "fingerprint", "size_bytes")

    def __init__(self, fingerprint: bytes, answer: Answer, at_ms: int) -> None:
        self.fingerprint = fingerprint
        self.answer = answer
        self.at_ms = at_ms
        self.size_bytes = 0


class IdempotencyStore(Generic[Answer]):
    """Answers (or the promise of one still being worked on) by key, oldest first; at any bound the oldest goes.

    limit: entries. limit_bytes: of settled answers. age_ms: how long an answer is remembered. The clock is an argument.
    """

    def __init__(self, *, limit: int, limit_bytes: int, age_ms: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._age_ms = age_ms
        self._size_bytes = 0
        self._entries: OrderedDict[Hashable, _Entry[Answer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Hashable, fingerprint: bytes, now_ms: int) -> Answer | None:
        """The answer given under `key` to this very body, or None. Raises `KeyReused` if the body was another."""
        self._expire(now_ms)
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.fingerprint != fingerprint:
            raise KeyReused("this Idempotency-Key was used with another body; take a new key for a new body")
        return entry.answer

    def begin(self, key: Hashable, fingerprint: bytes, answer: Answer, now_ms: int) -> None:
        """Note that `answer` (a promise, as the work goes on) is what this key gets. The key must be free."""
        if key in self._entries:
            raise ValueError("begin() needs a key that find() did not know")
        while len(self._entries) >= self._limit:
            self._drop_oldest()
        self._entries[key] = _Entry(fingerprint, answer, now_ms)

    def settle(self, key: Hashable, size_bytes: int) -> None:
        """The work under `key` is done and its answer takes `size_bytes` of memory."""
        entry = self._entries.get(key)
        if entry is None:
            return
        self._size_bytes += size_bytes - entry.size_bytes
        entry.size_bytes = size_bytes
        while self._size_bytes > self._limit_bytes and self._entries:
            self._drop_oldest()

    def forget(self, key: Hashable) -> None:
        """The work under `key` failed: the next request with it starts afresh."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size_bytes -= entry.size_bytes

    def _expire(self, now_ms: int) -> None:
        while self._entries:
            oldest = next(iter(self._entries.values()))
            if now_ms - oldest.at_ms <= self._age_ms:
                return
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, entry = self._entries.popitem(last=False)
        self._size_bytes -= entry.size_bytes
