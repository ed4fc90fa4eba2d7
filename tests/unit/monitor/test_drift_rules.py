"""Rules on drift: who is told, when it ends, and that neither redelivery nor restarts tell anything twice."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from headrace.contracts.statistics import WindowSummary, encode_summary
from headrace.errors import Unusable
from services.monitor import control, rulebook
from services.monitor.domain.drifts import DriftWatch
from services.monitor.domain.rules import DEFAULT_RULES
from services.monitor.metrics import MonitorMetrics
from tests.unit.monitor.told import HOUR, Plane, drift, drift_rule, kept


def at_hour(stream, at):
    """The stream's event time has come to `at`."""
    return encode_summary(WindowSummary(stream, "log", 0, 3600, through_offset=at, watermark=at))


def told_of(plane, *drifts, first=0):
    for place, event in enumerate(drifts):
        plane.receive_drift(kept([event])[0]._replace(offset=first + place))
    return plane.tell()


def test_what_moved_is_told_with_its_evidence_since_when_and_both_sides():
    event = drift(
        1, at=5 * HOUR, model="lr", version=3, since_at=HOUR, since_offset=17, group="sex=f", partition=2
    )
    [told] = told_of(Plane([drift_rule(severity="critical")]), event)
    assert (told.state, told.severity, told.kind, told.stream, told.model, told.version) == (
        "firing", "critical", "concept", "s", "lr", 3
    )  # fmt: skip
    assert (told.drift, told.group, told.since_at, told.since_offset, told.partition) == (
        "d1", "sex=f", HOUR, 17, 2
    )  # fmt: skip
    assert (told.before, told.after, told.value, told.bound, told.at) == (0.1, 0.4, 30.0, 20.0, 5 * HOUR)
    assert told.reason == (
        "concept drift of error of lr among sex=f: 0.1 to 0.4, since 1970-01-01T01:00:00Z (adwin);"
        " headrace drift why d1 says more"
    )


def test_the_default_rules_warn_of_concept_and_bias_and_mention_data_and_predictions():
    kinds = ["concept", "bias", "data", "prediction", "quality", "volume", "delay"]
    told = told_of(Plane(DEFAULT_RULES), *(drift(place, kind=kind) for place, kind in enumerate(kinds)))
    assert {one.kind: one.severity for one in told} == {
        "concept": "warning", "bias": "warning", "data": "info", "prediction": "info"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("of", "fits"),
    [
        ({}, True), ({"stream": "s"}, True), ({"stream": "t"}, False), ({"model": "lr"}, True),
        ({"model": "tree"}, False), ({"subject": "error"}, True), ({"subject": "loss"}, False),
        ({"group": "sex=f"}, True), ({"group": "sex=m"}, False), ({"drift": ["data", "concept"]}, True),
        ({"drift": ["data"]}, False), ({"since": 7}, True), ({"since": 8}, False),
    ],
)  # fmt: skip
def test_a_rule_looks_at_what_it_names_only(of, fits):
    told = told_of(Plane([drift_rule(**of)]), drift(0, at=7, model="lr", group="sex=f"))
    assert bool(told) == fits


def test_drift_of_one_scope_is_told_once_until_the_alert_is_over_and_then_anew():
    plane = Plane([drift_rule()])
    first = told_of(plane, drift(0, at=0), drift(1, at=HOUR - 1), drift(2, at=HOUR - 1, subject="loss"))
    assert [(one.drift, one.state) for one in first] == [("d0", "firing"), ("d2", "firing")]
    then = told_of(plane, drift(3, at=HOUR), first=3)
    assert [(one.state, one.at, one.fired) for one in then] == [
        ("resolved", HOUR, first[0].id), ("firing", HOUR, then[1].id)
    ]  # fmt: skip


