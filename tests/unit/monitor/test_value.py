"""Cost and value: sums that are the same whoever adds them up, in whichever order, however often they were told."""

import random
from collections import Counter, defaultdict

import msgspec
import pytest

from headrace.contracts.codec import encode
from headrace.contracts.events import Answer, Outcome
from headrace.contracts.payoff import decisions, read_payoff, worth
from headrace.contracts.statistics import Quality
from headrace.contracts.usage import UsageReport, Used, encode_usage
from headrace.errors import Unusable
from headrace.processor import Batch
from services.monitor.domain import quality
from services.monitor.domain.tables import Tables
from services.monitor.domain.usage import SHARED, UsageTable
from services.monitor.domain.value import Prices, total_ledger, window_ledger
from services.monitor.processor import Summariser, WindowShape
from tests.unit.monitor.made_up import HOUR, as_messages, made_up

PAYOFF = {"tp": 5.0, "fp": -1.25, "tn": 0.5, "fn": -20.0}


def one_by_one(task, payoff, y, answer):
    """What one answer is worth, said without counts."""
    if task == "binary":
        return payoff[("t" if y == answer else "f") + ("p" if answer else "n")]
    if task == "multiclass":
        return payoff["right" if y == answer else "wrong"]
    error = abs(y - answer)
    return payoff["constant"] + payoff["absolute"] * error + payoff["squared"] * error * error


@pytest.mark.parametrize(
    ("task", "payoff", "draw"),
    [
        ("binary", PAYOFF, lambda rng: rng.random() < 0.4),
        ("multiclass", {"right": 2.0, "wrong": -3.5}, lambda rng: rng.choice("abc")),
        ("regression", {"constant": 1.0, "absolute": -0.5, "squared": -0.25}, lambda rng: rng.uniform(-9, 9)),
    ],
)
def test_the_value_of_counted_answers_is_the_sum_over_them_one_by_one(task, payoff, draw):
    rng, parts = random.Random(3), [Quality(), Quality(), Quality()]
    expected, given = 0.0, 0
    for number in range(600):
        y, answer = draw(rng), draw(rng) if rng.random() < 0.9 else None
        probabilities = {str(answer): 1.0} if task == "multiclass" else None
        quality.update(parts[number % 3], y, Answer("m", 1, answer, None, probabilities))
        if answer is not None:
            expected += one_by_one(task, payoff, y, answer)
            given += 1
    read = read_payoff(payoff, task)
    assert sum(worth(read, part) for part in parts) == pytest.approx(expected)
    whole = Quality()
    for part in parts:
        quality.merge(whole, part)
    assert worth(read, whole) == pytest.approx(expected)
    assert decisions(read, whole) == given


@pytest.mark.parametrize(
    ("document", "task"),
    [
        ({"tp": 1.0}, "binary"),
        (PAYOFF | {"other": 1.0}, "binary"),
        (PAYOFF, "multiclass"),
        (PAYOFF | {"tp": float("inf")}, "binary"),
        (PAYOFF | {"tp": 1e13}, "binary"),
        ({"right": "much", "wrong": 0.0}, "multiclass"),
        (None, "regression"),
    ],
)
def test_a_payoff_that_does_not_fit_is_refused(document, task):
    with pytest.raises(Unusable):
        read_payoff(document, task)


def reports(seed, windows=4, partitions=2, lives=2):
    """What two partitions, each begun twice, told of their windows: each state of a window, in the order they came."""
    rng, told = random.Random(seed), []
    for partition in range(partitions):
        for life in range(lives):
            for window in range(windows):
                used = {f"m@{version}": Used() for version in (1, 2)}
                shared, records = Used(), 0
                for _ in range(3):
                    records += rng.randrange(100)
                    for one in (*used.values(), shared):
                        one.cpu_ns += rng.randrange(10**9)
                        one.byte_seconds += rng.randrange(10**9)
                        one.snapshot_bytes += rng.randrange(10**6)
                    for one in used.values():
                        one.state_bytes = rng.randrange(1, 10**6)
                    report = UsageReport(
                        "s", partition, 3600, window * HOUR, 1000 + life, len(told) + 1, records, used, shared
                    )
                    told.append(encode_usage(report))
    return told


def everything(table):
    stream = table.streams["s"]
    return {start: stream.used(start) for start in stream.starts}, stream.total


def test_merging_usage_needs_no_order_and_takes_what_is_told_twice_once():
    told = reports(5)
    plain = UsageTable(3600)
    for value in told:
        plain.apply(value)
    rng = random.Random(6)
    for _ in range(20):
        shuffled = told + rng.choices(told, k=30)
        rng.shuffle(shuffled)
        other = UsageTable(3600)
        for value in shuffled:
            other.apply(value)
        assert everything(other) == everything(plain)


def test_usage_adds_up_the_last_report_of_each_key():
    told, table = reports(7), UsageTable(3600)
    newest = {}
    for value in told:
        table.apply(value)
        report = msgspec.json.decode(value)
        newest[report["partition"], report["life"], report["start"]] = report
    cpu, latest = Counter(), {}
    for (partition, life, start), report in newest.items():
        for name, used in (*report["models"].items(), (SHARED, report["shared"])):
            cpu[start, name] += used["cpu_ns"]
            if name:
                known = latest.get((start, name, partition), (0, 0))
                latest[start, name, partition] = max(known, (life, used["state_bytes"]))
    shown, total = everything(table)
    assert {(s, n): used.cpu_ns for s, of in shown.items() for n, used in of.items()} == cpu
    assert sum(used.cpu_ns for used in total.values()) == sum(cpu.values())
    for start, of in shown.items():
        for name in ("m@1", "m@2"):
            assert of[name].state_bytes == sum(latest[start, name, place][1] for place in range(2))


