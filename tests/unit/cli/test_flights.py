"""The flights: the numbers of the data, and the order that keeps the demo honest."""

import json
from itertools import islice, pairwise

import pytest

from headrace.cli import demo
from headrace.cli.flights import source
from headrace.errors import Unusable


@pytest.fixture(scope="module")
def year():
    return list(source.read_flights())


def test_every_flight_is_there_once_and_in_order(year):
    assert len(year) == demo.ALL_FLIGHTS
    assert len({flight.id for flight in year}) == len(year)
    assert all(before.at <= after.at for before, after in pairwise(year))


def test_only_flights_that_landed_have_a_label_and_it_comes_after_departure(year):
    landed = [flight for flight in year if flight.landed >= 0]
    assert len(year) + len(landed) == demo.ALL_EVENTS
    assert all(flight.landed > flight.at for flight in landed)
    assert sum(flight.late for flight in landed) / len(landed) == pytest.approx(0.23715, abs=1e-5)


def test_first_flight_is_read_as_it_stands_in_the_data(year):
    first = year[0]
    assert first.id == "UA1545-EWR-2013-01-01"
    assert first.at == 1357035300000  # 05:15 in New York
    assert first.landed == first.at + (2 + 227) * 60_000
    assert first.late is False
    assert first.x == {
        "carrier": "UA", "origin": "EWR", "dest": "IAH", "distance": 1400, "hour": 5, "temp": 39.02, "dewp": 28.04,
        "humid": 64.43, "wind_dir": 260.0, "wind_speed": 12.658579999999999, "precip": 0.0, "pressure": 1011.9,
        "visib": 10.0,
    }  # fmt: skip


def test_what_was_not_measured_is_absent(year):
    assert not any(value in ("NA", "", None) for flight in year for value in flight.x.values())
    assert any("wind_gust" not in flight.x for flight in year)
    assert max(flight.x.get("wind_speed", 0.0) for flight in year) < source.WIND_SPEED_LIMIT


def test_events_are_in_the_order_in_which_they_became_known():
    known: set[str] = set()
    last = 0
    for event in source.read_events(5_000):
        assert event.at >= last
        last = event.at
        document = json.loads(event.body)
        if event.is_label:
            assert document == {"type": "label", "id": event.id, "label": document["label"], "at": event.at}
            assert event.id in known
        else:
            assert (document["flight"], document["scheduled"]) == (event.id, event.at)
            known.add(event.id)
    assert len(known) == 5_000


def test_a_label_is_not_known_before_it_can_be():
    flights = {flight.id: flight for flight in source.read_flights(2_000)}
    for event in source.read_events(2_000):
        if event.is_label:
            assert event.at == flights[event.id].landed


def test_fewer_flights_are_the_first_ones():
    assert [flight.id for flight in source.read_flights(10)] == [
        flight.id for flight in islice(source.read_flights(), 10)
    ]


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(source, "PACKAGE", "no-such-package-here")
    with pytest.raises(Unusable, match=r"pip install 'headrace\[demo\]'"):
        source.data_file("flights.csv.zip")


class TestGoingOn:
    def test_from_nothing(self):
        assert demo.skip_known(source.read_events(10), None) == 0

    def test_behind_the_last_event_of_the_log(self):
        events = list(source.read_events(200))
        for place in (0, 57, len(events) - 1):
            rest = iter(events)
            last = events[place]
            assert demo.skip_known(rest, (last.id, last.is_label)) == place + 1
            assert list(rest) == events[place + 1 :]

    def test_an_observation_is_not_its_label(self):
        events = list(source.read_events(50))
        label = next(event for event in events if event.is_label)
        assert events[demo.skip_known(iter(events), (label.id, False)) - 1].is_label is False
        assert events[demo.skip_known(iter(events), (label.id, True)) - 1].is_label is True

    def test_a_log_of_something_else_is_refused(self):
        with pytest.raises(Unusable, match="headrace demo --fresh"):
            demo.skip_known(source.read_events(10), ("someone-else", False))
