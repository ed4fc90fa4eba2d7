"""The shard's rules, one at a time: join, dedupe, expiry, second and early labels, bounds, control, refusals."""

import gc
import weakref
from typing import Any

import pytest

from headrace.contracts.events import (
    ContractAdopted,
    Label,
    LearningFrozen,
    LogRecord,
    ModelDeployed,
    ModelPromoted,
    ModelRetired,
    Observation,
)
from headrace.contracts.stream import Field, LabelSpec, Limits, StreamContract
from headrace.errors import Unusable
from headrace.fold.parts import Folded
from headrace.fold.shard import CLASSES, MODELS, Shard

LOGISTIC = {"model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"]}
SECOND = 1000


def contract(task: str = "binary", limits: Limits = Limits(), **label: Any) -> ContractAdopted:  # noqa: B008
    """A contract record for a stream with two numeric fields; `label` overrides its label policy."""
    kind = "boolean" if task == "binary" else "number" if task == "regression" else "string"
    spec = LabelSpec(type=label.pop("type", kind), wait_seconds=label.pop("wait_seconds", 60), **label)
    made = StreamContract("s", task, [Field("a", "number"), Field("b", "number")], label=spec, limits=limits)  # type: ignore[arg-type]
    return ContractAdopted("contract-1", 0, 1, made.to_dict())


def deploy(model: str = "m", version: int = 1, role: str = "champion", spec: Any = LOGISTIC) -> ModelDeployed:
    return ModelDeployed(f"deploy-{model}-{version}", 0, model, version, spec, role)  # type: ignore[arg-type]


def seen(identity: str, at: int = SECOND, a: float = 1.0) -> Observation:
    return Observation(identity, identity, at, {"a": a, "b": 2.0})


def label(identity: str, at: int = 2 * SECOND, y: Any = True) -> Label:
    return Label(identity, identity, at, y)


class Play:
    """A shard fed record by record with rising offsets."""

    def __init__(self, *records: LogRecord) -> None:
        self.shard = Shard()
        self.offset = 0
        self.feed(*records)

    def feed(self, *records: LogRecord) -> Folded:
        offsets = list(range(self.offset, self.offset + len(records)))
        self.offset += len(records)
        return self.shard.fold(list(records), offsets)


def test_an_observation_gets_one_prediction_and_its_label_an_outcome() -> None:
    play = Play(contract(), deploy())
    out = play.feed(seen("x"), label("x"))
    (prediction,), (outcome,) = out.predictions, out.outcomes
    assert (prediction.id, prediction.model, prediction.version, prediction.offset) == ("x", "m", 1, 2)
    assert prediction.score == 0.5
    assert prediction.answer is False
    assert (outcome.status, outcome.y, outcome.score) == ("labelled", True, 0.5)
    assert (outcome.at, outcome.observed_at, outcome.offset, outcome.prediction_offset) == (2000, 1000, 3, 2)
    assert play.shard.slots["m"].learned == 1


def test_a_known_id_is_counted_and_dropped() -> None:
    play = Play(contract(), deploy(), seen("x"))
    assert play.feed(seen("x", a=5.0)).predictions == []
    play.feed(label("x"))
    assert play.feed(seen("x")).predictions == []
    assert play.shard.counters.duplicates == 2


@pytest.mark.parametrize("y", [False, True])
def test_false_is_a_label(y: bool) -> None:
    out = Play(contract(), deploy(), seen("x")).feed(label("x", y=y))
    assert out.outcomes[0].y is y
    assert out.outcomes[0].status == "labelled"


@pytest.mark.parametrize(
    ("task", "y"), [("regression", 0), ("regression", 0.0), ("multiclass", ""), ("multiclass", 0)]
)
def test_falsy_labels_are_labels(task: str, y: Any) -> None:
    spec = {"model": "dummy.StatisticRegressor" if task == "regression" else "dummy.PriorClassifier"}
    if task == "regression":
        spec = {"model": ["preprocessing.StandardScaler", "linear_model.LinearRegression"]}
    else:
        spec = {"model": "naive_bayes.GaussianNB"}
    play = Play(contract(task), deploy(spec=spec), seen("x"))
    (outcome,) = play.feed(label("x", y=y)).outcomes
    assert outcome.status == "labelled"
    assert outcome.y == y
    assert play.shard.slots["m"].learned == 1


