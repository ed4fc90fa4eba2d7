"""What a retraining is expected to take, said before it begins, and what its winner is expected to gain, said after.

The cost: how many records the race will have its trials learn is known beforehand (the rungs say it), and how much
processor time a record takes is taken from what was measured last on this stream. The gain: before the race only that
is known which was lost by the change that asked for it; as good a model as there was before would win it back. After
it, champion and winner have answered the same labels, and the payoff says what each was worth.
"""

from collections.abc import Iterable
from math import ceil

import msgspec

from headrace.contracts.events import RetrainProposed
from headrace.contracts.payoff import Counts, Payoff, decisions, worth
from headrace.contracts.usage import UsageReport
from services.registry.domain.race import Race, Trial

HOUR = 3600.0


class CpuPrice(msgspec.Struct, frozen=True):
    """What an hour of processor time costs; 0: nothing is charged for it."""

    per_hour: float = 0.0
    currency: str = ""


class Forecast(msgspec.Struct, frozen=True):
    """What was said before a race. cpu_seconds: that it should take; None: nothing was ever measured on the stream.

    basis: where that comes from, in words. most_cpu_seconds: that its limits allow. price: of that time. lost: what
    the change that asked for it costs an event, in the measure of `lost_of`; None: nothing asked that knows.
    """

    cpu_seconds: float | None
    most_cpu_seconds: float
    basis: str
    price: CpuPrice
    lost: float | None = None
    lost_of: str = ""

    def cost(self, cpu_seconds: float | None) -> float | None:
        """Of so much processor time, at the price of then."""
        return None if cpu_seconds is None else cpu_seconds / HOUR * self.price.per_hour


class Gain(msgspec.Struct, frozen=True):
    """What an answer was worth on the labels that decided the race: the champion's as served, and the winner's."""

    champion: float
    winner: float

    def over(self, horizon_decisions: int) -> float:
        """How much more the winner's answers would be worth, over so many."""
        return (self.winner - self.champion) * horizon_decisions


def forecast(
    race: Race,
    per_record: tuple[float, str] | None,
    price: CpuPrice,
    proposed: RetrainProposed | None = None,
) -> Forecast:
    """What a race will take, and may gain. per_record: processor seconds a record took, and where; None: not known.

    proposed: the event that asks for it.
    """
    most = len(race.trials) * race.limits.cpu_seconds
    seconds, basis = per_record or (None, "")
    expected = None if seconds is None else min(most, records_to_learn(race) * seconds)
    if proposed is None or proposed.before is None or proposed.after is None:
        return Forecast(expected, most, basis, price)
    return Forecast(expected, most, basis, price, proposed.after - proposed.before, proposed.subject)


def records_to_learn(race: Race) -> int:
    """How many log records all trials together will have folded by the end, if none is stopped."""
    span = _span(race)
    others, begin, total = sum(not trial.reference for trial in race.trials), 0.0, 0.0
    references = len(race.trials) - others
    for end in race.rungs:
        total += (others + references) * (end - begin) * span
        others, begin = max(1, ceil(others / race.eta)) if others else 0, end
    return round(total)


def took(race: Race) -> float | None:
    """Processor seconds a record that a race's trials took; None if none has got anywhere."""
    records = sum(race.rungs[len(trial.steps) - 1] * _span(race) for trial in race.trials if trial.steps)
    seconds = sum(trial.cpu_seconds for trial in race.trials)
    return seconds / records if records else None


def served_at(reports: Iterable[UsageReport], model: str) -> float | None:
    """Processor seconds a record that scoring took with a model (`model@version`); None if it has told of none."""
    newest: dict[bytes, UsageReport] = {}
    for report in reports:
        known = newest.get(report.key())
        if model in report.models and (known is None or known.number < report.number):
            newest[report.key()] = report
    records = sum(report.records for report in newest.values())
    spent = sum(report.models[model].cpu_ns + report.shared.cpu_ns for report in newest.values())
    return spent / 1e9 / records if records else None


def gain(payoff: Payoff, served: Counts, winner: Trial) -> Gain | None:
    """What champion and winner were worth an answer; None if one of them has answered nothing."""
    last = last_counts(winner)
    theirs, its = decisions(payoff, served), decisions(payoff, last)
    if theirs <= 0 or its <= 0:
        return None
    return Gain(worth(payoff, served) / theirs, worth(payoff, last) / its)


def last_counts(trial: Trial) -> Counts:
    """What a trial answered between the last two rungs that it reached."""
    before = trial.steps[-2].counts if len(trial.steps) > 1 else Counts()
    return trial.steps[-1].counts.since(before)


def _span(race: Race) -> int:
    return sum(end - start for start, end in race.spans.values())
