"""The kit itself: its example runs, and every law catches a processor that was made to break it."""

import doctest
import json
from itertools import count

import pytest

import headrace.testing
from headrace.errors import Unusable
from headrace.processor import Batch, Outputs
from headrace.testing import adapter, builders, clock, laws

WORDS = [b"w%d" % (i * 7 % 10) for i in range(40)]
HISTORY = builders.batch(WORDS, topic="words")


class Good:
    """Numbers the different words in the order of their coming; the last hundred are known."""

    limit = 100

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.count = 0

    def process(self, batch: Batch) -> Outputs:
        return {
            ("numbers", 0): [{"key": None, "value": b"%d" % one} for one in map(self.number, batch.values)]
        }

    def number(self, value: bytes | None) -> int:
        word = (value or b"").decode()
        if word not in self.known:
            self.known[word] = self.count
            self.count += 1
            if len(self.known) > self.limit:
                del self.known[next(iter(self.known))]
        return self.known[word]

    def snapshot(self) -> bytes:
        return json.dumps([self.known, self.count]).encode()

    def restore(self, state: bytes) -> None:
        try:
            self.known, self.count = json.loads(state)
        except ValueError as error:
            raise Unusable(str(error)) from None

    def fingerprints(self) -> dict[str, str]:
        return {"known": repr(sorted(self.known))}


class CountsBatches(Good):
    def process(self, batch: Batch) -> Outputs:
        self.count += 1
        return super().process(batch)


class Forgetful(Good):
    """What it counted is not in its snapshot."""

    def restore(self, state: bytes) -> None:
        super().restore(state)
        self.count = len(self.known) if len(self.known) < 5 else 0


class Emptied(Good):
    """Writing a snapshot empties it."""

    def snapshot(self) -> bytes:
        written = super().snapshot()
        self.known = {}
        return written


class Quiet(Good):
    """All that it says is right; its state is not: each of them has another. (Not `id`: addresses come again.)"""

    made = count()

    def __init__(self) -> None:
        super().__init__()
        self.mark = next(Quiet.made)

    def fingerprints(self) -> dict[str, str]:
        return {"count": str(self.mark)}


class Trusting(Good):
    def restore(self, state: bytes) -> None:
        try:
            super().restore(state)
        except Unusable:
            self.__init__()


class Writing(Good):
    def process(self, batch: Batch) -> Outputs:
        batch.values[0] = b"mine"
        return super().process(batch)


