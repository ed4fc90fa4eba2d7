"""Records read again: the same digest from Kafka and from the archive, and whatever was changed is refused by name."""

from pathlib import Path

import pytest

from headrace.archive.archiver import Archiver, Closing
from headrace.archive.reading import Archive
from headrace.contracts.left_out import Below, LeftOut
from headrace.contracts.topics import LOG, REJECTED, topic
from headrace.datasets.measure import measure
from headrace.datasets.measurement import Measurement, Stretch
from headrace.datasets.source import Source
from headrace.datasets.verify import Wrong, verify
from headrace.errors import Unusable
from headrace.processor import Batch
from tests.unit.archive.shortened import ShortenedHistory
from tests.unit.datasets.logs import at_offsets, events, values

STREAM = "flights"
NAME = topic(LOG, STREAM)
COUNT = 3000


class World:
    """A log in "Kafka" and in an archive of several segments; the archive lacks its end."""

    def __init__(self, folder: Path) -> None:
        self.live = ShortenedHistory(batch=500)
        self.live.records = at_offsets(values(events(1, COUNT)), hole=100)
        self.live.end = self.live.records[-1][0] + 1
        self.folder = folder
        self.archive = Archive.at(folder.as_uri())
        Archiver(self.live, self.archive, Closing(records=700)).run(NAME, 0)
        self.held = self.archive.bounds(NAME, 0)
        assert self.held is not None
        assert self.held.end < self.live.end
        self.source = Source(self.live, self.archive)
        self.stretch = Stretch(0, 500, self.live.end - 100)

    def measure(self, stretch: Stretch | None = None) -> Measurement:
        return measure(self.source, STREAM, [stretch or self.stretch], 0)

    def verify(self, measured: Measurement, stretch: Stretch | None = None) -> list[Wrong]:
        return verify(self.source, STREAM, [stretch or self.stretch], measured)

    def segments(self) -> list[Path]:
        return sorted((self.folder / NAME / "0" / "segments").iterdir())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "archive")


LEFT_OUT = Stretch(0, 500, 2000, None, (Below(LeftOut(["e3"])),))


@pytest.mark.parametrize("stretch", [None, LEFT_OUT])
def test_kafka_and_the_archive_give_the_same(world: World, stretch: Stretch | None) -> None:
    from_kafka = world.measure(stretch)
    assert world.verify(from_kafka, stretch) == []
    world.live.first = world.held.end - 50
    from_both = world.measure(stretch)
    assert from_both == from_kafka
    assert world.verify(from_both, stretch) == []
    alone = measure(Source(ShortenedHistoryOf(world)), STREAM, [stretch or world.stretch], 0)
    assert (alone.digest, alone.partitions) == (from_kafka.digest, from_kafka.partitions)
    assert alone.archived == []


def ShortenedHistoryOf(world: World) -> ShortenedHistory:  # noqa: N802
    """The whole log, and no archive."""
    whole = ShortenedHistory(batch=77)
    whole.records, whole.end = world.live.records, world.live.end
    return whole


def test_the_archive_is_named_by_its_last_entry(world: World) -> None:
    [known] = world.measure().archived
    assert (known.start, known.end) == (500, world.held.end)
    last = world.archive.last(NAME, 0)
    assert last is not None
    assert known.entry == last.digest
    [inner] = world.measure(Stretch(0, 0, 100)).archived
    assert (inner.start, inner.end, inner.entries) == (0, 100, 1)
    assert inner.entry != known.entry


def test_a_changed_record_in_kafka_is_named(world: World) -> None:
    measured = world.measure()
    place = next(n for n, one in enumerate(world.live.records) if one[0] >= 2500)
    offset, key, value = world.live.records[place]
    world.live.records[place] = (offset, key, (value or b"").replace(b"e", b"E", 1))
    [wrong] = world.verify(measured)
    first, last = (int(word) for word in wrong.says.split() if word.isdigit())
    assert f"read from Kafka: {NAME}/0: what lies in offsets" in wrong.says
    assert first <= offset <= last
    assert last - first < 1100


def test_a_record_that_was_left_out_may_be_another(world: World) -> None:
    """It does not belong. But what is left out must not become something that belongs."""
    measured = world.measure(LEFT_OUT)
    place, (offset, key, value) = next(
        (n, one)
        for n, one in enumerate(world.live.records)
        if one[0] >= 600 and b'"entity":"e3"' in (one[2] or b"")
    )
    world.live.records[place] = (offset, key, (value or b"").replace(b'"at":', b'"at":1'))
    assert world.verify(measured, LEFT_OUT) == []
    world.live.records[place] = (offset, key, (value or b"").replace(b'"e3"', b'"e4"'))
    assert len(world.verify(measured, LEFT_OUT)) == 1


@pytest.mark.parametrize("trimmed", [False, True])
def test_a_tampered_segment_is_named_whether_or_not_kafka_has_its_records(
    world: World, trimmed: bool
) -> None:
    measured = world.measure()
    if trimmed:
        world.live.first = world.held.end
    segment = world.segments()[2]
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    [wrong] = world.verify(measured)
    assert f"archive segment {NAME}/0/segments/{segment.name} is damaged" in wrong.says
    assert wrong.says.startswith("read from the archive" if not trimmed else "archive segment")


