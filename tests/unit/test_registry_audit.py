"""The audit trail: every change leaves one record, and whatever is done to the records later is found and named."""

import hmac
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts.codec import encode
from headrace.contracts.left_out import LeftOut
from headrace.contracts.stream import Field, StreamContract, from_dict
from headrace.errors import Unusable
from headrace.signatures import Trusted
from headrace.trail import Examination, opened_head
from services.registry.database import Database
from services.registry.decisions import Absent
from services.registry.domain import rollouts
from services.registry.domain.audit import EMPTY, By, Change, Head, Record, Seal
from services.registry.domain.lifecycle import Conflict
from services.registry.domain.rollouts import Plan, Rollout, Turn
from services.registry.rollouts import RolloutStore
from services.registry.store import Store
from services.registry.tables import AuditRow
from services.registry.trail import Trail

SEAL, OTHER = Seal(b"k" * 32), Seal(b"o" * 32)
ANN = By("ann", "because")
BOB = By("bob")
JUDGE = By("the judge")
CONTRACT = StreamContract("s", "binary", [Field("a", "number")])

# -- the chain --------------------------------------------------------------------------------------------------------


def chain(length: int, seal: Seal = SEAL, after: Head = EMPTY) -> list[Record]:
    """A chain of different records."""
    records: list[Record] = []
    head = after
    for number in range(length):
        change = Change("promote", {"n": number}, {"n": number + 1}, "s", f"m{number}", number % 2)
        record = seal.record(head, 1000 + number, By(f"key{number}", f"reason {number}"), change)
        records.append(record)
        head = head_of(record)
    return records


def head_of(record: Record) -> Head:
    return Head(record.sequence, record.digest, record.at_ms)


def announced(records: list[Record], seal: Seal = SEAL) -> list[bytes]:
    return [encode(seal.head(head_of(record))) for record in records]


def found(
    records: list[Record], heads: list[bytes] | None = None, seal: Seal = SEAL
) -> tuple[int, str] | None:
    """(number, what is wrong) of the first bad record."""
    examination = Examination(map(seal.opened, heads or []))
    ordered = sorted(records, key=lambda record: record.sequence)  # as the table gives them
    while ordered and examination.read(ordered[:3], seal.wrote):
        ordered = ordered[3:]
    fault = examination.end()
    return None if fault is None else (fault.sequence, fault.wrong)


lengths = st.integers(1, 12)


@given(lengths)
def test_a_chain_as_it_was_written_has_no_fault(length: int) -> None:
    records = chain(length)
    heads = announced(records)
    assert found(records) is None
    assert found(records, heads + heads[::2]) is None  # a head may be announced twice, and in any order
    assert (
        found(records + chain(3, after=head_of(records[-1])), heads) is None
    )  # longer than what was announced
    assert [record.sequence for record in records] == list(range(1, length + 1))


@given(st.data(), lengths)
def test_a_record_that_was_altered_is_named_whichever_and_whatever_of_it(data: Any, length: int) -> None:
    records = chain(length)
    place = data.draw(st.integers(0, length - 1))
    field = data.draw(st.sampled_from([name for name in Record.__struct_fields__ if name != "sequence"]))
    before = getattr(records[place], field)
    other = data.draw(
        (st.integers(-5, 10**6) if isinstance(before, int) else st.text()).filter(lambda new: new != before)
    )
    records[place] = msgspec.structs.replace(records[place], **{field: other})
    assert found(records) == (place + 1, "altered")


@given(st.data(), st.integers(2, 12))
def test_a_record_that_was_taken_out_is_named(data: Any, length: int) -> None:
    records = chain(length)
    place = data.draw(st.integers(0, length - 2))
    del records[place]
    assert found(records) == (place + 1, "missing")
    closed = [msgspec.structs.replace(record, sequence=number) for number, record in enumerate(records, 1)]
    assert found(closed) == (place + 1, "altered")  # also if those behind it moved up


@given(st.data(), st.integers(2, 12))
def test_records_that_changed_places_are_found_at_the_first(data: Any, length: int) -> None:
    records = chain(length)
    first, second = sorted(
        data.draw(st.lists(st.integers(0, length - 1), min_size=2, max_size=2, unique=True))
    )
    one, other = records[first], records[second]
    records[first] = msgspec.structs.replace(other, sequence=one.sequence)
    records[second] = msgspec.structs.replace(one, sequence=other.sequence)
    assert found(records) == (first + 1, "altered")