def test_an_observation_expires_when_event_time_has_passed_its_wait() -> None:
    play = Play(contract(), deploy(), seen("x", at=SECOND))
    assert play.feed(seen("edge", at=61 * SECOND)).outcomes == []  # exactly at the deadline it may still come
    (outcome,) = play.feed(seen("y", at=61 * SECOND + 1)).outcomes
    assert (outcome.id, outcome.status, outcome.y, outcome.at) == ("x", "expired", None, 61 * SECOND)
    assert play.shard.counters.expired == 1
    assert play.shard.slots["m"].learned == 0


def test_expiry_can_mean_a_negative() -> None:
    play = Play(contract(expiry="negative"), deploy(), seen("x", at=SECOND))
    (outcome,) = play.feed(seen("y", at=100 * SECOND)).outcomes
    assert (outcome.status, outcome.y) == ("expired", False)
    assert play.shard.slots["m"].learned == 1


def test_a_label_after_expiry_is_a_second_label() -> None:
    play = Play(contract(), deploy(), seen("x", at=SECOND))
    out = play.feed(label("x", at=100 * SECOND))
    assert [outcome.status for outcome in out.outcomes] == ["expired", "ignored"]
    assert play.shard.slots["m"].learned == 0


def test_a_second_label_is_ignored_by_default() -> None:
    play = Play(contract(), deploy(), seen("x"), label("x"))
    (outcome,) = play.feed(label("x", y=False)).outcomes
    assert (outcome.status, outcome.y) == ("ignored", False)
    assert play.shard.counters.second_labels == 1
    assert play.shard.slots["m"].metrics.overall().view()["positives"] == 1


def test_a_second_label_can_be_a_correction() -> None:
    play = Play(contract(second="correct"), deploy(), seen("x"), label("x", y=True))
    (outcome,) = play.feed(label("x", y=False)).outcomes
    assert (outcome.status, outcome.y, outcome.previous_y, outcome.score) == ("corrected", False, True, 0.5)
    overall = play.shard.slots["m"].metrics.overall().view()
    assert (overall["count"], overall["positives"]) == (1, 0)
    assert play.shard.slots["m"].learned == 1  # nothing is unlearnt, nothing is learnt twice


def test_a_label_may_come_before_its_observation() -> None:
    play = Play(contract(), deploy())
    assert play.feed(label("x", at=SECOND)).outcomes == []
    out = play.feed(seen("x", at=SECOND))
    assert len(out.predictions) == 1
    assert [outcome.status for outcome in out.outcomes] == ["labelled"]
    assert out.predictions[0].score == 0.5  # answered before it learnt


def test_a_label_for_nothing_ends_unmatched() -> None:
    play = Play(contract(), deploy(), label("ghost", at=SECOND))
    (outcome,) = play.feed(seen("y", at=100 * SECOND)).outcomes
    assert (outcome.id, outcome.status, outcome.prediction_offset) == ("ghost", "unmatched", -1)
    assert play.shard.counters.unmatched == 1


def test_at_the_bound_the_oldest_observation_expires() -> None:
    play = Play(contract(limits=Limits(pending=2, remembered=2)), deploy())
    out = play.feed(seen("a"), seen("b"), seen("c"))
    assert [(outcome.id, outcome.status) for outcome in out.outcomes] == [("a", "expired")]
    assert play.shard.counters.pushed_out == 1
    assert play.shard.pending == 2


def test_early_labels_have_a_bound() -> None:
    play = Play(contract(limits=Limits(early_labels=1)), deploy())
    out = play.feed(label("a", SECOND), label("b", SECOND))
    assert [(outcome.id, outcome.status) for outcome in out.outcomes] == [("a", "unmatched")]


def test_a_contract_that_lowers_the_bounds_is_obeyed_at_the_next_record() -> None:
    play = Play(contract(), deploy(), *(seen(f"x{index}") for index in range(6)))
    play.feed(*(label(f"early{index}") for index in range(6)))
    lower = contract(limits=Limits(pending=2, remembered=3, early_labels=1))
    lower.id = "contract-2"
    expired = play.feed(lower, seen("y")).outcomes
    assert [outcome.id for outcome in expired] == ["x0", "x1", "x2", "x3", "x4"]
    assert (play.shard.pending, play.shard.counters.pushed_out) == (2, 5)
    unmatched = play.feed(label("early6")).outcomes
    assert [outcome.id for outcome in unmatched] == [f"early{index}" for index in range(6)]
    play.feed(seen("x3"))  # forgotten, so it is new again
    assert play.shard.counters.duplicates == 0