def test_what_is_no_usage_is_counted_and_the_oldest_window_goes_first():
    table = UsageTable(3600, windows_kept=2)
    assert not table.apply(b"nonsense")
    assert not table.apply(b"\xff")
    assert not table.apply(None)
    assert not table.apply(
        encode_usage(UsageReport("s", 0, 7200, 0, 1, 1))
    )  # its windows are longer than ours
    assert table.ignored == 3
    for start in (0, 1, 2):
        table.apply(encode_usage(UsageReport("s", 0, 3600, start * HOUR, 1, 1, models={"m@1": Used(10)})))
    assert table.streams["s"].starts == [HOUR, 2 * HOUR]
    assert table.streams["s"].total["m@1"].cpu_ns == 30


def test_a_shorter_window_counts_in_the_one_that_it_lies_in():
    table = UsageTable(3600)
    for start in (0, HOUR // 2, HOUR):
        table.apply(encode_usage(UsageReport("s", 0, 1800, start, 1, 1, models={"m@1": Used(10, 0, 3)})))
    assert {start: used["m@1"].cpu_ns for start, used in everything(table)[0].items()} == {0: 20, HOUR: 10}
    assert table.streams["s"].used(0)["m@1"].state_bytes == 3


@pytest.fixture
def counted_tables():
    """The monitor's tables of a made-up stream, and its records."""
    kinds, tables = made_up("s", 2, 800), Tables(3600)
    for kind, partitions in kinds.items():
        for place, records in enumerate(partitions):
            summariser = Summariser(f"s.{kind}", place, WindowShape(3600, 600, 48))
            messages = as_messages(records)
            values = [message["value"] for message in messages]
            batch = Batch(f"s.{kind}", place, list(range(len(values))), [b"e"] * len(values), values)
            for out in summariser.process(batch).values():
                for message in out:
                    tables.apply(message["value"])
    return kinds, tables.streams["s"]


def test_a_windows_value_and_bytes_are_those_of_its_records(counted_tables):
    kinds, table = counted_tables
    values, written, asked = defaultdict(Counter), Counter(), defaultdict(Counter)
    for kind in ("predictions", "outcomes"):
        for record in (record for run in kinds[kind] for record in run):
            start = record.at - record.at % HOUR
            written[start] += len(encode(record))
            for said in (record, *record.challengers):
                if kind == "predictions":
                    asked[start][said.model] += 1
                elif isinstance(record, Outcome) and record.y is not None and said.answer is not None:
                    values[start][said.model] += one_by_one("binary", PAYOFF, record.y, said.answer)
    payoff = read_payoff(PAYOFF, "binary")
    for start in table.starts:
        view = window_ledger(table, None, start).view(
            Prices(gb_written=1e9), {"lr": payoff}, {"lr": "champion"}
        )
        rows = {row["model"]: row for row in view["models"]}
        for model, row in rows.items():
            assert row["decisions"] == asked[start][model]
            assert row["cost"] == pytest.approx(row["bytes_written"])
        assert rows["lr"]["value"] == pytest.approx(values[start]["lr"])
        assert rows["lr"]["return"] == pytest.approx(values[start]["lr"] - rows["lr"]["cost"])
        assert (rows["tree"]["value"], rows["tree"]["return"]) == (None, None)  # nobody said, which is not 0
        assert (rows["lr"]["role"], rows["tree"]["role"]) == ("champion", None)
        assert sum(row["bytes_written"] for row in (*rows.values(), view["shared"])) == written[start]


def test_the_total_is_what_the_windows_come_to(counted_tables):
    _, table = counted_tables
    usage = UsageTable(3600)
    for value in reports(9):
        usage.apply(value)
    payoffs = {"lr": read_payoff(PAYOFF, "binary")}
    prices = Prices(2.0, 3.0, 4.0, "EUR")
    total = total_ledger(table, usage.streams["s"]).view(prices, payoffs, {})
    starts = {*table.starts, *usage.streams["s"].starts}
    views = [window_ledger(table, usage.streams["s"], start).view(prices, payoffs, {}) for start in starts]
    for name in ("decisions", "cpu_seconds", "memory_gb_hours", "cost", "valued"):
        of_windows, of_total = Counter(), Counter()
        for view, into in [*((view, of_windows) for view in views), (total, of_total)]:
            for row in view["models"]:
                into[row["model"], row["version"]] += row[name]
        assert of_windows == pytest.approx(of_total, rel=1e-4)  # a byte that cannot be divided is shared
    of_total = {(row["model"], row["version"]): row for row in total["models"]}
    assert set(of_total) == {("lr", 1), ("tree", 2), ("m", 1), ("m", 2)}
    used = usage.streams["s"].total["m@1"]
    assert of_total["m", 1]["cost"] == pytest.approx(
        used.cpu_ns / 3.6e12 * 2 + used.byte_seconds / 3.6e12 * 3 + used.snapshot_bytes / 1e9 * 4
    )
    assert of_total["m", 1]["per_decision"]["cost"] is None  # it was never asked
