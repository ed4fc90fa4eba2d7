"""Stretches around a planted change, for the tests of why: records as the topics hold them."""

import random

from headrace.contracts.codec import encode
from headrace.contracts.events import (
    Answer,
    ContractAdopted,
    DriftDetected,
    Label,
    Observation,
    Outcome,
    Prediction,
)
from headrace.contracts.groups import Groups
from headrace.contracts.stream import Field, StreamContract
from services.monitor.domain.reading import LogReader, read_outcomes, read_predictions
from services.monitor.domain.why.explanation import explain
from services.monitor.domain.why.stretch import join

CONTRACT = StreamContract(
    "s", "binary",
    [
        Field("carrier", "string", segment=True), Field("distance", "number"),
        Field("hour", "integer", segment=True, edges=[6.0, 18.0]),
        Field("sex", "string", feature=False, sensitive=True),
    ],
)  # fmt: skip
GROUPS = Groups(CONTRACT)


class World:
    """Observations with their answers and labels. Override what a test plants; `row` counts from 0."""

    before, after = 4_000, 1_500
    models = ("lr",)
    seed = 1

    def __init__(self, **more):
        vars(self).update(more)
        self.chance = random.Random(self.seed)

    def moved(self, row):
        return row >= self.before

    def x(self, row):
        given = {
            "carrier": self.chance.choices("ABC", self.mix(row))[0],
            "hour": self.chance.randrange(24),
            "distance": self.chance.gauss(0.0, 1.0),
        }
        return self.spoil(row, given)

    def mix(self, row):
        return (5, 3, 2)

    def spoil(self, row, x):
        return x

    def error(self, row, x, model):
        """Chance of a wrong answer."""
        return 0.1

    def positive(self, row):
        """Chance of a positive label."""
        return 0.5

    def known(self, row):
        return True

    def top(self, row):
        return self.models[0]

    def records(self):
        log, predictions, outcomes = [ContractAdopted("c", 0, 1, CONTRACT.to_dict())], [], []
        for row in range(self.before + self.after):
            offset, at = 1 + 2 * row, 1_000 * row
            x, sex = self.x(row), self.chance.choice("fm")
            groups = GROUPS.of(x, {"sex": sex})
            y = self.chance.random() < self.positive(row)
            answers = []
            for model in self.models:
                said = y != (self.chance.random() < self.error(row, {**x, "sex": sex}, model))
                answers.append(Answer(model, 1, said, 0.8 if said else 0.2))
            top = next(one for one in answers if one.model == self.top(row))
            rest = [one for one in answers if one is not top]
            log += [Observation(str(row), "e", at, x, "", {"sex": sex}), Label(str(row), "e", at + 500, y)]
            predictions.append(
                Prediction(str(row), "e", at, offset, top.model, 1, top.answer, top.score, None, rest, groups)
            )
            if self.known(row):
                outcomes.append(
                    Outcome(
                        str(row), "e", at + 500, "labelled", offset + 1, at, offset, y, None, top.model, 1,
                        top.answer, top.score, None, rest, groups,
                    )
                )  # fmt: skip
        return log, predictions, outcomes

    @property
    def since(self):
        """Offset of the first observation after the change."""
        return 1 + 2 * self.before

    def stretch(self):
        log, predictions, outcomes = (list(map(encode, kind)) for kind in self.records())
        runs = list(LogReader().read(range(len(log)), log))
        said = read_predictions(range(len(predictions)), predictions)
        return join(runs[-1].facts, runs, [said], [read_outcomes(range(len(outcomes)), outcomes)], self.since)

    def why(self, kind="concept", subject="error", **more):
        given = {"model": "lr", "version": 1} if kind in ("concept", "prediction", "bias") else {}
        given |= {"method": "likelihood-ratio location"} | more
        drift = DriftDetected(
            "d",
            "s",
            kind,
            subject,
            partition=0,
            offset=self.since + 400,
            at=0,
            since_offset=self.since,
            **given,
        )
        return explain(drift, self.stretch(), complete=True)
