"""A declared search space: what is drawn from it, and what is refused."""

from math import log10
from typing import Any

import pytest

from headrace.errors import Unusable
from headrace.fold import specification as specifications
from services.registry.domain.search import Search, drawn

SPACE = {
    "model": [
        "preprocessing.StandardScaler",
        {
            "class": "linear_model.LogisticRegression",
            "parameters": {
                "optimizer": {
                    "class": "optim.SGD",
                    "parameters": {"lr": {"between": [0.001, 1.0], "scale": "log"}},
                },
                "l2": {"one_of": [0.0, 0.01]},
            },
        },
    ]
}


def checked(document: dict[str, Any]) -> dict[str, Any]:
    return specifications.check(document).document


def plain(document: dict[str, Any]) -> dict[str, Any]:
    return document


def rates(found: list[dict[str, Any]]) -> list[float]:
    return [one["model"][1]["parameters"]["optimizer"]["parameters"]["lr"] for one in found]


def test_a_space_gives_as_many_different_specifications_as_asked_for_the_same_for_a_seed() -> None:
    search = Search(space=SPACE, trials=40, seed=3)
    found = drawn(search, checked)
    assert len({specifications.digest(one) for one in found}) == len(found) == 40
    assert found == drawn(search, checked)
    assert found != drawn(Search(space=SPACE, trials=40, seed=4), checked)
    assert {one["model"][1]["parameters"]["l2"] for one in found} == {0.0, 0.01}


def test_on_a_logarithmic_scale_every_order_of_magnitude_is_as_likely() -> None:
    found = rates(drawn(Search(space=SPACE, trials=200, seed=1), checked))
    assert all(0.001 <= rate <= 1.0 for rate in found)
    counts = [sum(-order - 1 <= log10(rate) < -order for rate in found) for order in range(3)]
    assert sum(counts) == 200
    assert min(counts) > 40


def test_whole_numbers_reach_both_bounds() -> None:
    found = drawn(Search(space={"n": {"between": [2, 4]}}, trials=3, seed=0), plain)
    assert sorted(one["n"] for one in found) == [2, 3, 4]
    assert all(type(one["n"]) is int for one in found)


def test_choices_may_hold_choices() -> None:
    space = {"model": {"one_of": ["a", {"class": "b", "parameters": {"n": {"between": [1, 2]}}}]}}
    found = drawn(Search(space=space, trials=3, seed=0), plain)
    nested = [{"model": {"class": "b", "parameters": {"n": n}}} for n in (1, 2)]
    assert sorted(found, key=str) == sorted([{"model": "a"}, *nested], key=str)


def test_candidates_come_first_and_a_space_that_is_exhausted_gives_what_it_has() -> None:
    search = Search(({"n": 7}, {"n": 7}, {"n": 2}), {"n": {"one_of": [1, 2]}}, trials=9)
    assert drawn(search, plain) == [{"n": 7}, {"n": 2}, {"n": 1}]


@pytest.mark.parametrize(
    ("search", "where", "says"),
    [
        (Search(), "space", "nothing to try"),
        (Search(({},), trials=0), "trials", "1 to 243"),
        (Search(({}, {}), trials=1), "trials", "2 candidates"),
        (Search(space={"a": [{"one_of": []}]}), "space.a.0", "one_of"),
        (Search(space={"a": {"one_of": [1], "b": 2}}), "space.a", "nothing else"),
        (Search(space={"a": {"between": [2, 1]}}), "space.a", "the lower first"),
        (Search(space={"a": {"between": [True, 2]}}), "space.a", "two numbers"),
        (Search(space={"a": {"between": [0, 1], "scale": "log"}}), "space.a", "above 0"),
        (Search(space={"a": {"between": [1, 2], "scale": "root"}}), "space.a", "linear or log"),
        (Search(space={"a": {"one_of": [{"between": [1]}]}}), "space.a.one_of.0", "two numbers"),
    ],
)
def test_what_is_no_search_is_refused_with_its_place(search: Search, where: str, says: str) -> None:
    with pytest.raises(Unusable, match=says) as refused:
        drawn(search, plain)
    assert refused.value.where == where


def test_a_specification_that_cannot_be_is_refused_with_its_place() -> None:
    with pytest.raises(Unusable) as refused:
        drawn(Search(({"model": "os.system"},)), checked)
    assert str(refused.value.where).startswith("candidates.0")
