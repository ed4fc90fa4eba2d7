"""Why and check over HTTP: who may ask, what is looked up and kept, how a stretch is bounded; without a broker."""

import threading
from xml.etree import ElementTree

import msgspec
import pytest
from fastapi.testclient import TestClient

from headrace import keys
from headrace.contracts.codec import encode
from headrace.contracts.events import DriftDetected
from headrace.errors import Transient, Unusable
from headrace.keys import KeyRing
from headrace.memory.broker import MemoryBroker
from headrace.memory.history import MemoryHistory
from headrace.web import create_app
from services.monitor.domain import checking
from services.monitor.domain.columns import TEXT_LENGTH
from services.monitor.domain.drift.budget import WEIGHTS
from services.monitor.domain.drift.pace import DAY_MS
from services.monitor.domain.tolerance import Tolerance
from services.monitor.drift_api import build_drift_routes
from services.monitor.past import looks as looking
from services.monitor.past import reading
from services.monitor.past.drawing import draw
from services.monitor.past.looks import Looks
from tests.unit.monitor.stretches import World
from tests.unit.monitor.told import Plane, drift, kept


class Segment(World):
    """Carrier B is answered worse since; its name is a stranger's."""

    name = "<B & co>"

    def spoil(self, row, x):
        return x | {"carrier": self.name if x["carrier"] == "B" else x["carrier"]}

    def error(self, row, x, model):
        return 0.6 if self.moved(row) and x["carrier"] == self.name else 0.1


class Looked(Looks):
    """Answers without a process. asked: the requests, in order."""

    def __init__(self, found):
        super().__init__("")
        self.asked, self.found = [], found

    def _look(self, request):
        self.asked.append(request)
        return (
            msgspec.to_builtins(self.found)
            if request["task"] == "why"
            else {"checks": [], "cpu_seconds": 0.5}
        )


@pytest.fixture(scope="module")
def found():
    return Segment().why("data", "carrier")


@pytest.fixture
def looks(found):
    return Looked(found)


@pytest.fixture
def ask(looks, tmp_path):
    plane = Plane([])
    facts = World(before=2, after=2).stretch().facts
    events = [
        drift(
            n,
            at,
            kind=kind,
            subject=subject,
            stream="s",
            since_offset=since,
            offset=offset,
            model=model,
            version=1,
        )
        for n, (at, kind, subject, since, offset, model) in enumerate(
            [
                (0, "concept", "error", 100, 200, "lr"),
                (1, "data", "hour", 150, 250, ""),
                (2, "concept", "log_loss", 500, 600, "lr"),
                (3, "concept", "error", 550, 650, "other"),
                (4, "concept", "error", 900, 1_000, "lr"),
            ]
        )
    ]
    events.append(drift(5, stream="new"))
    for record in kept(events):
        plane.receive_drift(record)
    table = plane.tables.streams.setdefault("s", type("Table", (), {"contract": facts})())
    assert table.contract.partitions == 1
    secret = keys.create(tmp_path / "keys.json", "reader", "reader")
    other = keys.create(tmp_path / "keys.json", "producer", "producer")
    app = create_app(service="monitor", keys=KeyRing.load(tmp_path / "keys.json"), ready=dict)
    app.include_router(build_drift_routes(plane, looks, lambda _stream, _partitions: Tolerance(50_000)))
    client = TestClient(app)

    def asked(path, status=200, role="reader", **headers):
        given = {"Authorization": f"Bearer {secret if role == 'reader' else other}"} if role else {}
        answer = client.get(path, headers=given | headers)
        assert answer.status_code == status, answer.text
        return answer

    return asked


