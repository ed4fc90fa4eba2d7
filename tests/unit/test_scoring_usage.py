"""What models cost is measured beside the fold: it is there, and the fold does not know of it."""

import random

from headrace.contracts.codec import encode
from headrace.contracts.events import ContractAdopted, Label, ModelDeployed, Observation
from headrace.contracts.stream import Field, StreamContract
from headrace.processor import Batch
from services.scoring.processor import ScoringProcessor
from services.scoring.usage import UsageMeter

HOUR = 3_600_000
LIGHT = {"model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"]}
HEAVY = {"model": {"class": "forest.ARFClassifier", "parameters": {"n_models": 10, "seed": 1}}}


def records(count, hours=2):
    """A log with two models on it, one plainly dearer; features by key on the light one."""
    contract = StreamContract("s", "binary", [Field("a", "number"), Field("b", "number")])
    rng = random.Random(1)
    log = [
        ContractAdopted("c", 0, 1, contract.to_dict()),
        ModelDeployed("d1", 0, "light", 1, LIGHT, "champion"),
        ModelDeployed("d2", 0, "heavy", 3, HEAVY, "challenger"),
    ]
    for number in range(count):
        at, x = HOUR + number * hours * HOUR // count, {"a": rng.random(), "b": rng.random()}
        log.append(Observation(str(number), "e", at, x))
        log.append(Label(str(number), "e", at, x["a"] > x["b"]))
    return [encode(record) for record in log]


def fold(processor, values, size=500):
    out = []
    for start in range(0, len(values), size):
        part = values[start : start + size]
        offsets = list(range(start, start + len(part)))
        out.append(processor.process(Batch("s.log", 0, offsets, [b"e"] * len(part), part)))
    return out


def test_measuring_changes_nothing_that_is_folded():
    values = records(1_500)
    meter = UsageMeter("s", 0, 3600)
    plain, metered = ScoringProcessor("s.log", 0), ScoringProcessor("s.log", 0, None, meter)
    assert fold(plain, values) == fold(metered, values)
    assert plain.snapshot() == metered.snapshot()
    assert plain.fingerprints() == metered.fingerprints()
    assert meter.untold()


def test_a_snapshot_taken_while_a_clock_runs_knows_nothing_of_it():
    plain, timed = ScoringProcessor("s.log", 0), ScoringProcessor("s.log", 0)
    for processor in (plain, timed):
        fold(processor, records(100))
    for slot in timed.shard.slots.values():
        slot.clock, slot.ticks = int, 17
    assert timed.snapshot() == plain.snapshot()


def test_the_dearer_model_is_charged_more_in_the_windows_of_its_work():
    meter, values = UsageMeter("s", 0, 3600), records(2_000)
    processor = ScoringProcessor("s.log", 0, None, meter)
    fold(processor, values)
    told = meter.untold()
    assert [report.start for report in told] == [HOUR, 2 * HOUR]
    assert sum(report.records for report in told) == len(values)
    for report in told:
        light, heavy = report.models["light@1"], report.models["heavy@3"]
        assert heavy.cpu_ns > 3 * light.cpu_ns > 0
        assert report.shared.cpu_ns > 0
        assert light.state_bytes > 0
        assert heavy.byte_seconds >= 0


def test_a_report_holds_all_of_its_window_and_is_told_until_it_is_known():
    meter = UsageMeter("s", 0, 3600)
    processor, values = ScoringProcessor("s.log", 0, None, meter), records(1_000, hours=1)
    fold(processor, values[:1_003])
    [first] = meter.untold()
    [again] = meter.untold()  # the broker was away
    assert (again.key(), again.records) == (first.key(), first.records)
    assert again.number > first.number
    meter.told([again])
    assert meter.untold() == []
    fold(processor, values[1_003:])
    [later] = meter.untold()
    assert later.key() == first.key()
    assert later.records == len(values)
    assert later.models["light@1"].cpu_ns > first.models["light@1"].cpu_ns
    meter.told([first])  # an older state than what there is by now
    assert [report.records for report in meter.untold()] == [len(values)]


def test_snapshots_count_and_another_life_has_another_key():
    meter = UsageMeter("s", 0, 3600)
    processor = ScoringProcessor("s.log", 0, None, meter)
    fold(processor, records(200, hours=1))
    processor.snapshot()
    [report] = meter.untold()
    assert report.models["heavy@3"].snapshot_bytes == report.models["heavy@3"].state_bytes > 0
    other = UsageMeter("s", 0, 3600)
    other._life += 1
    fold(ScoringProcessor("s.log", 0, None, other), records(200, hours=1))
    assert other.untold()[0].key() != report.key()