class Leaking(Good):
    """What grows is in no snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[object] = []

    def number(self, value: bytes | None) -> int:
        self.log.append([value])
        return super().number(value)


def distinct(records: int) -> Batch:
    return builders.batch([b"%06d" % i for i in range(records)], topic="words")


def test_the_example_runs() -> None:
    for module in (headrace.testing, clock):
        result = doctest.testmod(module)
        assert result.attempted >= 3
        assert result.failed == 0


def test_a_good_processor_keeps_all_laws() -> None:
    laws.check(Good, HISTORY)
    laws.memory_is_bounded(Good, distinct(1000), full_after=200)
    firsts = [(i, i + 3) for i in range(0, 30, 5)]
    laws.duplicates_change_nothing(Good, HISTORY, repeats=firsts, view=lambda _: None)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (CountsBatches, "batches change nothing: messages for numbers/0 differ in batches of 1"),
        (Forgetful, "restoring changes nothing: messages for numbers/0 differ restored after 5 records"),
        (
            Emptied,
            "restoring changes nothing: messages for numbers/0 differ asked for a snapshot after 1 record",
        ),
        (Quiet, "batches change nothing: the state differs"),
        (Trusting, "damage is refused: a snapshot cut to"),
    ],
)
def test_what_is_broken_is_caught_and_named(broken: type[Good], says: str) -> None:
    with pytest.raises(laws.LawBroken) as caught:
        laws.check(broken, HISTORY)
    assert str(caught.value).startswith(says)


def test_a_message_shows_where_two_runs_part() -> None:
    with pytest.raises(laws.LawBroken) as caught:
        laws.batches_change_nothing(CountsBatches, HISTORY, sizes=[7])
    assert "first difference, at 7:\n    in one batch: " in str(caught.value)


def test_a_processor_that_writes_into_its_batch_is_caught() -> None:
    with pytest.raises(TypeError, match="item assignment"):
        laws.check(Writing, HISTORY)


def test_what_comes_again_and_counts_again_is_caught() -> None:
    with pytest.raises(laws.LawBroken, match="with 1 repeats there are 41 messages for numbers/0, not 40"):
        laws.duplicates_change_nothing(Good, HISTORY, repeats=[(3, 9)])
    with pytest.raises(ValueError, match="after its record"):
        laws.duplicates_change_nothing(Good, HISTORY, repeats=[(9, 3)])


def test_a_repeat_shifts_the_offset_of_no_other_record() -> None:
    class Places(Good):
        def process(self, batch: Batch) -> Outputs:
            places = {value: offset for offset, value in zip(batch.offsets, batch.values, strict=True)}
            firsts = [place for value, place in places.items() if value not in self.known]
            self.known.update(dict.fromkeys(places, 0))
            return {("places", 0): [{"key": None, "value": b"%d" % place} for place in firsts]}

    seen = []
    laws.duplicates_change_nothing(
        Places, builders.batch([b"a", b"b", b"c"]), repeats=[(0, 0), (1, 1)], view=seen.append
    )
    assert [[message["value"] for message in outputs["places", 0]] for outputs in seen] == [
        [b"0", b"3", b"6"],
        [b"1", b"4", b"6"],
    ]


@pytest.mark.parametrize(
    ("broken", "what"), [(Leaking, "objects in reach"), (type("Deep", (Good,), {"limit": 10**9}), "bytes of")]
)
def test_what_grows_is_caught_in_the_snapshot_or_out_of_it(broken: type[Good], what: str) -> None:
    with pytest.raises(laws.LawBroken, match=f"memory is bounded: {what}"):
        laws.memory_is_bounded(broken, distinct(1000), full_after=200)


def test_a_history_too_short_to_show_a_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="three times"):
        laws.memory_is_bounded(Good, distinct(100), full_after=50)


def test_what_hangs_on_an_object_is_counted_and_code_is_not() -> None:
    class Holder:
        def __init__(self, held: object) -> None:
            self.held = held
            self.code = laws.check

    assert laws.reachable(Holder([object() for _ in range(50)])) - laws.reachable(Holder([])) == 50


def order_of_a_set() -> dict[str, str]:
    """A target that breaks the law."""
    return {"fine": "x", "order": str(list({f"w{i}" for i in range(20)}))}


def fails() -> dict[str, str]:
    """A target that cannot be run."""
    raise KeyError("no such thing")


def test_what_depends_on_the_order_of_a_set_is_caught() -> None:
    with pytest.raises(laws.LawBroken, match=r"seeds 0 and 1 disagree about order$"):
        laws.hash_seeds_change_nothing(f"{__name__}:order_of_a_set", seeds=("0", "1"))
    with pytest.raises(laws.LawBroken, match=r"failed under seed 5:(?s:.*)no such thing"):
        laws.hash_seeds_change_nothing(f"{__name__}:fails", seeds=("5",))


def test_anything_that_folds_can_be_adapted() -> None:
    def fold(state: list[int], batch: Batch) -> Outputs:
        state.extend(len(value or b"") for value in batch.values)
        return adapter.said([sum(state)])

    laws.restoring_changes_nothing(
        lambda: adapter.AsProcessor(list, fold), HISTORY, cuts=[5, 20],
        view=lambda outputs: outputs[adapter.SAID][-1], state=lambda processor: list(processor.state),
    )  # fmt: skip
    assert adapter.said([]) == {}


def test_builders_give_what_the_log_takes() -> None:
    made = [
        builders.adopted(), builders.deployed(), builders.observation("x"), builders.label("x"),
        builders.promoted(), builders.frozen(), builders.retired(),
    ]  # fmt: skip
    history = builders.batch(made, first=10, step=3, partition=4)
    assert history.offsets == (10, 13, 16, 19, 22, 25, 28)
    assert history.keys == (None, None, b"x", b"x", None, None, None)
    assert (history.topic, history.partition) == ("s.log", 4)
