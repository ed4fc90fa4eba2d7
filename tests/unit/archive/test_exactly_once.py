"""Whatever crashes, races and is trimmed: a reader of archive and topic gets every record once, in order."""

import itertools
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.archive.archiver import Archiver, Closing
from headrace.archive.history import ArchivedHistory
from headrace.archive.reading import Archive
from headrace.errors import Transient
from tests.unit.archive.shortened import TOPIC, FailingStore, Kept, ShortenedHistory, memory_store, taken

CLOSING = Closing(records=4, bytes=10_000, seconds=1e9)

appends = st.tuples(st.just("append"), st.integers(0, 9), st.integers(0, 3))
archives = st.tuples(st.just("archive"), st.integers(0, 1), st.booleans())
crashes = st.tuples(st.just("crash"), st.integers(1, 5), st.booleans())
trims = st.tuples(st.just("trim"), st.integers(0, 10), st.just(0))
reads = st.tuples(st.just("read"), st.integers(0, 60), st.integers(0, 60))
restarts = st.tuples(st.just("restart"), st.integers(0, 1), st.just(0))


class World:
    """One log, two archivers (the second is the first one's zombie), one reader; all over one store."""

    def __init__(self) -> None:
        self.live = ShortenedHistory()
        self.store = FailingStore(memory_store())
        self.archive = Archive(self.store)
        self.archivers = [self.archiver(0), self.archiver(1)]
        self.past = ArchivedHistory(self.live, self.archive)

    def archiver(self, number: int) -> Archiver:
        """They cut differently, so that what one of them overwrote of the other's would show."""
        closing = Closing(CLOSING.records - number, CLOSING.bytes, CLOSING.seconds)
        return Archiver(self.live, Archive(self.store), closing, clock=lambda: float(number))

    def trim(self, tenths: int) -> None:
        """Drop a part of what is archived, never more."""
        held = self.archive.bounds(TOPIC, 0)
        if held is not None:
            self.live.first = max(self.live.first, held.end * tenths // 10)

    def check(self, start: int, end: int) -> None:
        expected: list[Kept] = self.live.expected(start, end)
        assert taken(self.past.read(TOPIC, 0, start, end)) == expected

    def step(self, action: str, first: int, second: int) -> None:
        if action == "append":
            self.live.append(first, second)
        elif action == "archive":
            with suppress(Transient):
                self.archivers[first].run(TOPIC, 0, flush=bool(second))
        elif action == "crash":
            self.store.fail_at(first, lost=bool(second))
        elif action == "restart":
            self.archivers[first] = self.archiver(first)
        elif action == "trim":
            self.trim(first)
        else:
            self.check(first, first + second)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(appends, appends, archives, archives, crashes, restarts, trims, reads), max_size=40)
)
def test_archive_and_topic_read_as_one_log(actions: list[tuple[str, int, int]]) -> None:
    world = World()
    for action in actions:
        world.step(*action)
    world.check(0, world.live.end)
    # And it can go on: after everything, all of it can be archived, and be read from the archive alone.
    world.store.fail_at(-1, lost=True)
    end = Archiver(world.live, world.archive, CLOSING, clock=lambda: 0.0).run(TOPIC, 0, flush=True)
    assert taken(world.archive.read(TOPIC, 0, 0, end)) == world.live.records
    world.archive.verify(TOPIC, 0)
    assert world.past.bounds(TOPIC, 0) == (0, world.live.end)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 10), min_size=1, max_size=30), st.integers(1, 7))
def test_trimming_that_overtakes_a_read_is_not_noticed(cuts: list[int], batch: int) -> None:
    world = World()
    for _ in range(12):
        world.live.append(5, 1)
    world.archivers[0].run(TOPIC, 0, flush=True)
    coming = itertools.cycle(cuts)
    world.live.batch = batch
    world.live.between = lambda: world.trim(next(coming))
    world.check(0, world.live.end)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.booleans())
def test_two_archivers_in_each_others_way_extend_one_chain(mask: int, batch: int, flush: bool) -> None:
    """The second runs between the batches that the first one reads: it is the faster one, again and again."""
    world = World()
    world.live.batch = batch
    world.live.append(40, 2)
    turn = itertools.count()
    nested = False

    def interfere() -> None:
        nonlocal nested
        if not nested and mask >> (next(turn) % 32) & 1:
            nested = True
            world.archivers[1].run(TOPIC, 0, flush=flush)
            nested = False

    world.live.between = interfere
    end = world.archivers[0].run(TOPIC, 0, flush=True)
    assert end == world.live.end
    assert taken(world.archive.read(TOPIC, 0, 0, end)) == world.live.records
    last = world.archive.verify(TOPIC, 0)
    assert last is not None
    assert last.entry.all_records == 40