def test_what_concerns_a_model_ends_when_another_takes_its_place_and_the_next_version_is_told_anew():
    plane = Plane([drift_rule(drift=["concept", "data"])])
    plane.champion = {"s": ("lr", 1), "t": ("other", 1)}
    plane.receive(at_hour("s", HOUR // 2))
    moved = [drift(0, model="lr", version=1), drift(1, kind="data", subject="a")]
    assert [one.state for one in told_of(plane, *moved)] == ["firing", "firing"]
    assert plane.tell() == []
    plane.champion["s"] = ("lr", 2)
    [ended] = plane.tell()
    assert (ended.state, ended.drift, ended.at) == ("resolved", "d0", HOUR // 2)
    assert ended.reason == "lr@2 is the champion now"
    assert plane.tell() == []

    again = [drift(2, at=100, model="lr", version=1), drift(3, at=200, model="lr", version=2)]
    told = told_of(plane, *again, first=2)
    assert [(one.drift, one.state) for one in told] == [("d3", "firing")]
    plane.champion = {"s": ("lr", 2)}
    assert plane.tell() == []

    reborn = Plane([drift_rule(drift=["concept", "data"])])
    reborn.champion = plane.champion
    reborn.recover([], kept(plane.alerts), kept([*moved, *again]))
    assert reborn.tell() == []


def test_what_has_moved_is_counted_once_for_prometheus_and_not_again_after_a_restart():
    events = kept([drift(0), drift(1, kind="data"), drift(1, kind="data"), drift(3)])

    def counted(plane):
        registry = CollectorRegistry()
        metrics = MonitorMetrics(registry)
        metrics.refresh(plane)
        metrics.refresh(plane)
        kinds = ("concept", "data")
        name = "headrace_monitor_drifts_total"
        return [registry.get_sample_value(name, {"stream": "s", "kind": kind}) for kind in kinds]

    plane = Plane([drift_rule()])
    for event in events:
        plane.receive_drift(event)
    assert counted(plane) == [2.0, 1.0]
    reborn = Plane([drift_rule()])
    reborn.recover([], [], events)
    assert counted(reborn) == [None, None]


def test_it_ends_when_the_streams_event_time_says_so_once():
    plane = Plane([drift_rule()])
    [fired] = told_of(plane, drift(0, at=HOUR))
    plane.receive(at_hour("s", 2 * HOUR - 1))
    plane.receive(at_hour("t", 9 * HOUR))
    assert plane.tell() == []
    plane.receive(at_hour("s", 2 * HOUR))
    [ended] = plane.tell()
    assert (ended.state, ended.at, ended.fired) == ("resolved", 2 * HOUR, fired.id)
    assert plane.tell() == []
    assert plane.lives.get(fired.id).state == "resolved"


def test_an_end_that_was_told_is_known_after_a_restart():
    plane = Plane([drift_rule()])
    told = told_of(plane, drift(0, at=0))
    plane.receive(at_hour("s", HOUR))
    told += plane.tell()
    again = Plane([drift_rule()])
    again.recover([at_hour("s", HOUR)], kept(told), kept([drift(0, at=0)]))
    assert [one.state for one in told] == ["firing", "resolved"]
    assert again.tell() == []
    assert [one.state for one in told_of(again, drift(1, at=HOUR), first=1)] == ["firing"]


events = st.lists(
    st.tuples(st.sampled_from(["error", "loss"]), st.integers(0, 6), st.sampled_from(["s", "t"])), max_size=12
)


@given(events, st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=4), st.randoms())
def test_redelivery_and_restarts_at_any_point_tell_the_same_alerts_once(moves, restarts, rng):
    hours = 0
    drifts = []
    for place, (subject, hour, stream) in enumerate(moves):
        hours += hour
        drifts.append(drift(place, at=hours * HOUR // 3, subject=subject, stream=stream))
    straight = told_of(Plane([drift_rule()]), *drifts)
    told, plane = [], Plane([drift_rule()])
    for place, record in enumerate(kept(drifts)):
        plane.receive_drift(record)
        if place:
            plane.receive_drift(kept(drifts)[rng.randrange(place)])
        for _, sent in (restart for restart in restarts if restart[0] == place):
            plane.judge()
            told += plane.tell() if sent else []
            plane = Plane([drift_rule()])
            plane.recover([], kept(told), kept(drifts[: place + 1]))
        told += plane.tell()
    assert told == straight
    assert len({one.id for one in told}) == len(told)


def test_a_changed_rule_looks_at_what_is_kept_at_once_as_it_would_after_a_restart():
    drifts = [drift(0, at=0), drift(1, at=0, kind="data"), drift(2, at=HOUR, kind="data", subject="loss")]
    plane = Plane([drift_rule()])
    before = told_of(plane, *drifts)
    changed = drift_rule(drift=["concept", "data"])
    plane.use([changed])
    after = plane.tell()
    assert [one.drift for one in (*before, *after)] == ["d0", "d1", "d2"]
    plane.use([changed])
    assert plane.tell() == []
    again = Plane([changed])
    again.recover([], kept(before), kept(drifts))
    assert again.tell() == after


def test_what_is_read_again_is_known_also_when_it_is_not_kept_any_more(monkeypatch):
    monkeypatch.setattr(control, "DRIFT_KEPT", 2)
    plane = Plane([])
    plane.drifts = deque(maxlen=2)
    records = kept([drift(n) for n in range(4)])
    for record in (*records, *records[:2]):
        plane.receive_drift(record)
    assert [seen.drift.id for seen in plane.drifts] == ["d2", "d3"]


def test_the_least_recent_scope_is_forgotten_at_the_bound():
    watch = DriftWatch(scopes_kept=2)
    watch.use([drift_rule()])
    for place, subject in enumerate("abc"):
        assert len(watch.meet(drift(place, subject=subject))) == 1
    assert watch.meet(drift(3, subject="c")) == []
    assert [one.drift for one in watch.meet(drift(4, subject="a"))] == ["d4"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[{name: a, stream: s, drift: [luck]}]", "rules[0]"),
        ("[{name: a, stream: s, drift: [data], metric: mae, above: 1}]", "rules[0]"),
        ("[{name: a, stream: s, drift: [data], above: 1}]", "rules[0]"),
        ("[{name: a, stream: s, drift: [data], rearm_seconds: 0}]", "rules[0].rearm_seconds"),
        (
            "[{name: a, stream: s, drift: [data], escalate_after_seconds: 0}]",
            "rules[0].escalate_after_seconds",
        ),
        ("[{name: a, stream: s, metric: mae, above: 1, subject: error}]", "rules[0]"),
        ("[{name: a, stream: s, metric: missing..share, above: 1}]", "rules[0].metric"),
    ],
)
def test_an_unusable_rule_on_drift_is_refused_and_the_error_says_where(text, where):
    with pytest.raises(Unusable) as refused:
        rulebook.parse(text)
    assert refused.value.where == where
