"""What a retraining says of its cost before, and of its gain after: plain arithmetic over what was measured."""

import msgspec
import pytest

from headrace.contracts.payoff import Counts, read_payoff
from headrace.contracts.usage import UsageReport, Used
from services.registry.domain import race as races
from services.registry.domain.forecast import (
    CpuPrice,
    Gain,
    forecast,
    gain,
    records_to_learn,
    served_at,
    took,
)
from services.registry.domain.race import Limits, Step, Trial

PAYOFF = read_payoff({"tp": 10.0, "fp": -1.0, "tn": 0.0, "fn": -5.0}, "binary")


def begun(trials, limits=Limits(cpu_seconds=100.0)):  # noqa: B008  # it is frozen
    made = [Trial(number, {"n": number}, f"d{number}", reference=number == 0) for number in range(trials)]
    return races.begun("binary", {"0": (100, 1_000), "1": (0, 900)}, made, limits=limits, least_rung=1)


def run(race, cost_a_record=0.0, counts=None):
    """Run a race to its end; its records, counted as they are learnt."""
    learnt, span = 0, 1_800
    while not race.is_over:
        part = race.rungs[race.rung] - (race.rungs[race.rung - 1] if race.rung else 0.0)
        for trial in races.due(race):
            learnt += part * span
            state = Counts() if counts is None else counts(race.rung, trial)
            step = Step(
                100 * (race.rung + 1),
                float(trial.number),
                {},
                part * span * cost_a_record,
                1.0,
                1.0,
                "f",
                state,
            )
            race = races.stepped(race, trial.number, step)
    return race, learnt


@pytest.mark.parametrize("trials", [1, 2, 4, 10, 28])
def test_what_it_will_learn_is_what_it_learns(trials):
    race = begun(trials)
    over, learnt = run(race)
    assert records_to_learn(race) == pytest.approx(learnt, abs=1)
    assert records_to_learn(over) == records_to_learn(race)


def test_a_race_costs_what_the_one_before_took_a_record_and_never_more_than_its_limits():
    before, learnt = run(begun(10), cost_a_record=0.002)
    assert took(before) == pytest.approx(0.002)
    assert took(begun(10)) is None
    price = CpuPrice(36.0, "EUR")
    said = forecast(begun(10), (0.002, "then"), price)
    assert said.cpu_seconds == pytest.approx(0.002 * learnt, abs=0.01)
    assert said.cost(said.cpu_seconds) == pytest.approx(said.cpu_seconds / 100)
    assert (said.most_cpu_seconds, said.basis, said.price) == (1_000.0, "then", price)
    assert forecast(begun(10), (5.0, "then"), price).cpu_seconds == 1_000.0
    unknown = forecast(begun(10), None, price)
    assert (unknown.cpu_seconds, unknown.cost(unknown.cpu_seconds), unknown.most_cpu_seconds) == (
        None,
        None,
        1_000.0,
    )


def test_scorings_figure_is_of_the_newest_report_under_each_key():
    def report(start, number, records, model="m@1", each=1_000):
        used = {model: Used(cpu_ns=records * each)}
        shared = Used(cpu_ns=records * 500)
        return UsageReport("s", 0, 3600, start, 1, number, records, used, shared)

    older = report(0, 2, 20, each=9_000)
    told = [report(0, 1, 10), report(0, 3, 30), older, report(1, 4, 70), report(2, 5, 900, "n@1")]
    assert served_at(told, "m@1") == pytest.approx(1.5e-6)
    assert served_at(told[:0], "m@1") is None
    assert served_at(told, "nobody@1") is None


def test_the_gain_is_of_the_labels_that_decided():
    def counts(rung, trial):  # the first rung is all wrong, and must not count
        return Counts(8 * (rung + 1), 0, tp=8 * rung, fn=8)

    over, _ = run(begun(4), counts=counts)
    assert over.winner is not None
    served = Counts(4, 2, tp=1, fp=1, tn=1, fn=1)
    found = gain(PAYOFF, served, over.winner)
    assert found == Gain(champion=1.0, winner=10.0)
    assert found.over(1_000) == 9_000.0
    assert gain(PAYOFF, Counts(), over.winner) is None


def test_a_race_from_before_there_were_counts_can_still_be_read():
    plain = msgspec.to_builtins(Step(1, 1.0, {}, 1.0, 1.0, 1.0, "f"))
    del plain["counts"]
    assert msgspec.convert(plain, Step).counts == Counts()
