"""A registry in one process, on a log in memory that may crash at every step."""

from dataclasses import dataclass

from headrace.contracts.codec import decode_log_record
from headrace.errors import Transient
from services.registry.agents import announcement_key
from services.registry.database import Database
from services.registry.domain.audit import By, Seal
from services.registry.journal import Journal
from services.registry.registry import Registry, now_ms
from services.registry.rollouts import RolloutStore
from services.registry.store import Store
from services.registry.trail import Trail

SPECIFICATION = {
    "model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"],
    "inputs": ["a"],
    "seed": 42,
}
ADA = By("ada")
OTHER = {"model": "naive_bayes.GaussianNB", "inputs": ["a"], "seed": 1}


def contract(name, **changes):
    plain = {
        "name": name,
        "task": "binary",
        "partitions": 3,
        "fields": [{"name": "a", "type": "number", "required": True}, {"name": "b", "type": "string"}],
        "label": {"name": "late"},
    }
    return plain | changes


# -- memory ---------------------------------------------------------------------------------------------------------


@dataclass
class Opened:
    """A registry's memory, opened as a process opens it."""

    database: Database
    store: Store
    journal: Journal
    rollouts: RolloutStore
    trail: Trail

    def registry(self, log):
        return Registry(self.store, self.journal, log, self.rollouts, self.trail)


def opened(url):
    database = Database(url)
    database.prepare()
    trail = Trail(database, Seal(b"k" * 32), now_ms)
    store, rollouts = Store(database, now_ms, trail), RolloutStore(database, now_ms, trail)
    return Opened(database, store, Journal(database), rollouts, trail)


# -- a log that may crash -------------------------------------------------------------------------------------------


class Crash(BaseException):
    """As good as kill -9: nothing in the registry may catch it."""


class FakeLog:
    """Kafka as the registry sees it; dies at its n-th step, before or after the step has its effect."""

    def __init__(self):
        self.records: dict[str, list[list[bytes]]] = {}
        self.told: dict[bytes, object] = {}
        self.announced_heads: list[bytes] = []
        self.changes: list[bytes] = []
        self.steps = 0
        self.crash_at = -1
        self.crash_after = False
        self.away = False

    def check(self) -> None:
        """Always fit to go on."""

    def step(self, effect):
        if self.away:
            raise Transient("the broker is away")
        self.steps += 1
        if self.steps == self.crash_at and not self.crash_after:
            raise Crash
        result = effect()
        if self.steps == self.crash_at:
            raise Crash
        return result

    def ensure_platform(self):
        self.step(lambda: None)

    def ensure_stream(self, stream, partitions):
        self.step(lambda: self.records.setdefault(stream, [[] for _ in range(partitions)]))

    def is_empty(self, stream):
        return self.step(lambda: not any(self.records[stream]))

    def outcomes(self, stream):
        return dict.fromkeys(range(len(self.records[stream])), 0)

    def write(self, stream, partitions, record):
        offsets = {}
        for number in range(partitions):
            self.step(lambda number=number: self.records[stream][number].append(record))
            offsets[number] = len(self.records[stream][number]) - 1
        return offsets

    def announce(self, announcements):
        for told in announcements:
            self.step(lambda told=told: self.told.__setitem__(announcement_key(told), told))

    def announce_head(self, head):
        self.step(lambda: self.announced_heads.append(head))

    def heads(self):
        return list(self.announced_heads)

    def tell_changes(self, changes):
        for told in changes:
            self.step(lambda told=told: self.changes.append(told))

    def told_changes(self, newest=None):
        return iter(self.changes if newest is None else self.changes[-newest:])

    def applied(self, stream, partition):
        """What a fold applies: every id once, in order."""
        seen = {}
        for record in self.records[stream][partition]:
            control = decode_log_record(record)
            seen.setdefault(control.id, control)
        return list(seen.values())
