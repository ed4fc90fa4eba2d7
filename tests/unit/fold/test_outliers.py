"""Outliers: bounds by hand, what they leave alone, the share that trees flag, and what a contract's versions change."""

from random import Random
from typing import Any

import msgspec
import pytest

from headrace import checkpoint
from headrace.contracts.codec import encode
from headrace.contracts.events import Prediction
from headrace.contracts.outliers import OutlierSpec, watched
from headrace.contracts.stream import Field, StreamContract
from headrace.fold.outliers import Outliers, Rarest, watching
from headrace.fold.shard import Shard
from headrace.testing import builders


def contract(*methods: Any, names: str = "ab", **more: Any) -> StreamContract:
    """Number fields of one letter each; by default bounds lie at twice the outer deciles of 20 values."""
    spec = OutlierSpec(list(methods), **{"fence": 2.0, "window": 20, **more})
    return builders.contract(fields=[Field(name, "number") for name in names], outliers=spec)


def marked(watch: Outliers, x: dict[str, Any]) -> Prediction:
    told = builders.prediction("i")
    watch.mark(told, x)
    return told


def flags(watch: Outliers, *values: Any, name: str = "a") -> list[bool]:
    return [name in (marked(watch, {name: value}).outliers or ()) for value in values]


def test_bounds_come_from_the_median_and_the_outer_decile_of_each_side():
    watch = Outliers(contract("bounds"))
    assert flags(watch, 1.0, 2.0, 3.0, 5.0, 1e9) == [False] * 5, "the fifth value makes the first bounds"
    watch = Outliers(contract("bounds"))
    flags(watch, 1.0, 2.0, 3.0, 5.0, 9.0)
    # median 3, deciles 1 and 9: from 3 - 2 * 2 to 3 + 2 * 6
    assert flags(watch, -1.0, 15.0, -1.1, 15.1) == [False, False, True, True]


def test_an_observation_has_no_say_in_its_own_judgement():
    watch = Outliers(contract("bounds"))
    flags(watch, 1.0, 2.0, 3.0, 5.0, 9.0, *[3.0] * 4)
    assert flags(watch, 1e6, 1e6) == [True, True], "the first of them renews the bounds, after it was judged"


def test_several_fields_are_named_in_the_contracts_order():
    watch = Outliers(contract("bounds", names="ba"))
    for value in range(5):
        marked(watch, {"a": float(value), "b": float(value)})
    assert marked(watch, {"a": 1e3, "b": -1e3}).outliers == ["b", "a"]


@pytest.mark.parametrize("value", [None, "far", True, 10**400, float("nan"), float("inf")])
def test_what_is_missing_or_no_number_is_no_outlier_and_is_not_learnt(value):
    watch = Outliers(contract("bounds", "trees"))
    for number in range(30):
        marked(watch, {"a": number, "b": 1.0})
    before = [(list(span.recent), span.fresh) for span in watch._spans if span.name == "a"]
    told = marked(watch, {"b": 1.0} if value is None else {"a": value, "b": 1.0})
    assert told.outliers is None
    assert [(list(span.recent), span.fresh) for span in watch._spans if span.name == "a"] == before


def test_a_side_on_which_nearly_all_values_are_one_has_no_bound():
    for side in (1.0, -1.0):
        watch = Outliers(contract("bounds"))
        flags(watch, *[0.0, 0.0, 0.0, 0.0, side] * 4)
        assert flags(watch, 2.1 * side, -1e9 * side) == [True, False]


def test_a_field_that_has_moved_is_normal_again():
    rng = Random(3)
    watch = Outliers(contract("bounds", fence=4.0))
    before = flags(watch, *(rng.gauss(0, 1) for _ in range(40)))
    after = flags(watch, *(rng.gauss(50, 1) for _ in range(40)))
    assert not any(before)
    assert all(after[:5])
    assert not any(after[20:])
    assert flags(watch, 0.0) == [True], "what was before the window is forgotten"


def test_one_value_in_ten_may_be_wrong_before_a_bound_follows():
    rng = Random(4)
    watch = Outliers(contract("bounds", fence=4.0, window=200))
    told = flags(watch, *(1e4 if number % 12 == 11 else rng.gauss(0, 1) for number in range(1200)))
    wrong = [told[number] for number in range(50, 1200) if number % 12 == 11]
    assert all(wrong)
    assert sum(told) - sum(wrong) <= 2


@pytest.mark.parametrize(
    "draw", [Random.random, lambda rng: rng.paretovariate(0.5), lambda rng: rng.gauss(0, 1)]
)
def test_the_share_of_rare_scores_is_the_declared_one_whatever_scores_are_like(draw):
    rng, rarest = Random(5), Rarest(0.02)
    told = [rarest.exceeds(draw(rng)) for _ in range(40_000)]
    assert not any(told[:49])
    assert any(told[49:1_000])
    assert sum(told) / 40_000 == pytest.approx(0.017, abs=0.003)  # `share` is the most


