"""The simulated system: one stream, real processors, two hosts a service, and everything that goes wrong.

A history is a list of actions; each is a word and three small numbers, whose meaning depends on what has happened (the
third-newest id, the second partition). So every list means something, any part of it can be left out, and the same
list always does the same: that is what makes a failing history short and a seed repeatable.
"""

import json
from collections.abc import Callable, Iterable
from typing import NamedTuple

from headrace.contracts.cleanse import Cleanser
from headrace.contracts.topics import (
    INBOX,
    LOG,
    OUTCOMES,
    PREDICTIONS,
    REJECTED,
    STATISTICS,
    STREAM_TOPICS,
    topic,
)
from headrace.errors import Transient
from headrace.memory import POINTS, Crash, MemoryBroker, MemoryHost, MemorySnapshots
from headrace.processor import BY_KEY, Processor
from headrace.recovery import Place, folder_of
from headrace.signatures import LEAST_SECRET_BYTES
from headrace.signing import Keys
from services.ingest.domain.lines import cleanse
from services.ingest.processor import InboxProcessor
from services.monitor.processor import Summariser, WindowShape
from services.registry.domain import controls
from services.scoring.processor import ScoringProcessor
from tests.simulation.checker import Checker, Sent
from tests.simulation.stream import (
    ENTITIES,
    MODELS,
    PARTITIONS,
    POISON,
    ROGUE,
    SECOND,
    START_MS,
    STREAM,
    UNBUILDABLE,
    contract,
)

INBOX_TOPIC, LOG_TOPIC = topic(INBOX, STREAM), topic(LOG, STREAM)
SUMMARISED = tuple(topic(kind, STREAM) for kind in (LOG, PREDICTIONS, OUTCOMES, REJECTED))
PLACES: dict[str, list[Place]] = {
    "ingest": [(INBOX_TOPIC, partition) for partition in range(PARTITIONS)],
    "scoring": [(LOG_TOPIC, partition) for partition in range(PARTITIONS)],
    "monitor": [(name, partition) for name in SUMMARISED for partition in range(PARTITIONS)],
}
STAGES = ("scoring", "ingest", "monitor", "scoring", "monitor")
"""What a number of an action picks from: scoring is where most can go wrong."""
SHAPE = WindowShape(length_seconds=10, lateness_seconds=5, open_windows=4)
LIMITS = (3, 40, 1, 12)
TIME_STEPS = (500, 1000, 0, 2000, 250, -3000, 7000)
DAMAGES = ("flipped", "lost", "cut", "foreign", "all lost")
DISTURBANCES = ("crash", "abort", "overtaken")


class Action(NamedTuple):
    """One thing that happens. The numbers are from 0 to 99."""

    what: str
    p: int
    q: int
    r: int


