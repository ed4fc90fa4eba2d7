"""What a version learnt from is what a plain reading of the journal says, and what the fold did with the log."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts.codec import decode_log_record
from headrace.contracts.left_out import LeftOut
from services.registry.domain import controls
from services.registry.domain.history import Decision
from services.registry.domain.lifecycle import Conflict
from services.registry.domain.lineage import Life, lives
from tests.unit.test_registry_lifecycle import commands, decide, record

CONTRACT: dict[str, Any] = {"name": "s", "task": "binary", "fields": [{"name": "a", "type": "number"}]}


def journal(*made: tuple[str, bytes]) -> list[Decision]:
    """Decisions, one at every tenth offset of partition 0 and every hundredth of 1."""
    return [
        Decision(
            place + 1, decode_log_record(written), 1000 + place, "me", {"0": 10 * place, "1": 100 * place}
        )
        for place, (_, written) in enumerate(made)
    ]


def told(life: Life) -> tuple[Any, ...]:
    return (
        life.model,
        life.version,
        life.range("0"),
        life.contracts,
        [place.deployed.role for place in life.places],
    )


def test_a_life_goes_from_deployment_to_retirement_and_a_rebuild_keeps_its_parents_beginning() -> None:
    left_out = LeftOut(["liar"])
    found = lives(
        journal(
            controls.adopted("s", 1, CONTRACT),
            controls.deployed("s", 2, "a", 1, {"model": "x"}, "champion"),
            controls.deployed("s", 3, "b", 1, {"model": "x"}, "challenger"),
            controls.adopted("s", 2, CONTRACT),
            controls.changed("s", 5, "b", "promote"),
            controls.rebuilt("s", 6, "b", 2, left_out),
            controls.changed("s", 7, "a", "retire"),
            controls.deployed("s", 8, "b", 3, {"model": "x"}, "champion"),
        )
    )
    assert [told(life) for life in found] == [
        ("a", 1, (10, 60), (1, 2), ["champion", "challenger"]),
        ("b", 1, (20, 50), (1, 2), ["challenger", "champion"]),
        ("b", 2, (20, 70), (2,), ["champion"]),
        ("b", 3, (70, None), (2,), ["champion"]),
    ]
    assert found[2].range("1") == (200, 700)
    assert [[left.what for left in life.without] for life in found] == [[], [], [left_out], []]
    assert found[2].without[0].below.offsets == {"0": 50, "1": 500}


def test_one_that_learnt_the_log_has_learnt_it_from_the_start() -> None:
    made = controls.deployed("s", 2, "a", 1, {"model": "x"}, "champion", learnt=True)
    [life] = lives(journal(controls.adopted("s", 1, CONTRACT), made))
    assert (life.range("0"), life.range("1")) == ((0, None), (0, None))


def test_one_that_is_not_in_the_log_yet_has_learnt_nothing() -> None:
    [life] = lives(
        [one._replace(offsets=None) for one in journal(controls.deployed("s", 1, "a", 1, {}, "champion"))]
    )
    assert life.range("0") is None


@settings(max_examples=200, deadline=None)
@given(st.lists(commands, max_size=20))
def test_at_any_time_those_live_who_stand_there(asked: list[Any]) -> None:
    line_up: Any = {}
    made, states = [controls.adopted("s", 1, CONTRACT)], [line_up]
    for command in asked:
        try:
            after = decide(line_up, command)
        except Conflict:
            continue
        if after is not None:
            line_up = dict(after)
            made.append(record(len(made) + 1, command))
            states.append(line_up)
    decisions = journal(*made)
    found = lives(decisions)
    for sequence, state in enumerate(states, start=1):
        living = {
            life.model: life.version
            for life in found
            if life.places[0].decision.sequence <= sequence
            and (life.ended is None or sequence < life.ended.sequence)
        }
        assert living == {name: one.version for name, one in state.items() if one.role != "retired"}
    for life in found:
        first, before = life.range("0") or (0, 0)
        assert before is None or first < before
        assert life.places[-1].deployed.role != "retired"
