"""Which contracts make sense, and what is settled for them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.outliers import OutlierSpec
from headrace.contracts.stream import Field, LabelSpec, Limits, StreamContract, check, from_dict
from headrace.contracts.times import parse_ms, to_text
from headrace.errors import Unusable

A = Field("a", "number")
BASE = StreamContract("s", "binary", [A])


def base(**changes: Any) -> StreamContract:
    return msgspec.structs.replace(BASE, **changes)


@pytest.mark.parametrize(
    ("contract", "where"),
    [
        (base(name="S"), ""),
        (base(name="headrace"), ""),
        (base(fields=[]), "fields"),
        (base(fields=[Field(f"f{number}", "number") for number in range(1025)]), "fields"),
        (base(fields=[A, A]), "fields[1].name"),
        (base(fields=[Field("", "number")]), "fields[0].name"),
        (base(fields=[Field("x" * 129, "number")]), "fields[0].name"),
        (base(fields=[Field("a\n", "number")]), "fields[0].name"),
        (base(fields=[Field(" a", "number")]), "fields[0].name"),
        (base(fields=[Field("specversion", "number")]), "fields[0].name"),
        (base(fields=[Field("id", "string")]), "fields[0].name"),
        (base(fields=[A, Field("at", "time")]), "fields[1].name"),
        (base(fields=[Field("a", "number", minimum=2, maximum=1)]), "fields[0].minimum"),
        (base(fields=[Field("a", "number", maximum=float("inf"))]), "fields[0].maximum"),
        (base(fields=[Field("a", "integer", maximum=2.0**54)]), "fields[0].maximum"),
        (base(fields=[Field("a", "time", minimum=0.5)]), "fields[0].minimum"),
        (base(fields=[Field("a", "time", minimum=1e15)]), "fields[0].minimum"),
        (base(fields=[Field("a", "string", minimum=0)]), "fields[0].minimum"),
        (base(fields=[Field("a", "boolean", maximum=1)]), "fields[0].maximum"),
        (base(fields=[Field("a", "number", categories=["a"])]), "fields[0].categories"),
        (base(fields=[Field("a", "number", max_length=5)]), "fields[0].max_length"),
        (base(fields=[Field("a", "string", max_length=0)]), "fields[0].max_length"),
        (base(fields=[Field("a", "string", max_length=65_537)]), "fields[0].max_length"),
        (base(fields=[Field("a", "string", categories=[])]), "fields[0].categories"),
        (base(fields=[Field("a", "string", categories=["b", "b"])]), "fields[0].categories"),
        (base(fields=[Field("a", "string", categories=["abc"], max_length=2)]), "fields[0].categories"),
        (base(id="b"), "id"),
        (base(id="a"), "id"),
        (base(entity="a"), "entity"),
        (base(event_time="a"), "event_time"),
        (base(fields=[Field("t", "time", feature=True)], event_time="t"), "event_time"),
        (base(fields=[Field("k", "string")], id="k", entity="k"), "entity"),
        (base(partitions=0), "partitions"),
        (base(partitions=1025), "partitions"),
        (base(version=0), "version"),
        (base(label=LabelSpec("a")), "label.name"),
        (base(label=LabelSpec("type")), "label.name"),
        (base(label=LabelSpec("")), "label.name"),
        (base(label=LabelSpec(type="string")), "label.positive"),
        (base(label=LabelSpec(type="string", positive=1)), "label.positive"),
        (base(label=LabelSpec(type="integer", positive=True)), "label.positive"),
        (base(label=LabelSpec(type="string", positive="a", classes=["b", "c"])), "label.positive"),
        (base(label=LabelSpec(type="string", positive="a", classes=["a"])), "label.classes"),
        (base(label=LabelSpec(type="string", positive="a", classes=["a", "a"])), "label.classes"),
        (base(label=LabelSpec(type="string", positive="a", classes=["a", 1])), "label.classes[1]"),
        (base(label=LabelSpec(wait_seconds=-1)), "label.wait_seconds"),
        (base(label=LabelSpec(minimum=1)), "label.minimum"),
        (base(task="regression"), "label.type"),
        (base(task="regression", label=LabelSpec(type="integer", classes=[1, 2])), "label.classes"),
        (base(task="regression", label=LabelSpec(type="integer", expiry="negative")), "label.expiry"),
        (base(task="multiclass"), "label.type"),
        (base(task="multiclass", label=LabelSpec(type="string", positive="a")), "label.positive"),
        (base(limits=Limits(pending=0)), "limits.pending"),
        (base(limits=Limits(pending=5, remembered=4)), "limits.remembered"),
        (base(limits=Limits(early_labels=-1)), "limits.early_labels"),
        (base(limits=Limits(future_seconds=-1)), "limits.future_seconds"),
        (base(outliers=OutlierSpec(fence=3.0)), "outliers.methods"),
        (base(outliers=OutlierSpec(["bounds", "bounds"])), "outliers.methods"),
        (base(outliers=OutlierSpec(["bounds"], fields=[])), "outliers.fields"),
        (base(outliers=OutlierSpec(["bounds"], fields=["a", "a"])), "outliers.fields"),
        (base(outliers=OutlierSpec(["bounds"], fields=["a", "b"])), "outliers.fields[1]"),
        (
            base(fields=[A, Field("k", "string")], outliers=OutlierSpec(["trees"], fields=["k"])),
            "outliers.fields[0]",
        ),
        (base(fields=[Field("k", "string")], outliers=OutlierSpec(["trees"])), "outliers"),
        (
            base(fields=[A, Field("n", "integer")], id="n", outliers=OutlierSpec(["trees"], fields=["n"])),
            "outliers.fields[0]",
        ),
        (base(outliers=OutlierSpec(["bounds"], fence=float("nan"))), "outliers.fence"),
        (base(outliers=OutlierSpec(["bounds"], share=0.2)), "outliers.share"),
        (base(outliers=OutlierSpec(["bounds"], window=19)), "outliers.window"),
        (base(outliers=OutlierSpec(["bounds"], window=4001)), "outliers.window"),
    ],
)
def test_what_makes_no_sense(contract, where):
    with pytest.raises(Unusable) as caught:
        check(contract)
    assert caught.value.where == where
    assert caught.value.reason


def test_features_are_settled():
    fields = [
        Field("key", "string"),
        Field("t", "time"),
        Field("who", "string", personal=True),
        Field("named", "string", personal=True, feature=True),
        Field("a", "number"),
        Field("b", "number", feature=False),
    ]
    contract = check(StreamContract("s", "binary", fields, id="key", event_time="t"))
    assert [field.name for field in contract.fields if field.feature] == ["named", "a"]
    assert all(field.feature is not None for field in contract.fields)
    assert check(contract) is contract
    plain = contract.to_dict()
    assert [field.get("feature") for field in plain["fields"]] == [None, None, None, True, None, False]
    assert from_dict(plain) == contract


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({"name": "s", "task": "binary", "fields": [{"name": 3, "type": "number"}]}, "fields[0].name"),
        ({"name": "s", "task": "binary", "fields": [{"name": "a", "type": "text"}]}, "fields[0].type"),
        ({"name": "s", "task": "binary", "fields": [], "label": {"wait": 3}}, "label"),
        ({"name": "s", "task": "guess", "fields": []}, "task"),
        ({"name": "s"}, ""),
    ],
)
def test_the_plain_form_names_the_place(document, where):
    with pytest.raises(Unusable) as caught:
        from_dict(document)
    assert caught.value.where == where


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_times_are_read_as_written(ms):
    assert parse_ms(to_text(ms)) == ms
