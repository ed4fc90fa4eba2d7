"""What a contract changed: complete (with the differences the old one becomes the new one), and nothing else."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.differences import differences
from headrace.contracts.stream import Field, LabelSpec, StreamContract, check
from tests.unit.contracts import contracts as strategies
from tests.unit.contracts.test_compatibility import two_versions


def changed(old: StreamContract, new: StreamContract) -> StreamContract:
    """The old contract with the differences carried out."""
    plain: dict[str, Any] = {name: getattr(old, name) for name in old.__struct_fields__}
    fields = {field.name: field for field in old.fields}
    order = None
    for where, _, after in differences(old, new):
        part, _, rest = where.partition(".")
        if where == "fields":
            order = after
        elif part == "fields":
            # Names may have dots: the longest field name that fits is meant.
            name = max(
                (one for one in {*fields, *(f.name for f in new.fields)} if f"{rest}.".startswith(f"{one}.")),
                key=len,
            )
            attribute = rest[len(name) + 1 :]
            if attribute:
                fields[name] = msgspec.structs.replace(fields[name], **{attribute: after})
            elif after is None:
                del fields[name]
            else:
                fields[name] = msgspec.convert(after, Field)
        elif rest:
            plain[part] = msgspec.structs.replace(plain[part], **{rest: after})
        else:
            plain[part] = after
    plain["fields"] = [fields[name] for name in order or fields]
    return StreamContract(**plain)


@given(two_versions())
def test_they_make_the_new_one_of_the_old_one(versions: tuple[StreamContract, StreamContract]) -> None:
    old, new = versions
    assert changed(old, new) == msgspec.structs.replace(new, version=old.version)


@given(strategies.contracts(), st.integers(1, 9))
def test_another_number_is_no_difference(contract: StreamContract, version: int) -> None:
    assert differences(contract, msgspec.structs.replace(contract, version=version)) == []


def test_they_read_well() -> None:
    old = StreamContract("s", "binary", [Field("a", "number", maximum=10), Field("b", "string")])
    new = StreamContract(
        "s",
        "binary",
        [Field("b", "string"), Field("a", "number", maximum=20), Field("c", "boolean")],
        label=LabelSpec(wait_seconds=60),
        description="more",
    )
    assert [tuple(one) for one in differences(old, new)] == [
        ("description", "", "more"),
        ("fields.a.maximum", 10, 20),
        ("fields.c", None, {"name": "c", "type": "boolean", "feature": True}),
        ("fields", ["a", "b"], ["b", "a", "c"]),
        ("label.wait_seconds", 7 * 24 * 3600, 60),
    ]


def test_1_is_not_true() -> None:
    one, true = (
        check(
            StreamContract("s", "binary", [Field("a", "number")], label=LabelSpec(type=kind, positive=value))
        )
        for kind, value in (("integer", 1), ("boolean", True))
    )
    assert ("label.positive", 1, True) in differences(one, true)