@given(st.data(), lengths)
def test_an_end_that_was_cut_off_is_found_by_what_was_announced(data: Any, length: int) -> None:
    records = chain(length)
    kept = data.draw(st.integers(0, length - 1))
    last = announced(records[-1:])
    assert found(records[:kept], last) == (kept + 1, "cut")
    assert found(records[:kept]) is None  # nothing else can show it
    regrown = records[:kept] + chain(length, after=head_of(records[kept - 1]) if kept else EMPTY)
    regrown[-1] = msgspec.structs.replace(regrown[-1], why="another story")
    regrown[-1] = msgspec.structs.replace(regrown[-1], digest=SEAL.digest(regrown[-1]))
    if len(regrown) == length:  # even by somebody who holds the key
        assert found(regrown, last) == (length, "replaced")


@given(st.data(), lengths)
def test_without_the_key_nothing_can_be_written(data: Any, length: int) -> None:
    records = chain(length)
    place = data.draw(st.integers(0, length - 1))
    before = head_of(records[place - 1]) if place else EMPTY
    forged = chain(length - place, OTHER, before)
    assert found(records[:place] + forged) == (place + 1, "altered")
    whole = chain(length, OTHER)
    assert (found(whole, seal=OTHER), found(whole)) == (None, (1, "altered"))


@given(st.data(), st.integers(2, 8))
def test_a_true_record_out_of_another_history_does_not_fit(data: Any, length: int) -> None:
    records = chain(length)
    elsewhere = chain(1, after=Head(0, "f" * 64, 0)) + [
        SEAL.record(Head(number, f"{number:064x}", 0), 5, BOB, Change("retire", {}, {}))
        for number in range(1, length)
    ]
    place = data.draw(st.integers(0, length - 1))
    records[place] = elsewhere[place]
    assert found(records) == (place + 1, "detached")


def test_announcements_that_are_not_the_registrys_are_counted_and_believed_in_nothing() -> None:
    records = chain(3)
    longer = chain(9, OTHER)
    junk = [
        *announced(longer, OTHER),
        b"",
        b"{}",
        b"\xff",
        encode(SEAL.head(head_of(records[2])))[:-3] + b'"}',
    ]
    examination = Examination(map(SEAL.opened, announced(records) + junk))
    assert examination.read(records, SEAL.wrote)
    assert examination.end() is None
    assert (examination.heads, examination.strange_heads, examination.announced) == (3, len(junk), 3)
    head = SEAL.head(head_of(records[1]))
    assert SEAL.opened(encode(msgspec.structs.replace(head, sequence=9))) is None
    assert SEAL.opened(encode(msgspec.structs.replace(head, signature="é"))) is None
    assert head.signature != records[1].digest


def test_heads_from_before_there_were_public_keys_are_still_the_registrys() -> None:
    """As the registry announced them then, byte for byte; with the secret alone they can be told from forged ones."""
    head = {"sequence": 2, "digest": "d" * 64, "at": 7, "signature": ""}
    derived = hmac.digest(b"k" * 32, b"checkpoint", "sha256")
    signature = hmac.digest(derived, msgspec.json.encode(head), "sha256").hex()
    older = msgspec.json.encode({**head, "signature": signature})
    opened = SEAL.opened(older)
    assert opened is not None
    assert (opened.sequence, opened.digest) == (2, "d" * 64)
    assert opened_head(Trusted([SEAL.public]), older) is None
    assert OTHER.opened(older) is None
    for field, value in {"sequence": 3, "digest": "e" * 64, "at": 8}.items():
        assert SEAL.opened(msgspec.json.encode({**head, "signature": signature, field: value})) is None
    assert SEAL.opened(msgspec.json.encode({**head, "signature": signature, "key": SEAL.public.id})) is None


def test_a_key_that_is_too_short_is_refused() -> None:
    with pytest.raises(Unusable, match="32 bytes"):
        Seal(b"short")


# -- what leaves a record ---------------------------------------------------------------------------------------------


