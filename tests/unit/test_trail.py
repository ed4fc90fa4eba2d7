"""The audit trail with public keys alone: which ends were announced, and whether the records hang together so."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.codec import encode
from headrace.contracts.events import AuditHead
from headrace.signatures import Signer, Trusted
from headrace.trail import GENESIS, Examination, Linked, is_older_head, opened_head, signed_head

OURS, THEIRS = Signer(b"k" * 32), Signer(b"o" * 32)
AUDITOR = Trusted([OURS.public])


def chain(length: int, salt: str = "") -> list[Linked]:
    digests = [GENESIS, *(f"{salt}{number:>064}" for number in range(1, length + 1))]
    return [Linked(number, digests[number - 1], digests[number]) for number in range(1, length + 1)]


def announced(records: list[Linked], signer: Signer = OURS) -> list[bytes]:
    return [encode(signed_head(signer, AuditHead(one.sequence, one.digest, 7))) for one in records]


def found(records: list[Linked], heads: list[bytes]) -> tuple[int, str] | None:
    examination = Examination(opened_head(AUDITOR, head) for head in heads)
    examination.read(records)
    fault = examination.end()
    return None if fault is None else (fault.sequence, fault.wrong)


@given(st.integers(2, 9), st.data())
def test_records_that_are_not_as_announced_are_named(length: int, data: st.DataObject) -> None:
    records, place = chain(length), data.draw(st.integers(0, length - 2))
    heads = announced(records)
    assert found(records, heads) is None
    assert found(records + chain(length + 2)[length:], heads) is None
    assert found(records[:place] + records[place + 1 :], heads) == (place + 1, "missing")
    assert found(records[:place], heads) == (place + 1, "cut")
    other = [one._replace(digest="f" * 64) if one.sequence == place + 1 else one for one in records]
    assert found(other, heads) == (place + 1, "replaced")
    assert found(other, heads[place + 1 :]) == (place + 2, "detached")


@pytest.mark.parametrize("field", AuditHead.__struct_fields__)
def test_a_head_cannot_be_forged_with_the_public_key(field: str) -> None:
    head = signed_head(OURS, AuditHead(3, "d" * 64, 7))
    assert opened_head(AUDITOR, encode(head)) == head
    changed: object = {
        "sequence": 4,
        "digest": "e" * 64,
        "at": 8,
        "signature": "00" * 64,
        "key": THEIRS.public.id,
    }[field]
    forged = [
        msgspec.structs.replace(head, **{field: changed}),
        msgspec.structs.replace(signed_head(THEIRS, head), key=OURS.public.id),
        signed_head(Signer(OURS.public.raw), head),
        msgspec.structs.replace(
            head, signature=OURS.sign("state", encode(msgspec.structs.replace(head, signature=""))).hex()
        ),
        msgspec.structs.replace(head, signature="", key=""),
        msgspec.structs.replace(head, signature="é"),
    ]
    assert [opened_head(AUDITOR, encode(one)) for one in forged] == [None] * len(forged)


def test_two_announcements_under_one_number_need_no_records_to_be_seen() -> None:
    records = chain(3)
    heads = announced(records) + announced(chain(3, "a")[1:2])
    examination = Examination(opened_head(AUDITOR, head) for head in heads)
    assert examination.contradicted is not None
    assert (examination.contradicted.sequence, examination.contradicted.wrong) == (2, "replaced")
    assert Examination(opened_head(AUDITOR, head) for head in announced(records)).contradicted is None


def test_a_head_from_before_there_were_public_keys_is_told_from_one_that_somebody_made_up() -> None:
    assert is_older_head(encode({"sequence": 1, "digest": "d", "at": 1, "signature": "00"}))
    for head in (*announced(chain(1)), *announced(chain(1), THEIRS), b"", b"{}", b"\xff"):
        assert not is_older_head(head)