def test_an_alarm_is_explained_once_and_only_to_readers(ask, looks, found):
    ask("/v1/drift/d2/why", status=403, role="producer")
    ask("/v1/drift/d2/why", status=401, role=None)
    ask("/v1/drift/nobody/why", status=404)
    ask("/v1/drift/d5/why", status=503)  # heard of before its contract
    assert looks.asked == []
    answer = ask("/v1/drift/d2/why").json()
    assert answer["advice"] == msgspec.to_builtins(found.advice)
    assert answer["drift"]["since_at"] == -1  # what has its default value is told too
    assert ask("/v1/drift/d2/why").json() == answer
    assert len(looks.asked) == 1


def test_what_lies_beyond_the_like_alarms_before_and_after_is_not_read(ask, looks):
    ask("/v1/drift/d2/why")
    assert (looks.asked[0]["earliest"], looks.asked[0]["latest"]) == (201, 900)
    ask("/v1/drift/d1/why")
    assert (looks.asked[1]["earliest"], looks.asked[1]["latest"]) == (0, None)


def test_a_check_is_told_where_the_references_began(ask, looks):
    answer = ask("/v1/drift/check?stream=s").json()
    assert looks.asked[0]["since"] == {"fields": 251, "errors": 1_001}
    assert (answer["false_alarms"]["events"], answer["cpu_seconds"]) == (50_000, 0.5)
    assert "cannot be checked" in answer["note"]
    ask("/v1/drift/check?stream=nobody", status=404)
    ask("/v1/drift/check?stream=s&partition=1", status=404)


