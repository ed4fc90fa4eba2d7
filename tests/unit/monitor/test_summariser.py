"""The summariser: its last words equal a dumb count, whatever crashed. (Batches, restarts, bounds: tests/laws.)"""

import random

import pytest

from headrace.contracts.events import Answer, Outcome, Prediction
from headrace.contracts.statistics import decode_summary, encode_summary
from headrace.contracts.stream import Field
from headrace.contracts.topics import STATISTICS
from headrace.errors import Unusable
from headrace.memory import MemoryBroker, MemoryHost
from headrace.processor import Batch
from headrace.testing import builders
from services.monitor.domain.tables import Tables
from services.monitor.domain.views import total_view, window_view
from services.monitor.processor import Summariser, WindowShape
from tests.unit.monitor.made_up import HOUR, as_messages, auc, counted, made_up

KINDS = ("log", "predictions", "outcomes", "rejected")
SHAPE = WindowShape()
PARTITIONS = 2


@pytest.fixture(scope="module")
def kinds():
    return made_up("s", PARTITIONS, 700)


def run(kinds, batch_records, *, crash_every=0, snapshot_records=0):
    """The statistics topic after everything was counted, crashing before every n-th commit."""
    broker = MemoryBroker()
    broker.create(STATISTICS.name)
    for kind in KINDS:
        broker.create(f"s.{kind}", PARTITIONS)
        for place, records in enumerate(kinds[kind]):
            broker.produce(f"s.{kind}", as_messages(records), place)
    host = MemoryHost(
        broker,
        lambda topic, partition: Summariser(topic, partition, SHAPE),
        [f"s.{kind}" for kind in KINDS],
        batch_records=batch_records,
        snapshot_records=snapshot_records,
    )
    steps = 0
    while crash_every and steps < 20 * crash_every:
        steps += 1
        place = (f"s.{KINDS[steps % 4]}", steps // 4 % PARTITIONS)
        host.step(*place, crash=steps % crash_every == 0)
    host.run_until_idle()
    return broker.read(STATISTICS.name, 0)


def tables(records):
    made = Tables(SHAPE.length_seconds)
    for record in records:
        made.apply(record.value)
    return made


def test_windows_and_total_equal_a_dumb_count(kinds):
    table = tables(run(kinds, 100)).streams["s"]
    expected = counted(kinds, HOUR)
    assert table.starts == sorted(expected)
    for start, truth in expected.items():
        view = window_view(table, start)
        assert view["counts"]["observations"] == truth["counts"]["Observation"]
        assert view["counts"]["outcomes"] == truth["counts"]["Outcome"]
        assert view["statuses"] == dict(truth["statuses"])
        assert {name: entry["count"] for name, entry in view["missing"].items()} == dict(truth["missing"])
        outliers = view["outliers"]
        assert (outliers["count"], outliers["anomalous"]["count"]) == (truth["flagged"], truth["anomalous"])
        assert {name: entry["count"] for name, entry in outliers["fields"].items()} == dict(truth["outliers"])
        assert outliers["share"] == (
            truth["flagged"] / truth["counts"]["Prediction"] if truth["counts"]["Prediction"] else None
        )
        for entry in view["quality"]:
            pairs = [(y, score) for y, score, _ in truth["scored"][entry["model"]]]
            assert entry["roc_auc"] == pytest.approx(auc(pairs))
    total = total_view(table)
    assert total["outliers"]["count"] == sum(truth["flagged"] for truth in expected.values())
    pairs = [(y, score) for truth in expected.values() for y, score, _ in truth["scored"]["lr"]]
    assert next(entry for entry in total["quality"] if entry["model"] == "lr")["roc_auc"] == pytest.approx(
        auc(pairs)
    )
    assert total["counts"]["observations"] == sum(
        truth["counts"]["Observation"] for truth in expected.values()
    )
    assert total["late"] == dict.fromkeys(KINDS, 0)


@pytest.mark.parametrize(("crash_every", "snapshot_records"), [(3, 0), (5, 150), (2, 60)])
def test_crashes_change_nothing_with_and_without_snapshots(kinds, crash_every, snapshot_records):
    whole = tables(run(kinds, 50)).streams["s"]
    broken = tables(run(kinds, 50, crash_every=crash_every, snapshot_records=snapshot_records)).streams["s"]
    assert broken.starts == whole.starts
    assert [window_view(broken, start) for start in broken.starts] == [
        window_view(whole, start) for start in whole.starts
    ]
    assert total_view(broken) == total_view(whole)


def one_batch(summariser, records, first=0):
    values = [message["value"] for message in as_messages(records)]
    outputs = summariser.process(
        Batch(summariser.topic, 0, range(first, first + len(values)), [None] * len(values), values)
    )
    return [decode_summary(message["value"]) for message in outputs[STATISTICS.name, 0]]


def outcome(at, y, answer, *, status="labelled", previous=None):
    return Outcome(f"o{at}", "e", at, status, at, at, at, y, previous, "m", 1, answer, None)


def test_a_late_record_revises_its_window_while_that_is_kept_and_counts_in_the_total_anyway():
    summariser = Summariser("s.predictions", 0, WindowShape(revisable_windows=2))
    times = (0, HOUR, 3 * HOUR, 6 * HOUR)  # three windows have closed, the first of them is not kept any more
    one_batch(summariser, [Prediction(f"p{at}", "e", at, n) for n, at in enumerate(times)])
    said = one_batch(summariser, [Prediction("c", "e", 1, 4), Prediction("d", "e", HOUR + 1, 5)], first=4)
    assert [(one.start, one.closed, one.records, one.late, one.revised) for one in said] == [
        (HOUR, True, 2, 0, 1),
        (None, False, 6, 2, 0),
    ]


def test_a_revised_window_is_the_one_that_would_have_been_had_the_record_come_in_time():
    in_time = outcome(2, False, True), outcome(1, True, True), outcome(3 * HOUR, True, True)
    punctual, patient = (Summariser("s.outcomes", 0, SHAPE) for _ in range(2))
    expected = next(one for one in one_batch(punctual, in_time) if one.start == 0)
    one_batch(patient, [in_time[0], in_time[2]])
    revised = one_batch(patient, [in_time[1]], first=2)[0]
    assert revised.revised == 1
    assert (revised.quality, revised.delay, revised.records) == (expected.quality, expected.delay, 2)


def test_late_records_and_closed_windows_are_added_up_in_the_logs_order():
    """Sums of floats depend on their order: a batch that ends later must not put late records before the window."""
    scores = ((0, 0.1), (1, 0.2), (3 * HOUR, 0.5), (2, 0.7), (3, 0.6))
    said = [Prediction(f"p{at}", "e", at, n, "m", 1, True, score) for n, (at, score) in enumerate(scores)]
    whole, bit_by_bit = (Summariser("s.predictions", 0, SHAPE) for _ in range(2))
    at_once = one_batch(whole, said)[-1]
    for number, each in enumerate(said):
        last = one_batch(bit_by_bit, [each], first=number)[-1]
    assert last.late == 2
    assert last == at_once


def test_a_correction_revises_the_total_and_leaves_windows_as_they_were():
    summariser = Summariser("s.outcomes", 0, SHAPE)
    said = one_batch(summariser, [outcome(1, True, True), outcome(2, False, True)])
    assert (said[0].quality["m@1"].correct, said[-1].quality["m@1"].correct) == (1, 1)
    said = one_batch(summariser, [outcome(3, True, True, status="corrected", previous=False)], first=2)
    assert (said[0].quality["m@1"].correct, said[-1].quality["m@1"].correct) == (1, 2)
    assert said[-1].quality["m@1"].count == 2
    assert said[-1].statuses == {"labelled": 2, "corrected": 1}


def test_an_expiry_that_counts_as_negative_is_scored_and_has_no_delay():
    summariser = Summariser("s.outcomes", 0, SHAPE)
    said = one_batch(
        summariser, [outcome(1, False, True, status="expired"), outcome(2, None, True, status="expired")]
    )
    assert said[0].quality["m@1"].fp == 1
    assert said[0].quality["m@1"].count == 1
    assert said[0].delay.count == 0


def test_models_beyond_the_bound_are_counted_together():
    summariser = Summariser("s.predictions", 0, SHAPE)
    crowd = [Answer(f"m{number}", 1, True) for number in range(40)]
    said = one_batch(summariser, [Prediction("a", "e", 0, 0, challengers=crowd)])
    assert len(said[0].answers) == 33
    assert said[0].answers["other"].answered == 8


def test_a_snapshot_of_another_shape_topic_or_of_nothing_is_refused():
    state = Summariser("s.log", 0, SHAPE).snapshot()
    Summariser("s.log", 0, SHAPE).restore(state)
    for other in (Summariser("s.log", 1, SHAPE), Summariser("s.log", 0, WindowShape(60))):
        with pytest.raises(Unusable, match="snapshot"):
            other.restore(state)
    with pytest.raises(Unusable, match="snapshot"):
        Summariser("s.log", 0, SHAPE).restore(b"{")
    with pytest.raises(Unusable, match="summarised"):
        Summariser("s.inbox", 0, SHAPE)


@pytest.mark.parametrize("kind", KINDS)
def test_summaries_are_the_same_to_the_byte_whatever_the_batches(kinds, kind):
    """The order of names too: at a bound it decides which are told apart."""

    def told(size):
        summariser, records = Summariser(f"s.{kind}", 0, SHAPE), kinds[kind][0][:300]
        last = {}
        for first in range(0, len(records), size):
            for summary in one_batch(summariser, records[first : first + size], first):
                summary.through_offset, summary.watermark, summary.final_before = 0, None, None
                last[summary.key()] = encode_summary(summary)
        return last

    assert told(1) == told(7) == told(300)


KAFKA_TAKES = 1_000_000
"""Bytes of a message that clients and brokers take unless they are told otherwise."""


def largest(topic, records):
    messages = Summariser(topic, 0, SHAPE).process(builders.batch(records, topic=topic))[STATISTICS.name, 0]
    return max(len(message["value"]) for message in messages)


def test_no_summary_is_too_large_for_kafka():
    """At every bound at once: many fields of long texts or scattered numbers; many models, classes and groups."""
    rng = random.Random(3)
    names = [f"{n:03}{'long name' * 12}" for n in range(100)]
    for kind in ("string", "number"):
        adopted = builders.adopted(builders.contract(fields=[Field(name, kind) for name in names]))
        values = {"string": lambda: f"{rng.random()}{'é' * 40}", "number": lambda: rng.gauss(0, 10) ** 9}[
            kind
        ]
        seen = [builders.observation(f"o{n}", {name: values() for name in names}) for n in range(400)]
        assert 100_000 < largest("s.log", [adopted, *seen]) < KAFKA_TAKES
    classes = [f"{n:02}{'class' * 20}" for n in range(60)]
    outcomes, answers = [], []
    for n in range(600):
        groups = {
            f"field{field}{'long name' * 12}": f"{rng.randrange(40)}{'group' * 12}" for field in range(20)
        }
        others = [Answer(f"{model}{'m' * 100}", 1, rng.choice(classes)) for model in range(1, 34)]
        said = outcome(n, rng.choice(classes), rng.choice(classes))
        said.challengers, said.groups = others, groups
        outcomes.append(said)
        answers.append(Prediction("p", "e", n, n, "m", 1, None, challengers=others))
    assert 100_000 < largest("s.outcomes", outcomes) < KAFKA_TAKES
    assert largest("s.predictions", answers) < KAFKA_TAKES
    for said in outcomes:
        said.y = rng.random() < 0.5
        for one in (said, *said.challengers):
            one.answer, one.score = True, rng.random()
    assert 100_000 < largest("s.outcomes", outcomes) < KAFKA_TAKES
