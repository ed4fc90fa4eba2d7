"""The intake: slices, order, acknowledgements before answers, and what is said when one is missing."""

import asyncio

import pytest

from headrace.contracts.codec import decode_log_record, decode_rejected
from headrace.errors import Transient
from services.ingest.domain.lines import Kind
from services.ingest.intake import SLICE_LINES, Intake, Parcel, Unacknowledged
from services.ingest.waiting import PredictionWaiters
from tests.unit.ingest.doubles import FlawedCleanser, ManualProducer
from tests.unit.ingest.test_waiting import Tails, until


def parcel(lines: list[bytes], kind: Kind = "observation", *, enveloped: bool = False) -> Parcel:
    return Parcel("flights", kind, FlawedCleanser(), lines, enveloped, lambda line: f"line-{line}")


def intake(producer: ManualProducer, tails: Tails | None = None, ack_seconds: float = 5.0) -> Intake:
    waiters = PredictionWaiters(tails or Tails(), limit=10, idle_seconds=0.01)
    return Intake(producer, waiters, lambda: 7, ack_seconds=ack_seconds)


def line(name: str) -> bytes:
    return b'{"id": "%s", "entity": "e"}' % name.encode()


def test_good_and_bad_lines_part_and_keep_their_numbers_over_slices() -> None:
    lines = [line(str(number)) for number in range(1, 2 * SLICE_LINES + 11)]
    lines[4] = b"nonsense"
    lines[5] = b"  \r"
    lines[SLICE_LINES + 2] = b'{"id": "boom"}'
    lines[SLICE_LINES + 3] = b'{"entity": "e"}'
    producer = ManualProducer()
    receipt = asyncio.run(intake(producer).take(parcel(lines)))
    assert [(refused.line, refused.rule) for refused in receipt.rejected] == [
        (5, "json"),
        (SLICE_LINES + 3, "unreadable"),
    ]
    expected = [str(n) for n in range(1, len(lines) + 1) if n not in (5, 6, SLICE_LINES + 3)]
    expected[expected.index(str(SLICE_LINES + 4))] = f"line-{SLICE_LINES + 4}"
    assert receipt.ids == expected
    assert receipt.accepted == len(expected)
    written = [m for topic, batch in producer.sent if topic == "flights.log" for m in batch]
    assert [decode_log_record(m["value"] or b"").id for m in written] == expected
    assert {m["key"] for m in written} == {b"e"}
    kept = [m for topic, batch in producer.sent if topic == "flights.rejected" for m in batch]
    assert [decode_rejected(m["value"] or b"").original for m in kept] == [b"nonsense", b'{"id": "boom"}']
    assert {decode_rejected(m["value"] or b"").origin for m in kept} == {"http"}


def test_the_trace_of_a_body_goes_with_its_first_slice_and_not_with_rejects() -> None:
    producer = ManualProducer()
    lines = [b"{", *(line(f"o{number}") for number in range(2 * SLICE_LINES))]
    asyncio.run(intake(producer).take(parcel(lines)._replace(traceparent="00-trace")))
    assert [topic for topic, _ in producer.sent] == ["flights.log", "flights.rejected", *["flights.log"] * 2]
    assert producer.traces == ["00-trace", "", "", ""]


def test_others_get_the_loop_between_slices() -> None:
    async def scenario() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(count())
        await intake(ManualProducer()).take(parcel([line("a")] * SLICE_LINES * 6))
        other.cancel()
        return turns

    assert asyncio.run(scenario()) >= 5


def test_nothing_is_answered_before_the_broker_acknowledges() -> None:
    async def scenario() -> None:
        producer = ManualProducer()
        producer.hold = True
        task = asyncio.create_task(intake(producer).take(parcel([line("a"), b"bad"])))
        await until(lambda: len(producer.held) == 2)
        producer.held[0].set_result([(0, 1)])
        await asyncio.sleep(0.05)
        assert not task.done()  # the reject is not kept yet
        producer.held[1].set_result([(0, 1)])
        assert (await task).ids == ["a"]

    asyncio.run(scenario())


def test_a_missing_acknowledgement_says_what_is_in_the_log() -> None:
    producer = ManualProducer()
    producer.fail["flights.rejected"] = Transient("broker away")
    with pytest.raises(Unacknowledged, match="broker away") as failure:
        asyncio.run(intake(producer).take(parcel([line("a"), b"bad", line("b")])))
    assert failure.value.receipt.ids == ["a", "b"]
    assert [refused.line for refused in failure.value.receipt.rejected] == [2]


def test_a_silent_broker_is_not_waited_for_for_ever() -> None:
    producer = ManualProducer()
    producer.hold = True
    with pytest.raises(Unacknowledged, match="in time") as failure:
        asyncio.run(intake(producer, ack_seconds=0.1).take(parcel([line("a")])))
    assert failure.value.receipt.accepted == 0


def test_a_full_queue_slows_a_large_body_down() -> None:
    async def scenario() -> None:
        producer = ManualProducer()
        producer.level = 0.9
        taking = intake(producer)
        assert taking.busy()
        task = asyncio.create_task(taking.take(parcel([line("a")] * SLICE_LINES * 3)))
        await asyncio.sleep(0.05)
        assert len(producer.sent) == 1
        producer.level = 0.1
        assert (await task).accepted == SLICE_LINES * 3

    asyncio.run(scenario())


def test_waiting_answers_with_the_prediction() -> None:
    async def scenario() -> None:
        producer, tails = ManualProducer(), Tails()
        taking = intake(producer, tails)
        task = asyncio.create_task(taking.take_and_wait(parcel([line("a")]), 5))
        await until(lambda: bool(producer.sent))
        value = tails.opened[0].put("a")  # opened before anything was sent
        receipt, prediction = await task
        assert (receipt.ids, prediction) == (["a"], value)

    asyncio.run(scenario())


def test_waiting_in_vain_still_accepts() -> None:
    producer = ManualProducer()
    receipt, prediction = asyncio.run(intake(producer).take_and_wait(parcel([line("a")]), 0.05))
    assert (receipt.accepted, prediction) == (1, None)


def test_waiting_for_a_refused_line_does_not_wait() -> None:
    tails = Tails()
    receipt, prediction = asyncio.run(intake(ManualProducer(), tails).take_and_wait(parcel([b"bad"]), 5))
    assert (receipt.accepted, len(receipt.rejected), prediction, tails.opened) == (0, 1, None, [])


def test_an_envelope_must_be_of_the_addressed_kind() -> None:
    producer = ManualProducer()
    receipt = asyncio.run(
        intake(producer).take(parcel([b'{"id":"a","entity":"e","label":true}', line("b")], enveloped=True))
    )
    assert [(refused.rule, refused.field) for refused in receipt.rejected] == [("kind", "type")]
    assert receipt.ids == ["b"]


def test_mixed_events_are_told_apart_and_keep_their_order() -> None:
    producer = ManualProducer()
    lines = [
        line("a"),
        b'{"id":"z","entity":"e","label":true}',
        line("b"),
        b'{"id":"a","entity":"e","label":false}',
    ]
    receipt = asyncio.run(intake(producer).take(parcel(lines, "event")))
    assert receipt.ids == ["a", "z", "b", "a"]
    (topic, written) = producer.sent[0]
    kinds = [type(decode_log_record(message["value"] or b"")).__name__ for message in written]
    assert (topic, kinds) == ("flights.log", ["Observation", "Label", "Observation", "Label"])
