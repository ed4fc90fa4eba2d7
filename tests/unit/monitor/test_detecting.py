"""Detectors find what has moved in outcomes, predictions and logs, the same however they are batched or restarted."""

import random
from itertools import pairwise

import numpy as np
import pytest

from headrace.contracts.codec import encode
from headrace.contracts.events import (
    Answer,
    ContractAdopted,
    DriftDetected,
    Observation,
    Outcome,
    Prediction,
    RetrainProposed,
)
from headrace.contracts.stream import Field, StreamContract
from services.monitor.domain.detecting import LogDetector, PredictionDetector
from services.monitor.domain.finding import MODELS_KEPT, Roster, Source, Spot, Track
from services.monitor.domain.outcomes import OutcomeDetector
from services.monitor.domain.reading import LogReader, read_outcomes, read_predictions
from services.monitor.domain.tolerance import Tolerance

MOVES = 3_000
TOLERANCE = Tolerance(retrain_labels=300)


def outcomes(count, moves=MOVES, *, group=None, models=("plain",), seed=1):
    """Right nine times in ten, and after `moves` (of a group only, if one is named) six times in ten wrong.

    models: who answered, then who was asked beside; the first is succeeded by the second at 4,000.
    """
    chance, found = random.Random(seed), []
    for row in range(count):
        groups = {"sex": chance.choice(["f", "m"])}
        moved = row >= moves and group in (None, groups["sex"])
        y = chance.random() < 0.5
        said = y != (chance.random() < (0.6 if moved else 0.1))
        score = 0.8 if said else 0.2
        order = models[::-1] if row >= 4_000 else models
        top, *others = [Answer(model, 1, said, score) for model in order]
        found.append(
            encode(
                Outcome(
                    f"o{row}", "e", 1000 * row + 500, "labelled", 2 * row + 1, 1000 * row, 2 * row, y, None,
                    top.model, 1, top.answer, top.score, None, others, groups,
                )
            )
        )  # fmt: skip
    return found


def detect(detector, values, read, batch=1000, again=None):
    """All that is found; with `again`, the detector is another one after each batch, made from the state before."""
    found = []
    for begin in range(0, len(values), batch):
        some = values[begin : begin + batch]
        for columns in read(range(begin, begin + len(some)), some):
            found += detector.detect(columns)
        if again is not None:
            state, detector = detector.state(), again()
            detector.resume(state)
    return found, detector.state()


def of_outcomes(values, **more):
    def make():
        return OutcomeDetector(Source("s", "outcomes", 3), TOLERANCE)

    more = {"again": make} | more if more.pop("restarts", False) else more
    return detect(make(), values, lambda offsets, some: [read_outcomes(offsets, some)], **more)


def test_a_change_of_the_concept_is_told_once_with_where_it_began_and_a_retraining_is_proposed():
    found, _ = of_outcomes(outcomes(4_000))
    [drift, proposed] = found
    assert isinstance(drift, DriftDetected)
    assert (drift.stream, drift.kind, drift.subject, drift.model, drift.version, drift.partition) == (
        "s", "concept", "error", "plain", 1, 3
    )  # fmt: skip
    assert 2 * MOVES < drift.offset < 2 * (MOVES + 40)
    assert drift.at == 500 * (drift.offset - 1) + 500  # both of the label
    assert abs(drift.since_offset - 2 * MOVES) <= 2 * 20
    assert drift.since_at == 500 * drift.since_offset
    assert drift.before == pytest.approx(0.1, abs=0.02)
    assert drift.after == pytest.approx(0.6, abs=0.2)
    assert drift.evidence >= drift.threshold > 100_000

    assert isinstance(proposed, RetrainProposed)
    assert (proposed.drift, proposed.since, proposed.model) == (drift.id, {3: drift.since_offset}, "plain")
    due = drift.since_offset // 2 + TOLERANCE.retrain_labels  # labels since then; the place is a coarse one
    assert due <= proposed.offset // 2 <= due + 8


@pytest.mark.parametrize("group", [None, "f"])
def test_batches_and_restarts_change_nothing(group):
    values = outcomes(4_500, group=group, models=("plain", "other"))
    found, state = of_outcomes(values)
    assert len({one.id for one in found}) == len(found) > 0
    for batch, restarts in ((7, False), (4_500, False), (333, True)):
        assert of_outcomes(values, batch=batch, restarts=restarts) == (found, state)


def test_nothing_is_found_where_nothing_moves():
    assert of_outcomes(outcomes(9_000, moves=10**9))[0] == []


def test_what_moves_for_one_group_is_bias_and_names_it_and_for_everybody_it_is_none():
    found, _ = of_outcomes(outcomes(6_000, group="f"))
    biased = [one for one in found if isinstance(one, DriftDetected) and one.kind == "bias"]
    assert {one.group for one in biased} == {"sex=f"}
    assert "error" in {one.subject for one in biased}
    assert all(one.offset > 2 * MOVES and one.model == "plain" for one in biased)
    everybody, _ = of_outcomes(outcomes(6_000))
    assert {one.kind for one in everybody if isinstance(one, DriftDetected)} == {"concept"}


