"""Columns: what is decoded of the log under a changing contract, and of outcomes by model and group."""

import numpy as np

from headrace.contracts.codec import encode
from headrace.contracts.events import Answer
from headrace.contracts.stream import Field
from headrace.testing import builders
from services.monitor.domain.columns import CONTROL, LABEL, OBSERVATION
from services.monitor.domain.reading import LogReader, read_outcomes, read_predictions

FIELDS = [
    Field("a", "number"),
    Field("odd name", "integer"),
    Field("member", "boolean"),
    Field("code", "string"),
    Field("sex", "string", feature=False, sensitive=True),
]


def read(reader, records, first=0):
    values = [one if one is None or isinstance(one, bytes) else encode(one) for one in records]
    return list(reader.read(range(first, first + len(values)), values))


def observed(x, sex=None):
    seen = builders.observation("o", x, at=7)
    seen.aside = None if sex is None else {"sex": sex}
    return seen


def test_a_contract_ends_a_run_and_decides_what_follows():
    reader = LogReader()
    later = builders.contract(fields=[*FIELDS, Field("new", "number")], version=2)
    runs = read(
        reader,
        [
            observed({"a": 1.0}), builders.adopted(builders.contract(fields=FIELDS)),
            observed({"a": 1, "odd name": 2, "member": False, "code": "x", "sex": "never"}, "F"), builders.label("o"),
            observed({"code": "y", "a": -2.5}), builders.adopted(later), observed({"new": 3.0}), builders.promoted(),
        ],
    )  # fmt: skip
    assert [list(run.offsets) for run in runs] == [[0, 1], [2, 3, 4, 5], [6, 7]]
    before, under, after = runs
    assert (before.facts, before.numbers, list(before.kinds)) == (None, {}, [OBSERVATION, CONTROL])
    assert list(under.kinds) == [OBSERVATION, LABEL, OBSERVATION, CONTROL]
    assert list(under.observed) == [0, 2]
    np.testing.assert_array_equal(under.numbers["a"], [1.0, -2.5])
    np.testing.assert_array_equal(under.numbers["odd name"], [2.0, np.nan])
    assert list(under.texts["member"]) == ["false", None]
    assert list(under.texts["code"]) == ["x", "y"]
    assert list(under.texts["sex"]) == ["F", None]
    assert under.adopted == reader.facts == after.facts
    np.testing.assert_array_equal(after.numbers["new"], [3.0])


def test_values_of_another_type_are_set_apart_and_what_is_no_event_has_no_time():
    reader = LogReader()
    read(reader, [builders.adopted(builders.contract(fields=FIELDS))])
    strange = b'{"type": "observation", "id": "o", "entity": "o", "at": 1, "x": {"a": "1", "code": 5, "member": true}}'
    (run,) = read(reader, [strange, b"{", None, b'{"type": "mystery", "at": 5}', observed({"a": True})])
    assert run.at == [1, None, None, None, 7]
    assert run.mistyped == [(0, "a"), (0, "code"), (1, "a")]
    assert np.isnan(run.numbers["a"]).all()
    assert list(run.texts["member"]) == ["true", None]


def test_a_text_is_new_once_whatever_the_batches():
    def new(*sizes):
        reader = LogReader()
        records = [builders.adopted(builders.contract(fields=FIELDS))]
        records += [observed({"code": code}) for code in "abacbbd"]
        found, first = [], 0
        for size in sizes:
            for run in read(reader, records[first : first + size], first):
                found += [(run.offsets[row], *new) for row, every in run.new.items() for new in every]
            first += size
        return sorted(found)

    assert new(8) == [(1, "code", "a"), (2, "code", "b"), (4, "code", "c"), (7, "code", "d")]
    assert new(1, 2, 3, 2) == new(8)


def test_outcomes_by_model_and_group():
    first = builders.outcome("a", True, 0.7, at=1)
    first.groups = {"sex": "F", "wing": "3"}
    first.challengers = [Answer("tree", 2)]
    second = builders.outcome("b", False, 0.2, at=2)
    second.groups = {"wing": "4"}
    corrected = builders.outcome("a", False, 0.7, status="corrected", at=3, previous_y=True)
    values = [*map(encode, (first, second, corrected)), b"{"]
    columns = read_outcomes(range(4), values)
    assert columns.at == [1, 2, 3, None]
    assert columns.corrections == [2]
    said, silent = columns.models["m@1"], columns.models["tree@2"]
    assert (list(said.rows), list(said.scores), list(said.y), said.binary) == (
        [0, 1],
        [0.7, 0.2],
        [True, False],
        True,
    )
    assert (list(silent.rows), silent.places, list(silent.answered)) == ([0], [1], [False])
    assert list(columns.groups["sex"].codes) == [0, -1, -1, -1]
    assert list(columns.groups["wing"].codes) == [0, 1, -1, -1]
    assert columns.groups["wing"].names == ["3", "4"]


def test_predictions_by_model_and_group():
    said = builders.prediction("a", 0.7, at=1, challengers=[Answer("tree", 2, True, 0.9)])
    said.groups = {"sex": "F"}
    nobody = builders.prediction("b", None, model="", at=2, challengers=[Answer("tree", 2)])
    columns = read_predictions(range(2), [encode(said), encode(nobody)])
    assert {name: (list(one.rows), one.places) for name, one in columns.models.items()} == {
        "m@1": ([0], [0]), "tree@2": ([0, 1], [1, 1]),
    }  # fmt: skip
    np.testing.assert_array_equal(columns.models["tree@2"].scores, [0.9, np.nan])
    assert not columns.models["m@1"].binary
    assert list(columns.groups["sex"].codes) == [0, -1]
