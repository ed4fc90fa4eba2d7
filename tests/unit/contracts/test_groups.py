"""Groups: what the fields of a contract make of an observation, and how they come through ingest and the shard."""

import msgspec
import pytest

from headrace.contracts.cleanse import Cleanser
from headrace.contracts.codec import encode
from headrace.contracts.events import Label, Outcome
from headrace.contracts.groups import Groups, aside
from headrace.contracts.stream import Field, StreamContract, check
from headrace.contracts.times import parse_ms
from headrace.errors import Unusable
from headrace.fold.shard import Shard
from headrace.testing import builders

CONTRACT = builders.contract(
    fields=[
        Field("a", "number"),
        Field("sex", "string", sensitive=True, feature=False),
        Field("age", "integer", sensitive=True, edges=[25.0, 45.0]),
        Field("member", "boolean", segment=True, feature=False),
        Field("born", "time", sensitive=True, feature=False, edges=[float(parse_ms("2000-01-01T00:00:00Z"))]),
        Field("name", "string", sensitive=True, personal=True),
        Field("wing", "integer", segment=True),
        Field("quiet", "string", feature=False),
    ]
)
RAW = (
    b'{"id": "o", "at": 5, "a": 1, "sex": "F", "age": 45, "member": false, "born": "1999-12-31T23:59:59Z",'
    b' "name": "Ann", "wing": 3, "quiet": "q"}'
)


def observed(raw: bytes, contract: StreamContract = CONTRACT):
    return Cleanser(contract).observation(raw, now_ms=10, new_id=lambda: "new")


def test_what_is_no_feature_stands_aside_and_personal_fields_stay_out():
    assert aside(CONTRACT) == ["sex", "member", "born"]
    seen = observed(RAW)
    assert seen.x == {"a": 1.0, "age": 45, "wing": 3}
    assert seen.aside == {"sex": "F", "member": False, "born": 946_684_799_000}
    assert observed(b'{"id": "o", "a": 1}').aside is None


def test_a_second_look_sets_the_same_aside():
    """A number with a fraction of zero is refused by the decoder, and taken by the careful reading."""
    assert observed(RAW.replace(b'"wing": 3', b'"wing": 3.0')) == observed(RAW)


def test_groups_are_values_as_text_or_spans_between_edges():
    seen = observed(RAW)
    assert Groups(CONTRACT).of(seen.x, seen.aside) == {
        "sex": "F", "age": ">=45", "member": "false", "born": "<2000-01-01T00:00:00Z", "wing": "3",
    }  # fmt: skip
    spans = [Groups(CONTRACT).of({"age": age}, None) for age in (24, 25, 44)]
    assert spans == [{"age": "<25"}, {"age": "[25, 45)"}, {"age": "[25, 45)"}]
    assert Groups(CONTRACT).of({}, None) is None


@pytest.mark.parametrize("second", ["ignore", "correct"])
def test_predictions_and_outcomes_carry_the_groups_of_their_observation(second):
    label = msgspec.structs.replace(CONTRACT.label, second=second)
    contract = check(msgspec.structs.replace(CONTRACT, label=label))
    shard = Shard()
    seen = observed(RAW, contract)
    folded = shard.fold(
        [builders.adopted(contract), seen, Label("o", "o", 6, True), Label("o", "o", 7, False)], range(4)
    )
    groups = Groups(contract).of(seen.x, seen.aside)
    assert [said.groups for said in folded.predictions] == [groups]
    expected = [groups, groups] if second == "correct" else [groups, None]
    assert [outcome.groups for outcome in folded.outcomes] == expected


def test_who_declares_no_groups_pays_for_none():
    plain = builders.contract(fields=[Field("a", "number"), Field("quiet", "string", feature=False)])
    seen = observed(b'{"id": "o", "a": 1, "quiet": "q", "at": 1}', plain)
    assert encode(seen) == b'{"type":"observation","id":"o","entity":"o","at":1,"x":{"a":1.0}}'
    assert not Groups(plain)
    assert b"groups" not in encode(Outcome("o", "o", 1, "labelled", 1))


@pytest.mark.parametrize(
    ("field", "where"),
    [
        (Field("f", "number", sensitive=True), "edges"),
        (Field("f", "time", segment=True), "edges"),
        (Field("f", "string", segment=True, edges=[1.0]), "edges"),
        (Field("f", "number", segment=True, edges=[]), "edges"),
        (Field("f", "number", segment=True, edges=[2.0, 2.0]), "edges"),
        (Field("f", "number", segment=True, edges=[float(n) for n in range(32)]), "edges"),
        (Field("f", "number", segment=True, edges=[float("nan")]), "edges"),
        (Field("f", "string", segment=True, personal=True), "segment"),
    ],
)
def test_groups_that_cannot_be_told_are_refused(field, where):
    with pytest.raises(Unusable) as refused:
        builders.contract(fields=[field])
    assert where in str(refused.value)