class FaultySnapshots(MemorySnapshots):
    """A store whose content can be spoilt. strangers: keys with which the next states are signed in place of its own.

    spoilt: digests of states that are not what was stored.
    """

    def __init__(
        self,
        blobs: dict[str, bytes] | None = None,
        folder: str = "",
        strangers: list[Keys] | None = None,
        spoilt: set[str] | None = None,
    ) -> None:
        super().__init__(blobs=blobs, folder=folder)
        self.strangers = [] if strangers is None else strangers
        self.spoilt = set() if spoilt is None else spoilt

    def within(self, name: str) -> "FaultySnapshots":
        return FaultySnapshots(self.blobs, f"{self._folder}{name}/", self.strangers, self.spoilt)

    def put(self, state: bytes) -> tuple[str, int]:
        if not self.strangers:
            digest, size = super().put(state)
            self.spoilt.discard(digest)
            return digest, size
        stranger = MemorySnapshots(self.strangers.pop(), self.blobs, self._folder)
        digest, size = stranger.put(state)
        self.spoilt.add(digest)
        return digest, size

    def spoil(self, place: str, how: str) -> None:
        """Do something to the newest snapshot of a place (the last one stored), or to all of them."""
        if how == "foreign":
            self.strangers.append(Keys(b"another key".ljust(LEAST_SECRET_BYTES)))
            return
        names = [name for name in self.blobs if name.startswith(place)]
        for name in names if how == "all lost" else names[-1:]:
            blob = self.blobs[name]
            if how in ("lost", "all lost"):
                del self.blobs[name]
            elif how == "cut":
                self.blobs[name] = blob[: len(blob) // 2]
            else:
                self.blobs[name] = blob[:-1] + bytes([blob[-1] ^ 1])
            self.spoilt.add(name.rpartition("/")[2])


class Stage:
    """A service: two hosts of one group, and which of them works on a place just now."""

    def __init__(
        self, name: str, broker: MemoryBroker, factory: Callable[[str, int], Processor], snapshot_records: int
    ) -> None:
        self.name = name
        self.snapshots = FaultySnapshots()
        topics = list(dict.fromkeys(name for name, _ in PLACES[name]))
        self.hosts = [
            MemoryHost(
                broker,
                factory,
                topics,
                batch_records=max(LIMITS),
                snapshot_records=snapshot_records,
                group=name,
                instance=str(number),
                snapshots=self.snapshots,
                stateless=name == "ingest",
            )
            for number in (0, 1)
        ]
        self.owner: dict[Place, int] = dict.fromkeys(PLACES[name], 0)

    def host(self, place: Place) -> MemoryHost:
        return self.hosts[self.owner[place]]


class World:
    """Plays actions and lets the checker look after each. `trace`: what was done, for a person to read."""

    def __init__(self) -> None:
        self.broker = broker = MemoryBroker()
        for kind in STREAM_TOPICS:
            broker.create(topic(kind, STREAM), PARTITIONS)
        broker.create(STATISTICS.name)
        self.trace: list[str] = []
        self.faults: dict[str, int] = {}
        self.events = 0
        self._now = START_MS
        self._skew = 0
        self._contract = contract(1, 0)
        self.checker = Checker(
            STREAM, PARTITIONS, self, future_ms=self._contract.limits.future_seconds * SECOND
        )
        self.stages = {
            "ingest": Stage("ingest", broker, self._inbox, 0),
            "scoring": Stage("scoring", broker, ScoringProcessor, 12),
            "monitor": Stage("monitor", broker, lambda name, place: Summariser(name, place, SHAPE), 15),
        }
        self._cleanser = Cleanser(self._contract)
        self._ids: list[str] = []
        self._writes: list[tuple[str, bytes, bytes, Sent]] = []
        self._decisions: list[bytes] = []
        self._half_written: bytes | None = None
        self._versions = dict.fromkeys(MODELS, 0)
        self._before_the_contract()
        self._decide(controls.adopted(STREAM, 1, self._contract.to_dict()))
        self._deploy("windowed", "champion")

    # -- what the checker may ask -------------------------------------------------------------------------------------

    def read(
        self, topic: str, partition: int, offset: int
    ) -> Iterable[tuple[int, bytes | None, bytes | None]]:
        return self.broker.read(topic, partition, offset)

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        try:
            return self.broker.committed(group, (topic, partition))
        except Transient:
            return None

    def is_settled(self) -> bool:
        return self.broker.is_settled()

    # -- playing ------------------------------------------------------------------------------------------------------

    def play(self, actions: Iterable[Action]) -> None:
        """Do one thing after another. Raises `Violation`."""
        for action in actions:
            self.trace.append(" ".join(map(str, action)))
            getattr(self, f"_{action.what}")(action.p, action.q, action.r)
            self.checker.look()

    def settle(self) -> None:
        """No more faults: let everything come to rest."""
        self.broker.time_out()
        if self._half_written is not None:
            self._write_to_all(self._half_written)
        moved = 1
        while moved:
            moved = sum(
                stage.host(place).step(*place)
                for name, stage in self.stages.items()
                for place in PLACES[name]
            )
        self.checker.finish()

    # -- producers ----------------------------------------------------------------------------------------------------

    def _inbox(self, name: str, partition: int) -> InboxProcessor:
        return InboxProcessor(STREAM, lambda: self._cleanser, self._clock)

    def _clock(self) -> int:
        reading = self._now + self._skew
        self.checker.clocks.append(reading)
        return reading

    def _clock_step(self, p: int, q: int, r: int) -> None:
        self._fault("clock step")
        self._skew = (0, 3600 * SECOND, -3600 * SECOND, 40 * SECOND)[p % 4]

    def _observe(self, p: int, q: int, r: int) -> None:
        self._now += TIME_STEPS[q % len(TIME_STEPS)]
        number = len(self._ids)
        identity, entity = f"n{number}", _entity(number)
        x: dict[str, float | str] = {"a": round((p - 50) / 7 + number % 5, 3)}
        if r % 5:
            x["b"] = float((p * 37 + r) % 101 - 50)
        if r % 4 == 1:
            x["c"] = "xy"[p % 2]
        document = {"who": entity, **x}
        at = self._now
        if p % 3 == 2:  # over HTTP
            self._ids.append(identity)
            document |= {"id": identity, "at": at}
            self._post(
                "observation", json.dumps(document).encode(), Sent("observation", identity, entity, at, x)
            )
            return
        if r % 19 == 7:
            identity = f"{STREAM}-inbox-%d-%d"  # ingest names it after its place
        else:
            document["id"] = identity
        if r % 23 != 5:
            document["at"] = at
        self._ids.append(identity)
        sent = Sent("observation", identity, entity, document.get("at"), x)  # type: ignore[arg-type]
        self._send(json.dumps(document).encode(), sent)

    def _label(self, p: int, q: int, r: int) -> None:
        """A label for one of the newest ids, or for one that is yet to come."""
        if r % 8 == 3 or not self._ids:
            identity, number = f"n{len(self._ids) + r % 3}", len(self._ids) + r % 3
        else:
            number = len(self._ids) - 1 - p % min(14, len(self._ids))
            identity = self._ids[number]
        self._now += (0, 300, 900, 0)[q % 4]
        y, entity = p * 7 % 3 == 1, _entity(number)
        told = {"id": identity, "entity": entity, "label": y, "at": self._now}
        raw, sent = json.dumps(told).encode(), Sent("label", identity, entity, self._now, y)
        if q % 3 == 2:
            self._post("label", raw, sent)
        else:
            self._send(raw, sent)

    def _again(self, p: int, q: int, r: int) -> None:
        """A producer that heard no answer writes the same again; the registry writes an old decision again."""
        self._fault("duplicate")
        if r % 5 == 0:
            self._write_to_all(self._decisions[p % len(self._decisions)])
        elif self._writes:
            self._append(*self._writes[-1 - p % min(20, len(self._writes))])

    def _poison(self, p: int, q: int, r: int) -> None:
        self._fault("poison")
        if r % 3 == 0:
            if q % 4 == 0:
                rogue: bytes | None = json.dumps(
                    {"type": "label", "id": "n0", "entity": "e0", "at": self._now, "y": "maybe"}
                ).encode()
                self.checker.direct.append(Sent("label", "n0", "e0", self._now, "maybe"))
            else:
                rogue = ROGUE[p % len(ROGUE)]
            self.broker.produce(LOG_TOPIC, [{"key": b"e0", "value": rogue}], q % PARTITIONS)
            return
        raw, rule = POISON[p % len(POISON)]
        self._append(INBOX_TOPIC, b"e0", raw, Sent("poison", "", "e0", None, None, rule))

    def _post(self, kind: str, raw: bytes, sent: Sent) -> None:
        """Through ingest's HTTP side: checked at once, written past the inbox."""
        done = cleanse(
            self._cleanser,
            kind,  # type: ignore[arg-type]
            [raw],
            first_line=1,
            enveloped=False,
            now_ms=self._now,
            new_id=lambda _: "never",
        )
        assert not done.refused, done.refused
        (message,) = done.messages
        self._append(LOG_TOPIC, message["key"] or b"", message["value"], sent)

    def _send(self, raw: bytes, sent: Sent) -> None:
        self._append(INBOX_TOPIC, sent.entity.encode(), raw, sent)

    def _append(self, name: str, key: bytes, raw: bytes | None, sent: Sent) -> None:
        self.events += 1
        if raw is not None:
            self._writes.append((name, key, raw, sent))
        ((_, partition),) = self.broker.append(name, [{"key": key, "value": raw}], BY_KEY, None)
        if name == LOG_TOPIC:
            self.checker.direct.append(sent)
            return
        offset = self.broker.end(name, partition) - 1
        if "%" in sent.id:
            named = sent.id % (partition, offset)
            if sent.id in self._ids:
                self._ids[self._ids.index(sent.id)] = named
            sent = sent._replace(id=named)
        self.checker.sent[partition, offset] = sent

    # -- the registry -------------------------------------------------------------------------------------------------

    def _before_the_contract(self) -> None:
        """Somebody wrote to the log before there was a contract."""
        for partition in range(PARTITIONS):
            early = {
                "type": "observation",
                "id": f"pre{partition}",
                "entity": "e",
                "at": START_MS,
                "x": {"a": 1.0},
            }
            self.broker.produce(LOG_TOPIC, [{"key": b"e", "value": json.dumps(early).encode()}], partition)
            self.checker.direct.append(Sent("observation", f"pre{partition}", "e", START_MS, {"a": 1.0}))

    def _control(self, p: int, q: int, r: int) -> None:
        """A decision; sometimes the registry dies half way through writing it and writes all of it again, later."""
        name = list(MODELS)[q % len(MODELS)]
        sequence = len(self._decisions)
        match p % 12:
            case 0:
                version = self._contract.version + 1
                self._contract = contract(version, q)
                self._cleanser = Cleanser(self._contract)
                self._decide(controls.adopted(STREAM, version, self._contract.to_dict()), half=r)
            case 1 | 2 | 3:
                self._deploy(name, "challenger", half=r)
            case 4:
                self._deploy(name, "champion", half=r)
            case 5 | 6:
                self._decide(controls.changed(STREAM, sequence, name, "promote"), half=r)
            case 10 | 11:
                share = (0.0, 0.3, 0.6, 1.0)[q // 2 % 4]
                self._decide(controls.shared(STREAM, sequence, name, share), half=r)
            case 7:
                self._decide(controls.changed(STREAM, sequence, name, "freeze"), half=r)
            case 8:
                self._decide(controls.changed(STREAM, sequence, name, "unfreeze"), half=r)
            case _ if q % 3:
                self._decide(controls.changed(STREAM, sequence, name, "retire"), half=r)
            case _:
                self._decide(controls.deployed(STREAM, sequence, "bad", 1, UNBUILDABLE, "champion"), half=r)

    def _deploy(self, name: str, role: str, half: int = 99) -> None:
        self._versions[name] += 1
        made = controls.deployed(
            STREAM,
            len(self._decisions),
            name,
            self._versions[name],
            MODELS[name],
            role,  # type: ignore[arg-type]
        )
        self._decide(made, half=half)

    def _decide(self, made: tuple[str, bytes], half: int = 99) -> None:
        if self._half_written is not None:
            self._write_to_all(self._half_written)
        identity, record = made
        self.checker.controls.append(identity)
        self._decisions.append(record)
        if half % 4 == 0:
            self._fault("decision half written")
            self._half_written = record
            self._write_to_all(record, partitions=1 + half % (PARTITIONS - 1))
        else:
            self._write_to_all(record)

    def _write_to_all(self, record: bytes, partitions: int = PARTITIONS) -> None:
        for partition in range(partitions):
            self.broker.produce(LOG_TOPIC, [{"key": None, "value": record}], partition)
        if partitions == PARTITIONS and record == self._half_written:
            self._half_written = None

    # -- services, and what befalls them ------------------------------------------------------------------------------

    def _work(self, p: int, q: int, r: int) -> None:
        stage, place = self._pick(p, q)
        stage.host(place).step(*place, limit=LIMITS[r % len(LIMITS)])

    def _disturb(self, p: int, q: int, r: int) -> None:
        """A step to which something happens at one of its points."""
        stage, place = self._pick(p, q)
        point, kind = POINTS[r % len(POINTS)], DISTURBANCES[q // 13 % len(DISTURBANCES)]
        host, other = stage.host(place), stage.hosts[1 - stage.owner[place]]

        def at(reached: str, _: Place) -> None:
            if reached != point:
                return
            host.at = lambda _point, _place: None
            self._fault(f"{kind} {point}")
            if kind == "crash":
                raise Crash
            if kind == "abort":
                raise Transient("the transaction failed")
            stage.owner[place] = stage.hosts.index(other)
            other.step(*place, limit=LIMITS[p % len(LIMITS)])

        host.at = at
        host.step(*place, limit=LIMITS[(p + q) % len(LIMITS)])
        host.at = lambda _point, _place: None

    def _move(self, p: int, q: int, r: int) -> None:
        """A rebalance: the other host works there from now on; the first does not know and tries once more."""
        stage, place = self._pick(p, q)
        self._fault("rebalance")
        former = stage.host(place)
        stage.owner[place] = 1 - stage.owner[place]
        stage.host(place).step(*place, limit=LIMITS[r % len(LIMITS)])
        if r % 2:
            self._fault("zombie")
            former.step(*place, limit=LIMITS[r // 2 % len(LIMITS)])

    def _kill(self, p: int, q: int, r: int) -> None:
        stage, place = self._pick(p, q)
        self._fault("kill")
        stage.host(place).crash()

    def _damage(self, p: int, q: int, r: int) -> None:
        """The newest snapshot is no good, and now it is needed."""
        stage, place = self._pick(p, q)
        how = DAMAGES[r % len(DAMAGES)]
        self._fault(f"snapshot {how}")
        stage.snapshots.spoil(folder_of(stage.name, place), how)
        stage.host(place).crash()

    def _time_out(self, p: int, q: int, r: int) -> None:
        self._fault("transaction timed out")
        self.broker.time_out()

    def _pick(self, p: int, q: int) -> tuple[Stage, Place]:
        name = STAGES[p % len(STAGES)]
        return self.stages[name], PLACES[name][q % len(PLACES[name])]

    def _fault(self, name: str) -> None:
        self.faults[name] = self.faults.get(name, 0) + 1


def _entity(number: int) -> str:
    return f"e{number * 5 % ENTITIES}"


WEIGHTS = {
    "observe": 20,
    "label": 18,
    "again": 3,
    "poison": 3,
    "control": 3,
    "clock_step": 1,
    "work": 26,
    "disturb": 14,
    "move": 4,
    "kill": 2,
    "damage": 2,
    "time_out": 1,
}
"""How often each action comes in a seeded history."""
