"""Rules: hysteresis as promised for every run of values, alerts the same after any restart, errors that say where."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.statistics import ContractFacts, Quality, WindowSummary, encode_summary
from headrace.errors import Unusable
from services.monitor import rulebook
from services.monitor.control import ControlPlane, Kept
from services.monitor.domain.rules import DEFAULT_RULES, Rule, Scope, read_rules
from services.monitor.domain.tables import Tables

HOUR = 3_600_000


def rule(**more):
    return Rule(**{"name": "r", "stream": "s", "metric": "accuracy", "below": 0.5, "clear": 0.7} | more)


def changes(of, values):
    scope = Scope()
    return [scope.judge(of, value, count) for value, count in values]


def test_it_fires_at_the_k_th_bad_window_in_a_row_and_clears_beyond_the_other_bound():
    values = [(v, 10) for v in (0.4, 0.6, 0.4, 0.4, 0.3, 0.6, 0.8, 0.6, 0.8, 0.7, 0.2)]
    assert changes(rule(for_windows=2), values) == [None] * 3 + ["firing"] + [None] * 5 + ["resolved", None]


def test_windows_with_too_few_outcomes_or_no_value_neither_break_nor_lengthen_a_run():
    values = [(0.4, 10), (0.9, 2), (None, 10), (0.4, 10)]
    assert changes(rule(for_windows=2, minimum_count=5), values) == [None, None, None, "firing"]


def test_above_mirrors_below():
    values = [(v, 1) for v in (5.0, 5.1, 4.5, 4.0)]
    assert changes(rule(metric="mae", below=None, above=5.0, clear=4.0), values) == [
        None,
        "firing",
        None,
        "resolved",
    ]


quantity = st.one_of(st.none(), st.sampled_from([0.0, 0.3, 0.49, 0.5, 0.6, 0.69, 0.7, 0.9, 1.0]))
observed = st.lists(st.tuples(quantity, st.integers(0, 6)), max_size=40)


@given(observed, st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_every_change_is_earned_by_a_run_and_changes_alternate(values, for_windows, minimum, mirrored):
    of = rule(for_windows=for_windows, minimum_count=minimum)
    if mirrored:
        of = rule(for_windows=for_windows, minimum_count=minimum, below=None, above=-0.5, clear=-0.7)
        values = [(None if value is None else -value, count) for value, count in values]
    told = changes(of, values)
    judged = [(value, change) for (value, count), change in zip(values, told, strict=True)
              if value is not None and count >= minimum]  # fmt: skip
    assert sum(change is not None for change in told) == sum(change is not None for _, change in judged)
    firing, since = False, 0
    for index, (_, change) in enumerate(judged):
        run = [value for value, _ in judged[max(since, index - for_windows + 1) : index + 1]]
        earned = len(run) == for_windows and all(
            (of.clears(value) if firing else of.breaks(value)) for value in run
        )
        assert (change is not None) == earned
        if change is not None:
            assert change == ("resolved" if firing else "firing")
            firing, since = not firing, index + 1


def summaries(accuracies, length=3600, partitions=1, count=10):
    """One outcomes partition's words, a window an accuracy, each closed; and the log's, with the contract."""
    facts = ContractFacts(1, "binary", partitions, [])
    yield encode_summary(WindowSummary("s", "log", 0, length, contract=facts))
    for index, accuracy in enumerate(accuracies):
        right = round(accuracy * count)
        tally = {"m@1": Quality(count=count, correct=right, tp=right, fp=count - right)}
        begin = index * length * 1000
        for place in range(partitions):
            window = WindowSummary(
                "s", "outcomes", place, length, start=begin, through_offset=index, quality=tally
            )
            yield encode_summary(window)
        for place in range(partitions):
            edge = begin + length * 1000
            yield encode_summary(
                WindowSummary("s", "outcomes", place, length, through_offset=index, final_before=edge)
            )


def control(rules, clock=lambda: 0.0):
    made = ControlPlane(Tables(3600), silent_seconds=60, clock=clock)
    made.use(rules)
    return made


def told_by(made):
    """Judge, and let the broker acknowledge everything."""
    made.judge()
    told = list(made.outbox)
    for alert in told:
        made.sent(alert)
    return told


ACCURACIES = (0.9, 0.4, 0.3, 0.6, 0.8, 0.2, 0.9, 0.1, 0.1)


def test_alerts_follow_the_windows():
    made = control([rule()])
    for value in summaries(ACCURACIES):
        made.receive(value)
    told = told_by(made)
    assert [(alert.at // HOUR, alert.state) for alert in told] == [
        (2, "firing"), (5, "resolved"), (6, "firing"), (7, "resolved"), (8, "firing")
    ]  # fmt: skip
    assert (told[0].value, told[0].bound, told[0].model, told[0].version) == (0.4, 0.5, "m", 1)
    assert told_by(made) == []


@given(
    st.lists(st.sampled_from([0.1, 0.4, 0.6, 0.8]), max_size=12),
    st.integers(1, 3),
    st.lists(st.integers(0, 12), max_size=4),
)
def test_restarts_at_any_point_tell_the_same_alerts_once(accuracies, for_windows, restarts):
    of = rule(for_windows=for_windows)
    values = list(summaries(accuracies))
    straight = control([of])
    for value in values:
        straight.receive(value)
    wanted = told_by(straight)
    told, made = [], control([of])
    for index, value in enumerate(values):
        made.receive(value)
        told += told_by(made)
        if index // 2 in restarts:
            topic = [Kept(msgspec.json.encode(alert), place, 0) for place, alert in enumerate(told)]
            made = control([of])
            made.recover(values[: index + 1], topic)
    assert told == wanted


def test_an_alert_that_was_not_acknowledged_is_decided_again_under_the_same_id():
    made, again = control([rule()]), control([rule()])
    values = list(summaries(ACCURACIES))
    for value in values:
        made.receive(value)
    made.judge()
    again.recover(values, [])
    again.judge()
    assert again.outbox == made.outbox
    again.judge()
    assert len(again.outbox) == 5, "judged while alerts were waiting"


def test_a_window_waits_for_every_partition_the_contract_promises_until_one_is_silent_too_long():
    now = [0.0]
    made = control([rule()], clock=lambda: now[0])
    values = list(summaries([0.1], partitions=2))
    for value in values:
        summary = msgspec.json.decode(value)
        if summary["partition"] == 0:
            made.receive(value)
    assert told_by(made) == []
    now[0] = 50.0
    made.receive(values[1])
    assert told_by(made) == []
    now[0] = 61.0
    assert [alert.state for alert in told_by(made)] == ["firing"]


def test_a_rule_looks_at_its_stream_its_model_and_its_time_only():
    values = list(summaries(ACCURACIES))
    for of, count in (
        (rule(stream="*"), 5),
        (rule(stream="t"), 0),
        (rule(model="m"), 5),
        (rule(model="n"), 0),
        (rule(since=6 * HOUR), 1),
        (rule(metric="roc_auc"), 0),
    ):
        made = control([of])
        for value in values:
            made.receive(value)
        assert len(told_by(made)) == count


def test_a_changed_rule_goes_on_from_its_last_alert():
    made = control([rule()])
    for value in summaries(ACCURACIES):
        made.receive(value)
    before = told_by(made)
    made.use([rule(clear=0.05, below=0.05)])
    assert before[-1].state == "firing"
    assert [(alert.at // HOUR, alert.state) for alert in told_by(made)] == [(9, "resolved")]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("rules: {}", "rules"),
        ("[{name: a}]", "rules[0]"),
        ("[{name: A, stream: s, metric: mae, above: 1}]", "rules[0].name"),
        ("[{name: a, stream: S, metric: mae, above: 1}]", "rules[0].stream"),
        ("[{name: a, stream: s, metric: luck, above: 1}]", "rules[0].metric"),
        ("[{name: a, stream: s, metric: mae}]", "rules[0]"),
        ("[{name: a, stream: s, metric: mae, above: 1, below: 2}]", "rules[0]"),
        ("[{name: a, stream: s, metric: mae, above: .nan}]", "rules[0]"),
        ("[{name: a, stream: s, metric: mae, above: 1, clear: 2}]", "rules[0].clear"),
        ("[{name: a, stream: s, metric: f1, below: 1, clear: 0}]", "rules[0].clear"),
        ("[{name: a, stream: s, metric: f1, below: 1, for_windows: 0}]", "rules[0]"),
        ("[{name: a, stream: s, metric: f1, below: 1, colour: red}]", "rules[0]"),
        (
            "[{name: a, stream: s, metric: f1, below: 1}, {name: a, stream: t, metric: f1, below: 1}]",
            "rules[1].name",
        ),
        ("[", "file"),
        ("1", "rules"),
    ],
)
def test_an_unusable_rule_is_refused_and_the_error_says_where(text, where):
    with pytest.raises(Unusable) as refused:
        rulebook.parse(text, where="file")
    assert refused.value.where == where


def test_rules_survive_their_file(tmp_path):
    path = tmp_path / "home" / "rules.yaml"
    assert rulebook.load(path) == list(DEFAULT_RULES)
    rules = [rule(), rule(name="q", clear=None, since=5, severity="critical")]
    rulebook.save(path, rules)
    assert rulebook.load(path) == rules
    path.write_bytes(b"\xff")
    with pytest.raises(Unusable):
        rulebook.load(path)
    assert read_rules(None) == []
