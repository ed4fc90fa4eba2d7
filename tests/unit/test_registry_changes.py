"""Changes as messages: whoever writes them how often, what is read is what was told, or what is missing is named."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.codec import encode
from headrace.contracts.events import RowsWritten
from headrace.errors import Unusable
from services.registry.domain import changes
from services.registry.domain.audit import Seal
from services.registry.domain.changes import Changes, Line, cut, newest_run, opened, sealed

SEAL = Seal(bytes(range(32)))

rows = st.dictionaries(
    st.sampled_from("abc"), st.text(max_size=40) | st.integers(-5, 5) | st.none(), max_size=3
)
lines = st.lists(st.builds(Line, st.sampled_from(["streams", "models"]), rows), max_size=4)
histories = st.lists(lines | st.just("beside"), max_size=8)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "PART_CHARACTERS", 30)


def told(history: list[Any]) -> list[RowsWritten]:
    """The messages of a history: changes that count from 1, and what came of them later."""
    found, sequence = [], 0
    for one in history:
        if one == "beside":
            found.append(changes.beside(Line("read", {"at": sequence}, "has"), "s"))
        else:
            sequence += 1
            found += cut(one, sequence, "s")
    return found


def read(messages: list[RowsWritten], run: str = "") -> tuple[list[tuple[int, Line]], Changes]:
    """The rows of all changes with their numbers, without what came later."""
    reader, found = Changes(run), []
    for message in messages:
        kind, some = reader.read(message)
        if kind != "beside":
            found += [(message.sequence, line) for line in some]
    return found, reader


def whole(history: list[Any]) -> list[tuple[int, Line]]:
    """What `read` should find."""
    numbered = enumerate([one for one in history if one != "beside"], 1)
    return [(number, line) for number, one in numbered for line in one]


@given(histories)
def test_what_is_read_is_what_was_told(history: list[Any]) -> None:
    found, reader = read(told(history))
    assert found == whole(history)
    assert reader.under_way is None
    assert reader.sequence == sum(1 for one in history if one != "beside")


def written(messages: list[RowsWritten], data: st.DataObject) -> list[RowsWritten]:
    """What is on the topic after two registries have told the same messages, each dying now and then.

    Each takes what the other has not finished with, from its beginning on, and writes it one by one.
    """
    topic: list[RowsWritten] = []
    done, at = 0, [0, 0]
    until: list[int] = [0, 0]
    while done < len(messages):
        who = data.draw(st.integers(0, 1))
        if at[who] >= until[who]:  # begins anew
            at[who], until[who] = done, min(len(messages), done + data.draw(st.integers(1, 3)))
        topic.append(messages[at[who]])
        at[who] += 1
        if at[who] >= until[who]:
            done = max(done, until[who])
        elif data.draw(st.integers(0, 4)) == 0:  # dies
            at[who] = until[who] = 0
    return topic


@given(histories, st.data())
def test_two_may_tell_the_same_and_die_on_the_way(history: list[Any], data: st.DataObject) -> None:
    found, reader = read(written(told(history), data))
    assert found == whole(history)
    assert reader.under_way is None


@given(st.lists(lines, min_size=1, max_size=6), st.data())
def test_what_is_missing_is_named(history: list[list[Line]], data: st.DataObject) -> None:
    messages = told(history)
    lost = data.draw(st.integers(0, len(messages) - 1))
    rest = messages[:lost] + messages[lost + 1 :]
    if lost == len(messages) - 1:  # nobody can know of it
        found, reader = read(rest)
        assert [line for line in found if line[0] <= reader.sequence] == whole(history[: reader.sequence])
        assert (reader.under_way is None) == (messages[lost].part == 1)
        return
    with pytest.raises(Unusable, match="is missing"):
        read(rest)


@given(st.lists(lines, min_size=1, max_size=4), lines, st.lists(lines, max_size=4), st.data())
def test_after_all_was_told_anew_only_that_counts(
    before: list[list[Line]], everything: list[Line], after: list[list[Line]], data: st.DataObject
) -> None:
    number = data.draw(st.integers(1, len(before)))  # less than there was, if the database was put back
    run = list(cut(everything, number, "s", everything="x"))
    later = [message for place, one in enumerate(after) for message in cut(one, number + 1 + place, "s")]
    cut_short = list(cut(everything, 9, "s", everything="y"))[:-1]
    topic = [*told(before), *cut_short, *written([*run, *later], data)]
    assert newest_run(topic) == "x"
    found, reader = read(topic, "x")
    wanted = [(number, line) for line in everything]
    wanted += [(number + 1 + place, line) for place, one in enumerate(after) for line in one]
    assert found == wanted
    assert reader.sequence == number + len(after)


def test_a_message_is_one_only_of_who_has_the_key() -> None:
    message = next(cut([Line("s", {"a": 1})], 1, "s"))
    good = sealed(SEAL, message)
    assert opened(SEAL, encode(good)) == good
    for field, value in {
        "sequence": 2, "part": 2, "last": True, "schema": "t", "rows": "", "everything": "x", "signature": "",
    }.items():  # fmt: skip
        assert opened(SEAL, encode(msgspec.structs.replace(good, **{field: value}))) is None, field
        assert opened(None, encode(msgspec.structs.replace(good, **{field: value}))) is not None
    assert opened(Seal(bytes(32)), encode(good)) is None
    head = SEAL.sign("audit head", encode(message))
    assert opened(SEAL, encode(msgspec.structs.replace(good, signature=head))) is None
    for nothing in (None, b"", b"{}", b"\xff", encode({"sequence": "x"})):
        assert opened(None, nothing) is None


@given(st.lists(st.builds(Line, st.just("t"), st.dictionaries(st.just("x"), st.text())), max_size=6))
def test_parts_are_small_enough_for_a_topic(many: list[Line]) -> None:
    for message in cut(many, 1, "s"):
        assert len(message.rows) <= changes.PART_CHARACTERS
        assert len(encode(message)) < 6 * changes.PART_CHARACTERS + 200