def test_the_drawing_is_one_file_without_scripts_and_escapes_names(ask, found):
    for answer in (ask("/v1/drift/d2/why?format=svg"), ask("/v1/drift/d2/why", accept="image/svg+xml,*/*")):
        assert answer.headers["content-type"] == "image/svg+xml"
        root = ElementTree.fromstring(answer.text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "script" not in answer.text
        titles = [one.text for one in root.iter("{http://www.w3.org/2000/svg}title")]
        assert any("worse: carrier <B & co>" in title for title in titles)
    ask("/v1/drift/d2/why?format=png", status=422)
    assert draw(found) == answer.text


def test_explanations_that_wait_for_labels_are_looked_up_again_and_the_oldest_are_forgotten(
    found, monkeypatch
):
    now = 0.0
    monkeypatch.setattr(looking.time, "monotonic", lambda: now)
    monkeypatch.setattr(looking, "KEPT", 2)
    looks = Looked(msgspec.structs.replace(found, complete=False))
    facts = World(before=2, after=2).stretch().facts
    looks.why(drift(1), facts)
    looks.why(drift(1), facts)
    assert len(looks.asked) == 1
    now = looking.FRESH_SECONDS + 1
    looks.why(drift(1), facts)
    assert len(looks.asked) == 2
    for number in (2, 3, 1):
        looks.why(drift(number), facts)
    assert len(looks.asked) == 5


def test_one_look_at_a_time_and_not_for_ever(found, monkeypatch):
    begun, finish = threading.Event(), threading.Event()

    def slow(*_, timeout, **__):
        begun.set()
        assert finish.wait(10)
        raise looking.subprocess.TimeoutExpired("x", timeout)

    monkeypatch.setattr(looking.subprocess, "run", slow)
    looks, said = Looks("", seconds=7), []

    def first():
        with pytest.raises(Transient) as error:
            looks.why(drift(1), found.drift)
        said.append(str(error.value))

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(10)
    with pytest.raises(Transient, match="another look"):
        looks.check("s", 0, found.drift, Tolerance(), {})
    finish.set()
    thread.join()
    assert said == ["the look at the past was not done in 7 s"]


# -- the stretch ------------------------------------------------------------------------------------------------------


class Counting(MemoryHistory):
    """Counts what was read, in records."""

    def __init__(self, broker):
        super().__init__(broker)
        self.reads = 0

    def read(self, topic, partition, start, end):
        self.reads += 1
        return super().read(topic, partition, start, end)


@pytest.fixture(scope="module")
def stored():
    world = World(before=9_000, after=6_000)
    broker = MemoryBroker()
    for kind, records in zip(("log", "predictions", "outcomes"), world.records(), strict=True):
        broker.create(f"s.{kind}")
        values = [{"key": b"e", "value": encode(one)} for one in records]
        if kind != "log":  # strangers write too
            values.insert(4_000, {"key": b"e", "value": b"{}"})
        broker.produce(f"s.{kind}", values, 0)
    return world, broker


@pytest.mark.parametrize("wanted", [0, 1, 6_001, 20_002, 29_999, 10**9])
def test_where_answers_begin_is_found_in_a_few_reads(stored, wanted):
    _, broker = stored
    history = Counting(broker)
    begin = reading.locate(history, "s.predictions", 0, wanted, reading.place_of)
    places = [reading.place_of(record.value) for record in broker.read("s.predictions", 0)]
    first = next(
        (at for at, place in enumerate(places) if place is not None and place >= wanted), len(places)
    )
    assert first - reading.NEAR <= begin <= first
    assert history.reads <= 4


def test_a_stretch_has_what_belongs_to_it_and_no_more(stored, monkeypatch):
    world, broker = stored
    monkeypatch.setattr(reading, "SIDE", 3_000)
    event = DriftDetected(
        "d", "s", "concept", "error", "x", 0, world.since + 400, 0, since_offset=world.since
    )
    facts = World(before=2, after=2).stretch().facts
    wanted = reading.around(event, 0, None)
    assert wanted == (world.since - 3_000, world.since + 400 + reading.MORE, world.since - 3_000)
    stretch, complete = reading.read(MemoryHistory(broker), "s", 0, facts, wanted, world.since)
    assert (stretch.offsets[0], stretch.offsets[-1]) == (
        wanted.start,
        wanted.end - 2,
    )  # each has its label behind it
    assert stretch.cut == 1_500
    assert complete
    assert all(name == "lr@1" for name in stretch.top)
    assert None not in stretch.labels
    assert reading.around(event, world.since - 10, world.since + 500)[:2] == (
        world.since - 10,
        world.since + 500,
    )
    late = wanted._replace(start=world.since)
    alone, _ = reading.read(MemoryHistory(broker), "s", 0, facts, late, world.since)
    with pytest.raises(Unusable, match="before the change"):
        reading.both_sides(alone)


def test_long_texts_are_one(stored):
    class Long(World):
        def spoil(self, row, x):
            return x | {"carrier": f"{row}" + "x" * TEXT_LENGTH}

    assert set(Long(before=50, after=50).stretch().texts["carrier"]) == {"(longer)"}


# -- the check --------------------------------------------------------------------------------------------------------


def test_budgets_are_measured_on_the_reference_for_fields_and_errors():
    stretch = World(before=2_000, after=500).stretch()
    fields = checking.of_fields(stretch, Tolerance(1_000))
    errors = checking.of_errors(stretch, Tolerance(1_000))
    assert (fields.what, fields.records, fields.first_offset) == ("fields", 2_048, 1)
    assert fields.promised == pytest.approx(1_000 * sum(WEIGHTS.values()) / WEIGHTS["data"])
    assert (errors.model, errors.records) == ("lr@1", 2_048)
    assert errors.promised == pytest.approx(1_000 * sum(WEIGHTS.values()) / WEIGHTS["concept"] * 2)
    assert errors.kept
    assert errors.measured > errors.promised
    assert sum(errors.alarms) > 0
    in_days = checking.of_fields(stretch, Tolerance(false_alarm_days=30.0))
    pace = len(stretch.at) * DAY_MS / (stretch.at[-1] - stretch.at[0])
    assert in_days.promised == pytest.approx(fields.promised / 1_000 * 30.0 * pace)
    assert checking.of_fields(stretch, Tolerance(weights={**WEIGHTS, "data": 0.0})) is None
    few = World(before=200, after=100).stretch()
    assert checking.of_fields(few, Tolerance()) is None
    assert checking.of_errors(few, Tolerance()) is None
