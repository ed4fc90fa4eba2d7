"""Successive halving: who goes on, who wins, what a limit does, whatever the order in which steps end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.left_out import LeftOut, OffsetRange
from headrace.errors import Unusable
from services.registry.domain import race as races
from services.registry.domain.race import Limits, Race, Step, Trial


def step(labels: int, loss: float) -> Step:
    return Step(labels, loss, {}, 1.0, 2.0, 100.0, "f")


def trials(count: int) -> list[Trial]:
    return [Trial(number, {"n": number}, f"d{number}", reference=number == 0) for number in range(count)]


def begun(count: int, spans: dict[str, tuple[int, int]] | None = None, eta: int = 3) -> Race:
    return races.begun("binary", spans or {"0": (0, 8100)}, trials(count), eta=eta, least_rung=1)


def run(race: Race, quality: list[float], order: list[int]) -> Race:
    """To its end, with a mean loss for each trial; steps end in the order given."""
    while not race.is_over:
        number = min((trial.number for trial in races.due(race)), key=order.index)
        labels = sum(races.until(race).values())
        race = races.stepped(race, number, step(labels, quality[number] * labels))
    return race


def test_one_in_three_goes_on_and_the_reference_always_does() -> None:
    race = begun(10)
    assert race.rungs == pytest.approx((1 / 9, 1 / 3, 1.0))
    assert races.until(race) == {0: 900}
    race = run(race, [0.9, 0.5, 0.4, 0.3, 0.6, 0.7, 0.8, 0.35, 0.45, 0.55], list(range(10)))
    assert [len(trial.steps) for trial in race.trials] == [3, 1, 2, 3, 1, 1, 1, 2, 1, 1]
    assert race.winner is not None
    assert race.winner.number == 3
    assert race.reference is not None
    assert race.reference.state == "out"


def test_on_a_short_stretch_all_run_to_the_end_at_once() -> None:
    def rungs(length: int) -> tuple[float, ...]:
        return races.begun("binary", {"0": (0, length)}, trials(10)).rungs

    assert rungs(5_999) == (1.0,)
    assert rungs(6_000) == pytest.approx((1 / 3, 1.0))
    assert rungs(18_000) == pytest.approx((1 / 9, 1 / 3, 1.0))
    assert rungs(10**9) == pytest.approx((1 / 9, 1 / 3, 1.0))


@given(st.permutations(range(7)), st.lists(st.floats(0, 1), min_size=7, max_size=7, unique=True))
def test_the_order_in_which_steps_end_changes_nothing(order: list[int], quality: list[float]) -> None:
    race = run(begun(7), quality, order)
    assert race == run(begun(7), quality, list(range(7)))
    assert race.winner is not None
    assert race.winner.number == quality.index(min(quality))


def test_a_rung_is_judged_by_the_labels_since_the_one_before() -> None:
    """Trial 1 begins badly and is the better one by the end."""
    race = begun(4)
    for number, loss in ((0, 300.0), (1, 500.0), (2, 500.1), (3, 600.0)):
        race = races.stepped(race, number, step(1000, loss))
    assert [trial.number for trial in races.due(race)] == [0, 1]
    race = races.stepped(race, 0, step(3000, 300.0 + 2000 * 0.2))
    race = races.stepped(race, 1, step(3000, 500.0 + 2000 * 0.15))
    assert race.winner is not None
    assert race.winner.number == 1
    assert race.winner.loss(1) == pytest.approx(0.15)


def test_one_over_its_limit_leaves_and_the_others_go_on() -> None:
    race = begun(3)
    race = races.stepped(race, 1, step(100, 50.0))
    race = races.stopped(race, 0, "it took more than cpu_seconds")
    race = races.stopped(race, 2, "its process was ended by signal 9")
    assert race.trials[2].why == "its process was ended by signal 9"
    assert [trial.number for trial in races.due(race)] == [1]
    assert races.stopped(race, 2, "again") == race
    race = races.stopped(race, 1, "it took more than memory_mb")
    assert race.is_over
    assert race.winner is None


def test_a_trial_without_labels_loses_against_one_with_any() -> None:
    race = begun(2)
    race = races.stepped(race, 0, step(0, 0.0))
    race = races.stepped(race, 1, step(10, 10.0))
    assert race.winner is not None
    assert race.winner.number == 1


def test_what_lies_before_the_stretch_is_left_out() -> None:
    race = begun(4, {"0": (0, 100), "1": (50, 150)})
    assert races.left_out(race) == LeftOut(offsets=[OffsetRange(1, 0, 50)])
    assert races.until(race) == {0: 33, 1: 83}


@pytest.mark.parametrize(
    ("where", "spans", "eta", "limits"),
    [
        ("from", {"0": (5, 5)}, 3, Limits()),
        ("eta", {"0": (0, 5)}, 1, Limits()),
        ("limits.memory_mb", {"0": (0, 5)}, 3, Limits(memory_mb=0)),
        ("limits.cpu_seconds", {"0": (0, 5)}, 3, Limits(cpu_seconds=float("nan"))),
    ],
)
def test_a_race_that_cannot_be_run_is_refused(
    where: str, spans: dict[str, tuple[int, int]], eta: int, limits: Limits
) -> None:
    with pytest.raises(Unusable) as refused:
        races.begun("binary", spans, trials(2), eta=eta, limits=limits)
    assert refused.value.where == where
