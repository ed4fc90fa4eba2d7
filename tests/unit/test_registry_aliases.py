"""Aliases follow from decisions: who stands where, and who stood there before."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.registry.domain import controls
from services.registry.domain.aliases import aliases, on_stream
from services.registry.domain.lifecycle import Conflict
from tests.unit.test_registry_lifecycle import commands, decide, record
from tests.unit.test_registry_lineage import CONTRACT, journal

SPECIFICATION = {"model": "x"}


def deployed(sequence, model, version, role="champion"):
    return controls.deployed("s", sequence, model, version, SPECIFICATION, role)


FIRST = [controls.adopted("s", 1, CONTRACT), deployed(2, "a", 1)]


def test_a_champion_has_no_past_until_another_takes_its_place():
    assert on_stream(journal(*FIRST)) == {"a": {"champion": 1}}
    made = [*FIRST, deployed(3, "b", 4, "challenger")]
    assert on_stream(journal(*made)) == {"a": {"champion": 1}, "b": {"challenger": 4}}
    made.append(controls.shared("s", 4, "b", 0.25))
    assert on_stream(journal(*made))["b"] == {"challenger": 4, "canary": 4}
    made.append(controls.changed("s", 5, "b", "promote"))
    assert on_stream(journal(*made)) == {"a": {"challenger": 1, "previous": 1}, "b": {"champion": 4}}
    made.append(controls.changed("s", 6, "a", "retire"))
    assert on_stream(journal(*made)) == {"a": {"previous": 1}, "b": {"champion": 4}}
    made.append(controls.changed("s", 7, "b", "retire"))
    assert on_stream(journal(*made)) == {"b": {"previous": 4}}  # nobody answers now, b did last


def test_another_version_of_the_champion_has_it_before_itself():
    assert on_stream(journal(*FIRST, deployed(3, "a", 2))) == {"a": {"champion": 2, "previous": 1}}


def test_without_a_stream_an_alias_is_what_all_streams_say():
    first, second = journal(*FIRST), journal(*FIRST, deployed(3, "a", 2))
    assert aliases({"s": first}) == {"a": {"champion-s": 1, "champion": 1}}
    assert aliases({"s": first, "t": first})["a"] == {"champion-s": 1, "champion-t": 1, "champion": 1}
    assert aliases({"s": first, "t": second})["a"] == {
        "champion-s": 1,
        "champion-t": 2,
        "previous-t": 1,
        "previous": 1,
    }
    assert aliases({}) == {}


@settings(max_examples=200, deadline=None)
@given(st.lists(commands, max_size=20))
def test_at_any_time_they_name_who_stands_there(asked):
    line_up, made, reigned = {}, [controls.adopted("s", 1, CONTRACT)], []
    for command in asked:
        try:
            after = decide(line_up, command)
        except Conflict:
            continue
        if after is None:
            continue
        line_up = dict(after)
        made.append(record(len(made) + 1, command))
        now = [(one.model, one.version) for one in line_up.values() if one.role == "champion"]
        if now and reigned[-1:] != now:
            reigned += now
        found = on_stream(journal(*made))
        for role in ("champion", "challenger"):
            named = {(model, roles[role]) for model, roles in found.items() if role in roles}
            assert named == {(one.model, one.version) for one in line_up.values() if one.role == role}
        previous = [(model, roles["previous"]) for model, roles in found.items() if "previous" in roles]
        assert previous == (reigned[:-1] if now else reigned)[-1:]
