"""Laws of the monitor's tables: the order in which summaries come, and what compaction has removed, change nothing."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts.statistics import decode_summary
from headrace.contracts.topics import STATISTICS
from headrace.memory import MemoryBroker, MemoryHost
from services.monitor.domain.tables import Tables
from services.monitor.processor import Summariser
from tests.laws.histories import made_up_kinds
from tests.laws.subjects import SHAPE, shown, statistics
from tests.unit.monitor.made_up import as_messages


def merged(values: list[bytes] | tuple[bytes, ...], windows_kept: int = 10_000) -> object:
    tables = Tables(SHAPE.length_seconds, windows_kept=windows_kept)
    for value in values:
        tables.apply(value)
    return shown(tables)


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
