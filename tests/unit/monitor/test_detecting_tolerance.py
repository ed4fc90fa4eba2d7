"""Detectors do what is said of a stream: days, kinds, fields, references, mixes and River's detectors by name."""

import random

import msgspec
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
from headrace.errors import Unusable
from headrace.testing import builders
from services.monitor.domain.detecting import LogDetector, PredictionDetector
from services.monitor.domain.drift.budget import WEIGHTS
from services.monitor.domain.finding import Source
from services.monitor.domain.outcomes import OutcomeDetector
from services.monitor.domain.reading import LogReader, read_outcomes, read_predictions
from services.monitor.domain.tolerance import Reference, Signal, Tolerance
from services.monitor.processor import Summariser, WindowShape
from tests.unit.monitor.test_detecting import detect, outcomes

DAY = 24 * 3_600_000
MOVES = 3_000


def only(*kinds):
    """Weights that watch these."""
    return {kind: weight if kind in kinds else 0.0 for kind, weight in WEIGHTS.items()}


def of_outcomes(values, tolerance, **more):
    def make():
        return OutcomeDetector(Source("s", "outcomes", 0), tolerance)

    more = {"again": make} | more if more.pop("restarts", False) else more
    return detect(make(), values, lambda offsets, some: [read_outcomes(offsets, some)], **more)


def log(count, a, step=60_000, at=0, slower=10**9):
    """Two numbers and a text; `a` of row and chance. From row `slower` on the steps are ten times as long."""
    fields = [Field("a", "number"), Field("b", "number"), Field("colour", "string")]
    contract = StreamContract("s", "binary", fields)
    chance = random.Random(3)
    values = [encode(ContractAdopted("c", 0, 1, contract.to_dict()))]
    for row in range(count):
        x = {"a": a(row, chance), "b": chance.gauss(0, 1), "colour": chance.choice(["red", "blue"])}
        values.append(encode(Observation(f"o{row}", "e", at + step * (row + 9 * max(0, row - slower)), x)))
    return values


def jumps(row, chance):
    return chance.gauss(0 if row < MOVES else 1, 1)


def of_log(values, tolerance, **more):
    def make():
        return LogDetector(Source("s", "log", 0), tolerance)

    more = {"again": make} | more if more.pop("restarts", False) else more
    return detect(make(), values, LogReader().read, **more)


def kinds(found):
    return {one.kind for one in found if isinstance(one, DriftDetected)}


def test_a_budget_in_days_is_one_in_the_streams_own_records_and_all_partitions():
    values = log(4_000, jumps)  # 1,440 a day
    [drift, *_] = of_log(values, Tolerance(false_alarm_days=100.0, partitions=3))[0]
    [plain, *_] = of_log(values, Tolerance(1_440.0 * 100 * 3))[0]
    assert drift.threshold == pytest.approx(plain.threshold, rel=0.01)
    assert abs(drift.offset - plain.offset) <= 64


def test_days_change_nothing_about_batches_and_restarts():
    """Thresholds change within a batch, as the pace does."""
    tolerance = Tolerance(false_alarm_days=60.0, retrain_labels=300)
    values = log(6_000, jumps, slower=2_200)  # a week is over at row 2,988, the next one at 3,996
    found, state = of_log(values, tolerance)
    [drift, *_] = found
    everything = Tolerance(60 * 2_988 / 7)
    assert drift.threshold == pytest.approx(of_log(values, everything)[0][0].threshold, rel=0.01)
    for batch, restarts in ((7, False), (6_001, False), (333, True)):
        assert of_log(values, tolerance, batch=batch, restarts=restarts) == (found, state)
    told, held = of_outcomes(outcomes(4_500), tolerance)
    assert told
    assert of_outcomes(outcomes(4_500), tolerance, batch=170, restarts=True) == (told, held)


def test_other_thresholds_hold_at_once_and_nothing_is_forgotten():
    values = outcomes(MOVES + 61)
    strict, loose = Tolerance(1e30), Tolerance(20_000.0)
    source = Source("s", "outcomes", 0)
    held = OutcomeDetector(source, strict)
    assert held.detect(read_outcomes(range(MOVES + 60), values[:-1])) == []
    after = OutcomeDetector(source, loose)
    after.resume(held.state())
    assert after.state() == held.state()
    [drift] = after.detect(read_outcomes([MOVES + 60], values[-1:]))
    assert (drift.kind, drift.subject) == ("concept", "error")
    assert abs(drift.since_offset - 2 * MOVES) <= 2 * 20
    assert drift.threshold < drift.evidence < min(one.threshold for one in held.watched())


