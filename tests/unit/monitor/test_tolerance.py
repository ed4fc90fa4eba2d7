"""The drift file: what is read from it, what is refused, and what holds for a stream."""

import pytest

from headrace.errors import Unusable
from services.monitor.domain.drift.budget import WEIGHTS
from services.monitor.domain.tolerance import Tolerance, Tolerances, read_wishes
from services.monitor.drift_settings import load

FILE = """
streams:
  - stream: "*"
    false_alarms: {events: 50000}
    weights: {bias: 0}
    retrain_labels: 200
  - stream: loans
    false_alarms: {days: 30}
    weights: {data: 6}
    leave_out: [postcode]
    reference: {records: 4096, labels: 1024, from: 2026-01-01T00:00:00Z}
    mix: {sex: {female: 0.4, male: 0.6}, region: [north, south, 3]}
    signals:
      - {of: error, detector: DDM}
      - {of: loss, detector: ADWIN, parameters: {delta: 0.01}}
      - {field: amount, detector: PageHinkley, parameters: {mode: up}}
"""


def test_a_streams_own_entry_goes_before_that_for_all_and_this_before_the_settings(tmp_path):
    file = tmp_path / "monitor-drift.yaml"
    default = Tolerance(7_000.0, 900)
    assert load(file, default).of("loans", 3) == Tolerance(7_000.0, 900, partitions=3)
    file.write_text(FILE)
    read = load(file, default)
    other, loans = read.of("other"), read.of("loans", 2)
    assert (other.false_alarm_records, other.false_alarm_days, other.retrain_labels) == (50_000, None, 200)
    assert other.weights == {**WEIGHTS, "bias": 0}
    assert not other.watches("bias")
    assert (loans.false_alarm_days, loans.partitions, loans.retrain_labels) == (30, 2, 200)
    assert loans.weights == {**WEIGHTS, "bias": 0, "data": 6}
    assert loans.leave_out == ("postcode",)
    assert (loans.reference.records, loans.reference.labels) == (4_096, 1_024)
    assert loans.reference.since == 1_767_225_600_000
    assert loans.mix["sex"] == {"female": 0.4, "male": 0.6}
    assert loans.mix["region"] == pytest.approx({"north": 1 / 3, "south": 1 / 3, "3": 1 / 3})
    assert [(one.subject, one.detector) for one in loans.signals] == [
        ("error", "DDM"), ("loss", "ADWIN"), ("amount", "PageHinkley")
    ]  # fmt: skip


def test_a_budget_in_days_is_what_comes_in_as_many_days_in_all_partitions():
    in_days = Tolerance(false_alarm_days=30.0, partitions=4)
    assert in_days.budget(1_000.0).records == 30 * 4 * 1_000
    assert in_days.budget(None).records == Tolerance().budget().records
    assert Tolerance(5_000.0).budget(1_000.0).records == 5_000


def test_what_is_watched_is_another_thing_than_how_many_false_alarms_are_allowed():
    plain = Tolerance()
    for same in (
        Tolerance(5.0, 9, false_alarm_days=3.0, partitions=2),
        Tolerance(weights={**WEIGHTS, "data": 9.0}),
    ):
        assert same.watched == plain.watched
    for other in ({"weights": {**WEIGHTS, "data": 0.0}}, {"leave_out": ("x",)}, {"mix": {"sex": {"f": 1.0}}}):
        assert Tolerance(**other).watched != plain.watched


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"stream": "No Name"}, r"streams\[0\].stream"),
        ({"stream": "s", "falsealarms": {}}, r"streams\[0\]"),
        ({"stream": "s", "false_alarms": {}}, "false_alarms"),
        ({"stream": "s", "false_alarms": {"events": 5, "days": 5}}, "false_alarms"),
        ({"stream": "s", "false_alarms": {"events": 0.5}}, "false_alarms"),
        ({"stream": "s", "false_alarms": {"days": float("nan")}}, "false_alarms"),
        ({"stream": "s", "weights": {"data": -1}}, "weights.data"),
        ({"stream": "s", "weights": {"weather": 1}}, r"streams\[0\]"),
        ({"stream": "s", "weights": {"quality": 1}}, "weights.quality"),
        ({"stream": "s", "retrain_labels": 0}, "retrain_labels"),
        ({"stream": "s", "reference": {"records": 100}}, "reference.records"),
        ({"stream": "s", "reference": {"labels": 10**6}}, "reference.labels"),
        ({"stream": "s", "reference": {"from": "yesterday"}}, "reference.from"),
        ({"stream": "s", "reference": {"from": True}}, "reference.from"),
        ({"stream": "s", "mix": {"sex": {"f": 0.5, "m": 0.6}}}, "mix.sex"),
        ({"stream": "s", "mix": {"sex": {"f": 1.0}}}, "mix.sex"),
        ({"stream": "s", "mix": {"sex": {"f": 0.0, "m": 1.0}}}, "mix.sex"),
        ({"stream": "s", "mix": {f"f{n}": ["a", "b"] for n in range(5)}}, "mix"),
        ({"stream": "s", "signals": [{"detector": "ADWIN"}]}, r"signals\[0\]"),
        ({"stream": "s", "signals": [{"detector": "KSWIN", "of": "error"}]}, "KSWIN"),
        ({"stream": "s", "signals": [{"detector": "DDM", "of": "loss"}]}, "0 and 1"),
        ({"stream": "s", "signals": [{"detector": "ADWIN", "of": "loss", "parameters": {"no": 1}}]}, "ADWIN"),
        ({"stream": "s", "signals": [{"detector": "ADWIN", "of": "loss", "parameters": {"delta": "a"}}]}, "ADWIN"),
        ({"stream": "s", "signals": [{"detector": "ADWIN", "of": "loss"}] * 2}, r"signals\[1\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_and_named(entry, where):
    with pytest.raises(Unusable, match=where):
        read_wishes({"streams": [entry]})


def test_two_entries_for_a_stream_and_a_file_that_is_no_yaml_are_refused(tmp_path):
    with pytest.raises(Unusable, match="two streams are called 's'"):
        read_wishes([{"stream": "s"}, {"stream": "s"}])
    file = tmp_path / "monitor-drift.yaml"
    file.write_text("streams: [")
    with pytest.raises(Unusable, match=r"monitor-drift\.yaml: not YAML"):
        load(file, Tolerance())


def test_without_a_file_everything_is_as_the_settings_say():
    assert Tolerances().of("s") == Tolerance()