def test_remembered_ids_have_a_bound_but_never_lose_a_waiting_one() -> None:
    play = Play(contract(limits=Limits(pending=2, remembered=3)), deploy(), seen("slow"))
    for index in range(10):
        play.feed(seen(f"quick{index}"), label(f"quick{index}"))
    assert play.feed(seen("slow")).predictions == []
    assert [outcome.status for outcome in play.feed(label("slow")).outcomes] == ["labelled"]


def test_deadlines_stay_bounded_when_labels_are_quick() -> None:
    """One record in two comes so late that it expires soon, and the deadlines of all that wait are looked at."""
    play = Play(contract(wait_seconds=10), deploy())
    largest = 0
    for index in range(5000):
        at = 20_000 + index
        play.feed(
            seen(f"x{index}", at=at), seen(f"late{index}", at=at - 9_999), label(f"x{index - 3}", at=at)
        )
        largest = max(largest, len(play.shard._deadlines))
    assert 900 < largest < 1100
    assert play.shard.counters.expired > 4990


def test_those_pushed_out_and_forgotten_are_the_oldest_even_when_ids_come_again() -> None:
    limits = Limits(pending=3, remembered=4)
    play = Play(contract(limits=limits), deploy())
    play.feed(*(seen(name) for name in "abc"), label("a"), label("b"), seen("d"), seen("e"))
    play.feed(seen("f"), seen("a"))  # c is pushed out; a has been forgotten and may come again
    assert play.shard.counters.duplicates == 0
    assert [one.id for one in play.feed(seen("g"), seen("h")).outcomes] == ["e", "f"]


def test_nothing_is_answered_before_a_contract() -> None:
    out = Play().feed(seen("x"), label("x"))
    assert [refused.rule for refused in out.refused] == ["no_contract", "no_contract"]


@pytest.mark.parametrize(
    ("task", "y"), [("binary", 1), ("binary", "yes"), ("regression", "3"), ("regression", 1e300)]
)
def test_a_label_that_does_not_fit_the_task_is_refused(task: str, y: Any) -> None:
    play = Play(contract(task), seen("x"))
    out = play.feed(label("x", y=y))
    assert [refused.rule for refused in out.refused] == ["label_type"]
    assert play.shard.pending == 1


def test_without_a_champion_predictions_say_so() -> None:
    (prediction,) = Play(contract()).feed(seen("x")).predictions
    assert (prediction.model, prediction.answer) == ("", None)


def test_challengers_answer_beside_the_champion_and_learn_alike() -> None:
    play = Play(contract(), deploy("champ"), deploy("chall", role="challenger"))
    out = play.feed(seen("x"), label("x"))
    assert out.predictions[0].model == "champ"
    assert [said.model for said in out.predictions[0].challengers] == ["chall"]
    assert [slot.learned for slot in play.shard.slots.values()] == [1, 1]
    assert play.shard.slots["champ"].fingerprint() == play.shard.slots["chall"].fingerprint()


def test_promotion_swaps_roles_and_keeps_state() -> None:
    play = Play(contract(), deploy("a"), deploy("b", role="challenger"), seen("x"), label("x"))
    play.feed(ModelPromoted("p", SECOND, "b"))
    (prediction,) = play.feed(seen("y")).predictions
    assert prediction.model == "b"
    assert [said.model for said in prediction.challengers] == ["a"]
    assert play.shard.slots["b"].learned == 1


def test_a_frozen_model_answers_and_does_not_learn() -> None:
    play = Play(contract(), deploy(), LearningFrozen("f", 0, "m"))
    out = play.feed(seen("x"), label("x"))
    assert out.predictions[0].score == 0.5
    assert play.shard.slots["m"].learned == 0
    play.feed(LearningFrozen("u", 0, "m", frozen=False), seen("y"), label("y"))
    assert play.shard.slots["m"].learned == 1


def test_a_new_version_starts_anew_and_the_old_one_learns_no_more() -> None:
    play = Play(contract(), deploy(version=1), seen("x"))
    old = play.shard.slots["m"]
    play.feed(deploy(version=2), label("x"))
    assert play.shard.slots["m"].version == 2
    assert (old.learned, play.shard.slots["m"].learned) == (0, 0)


