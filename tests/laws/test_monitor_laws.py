"""Laws of the monitor's tables: the order in which summaries come, and what compaction has removed, change nothing."""

from collections import Counter
from collections.abc import Sequence
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts.events import Outcome
from headrace.contracts.statistics import decode_summary
from headrace.contracts.topics import STATISTICS
from headrace.memory import MemoryBroker, MemoryHost
from headrace.testing import builders
from services.monitor.domain.details import fields_view, quality_view
from services.monitor.domain.tables import Tables
from services.monitor.domain.views import window_view
from services.monitor.processor import Summariser
from tests.laws.histories import made_up_kinds
from tests.laws.subjects import SHAPE, shown, statistics
from tests.unit.monitor.made_up import as_messages, counted, log_loss, made_up


def tables_of(values: Sequence[bytes], windows_kept: int = 10_000) -> Tables:
    tables = Tables(SHAPE.length_seconds, windows_kept=windows_kept)
    for value in values:
        tables.apply(value)
    return tables


def merged(values: Sequence[bytes], windows_kept: int = 10_000) -> object:
    return shown(tables_of(values, windows_kept))


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 9))
def test_summaries_may_come_in_any_order_and_any_number_of_times(rng: Random, windows_kept: int) -> None:
    """Also where windows are forgotten: it is always the oldest that goes, whenever it came."""
    values = list(statistics())
    disturbed = [*values, *(rng.choice(values) for _ in range(50))]
    rng.shuffle(disturbed)
    assert merged(disturbed, windows_kept) == merged(values, windows_kept)


def test_what_compaction_leaves_gives_the_same_tables() -> None:
    last = {decode_summary(value).key(): value for value in statistics()}
    assert len(last) < len(statistics()) / 2
    assert merged(list(last.values())) == merged(statistics())


def test_looking_at_the_tables_while_they_grow_changes_nothing() -> None:
    """What is worked out of a window and kept goes when the window changes, or one that it was learnt from."""
    values: list[bytes] = []
    for kind, partitions in made_up("s", 2, 1_200).items():
        for place, records in enumerate(partitions):
            processor = Summariser(f"s.{kind}", place, SHAPE)
            for first in range(0, len(records), 100):
                some = records[first : first + 100]
                batch = builders.batch(some, topic=f"s.{kind}", partition=place, first=first)
                values += [told["value"] or b"" for told in processor.process(batch)[STATISTICS.name, 0]]
    Random(2).shuffle(values)
    tables = Tables(SHAPE.length_seconds)
    for n, value in enumerate(values):
        tables.apply(value)
        if n % 20 == 0:
            shown(tables)
    assert shown(tables) == merged(values)
    estimates = [
        one
        for start in tables.streams["s"].starts
        for one in window_view(tables.streams["s"], start)["estimate"]
    ]
    assert sum("accuracy" in one for one in estimates) > 3
    assert any(one["past_error"]["windows"] for one in estimates if "accuracy" in one)


def test_details_equal_counting_one_by_one() -> None:
    """Values of fields, and every group's confusion, loss and ROC AUC, whatever the batches and partitions were."""
    table = tables_of(statistics()).streams["s"]
    for start, truth in counted(made_up_kinds(), SHAPE.length_seconds * 1000).items():
        seen = {one["field"]: one for one in fields_view(table, [start])["fields"]}
        for field, values in truth["values"].items():
            shown_field = seen[field]
            assert shown_field["count"] == len(values)
            assert shown_field["missing"] == truth["missing"][field]
            if isinstance(values[0], str):
                assert shown_field["values"] == Counter(values)
            else:
                assert shown_field["mean"] == pytest.approx(np.mean(values))
                assert shown_field["deviation"] == pytest.approx(np.std(values))
                assert (shown_field["least"], shown_field["greatest"]) == (min(values), max(values))
                for q, value in shown_field["quantiles"].items():
                    below, upto = np.mean(np.less(values, value)), np.mean(np.less_equal(values, value))
                    assert below - 0.02 <= float(q) <= upto + 0.02
        told = {
            (one["model"], segment["field"], segment["group"]): segment
            for one in quality_view(table, [start])["models"]
            for segment in one["segments"]
        }
        assert {place for place, one in told.items() if one["count"]} == truth["grouped"].keys()
        for place, scored in truth["grouped"].items():
            assert told[place]["count"] == len(scored)
            assert told[place]["accuracy"] == pytest.approx(np.mean([y == answer for y, _, answer in scored]))
            assert told[place]["log_loss"] == pytest.approx(log_loss(scored))


def test_late_records_leave_windows_as_if_they_had_come_in_time() -> None:
    """But for sums of floats, whose order is the log's."""
    rng = Random(5)
    in_time = [
        builders.outcome(f"o{n}", rng.random() < 0.5, rng.random(), at=n * 60_000, observed_at=n * 50_000)
        for n in range(600)
    ]
    for one in in_time:
        one.groups = {"sex": rng.choice("FM")}
    comes = {one.id: n + (rng.randrange(300) if n % 3 == 0 else 0) for n, one in enumerate(in_time)}
    late = sorted(in_time, key=lambda one: comes[one.id])
    expected, revised = counts_of(in_time, 500)
    assert revised == 0
    for size in (1, 7, 500):
        counts, revised = counts_of(late, size)
        assert counts == expected
        assert revised > 50


def counts_of(records: list[Outcome], size: int) -> tuple[object, int]:
    """All windows without their sums of floats, and how many records have revised one."""
    processor = Summariser("s.outcomes", 0, msgspec.structs.replace(SHAPE, revisable_windows=10))
    values = []
    for first in range(0, len(records), size):
        batch = builders.batch(records[first : first + size], topic="s.outcomes", first=first)
        values += [message["value"] or b"" for message in processor.process(batch)[STATISTICS.name, 0]]
    table = tables_of(values).streams["s"]
    windows = [table.merged(start, "outcomes") for start in table.starts]
    tallies = [(one.quality["m@1"], *(one.groups["m@1"]["sex"][sex] for sex in "FM")) for one in windows]
    counts = [
        [(one.tp, one.fp, one.tn, one.fn, one.positives, one.negatives) for one in three] for three in tallies
    ]
    return (counts, [one.delay for one in windows]), sum(one.revised for one in windows)


@pytest.mark.parametrize("snapshot_records", [0, 60])
def test_what_crashes_and_redelivery_leave_gives_the_same_tables(snapshot_records: int) -> None:
    """Summaries of aborted batches too, as Faust reads them: the same log prefix has the same summary."""
    broker = MemoryBroker()
    broker.create(STATISTICS.name)
    kinds = made_up_kinds()
    for kind, partitions in kinds.items():
        broker.create(f"s.{kind}", len(partitions))
        for place, records in enumerate(partitions):
            broker.produce(f"s.{kind}", as_messages(records), place)
    host = MemoryHost(
        broker, lambda topic, partition: Summariser(topic, partition, SHAPE), [f"s.{kind}" for kind in kinds],
        batch_records=30, snapshot_records=snapshot_records,
    )  # fmt: skip
    rng = Random(1)
    for _ in range(60):
        host.step(f"s.{rng.choice(list(kinds))}", rng.randrange(2), crash=rng.random() < 0.4)
    host.run_until_idle()
    assert merged(broker.values(STATISTICS.name)) == merged(statistics())