def test_a_chain_that_was_written_anew_with_other_records_is_named(world: World, tmp_path: Path) -> None:
    """Every digest in it is right, and it is another log."""
    measured = world.measure()
    other = World(tmp_path / "other")
    place = next(n for n, one in enumerate(other.live.records) if one[0] >= 1500)
    other.live.records[place] = (other.live.records[place][0], b"k", b"other")
    again = Archive.at((tmp_path / "third").as_uri())
    Archiver(other.live, again, Closing(records=700)).run(NAME, 0)
    found = verify(Source(world.live, again), STREAM, [world.stretch], measured)
    assert ["read from the archive" in wrong.says for wrong in found] == [True, False]
    assert "is another than was measured" in found[1].says


def test_a_missing_entry_is_named(world: World) -> None:
    measured = world.measure()
    entries = sorted((world.folder / NAME / "0" / "entries").iterdir())
    entries[2].unlink()
    assert any("is missing" in wrong.says for wrong in world.verify(measured))


def test_records_that_nobody_has_any_more_are_named(world: World) -> None:
    measured = world.measure()
    world.live.first = world.held.end
    [wrong] = verify(Source(world.live), STREAM, [world.stretch], measured)
    assert wrong.says.startswith(f"{NAME}/0: offsets 500 to {world.held.end - 1} are gone")


def test_what_the_log_does_not_have_yet_is_not_measured(world: World) -> None:
    with pytest.raises(Unusable, match=f"ends at offset {world.live.end}, before {world.live.end + 1}"):
        world.measure(Stretch(0, 0, world.live.end + 1))


# -- rejected records -------------------------------------------------------------------------------------------------


class Timed(ShortenedHistory):
    """Two topics of one partition: the log, offset n written at 10 n, and what was rejected at given times."""

    def __init__(self, rejected: list[tuple[int, bytes]]) -> None:
        super().__init__(batch=100)
        self.records = at_offsets(values(events(2, 100)))
        self.end = self.records[-1][0] + 1
        self.rejected = rejected
        self.rejected_first = 0

    def bounds(self, topic: str, partition: int):
        if topic.endswith(REJECTED.name):
            return (
                super().bounds(topic, partition)._replace(first=self.rejected_first, end=len(self.rejected))
            )
        return super().bounds(topic, partition)

    def read(self, topic: str, partition: int, start: int, end: int):
        if not topic.endswith(REJECTED.name):
            yield from super().read(topic, partition, start, end)
        elif start < end:
            offsets = range(start, end)
            yield Batch(
                topic, partition, offsets, [None] * len(offsets), [self.rejected[n][1] for n in offsets]
            )

    def written_ms(self, topic: str, partition: int, offset: int) -> int | None:
        assert topic == NAME
        return 10 * offset if offset < self.end else None

    def place_at(self, topic: str, partition: int, ms: int) -> int:
        assert topic == f"{STREAM}.{REJECTED.name}"
        return next((n for n, (at, _) in enumerate(self.rejected) if at >= ms), len(self.rejected))


def refused(rule: str, origin: str = "http") -> bytes:
    return b'{"at":1,"rule":"%s","reason":"","original":"","origin":"%s"}' % (rule.encode(), origin.encode())


REFUSED = [
    (50, refused("json")),
    (500, refused("range")),
    (600, refused("range", f"{STREAM}.inbox/0/3")),
    (610, refused("control", f"{NAME}/0/61")),  # was in the log: counted as refused there
    (990, refused("type")),
    (5000, refused("json")),
    (9000, refused("json")),
]


@pytest.mark.parametrize(
    ("start", "end", "made_ms", "rules"),
    [
        (0, 100, 8000, {"json": 1, "range": 2, "type": 1}),
        (40, 100, 8000, {"range": 2, "type": 1}),
        (40, 60, 8000, {"range": 1}),
        (40, 100, 800, {"range": 2}),  # what lies behind the range came after it was made
        (40, None, 8000, {"json": 1, "range": 2, "type": 1}),  # the log ends there: until it was made
        (40, None, 2500, {"range": 2, "type": 1}),
    ],
)
def test_rejected_records_are_found_by_when_they_were_written(
    start: int, end: int | None, made_ms: int, rules: dict[str, int]
) -> None:
    live = Timed(REFUSED)
    found = measure(Source(live, None, live), STREAM, [Stretch(0, start, end or live.end)], made_ms)
    rejected = found.quality.rejected
    assert rejected.by_rule == rules
    assert rejected.records == sum(rules.values())
    assert rejected.share == pytest.approx(rejected.records / (rejected.records + found.quality.sent))


def test_what_cannot_be_told_is_not_told() -> None:
    live = Timed(REFUSED)

    def told(start: int = 40, *, written: bool = True) -> str:
        found = measure(Source(live, None, live if written else None), STREAM, [Stretch(0, start, 100)], 8000)
        rejected = found.quality.rejected
        assert (rejected.records is None) == bool(rejected.untold)
        assert rejected.share is None or not rejected.untold
        return rejected.untold

    assert told() == ""
    live.rejected_first = 1
    assert (
        "no longer reaches back" in told()
    )  # the oldest that is left is of the range: there may have been others
    assert "no longer reaches back" in told(0)
    live.rejected_first = 0
    live.partitions = lambda topic: 2  # type: ignore[method-assign]
    assert "leaves some out" in told()
    assert "not known" in told(written=False)