def test_a_retired_model_is_gone() -> None:
    play = Play(contract(), deploy(), ModelRetired("r", 0, "m"))
    assert play.feed(seen("x")).predictions[0].model == ""


def test_a_control_record_takes_effect_once() -> None:
    play = Play(contract(), deploy(), seen("x"), label("x"))
    play.feed(deploy())  # the same id again: a redelivery must not reset the model
    assert play.shard.slots["m"].learned == 1


def test_a_control_record_that_cannot_be_followed_is_refused() -> None:
    out = Play(contract()).feed(ModelPromoted("p", 0, "nobody"), deploy(spec={"model": "os.system"}))
    assert [refused.rule for refused in out.refused] == ["control", "control"]


def test_a_model_that_raises_is_as_if_the_example_had_not_come() -> None:
    text = {
        "model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"],
        "inputs": ["a", "b"],
    }
    clean = Play(contract(), deploy(spec=text))
    dirty = Play(contract(), deploy(spec=text))
    for index in range(50):
        pair = (
            seen(f"x{index}", at=index, a=float(index % 7)),
            label(f"x{index}", at=index, y=index % 2 == 0),
        )
        clean.feed(*pair)
        dirty.feed(*pair)
    bad = Observation("bad", "bad", 50, {"a": "text", "b": 1.0})  # a string where the scaler needs a number
    out = dirty.feed(bad, label("bad", at=50))
    assert out.predictions[0].answer is None
    assert dirty.shard.slots["m"].failures == 2  # once asked, once taught
    assert dirty.shard.slots["m"].fingerprint() == clean.shard.slots["m"].fingerprint()
    assert clean.feed(seen("y")).predictions[0].score == dirty.feed(seen("y")).predictions[0].score


def test_what_goes_in_comes_out_or_waits() -> None:
    play = Play(contract(limits=Limits(pending=5, remembered=10)), deploy())
    for index in range(40):
        play.feed(seen(f"x{index}", at=index * 10 * SECOND))
        if index % 3 == 0:
            play.feed(label(f"x{index}", at=index * 10 * SECOND))
    counted = play.shard.counters
    assert counted.observations == counted.labelled + counted.expired + play.shard.pending == 40


def test_one_model_more_than_a_shard_takes_is_refused() -> None:
    prior = {"model": ["dummy.PriorClassifier"]}
    play = Play(contract(), *(deploy(f"m{i}", spec=prior) for i in range(MODELS)))
    out = play.feed(deploy("more", spec=prior), deploy("m0", version=2, spec=prior))
    assert [refused.rule for refused in out.refused] == ["control"]
    assert "more" not in play.shard.slots
    assert play.shard.slots["m0"].version == 2, "another version of one that is there takes its place"


def test_one_class_more_than_a_shard_takes_is_refused() -> None:
    play = Play(contract("multiclass"))
    play.feed(*(label(f"x{i}", y=f"class {i}") for i in range(CLASSES)))
    out = play.feed(label("new", y="one more"), label("old", y="class 7"))
    assert [refused.rule for refused in out.refused] == ["label_classes"]
    assert play.shard.counters.labels == CLASSES + 1


def test_declared_classes_are_all_taken() -> None:
    declared = [f"class {i}" for i in range(CLASSES + 5)]
    play = Play(contract("multiclass", classes=declared))
    out = play.feed(*(label(f"x{i}", y=name) for i, name in enumerate(declared)))
    assert out.refused == []


def test_a_model_that_left_is_kept_by_no_observation_that_waits() -> None:
    play = Play(contract(), deploy("old"), seen("x"), deploy("new"))
    left = weakref.ref(play.shard.slots["old"])
    play.feed(ModelRetired("r", 0, "old"))
    gc.collect()
    assert left() is None
    (outcome,) = play.feed(label("x")).outcomes
    assert outcome.model == "old", "what it said is still joined with its label"


def test_the_state_of_other_code_is_refused():
    """Then the log is folded again; a shard that lacks something would fail later, or worse, not fail."""
    state = Shard().__getstate__()
    Shard().__setstate__(state)
    del state["_groups"]
    with pytest.raises(Unusable, match="something else"):
        Shard().__setstate__(state)