def test_scores_that_rise_for_good_are_not_rare_for_a_whole_block():
    rng, rarest = Random(8), Rarest(0.02)
    before = [rarest.exceeds(rng.random()) for _ in range(2_000)]
    after = [rarest.exceeds(1 + rng.random()) for _ in range(2_000)]
    assert 0 < sum(before) < 80
    assert 0 < sum(after) < 80
    assert after[0]


def test_scores_that_are_all_the_same_are_not_rare():
    rarest = Rarest(0.02)
    assert not any(rarest.exceeds(0.5) for _ in range(1_000))


def test_trees_see_what_no_field_shows():
    """Both fields follow one another; in the odd ones each value is as usual as ever, together they are not."""
    rng = Random(6)
    watch = Outliers(contract("bounds", "trees", fence=4.0, share=0.01, window=1000))
    usual, odd = [], []
    for number in range(6_000):
        a = rng.uniform(-1, 1)
        if number > 3_000 and number % 300 == 0:
            a = rng.choice([-1, 1]) * rng.uniform(0.7, 0.9)
            odd.append(marked(watch, {"a": a, "b": -a}))
        else:
            told = marked(watch, {"a": a, "b": a + rng.gauss(0, 0.05)})
            usual += [told] * (number > 3_000)
    assert not any(told.outliers for told in [*usual, *odd])
    assert sum(told.anomalous for told in odd) >= len(odd) // 2
    assert sum(told.anomalous for told in usual) / len(usual) < 0.03
    assert all(0.0 <= told.anomaly <= 1.0 for told in odd)


def test_trees_are_silent_until_they_know_enough():
    rng = Random(7)
    watch = Outliers(contract("trees", share=0.1))
    told = [marked(watch, {"a": rng.gauss(0, 1), "b": 1.0}) for _ in range(60)]
    assert [one.anomaly is None for one in told] == [True] * 25 + [False] * 35
    assert not any(one.anomalous for one in told[:34])


def test_another_stream_has_other_trees_and_the_same_stream_the_same():
    made = []
    for name in ("s", "s", "t"):
        watch = Outliers(msgspec.structs.replace(contract("trees"), name=name))
        for number in range(30):
            marked(watch, {"a": number * 7 % 5, "b": number * 3 % 7})
        made.append(checkpoint.fingerprint(watch._trees))
    assert made[0] == made[1] != made[2]


def test_which_fields_are_watched():
    fields = [Field("key", "string"), Field("a", "number"), Field("t", "time"), Field("n", "integer"),
              Field("who", "integer", personal=True), Field("yes", "boolean")]  # fmt: skip
    every = builders.contract(fields=fields, outliers=OutlierSpec(["bounds"]))
    assert watched(every) == ["a", "n"]
    assert watched(builders.contract(fields=fields, outliers=OutlierSpec(["bounds"], fields=["n"]))) == ["n"]
    many = [Field(f"f{number}", "number") for number in range(70)]
    assert len(watched(builders.contract(fields=many, outliers=OutlierSpec(["trees"])))) == 64


def test_a_version_that_asks_for_the_same_goes_on_and_another_starts_afresh():
    first = contract("bounds")
    watch = watching(first, None)
    assert watch is not None
    assert watching(msgspec.structs.replace(first, version=2, description="new"), watch) is watch
    for other in (contract("bounds", names="abc"), contract("bounds", fence=3.0), contract("trees")):
        assert watching(other, watch) not in (None, watch)
    assert watching(builders.contract(), watch) is None


def test_flags_stand_in_predictions_and_whoever_does_not_ask_has_none():
    spec = OutlierSpec(["bounds"], window=20)
    seen = [builders.observation(f"i{n}", {"a": n % 5, "b": 1e9 if n == 8 else 1 + n % 3}) for n in range(9)]
    again = msgspec.structs.replace(seen[8], id="again")
    flagged = []
    for outliers in (OutlierSpec(), spec):
        declared = builders.contract(outliers=outliers)
        newer = builders.adopted(msgspec.structs.replace(declared, version=2), id="v2")
        records = [
            builders.adopted(declared),
            *seen[:8],
            seen[3],
            newer,
            seen[8],
            builders.label("i8"),
            again,
        ]
        folded = Shard().fold(records, range(len(records)))
        flagged.append(
            [(said.id, said.outliers) for said in folded.predictions if b'"outliers"' in encode(said)]
        )
        assert b"outlier" not in encode(folded.outcomes[0])
    assert flagged == [[], [("i8", ["b"]), ("again", ["b"])]]