def test_a_snapshot_that_watched_something_else_is_refused_and_one_with_another_budget_is_not():
    def made(**more):
        return Summariser("s.log", 0, WindowShape(), Tolerance(**more))

    first = made()
    first.process(builders.batch([builders.adopted(builders.contract())], topic="s.log"))
    made(false_alarm_records=7.0, false_alarm_days=3.0, retrain_labels=9).restore(first.snapshot())
    for other in (
        {"leave_out": ("x",)},
        {"reference": Reference(records=4_096)},
        {"weights": only("data")},
        {"signals": (Signal("ADWIN", of="error"),)},
    ):
        with pytest.raises(Unusable, match="something else"):
            made(**other).restore(first.snapshot())


def test_a_kind_without_weight_is_not_watched_and_leaves_its_share():
    biased = outcomes(6_000, group="f")
    both = of_outcomes(biased, Tolerance(weights=only("concept", "bias")))[0]
    assert kinds(both) == {"concept", "bias"}
    [one, *_] = of_outcomes(biased, Tolerance(weights=only("bias")))[0]
    assert one.kind == "bias"
    assert one.threshold == pytest.approx(next(x for x in both if x.kind == "bias").threshold * 2 / 6)
    assert kinds(of_outcomes(biased, Tolerance(weights=only("concept")))[0]) == {"concept"}
    moving = log(4_000, jumps)
    assert of_log(moving, Tolerance(weights=only("concept", "volume")))[0] == []
    said = [encode(Prediction(f"o{n}", "e", n, n, "m", 1, n > 3_000, 0.9)) for n in range(4_000)]
    for weights, expected in ((only("prediction"), {"prediction"}), (only("data"), set())):
        detector = PredictionDetector(Source("s", "predictions", 0), Tolerance(weights=weights))
        assert kinds(detector.detect(read_predictions(range(4_000), said))) == expected


def test_a_field_that_is_left_out_is_not_watched():
    assert of_log(log(4_000, jumps), Tolerance(leave_out=("a",)))[0] == []


def test_the_reference_is_as_long_as_is_said_and_begins_where_is_said():
    def early(row, chance):
        return chance.gauss(5 if row < 2_300 else 0, 1)

    values = log(8_000, early)
    assert kinds(of_log(values, Tolerance())[0]) == {"data"}
    begin = 2_300 * 60_000
    later = Tolerance(reference=Reference(since=begin))
    found, state = of_log(values, later)
    assert found == []
    assert of_log(values, later, batch=97, restarts=True) == (found, state)
    watched = {one.subject: one.ready for one in _watched(values[: 2_300 + 2_000], later)}
    assert not watched["a"]
    assert {one.subject: one.ready for one in _watched(values[: 2_300 + 2_100], later)}["a"]
    short = Tolerance(reference=Reference(records=512, since=begin))
    assert {one.subject: one.ready for one in _watched(values[: 2_300 + 600], short)}["a"]

    late = Tolerance(reference=Reference(since=1_000 * (MOVES + 100)))
    assert of_outcomes(outcomes(5_000), late)[0] == []  # it has never known anything else
    assert kinds(of_outcomes(outcomes(3_200), Tolerance())[0]) == {"concept"}
    assert of_outcomes(outcomes(3_200), Tolerance(reference=Reference(labels=4_096)))[0] == []


def _watched(values, tolerance):
    detector = LogDetector(Source("s", "log", 0), tolerance)
    for columns in LogReader().read(range(len(values)), values):
        detector.detect(columns)
    return detector.watched()


def test_groups_are_held_against_a_stated_mix_from_the_first_record_on():
    """Half of the records are of each; a mix that says so is kept, one that says three in four is not."""
    values = outcomes(1_500, moves=10**9)
    assert of_outcomes(values, Tolerance(mix={"sex": {"f": 0.5, "m": 0.5}}))[0] == []
    [drift, *_] = of_outcomes(values, Tolerance(mix={"sex": {"f": 0.75, "m": 0.25}}))[0]
    assert (drift.kind, drift.subject) == ("bias", "representation")
    assert drift.before == pytest.approx({"sex=f": 0.75, "sex=m": 0.25}[drift.group], abs=0.001)
    assert drift.after == pytest.approx(0.5, abs=0.1)
    assert drift.offset < 2 * 700