def test_only_what_concerns_who_answered_is_told_and_whoever_follows_is_known_already():
    both = outcomes(4_000, models=("plain", "other"))
    assert {one.model for one in of_outcomes(both)[0]} == {"plain"}
    after = outcomes(4_200, moves=4_050, models=("plain", "other"))  # it answers since 4,000
    found = [one for one in of_outcomes(after)[0] if isinstance(one, DriftDetected)]
    assert {one.model for one in found} == {"other"}
    late = outcomes(4_500, moves=3_950, models=("plain", "other"))
    assert [one.drift for one in of_outcomes(late)[0] if isinstance(one, RetrainProposed)] == []


def test_a_delay_of_labels_that_grows_is_told():
    chance, values = random.Random(5), []
    for row in range(6_000):
        wait = int(1000 * chance.expovariate(1 / (60 if row < 4_000 else 180)))
        at = 1000 * row
        values.append(encode(Outcome(f"o{row}", "e", at + wait, "labelled", 2 * row + 1, at, 2 * row, True)))
    [drift, *_] = of_outcomes(values)[0]
    assert (drift.kind, drift.subject, drift.model) == ("delay", "label_delay", "")
    assert 2 * 4_000 < drift.offset < 2 * 4_600


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_answers_that_move_are_prediction_drift(task):
    chance, values = random.Random(2), []
    for row in range(5_000):
        p = 0.3 if row < 3_500 else 0.6
        score = min(1.0, max(0.0, chance.gauss(p, 0.1)))
        answer = {
            "binary": score > 0.5,
            "multiclass": "a" if chance.random() < p else "b",
            "regression": score,
        }
        shown = score if task == "binary" else None
        said = None if row < 50 else answer[task]  # it cannot answer at first
        values.append(encode(Prediction(f"o{row}", "e", row, 2 * row, "plain", 2, said, shown)))

    def make():
        return PredictionDetector(Source("s", "predictions", 0), TOLERANCE)

    def read(offsets, some):
        return [read_predictions(offsets, some)]

    found, state = detect(make(), values, read)
    assert {(one.kind, one.model, one.version) for one in found} == {("prediction", "plain", 2)}
    assert all(2 * 3_500 < one.offset < 2 * 4_200 for one in found)
    assert detect(make(), values, read, batch=17, again=make) == (found, state)


def test_fields_that_move_are_data_drift_and_another_contract_is_another_beginning():
    fields = [Field("a", "number"), Field("b", "number"), Field("colour", "string"), Field("when", "time")]
    contract = StreamContract("s", "binary", fields)
    chance = random.Random(3)

    def log(count, moves):
        values = [encode(ContractAdopted("c", 0, 1, contract.to_dict()))]
        for row in range(count):
            a = chance.gauss(0 if row < moves else 1, 1)
            x = {
                "a": a,
                "b": chance.gauss(0, 1),
                "colour": chance.choice(["red", "blue"]),
                "when": 1000 * row,
            }
            values.append(encode(Observation(f"o{row}", "e", row, x)))
        return values

    def make():
        return LogDetector(Source("s", "log", 0), TOLERANCE)

    def found_in(values, **more):
        return detect(make(), values, LogReader().read, **more)

    values = log(5_000, 4_000)
    found, state = found_in(values)
    assert {(one.kind, one.subject) for one in found} == {("data", "a")}
    [drift, *_] = found
    assert 4_000 < drift.offset < 4_300
    assert abs(drift.since_offset - 4_000) <= 64
    assert drift.at == drift.offset - 1  # the contract lies before all observations
    assert found_in(values, batch=61, again=make) == (found, state)
    again = [encode(ContractAdopted("d", 0, 2, contract.to_dict()))]
    assert found_in([*values[:4_001], *again, *values[4_001:]])[0] == []  # too few to have another reference


def test_the_model_that_spoke_longest_ago_gives_way_whatever_the_batches():
    rows = 3 * (MODELS_KEPT + 5)
    speakers = [f"m{row % (MODELS_KEPT + 5)}@1" for row in range(rows)]

    def run(batch):
        roster = Roster(lambda name: [])
        for begin, end in pairwise([*range(0, rows, batch), rows]):
            spoken = {}
            for row in range(begin, end):
                spoken.setdefault(speakers[row], []).append(row - begin)
            places = {name: np.array(where) for name, where in spoken.items()}
            for name, watch, span in roster.runs(places, end - begin):
                watch += [begin + int(row) for row in places[name][span]]
        return roster.watches, roster.last

    watches, last = run(rows)
    assert len(watches) == MODELS_KEPT
    assert all(seen == [last[name]] for name, seen in watches.items())  # made anew when it came again
    assert run(1) == run(7) == (watches, last)


def test_a_track_knows_where_records_were_and_keeps_only_so_many():
    track = Track()
    assert track.count == 0
    track.extend([Spot(10 * row, 7 * row) for row in range(100_000)])
    assert track.count == 100_000
    assert sum(map(len, track.offsets.levels)) <= 1_152
    for number, apart in ((0, 0), (5, 5), (77_777, 2_048), (95_002, 7), (99_999, 7)):
        offset, at = track.spot(number)
        assert 0 <= 10 * number - offset <= 10 * apart
        assert at == offset // 10 * 7
