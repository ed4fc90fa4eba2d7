"""The inbox processor: one record in, exactly one out, ids from the place, nothing raises."""

import json

import pytest

from headrace.contracts.careful import RECORD_BYTES
from headrace.contracts.codec import decode_log_record, decode_rejected
from headrace.contracts.events import Label, Observation
from headrace.errors import Unusable
from headrace.processor import BY_KEY, Batch, Outputs
from services.ingest.domain.lines import ORIGINAL_BYTES
from services.ingest.processor import InboxProcessor
from tests.unit.ingest.doubles import FlawedCleanser

LOG = ("flights.log", BY_KEY)
REJECTED = ("flights.rejected", BY_KEY)
VALUES = [
    b'{"id": "a", "entity": "UA"}',
    b"not json",
    b'{"entity": "AA"}',
    None,
    b'{"id": "a", "entity": "UA", "label": false}',
    b'{"id": "boom", "entity": "UA"}',
    b'{"id": "b"}',
    b'{"id": "%s", "entity": "UA"}' % (b"x" * RECORD_BYTES),
    b"y" * (ORIGINAL_BYTES + 1),
]


def process(values: list[bytes | None], first: int = 40) -> Outputs:
    processor = InboxProcessor("flights", FlawedCleanser, lambda: 1_700_000_000_000)
    offsets = range(first, first + len(values))
    return processor.process(Batch("flights.inbox", 2, offsets, [b"k%d" % o for o in offsets], values))


def test_every_record_goes_to_exactly_one_place() -> None:
    outputs = process(VALUES)
    kept = [decode_log_record(message["value"] or b"") for message in outputs[LOG]]
    assert kept == [
        Observation("a", "UA", 1_700_000_000_000, {}),
        Observation("flights-inbox-2-42", "AA", 1_700_000_000_000, {}),
        Label("a", "UA", 1_700_000_000_000, False),
    ]
    assert [message["key"] for message in outputs[LOG]] == [b"UA", b"AA", b"UA"]
    refused = [decode_rejected(message["value"] or b"") for message in outputs[REJECTED]]
    rules = ["json", "tombstone", "unreadable", "missing", "too_large", "too_large"]
    assert [reject.rule for reject in refused] == rules
    assert [reject.origin for reject in refused] == [f"flights.inbox/2/{o}" for o in (41, 43, 45, 46, 47, 48)]
    assert [message["key"] for message in outputs[REJECTED]] == [
        b"k41",
        b"k43",
        b"k45",
        b"k46",
        b"k47",
        b"k48",
    ]
    assert refused[0].original == b"not json"
    assert refused[1].original == b""
    assert refused[4].original == VALUES[7]
    assert refused[3].field == "entity"


def test_a_huge_original_is_cut_and_says_so_and_fits_a_kafka_record() -> None:
    message = process(VALUES[8:])[REJECTED][0]
    assert len(message["value"] or b"") < 1_000_000
    refused = decode_rejected(message["value"] or b"")
    assert len(refused.original) == ORIGINAL_BYTES
    assert str(ORIGINAL_BYTES + 1) in refused.reason


def test_a_redelivered_batch_gives_the_same_ids() -> None:
    assert process([b'{"entity": "AA"}'] * 3) == process([b'{"entity": "AA"}'] * 3)
    values = [
        json.loads(message["value"] or b"")["id"] for message in process([b'{"entity": "AA"}'] * 3)[LOG]
    ]
    assert len(set(values)) == 3


def test_no_state() -> None:
    processor = InboxProcessor("flights", FlawedCleanser, lambda: 0)
    processor.restore(processor.snapshot())
    with pytest.raises(Unusable):
        processor.restore(b"x")


def test_an_empty_batch_gives_nothing() -> None:
    assert process([]) == {}