def test_a_field_with_a_stated_mix_has_its_place_among_those_that_are_watched():
    values = []
    for row in range(300):
        groups = {f"g{n}": "ab"[row % 2] for n in range(6)}
        top = Answer("m", 1, True, 0.8)
        values.append(
            encode(
                Outcome(
                    f"o{row}", "e", row, "labelled", row, row, row, True, None, top.model, 1, top.answer,
                    top.score, None, [], groups,
                )
            )
        )  # fmt: skip
    detector = OutcomeDetector(Source("s", "outcomes", 0), Tolerance(mix={"g5": {"a": 0.5, "b": 0.5}}))
    detector.detect(read_outcomes(range(300), values))
    fields = {one.group for one in detector.watched() if one.subject == "representation"}
    assert fields == {"g0", "g1", "g2", "g5"}


def test_rivers_detectors_are_told_by_name_and_propose_nothing():
    signals = (Signal("DDM", of="error"), Signal("ADWIN", of="loss", parameters={"delta": 0.01}))
    tolerance = Tolerance(retrain_labels=300, weights=only("data"), signals=signals)
    values = outcomes(4_500, models=("plain", "other"))
    found, state = of_outcomes(values, tolerance)
    assert {(one.kind, one.subject, one.method) for one in found} == {
        ("concept", "error", "DDM"), ("concept", "loss", "ADWIN")
    }  # fmt: skip
    assert not any(isinstance(one, RetrainProposed) for one in found)
    [first, *_] = found
    assert (first.model, first.threshold, first.since_offset) == ("plain", 0.0, first.offset - 1)
    assert first.offset > 2 * MOVES
    for batch, restarts in ((61, False), (333, True)):
        assert of_outcomes(values, tolerance, batch=batch, restarts=restarts) == (found, state)


def test_rivers_detectors_watch_scores_and_fields_too():
    moving = log(4_000, lambda row, chance: None if row % 5 == 0 else jumps(row, chance))
    tolerance = Tolerance(weights=only("concept"), signals=(Signal("ADWIN", field="a"),))
    found, state = of_log(moving, tolerance)
    assert {(one.kind, one.subject, one.method) for one in found} == {("data", "a", "ADWIN")}
    assert all(one.offset > MOVES for one in found)
    assert of_log(moving, tolerance, batch=99, restarts=True) == (found, state)

    scores = np.random.default_rng(1).normal([0.3] * MOVES + [0.6] * 1_000, 0.1)
    said = [
        encode(Prediction(f"o{n}", "e", n, n, "m", 1, bool(score > 0.5), float(score), challengers=[
            Answer("c", 1, True, 1.0 - float(score))
        ]))
        for n, score in enumerate(scores)
    ]  # fmt: skip
    tolerance = Tolerance(weights=only("data"), signals=(Signal("PageHinkley", of="score"),))
    detector = PredictionDetector(Source("s", "predictions", 0), tolerance)
    moved = detector.detect(read_predictions(range(len(said)), said))
    assert {(one.subject, one.method, one.model) for one in moved} == {("score", "PageHinkley", "m")}


def test_another_contract_begins_anew_and_what_it_shows_lies_where_it_lies():
    values = log(4_000, jumps)
    again = [encode(ContractAdopted("d", 0, 2, msgspec.json.decode(values[0])["contract"]))]
    everything = [*values[:501], *again, *values[501:]]
    [drift, *_], state = of_log(everything, Tolerance())
    assert MOVES < drift.offset < MOVES + 300
    assert abs(drift.since_offset - MOVES) <= 64
    assert of_log(everything, Tolerance(), batch=77, restarts=True)[1] == state


def test_volume_is_watched_on_the_log_whatever_the_contract():
    """Six weeks of a record in ten minutes, then in twenty; the contract comes again in between."""
    begun = 45 * 144
    values = log(begun, lambda _, chance: chance.gauss(0, 1), step=600_000)
    again = [encode(ContractAdopted("d", 0, 2, msgspec.json.decode(values[0])["contract"]))]
    slower = log(1_500, lambda _, chance: chance.gauss(0, 1), step=1_200_000, at=begun * 600_000)[1:]
    tolerance = Tolerance(weights=only("volume"))
    everything = [*values[:500], *again, *values[500:], *slower]
    found, state = of_log(everything, tolerance)
    [drift, *_] = found
    assert (drift.kind, drift.subject) == ("volume", "volume")
    assert abs(drift.since_at - begun * 600_000) <= DAY
    assert 0 < drift.at - begun * 600_000 <= 4 * DAY
    assert (drift.method, drift.after) == ("likelihood-ratio outside", 1.0)  # every hour was like every other
    assert of_log(everything, tolerance, batch=777, restarts=True) == (found, state)