class Memory:
    """A registry's memory with an audit trail."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "registry.db"
        self.database = Database(f"sqlite:///{self.path}")
        self.database.prepare()
        self.trail = Trail(self.database, SEAL, lambda: 7)
        self.store = Store(self.database, lambda: 7, self.trail)
        self.rollouts = RolloutStore(self.database, lambda: 7, self.trail)

    def adopt(self, contract: StreamContract = CONTRACT) -> None:
        self.store.adopt(contract, lambda _: None, from_dict, ANN)

    def submit(self, model: str, digest: str = "d") -> None:
        self.store.submit(model, digest, {"model": model}, "", ANN)

    def deploy(self, model: str, role: Any = "champion") -> None:
        self.store.deploy("s", self.store.version(model), role, ANN)

    def begin(self, **plan: Any) -> int:
        asked = Plan(**{"warm_up_labels": 0} | plan)
        return self.rollouts.begin("s", self.store.version("new"), "binary", asked, {0: 0}, ANN)

    def turn(self, action: str, by: By, **options: Any) -> None:
        def turn(rollout: Rollout, now: int) -> Turn:
            if action in ("hold", "resume"):
                return rollouts.hold(rollout, action == "hold"), []
            after: Turn = getattr(rollouts, action)(rollout, now, by.name)
            return after

        self.rollouts.turn("s", 1, turn, by, action=f"rollout-{action}", **options)

    def judge(self, ruling: Any) -> None:
        self.rollouts.turn(
            "s", 1, lambda r, now: rollouts.settle(r, ruling, now, "the judge"), JUDGE, action="rollout-judge"
        )

    def recorded(self) -> list[Record]:
        return list(reversed(self.trail.page(500)))

    def fault(self, heads: list[bytes] | None = None) -> tuple[int, str] | None:
        fault = self.trail.examine(heads or []).fault
        return None if fault is None else (fault.sequence, fault.wrong)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path)


def newest(memory: Memory) -> tuple[Any, ...]:
    record = memory.trail.page(1)[0]
    return (
        record.sequence,
        record.action,
        record.stream,
        record.model,
        record.rollout,
        record.who,
        record.why,
    )


def sides(memory: Memory) -> tuple[Any, Any]:
    record = memory.trail.page(1)[0]
    return msgspec.json.decode(record.before), msgspec.json.decode(record.after)


def test_each_change_leaves_one_record_and_asking_again_leaves_none(memory: Memory) -> None:
    wider = StreamContract("s", "binary", [Field("a", "number"), Field("b", "number")])
    steps: list[tuple[Any, tuple[Any, ...]]] = [
        (memory.adopt, ("adopt", "s", "", 0)),
        (lambda: memory.adopt(wider), ("adopt", "s", "", 0)),
        (lambda: memory.submit("old"), ("register", "", "old", 0)),
        (lambda: memory.submit("new"), ("register", "", "new", 0)),
        (lambda: memory.deploy("old"), ("deploy", "s", "old", 0)),
        (lambda: memory.deploy("new", "challenger"), ("deploy", "s", "new", 0)),
        (lambda: memory.store.change("s", "new", "promote", ANN), ("promote", "s", "new", 0)),
        (lambda: memory.store.change("s", "old", "freeze", ANN), ("freeze", "s", "old", 0)),
        (lambda: memory.store.change("s", "old", "unfreeze", ANN), ("unfreeze", "s", "old", 0)),
        (lambda: memory.store.change("s", "old", "retire", ANN), ("retire", "s", "old", 0)),
    ]
    for number, (step, expected) in enumerate(steps, 1):
        step()
        assert newest(memory) == (number, *expected, "ann", "because")
        step()
        assert len(memory.recorded()) == number
    memory.store.rebuild("s", "new", LeftOut(["x"]), BOB)
    assert newest(memory) == (len(steps) + 1, "rebuild", "s", "new", 0, "bob", "")
    assert memory.fault() is None


def test_a_record_says_what_changed(memory: Memory) -> None:
    memory.adopt()
    memory.submit("old")
    memory.submit("new")
    assert sides(memory) == ({}, {"version": 1, "digest": "d"})
    memory.deploy("old")
    memory.deploy("new")
    before, after = sides(memory)
    assert (before["places"]["old"]["role"], after["places"]["old"]["role"]) == ("champion", "challenger")
    assert "new" not in before["places"]
    assert after["places"]["new"]["role"] == "champion"
    memory.store.rebuild("s", "new", LeftOut(["a person"]), BOB)
    before, after = sides(memory)
    assert (before["places"]["new"]["version"], after["places"]["new"]["version"]) == (1, 2)
    assert after["without"]["parts"] == 1
    assert "a person" not in memory.trail.page(1)[0].after  # it cannot be forgotten here later


def test_every_turn_of_a_rollout_is_recorded_and_what_labels_add_is_not(memory: Memory) -> None:
    memory.adopt()
    memory.submit("old")
    memory.submit("new")
    memory.deploy("old")
    memory.begin(canary=(0.5,), approval=True)
    assert newest(memory) == (5, "rollout-begin", "s", "new", 1, "ann", "because")
    before, after = sides(memory)
    assert (before["places"], after["places"]["new"]["role"]) == ({}, "challenger")
    assert (after["rollout"]["champion"], after["rollout"]["plan"]["canary"]) == ("old@1", [0.5])
    memory.turn("hold", BOB)
    assert newest(memory)[1:] == ("rollout-hold", "s", "new", 1, "bob", "")
    memory.turn("hold", BOB)  # so already
    memory.turn("resume", BOB)
    memory.rollouts.turn(
        "s",
        1,
        lambda r, _: (rollouts.weighed(r, np.array([0.1, 0.2]))[0], []),
        JUDGE,
        action="rollout-judge",
    )
    assert newest(memory)[0] == 7
    memory.judge("better")
    assert sides(memory)[1]["awaits_approval"]
    assert newest(memory)[1:] == ("rollout-judge", "s", "new", 1, "the judge", "")
    memory.turn("approve", BOB)
    before, after = sides(memory)
    assert (before["stage"], after["stage"], after["share"]) == ("shadow", "canary", 0.5)
    assert (after["ruling"], after["labels"]["counted"]) == ("better", 2)
    assert after["places"]["new"]["share"] == 0.5
    memory.turn("promote", BOB)
    before, after = sides(memory)
    assert (before["places"]["old"]["role"], after["places"]["old"]["role"]) == ("champion", "challenger")
    memory.judge("worse")
    assert sides(memory)[1]["stage"] == "rolled_back"
    actions = [record.action.removeprefix("rollout-") for record in memory.recorded()[4:]]
    assert actions == ["begin", "hold", "resume", "judge", "approve", "promote", "judge"]
    assert memory.fault() is None


def test_what_is_refused_leaves_no_record(memory: Memory) -> None:
    memory.adopt()
    memory.submit("old")
    memory.submit("new")
    memory.deploy("old")
    memory.begin()
    count = len(memory.recorded())
    refused = [
        lambda: memory.store.change("s", "new", "retire", ANN),
        lambda: memory.store.change("s", "third", "promote", ANN),
        lambda: memory.store.rebuild("s", "third", LeftOut(["x"]), ANN),
        lambda: memory.deploy("old", "challenger"),
        lambda: memory.begin(),
        lambda: memory.turn("roll_back", BOB),
        lambda: memory.turn("abort", BOB, revision=9),
    ]
    for act in refused:
        with pytest.raises((Conflict, Absent)):
            act()
    assert len(memory.recorded()) == count


def test_a_change_and_its_record_are_made_together_or_not_at_all(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.adopt()
    memory.submit("old")
    memory.submit("new")
    memory.deploy("old")

    class Crash(BaseException):
        pass

    def state() -> Any:
        roles = [(row.model, row.version, row.role, row.frozen) for row, _ in memory.store.deployments("s")]
        models = [row.version for row in memory.store.models(10)]
        return (
            roles,
            models,
            memory.store.stream("s").sequence,
            len(memory.rollouts.all("s", 9)),
            len(memory.recorded()),
        )

    was = state()
    acts = [
        lambda: memory.adopt(StreamContract("s", "binary", [Field("a", "number"), Field("b", "number")])),
        lambda: memory.submit("old", "other"),
        lambda: memory.deploy("new", "challenger"),
        lambda: memory.store.change("s", "old", "freeze", ANN),
        lambda: memory.store.rebuild("s", "old", LeftOut(["x"]), ANN),
        lambda: memory.begin(),
    ]
    for recorded_first in (False, True):

        def crash(*given: Any, recorded_first: bool = recorded_first) -> None:
            if recorded_first:
                memory.trail.append(*given)
            raise Crash

        with monkeypatch.context() as patched:
            patched.setattr(memory.store, "_record", crash)
            patched.setattr(memory.rollouts, "_record", crash)
            for act in acts:
                with pytest.raises(Crash):
                    act()
        assert state() == was
    for act in acts:
        act()
    assert len(memory.recorded()) == was[-1] + len(acts)
    assert memory.fault() is None


# -- what is done to the table ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Memory, list[bytes]]:
    """A registry with ten changes, each announced."""
    memory = Memory(tmp_path_factory.mktemp("filled"))
    memory.adopt()
    for number in range(6):
        memory.submit(f"m{number}")
    for number in range(3):
        memory.deploy(f"m{number}")
    return memory, announced(memory.recorded())


COLUMNS = [column.name for column in AuditRow.__table__.columns]
foreign = st.one_of(
    st.integers(-(2**40), 2**40), st.text("abc'\"{}é", max_size=5), st.floats(-9, 9), st.binary(max_size=3)
)


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 10), st.sampled_from(COLUMNS), foreign)
def test_whatever_is_written_into_the_table_is_found(
    filled: tuple[Memory, list[bytes]], sequence: int, column: str, value: Any
) -> None:
    memory, heads = filled
    with sqlite3.connect(memory.path) as connection:
        row = connection.execute(f"SELECT * FROM audit WHERE sequence = {sequence}").fetchone()
        try:
            connection.execute(f"UPDATE audit SET {column} = ? WHERE sequence = {sequence}", (value,))
        except sqlite3.IntegrityError:
            return  # such a number is taken
        after = connection.execute("SELECT * FROM audit ORDER BY sequence").fetchall()
        try:
            connection.commit()
            if row in after:
                assert memory.fault(heads) is None
            else:
                fault = memory.fault(heads)
                assert fault is not None
                named, wrong = fault
                if column == "sequence":  # what lies in its new place is one too many, its old place is empty
                    assert wrong in ("missing", "altered", "cut")
                    assert named <= sequence
                else:
                    assert (named, wrong) == (sequence, "altered")
        finally:
            connection.execute(
                "DELETE FROM audit WHERE rowid = (SELECT rowid FROM audit WHERE digest = ?)", (row[-1],)
            )
            connection.execute(f"DELETE FROM audit WHERE sequence = {sequence}")
            if column == "digest":
                connection.execute("DELETE FROM audit WHERE digest = ?", (value,))
            connection.execute(f"INSERT INTO audit VALUES ({', '.join('?' * len(row))})", row)
            connection.commit()
    assert memory.fault(heads) is None


def test_a_table_put_back_to_what_it_was_is_found_even_after_it_has_grown_again(memory: Memory) -> None:
    memory.adopt()
    memory.submit("old")
    memory.submit("new")
    heads = announced(memory.recorded())
    with sqlite3.connect(memory.path) as connection:
        connection.execute("DELETE FROM audit WHERE sequence > 1")
    assert memory.fault(heads) == (2, "cut")
    memory.deploy("new")
    memory.deploy("old")
    heads += announced(memory.recorded())
    assert memory.fault(heads) == (2, "replaced")
    assert memory.fault() is None


def test_pages_and_filters(memory: Memory) -> None:
    memory.adopt()
    for number in range(5):
        memory.submit(f"m{number}")
    memory.deploy("m3")
    memory.store.change("s", "m3", "freeze", BOB)
    assert [record.sequence for record in memory.trail.page(3)] == [8, 7, 6]
    assert [record.sequence for record in memory.trail.page(3, 6)] == [5, 4, 3]
    assert [record.action for record in memory.trail.page(9, stream="s")] == ["freeze", "deploy", "adopt"]
    assert [record.action for record in memory.trail.page(9, model="m3")] == ["freeze", "deploy", "register"]
    assert [record.action for record in memory.trail.page(9, who="bob")] == ["freeze"]
    assert [record.action for record in memory.trail.page(9, stream="s", who="ann")] == ["deploy", "adopt"]
