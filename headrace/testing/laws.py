"""The laws of processors, each a function that holds one against a history.

A law takes a factory (a fresh processor each call) and a history (one `Batch`: the whole log of one partition), runs it
straight and then as the law says, and raises `LawBroken` at the first difference. What is compared is `view` of the
outputs, by default every byte, and `state` of the processor at the end, by default its fingerprints: give both where
more is promised, or less. Plain functions over given histories: feed them what Hypothesis draws, or a real log.
"""

import gc
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, TypeVar

from headrace.errors import Unusable
from headrace.processor import Batch, Outputs, Processor

P = TypeVar("P", bound=Processor)

View = Callable[[Outputs], object]
"""What of the outputs a law is about."""

SIZES = (1, 7, 1000)
SEEDS = ("0", "1", "12345")
LOOKS = 64
"""How often a half of a history is looked at: sizes go up and down, and the highest must be seen in both halves."""
SLACK = 0.02
"""Share by which a full processor's size may still move: numbers get longer, caches fill."""
SLACK_LEAST = 256
"""The same for small ones, in bytes or objects."""
SHOWN = 300
"""Characters of a value in a message."""


class LawBroken(AssertionError):
    """A processor does not keep a law; the text says which, and where it shows first."""


def exactly(outputs: Outputs) -> object:
    """Every message, in order, by destination."""
    return outputs


def last_by_key(outputs: Outputs) -> object:
    """What a compacted topic keeps: the last value under each key, by destination."""
    return {
        place: {message["key"]: message["value"] for message in messages}
        for place, messages in outputs.items()
    }


def fingerprints(processor: Processor) -> object:
    """The state as far as the processor itself can tell."""
    return processor.fingerprints()


# -- the laws --------------------------------------------------------------------------------------------------


def check(
    factory: Callable[[], P],
    history: Batch,
    *,
    view: View = exactly,
    state: Callable[[P], object] = fingerprints,
) -> None:
    """What every processor promises: batches, restoring, damage. (The other laws need to be told more.)"""
    batches_change_nothing(factory, history, view=view, state=state)
    restoring_changes_nothing(factory, history, view=view, state=state)
    damage_is_refused(factory, history)


def batches_change_nothing(
    factory: Callable[[], P],
    history: Batch,
    *,
    sizes: Sequence[int] = SIZES,
    view: View = exactly,
    state: Callable[[P], object] = fingerprints,
) -> None:
    """However the log is cut into batches, the same comes out. sizes: records a batch; also tried: all in one."""
    law = "batches change nothing"
    expected = _live(factory(), history, [len(history.offsets)], view, state)
    for size in sizes:
        got = _live(factory(), history, [size], view, state)
        _compare(law, expected, got, ("in one batch", f"in batches of {size}"))


def restoring_changes_nothing(
    factory: Callable[[], P],
    history: Batch,
    *,
    cuts: Sequence[int] | None = None,
    view: View = exactly,
    state: Callable[[P], object] = fingerprints,
) -> None:
    """A processor restored from a snapshot goes on as the one that wrote it, and writing it changed nothing.

    cuts: after how many records; by default the ends and some between. Tried: each cut by itself, and all in turn.
    """
    law = "restoring changes nothing"
    n = len(history.offsets)
    chosen = sorted(set(_spread(n) if cuts is None else cuts))
    whole = factory()
    expected = _live(whole, history, [n], view, state)
    for cut in chosen:
        first = factory()
        before = _fold(first, _part(history, 0, cut), [n])
        saved = first.snapshot()
        second = factory()
        second.restore(saved)
        for who, processor in (("restored", second), ("asked for a snapshot", first)):
            after = _fold(processor, _part(history, cut, n), [n])
            got = (view(_joined([before, after])), state(processor))
            _compare(law, expected, got, ("uninterrupted", f"{who} after {cut} records"))
    runs, processor = [], factory()
    for begin, end in pairwise([0, *chosen, n]):
        runs.append(_fold(processor, _part(history, begin, end), [n]))
        saved = processor.snapshot()
        processor = factory()
        processor.restore(saved)
    got = (view(_joined(runs)), state(processor))
    _compare(law, expected, got, ("uninterrupted", f"restored {len(chosen) + 1} times"))


def duplicates_change_nothing(
    factory: Callable[[], P],
    history: Batch,
    *,
    repeats: Sequence[tuple[int, int]] | None = None,
    view: View = exactly,
    state: Callable[[P], object] = fingerprints,
) -> None:
    """A record that comes again, at an offset of its own, is as if it had not come again.

    (The same record *under its own offset* is the host's to drop.) repeats: (which record, after which one it comes
    again); by default each right after itself. view, state: leave out what a repeat may add, such as a count of
    repeats. Both runs get offsets with gaps, which the repeats fill, so that all others keep theirs.
    """
    n = len(history.offsets)
    chosen = [(i, i) for i in range(n)] if repeats is None else sorted(repeats, key=lambda pair: pair[1])
    if any(not 0 <= which <= after < n for which, after in chosen):
        raise ValueError("a repeat comes after its record, and after one that there is")
    gap = len(chosen) + 1
    once, twice = [], []
    following = iter(chosen)
    following_one = next(following, None)
    for i in range(n):
        once.append((i, i * gap))
        twice.append((i, i * gap))
        place = i * gap
        while following_one is not None and following_one[1] == i:
            place += 1
            twice.append((following_one[0], place))
            following_one = next(following, None)
    expected = _live(factory(), _picked(history, once), [n], view, state)
    got = _live(factory(), _picked(history, twice), [len(twice)], view, state)
    _compare("duplicates change nothing", expected, got, ("without", f"with {len(chosen)} repeats"))


def damage_is_refused(factory: Callable[[], P], history: Batch) -> None:
    """A snapshot that is cut short, or is none, raises `Unusable`; an empty one may be accepted as an empty state."""
    law = "damage is refused"
    processor = factory()
    _fold(processor, history, [len(history.offsets)])
    saved = processor.snapshot()
    for size in sorted({0, len(saved) // 2, max(len(saved) - 1, 0)}):
        if size == len(saved):
            continue
        _refused(law, factory(), saved[:size], f"a snapshot cut to {size} of {len(saved)} bytes")
    _refused(law, factory(), b"\x00no snapshot\xff", "what is no snapshot")


def memory_is_bounded(
    factory: Callable[[], P],
    history: Batch,
    *,
    full_after: int,
    batch: int = 100,
    slack: float = SLACK,
    sizes: Callable[[P], dict[str, int]] | None = None,
) -> None:
    """Once a processor has seen `full_after` records it does not grow any more.

    history: at least three times as long, and hostile: all ids, entities and categories differ. Compared is the largest
    size in the first half of what follows with the largest in the second, so that what fills and empties (a journal, a
    block) is no growth if a half holds a few turns of it. sizes: by default the bytes of a snapshot, and the objects
    that can be reached from the processor, which also sees what snapshots leave out.
    """
    n = len(history.offsets)
    if full_after < 1 or n < 3 * full_after:
        raise ValueError(
            f"{n} records do not show that {full_after} fill it: give at least three times as many"
        )
    measure = _sizes if sizes is None else sizes
    processor = factory()
    _fold(processor, _part(history, 0, full_after), [batch])
    middle = (full_after + n) // 2
    largest: list[dict[str, int]] = []
    for begin, end in ((full_after, middle), (middle, n)):
        seen: dict[str, int] = {}
        step = max(batch, (end - begin) // LOOKS)
        for at in range(begin, end, step):
            _fold(processor, _part(history, at, min(at + step, end)), [batch])
            for name, size in measure(processor).items():
                seen[name] = max(size, seen.get(name, 0))
        largest.append(seen)
    for name, before in largest[0].items():
        after = largest[1][name]
        if after > before + max(SLACK_LEAST, before * slack):
            raise LawBroken(
                f"memory is bounded: {name} still grew\n    in records {full_after} to {middle}: at most {before}"
                f"\n    in records {middle} to {n}: at most {after}"
            )


def hash_seeds_change_nothing(
    target: str, *, seeds: Sequence[str] = SEEDS, timeout_seconds: float = 300
) -> dict[str, str]:
    """Processes that order their sets differently agree. Returns what they agree on.

    target: `module:function`, importable as here; it takes nothing and returns names with texts, such as `digest`s. It
    runs once in a fresh process for each of `seeds` (PYTHONHASHSEED), all at a time: put all that is slow to import
    into one target.
    """
    law = "hash seeds change nothing"
    module, _, function = target.partition(":")
    code = (
        "import importlib, json, sys; "
        f"json.dump(getattr(importlib.import_module({module!r}), {function!r})(), sys.stdout)"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in seeds
    ]
    answers: list[dict[str, str]] = []
    try:
        for seed, child in zip(seeds, children, strict=True):
            out, errors = child.communicate(timeout=timeout_seconds)
            if child.returncode:
                raise LawBroken(f"{law}: {target} failed under seed {seed}:\n{errors[-2000:]}")
            answers.append(json.loads(out))
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
    for seed, answer in zip(seeds[1:], answers[1:], strict=True):
        apart = [
            name for name in answers[0].keys() | answer.keys() if answers[0].get(name) != answer.get(name)
        ]
        if apart:
            raise LawBroken(f"{law}: seeds {seeds[0]} and {seed} disagree about {', '.join(sorted(apart))}")
    return answers[0]


# -- measures --------------------------------------------------------------------------------------------------


def digest(
    factory: Callable[[], P],
    history: Batch,
    *,
    batch: int = 100,
    view: View = exactly,
    state: Callable[[P], object] = fingerprints,
) -> str:
    """sha256 (hex) of what comes out and of `state` at the end: one text that two processes can compare."""
    return hashlib.sha256(repr(_live(factory(), history, [batch], view, state)).encode()).hexdigest()


def reachable(root: object) -> int:
    """How many objects hang on `root`. Code (classes, modules, functions) is not followed, nor counted."""
    code = (type, ModuleType, FunctionType, BuiltinFunctionType)
    seen: set[int] = set()
    pending: list[Any] = [root]
    while pending:
        one = pending.pop()
        if id(one) not in seen and not isinstance(one, code):
            seen.add(id(one))
            pending += gc.get_referents(one)
    return len(seen)


def _sizes(processor: Processor) -> dict[str, int]:
    return {"bytes of a snapshot": len(processor.snapshot()), "objects in reach": reachable(processor)}


# -- folding and comparing -------------------------------------------------------------------------------------


def _part(history: Batch, begin: int, end: int) -> Batch:
    part = slice(begin, end)
    return history._replace(
        offsets=history.offsets[part], keys=history.keys[part], values=history.values[part]
    )


def _picked(history: Batch, places: Sequence[tuple[int, int]]) -> Batch:
    """The records (index, offset to give it), in this order."""
    return history._replace(
        offsets=tuple(offset for _, offset in places),
        keys=tuple(history.keys[i] for i, _ in places),
        values=tuple(history.values[i] for i, _ in places),
    )


def _portions(history: Batch, sizes: Sequence[int]) -> Iterator[Batch]:
    at, turn = 0, 0
    while at < len(history.offsets):
        size = max(1, sizes[turn % len(sizes)])
        yield _part(history, at, at + size)
        at += size
        turn += 1


def _fold(processor: Processor, history: Batch, sizes: Sequence[int]) -> Outputs:
    return _joined([processor.process(portion) for portion in _portions(history, sizes)])


def _joined(runs: Sequence[Outputs]) -> Outputs:
    """Outputs in a row, by destination; in order of destination, as which came first says nothing."""
    joined: Outputs = {}
    for outputs in runs:
        for place, messages in outputs.items():
            joined.setdefault(place, []).extend(messages)
    return dict(sorted((place, messages) for place, messages in joined.items() if messages))


def _live(
    processor: P, history: Batch, sizes: Sequence[int], view: View, state: Callable[[P], object]
) -> tuple[object, object]:
    return view(_fold(processor, history, sizes)), state(processor)


def _spread(n: int) -> list[int]:
    """The ends of a history and six places between."""
    return [0, 1, *(n * i // 7 for i in range(1, 7)), max(n - 1, 0), n]


def _refused(law: str, processor: Processor, state: bytes, what: str) -> None:
    try:
        processor.restore(state)
    except Unusable:
        return
    except Exception as error:
        raise LawBroken(f"{law}: {what} raised {type(error).__name__}, not Unusable") from error
    if state:
        raise LawBroken(f"{law}: {what} was accepted")


def _compare(
    law: str, expected: tuple[object, object], got: tuple[object, object], names: tuple[str, str]
) -> None:
    if expected[0] != got[0]:
        raise LawBroken(f"{law}: {_difference(expected[0], got[0], names)}")
    if expected[1] != got[1]:
        raise LawBroken(
            f"{law}: the state differs. {names[0]}: {_short(expected[1])}; {names[1]}: {_short(got[1])}"
        )


def _difference(expected: object, got: object, names: tuple[str, str]) -> str:
    """Where two views part, for people."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for place in [*expected, *(place for place in got if place not in expected)]:
            if expected.get(place) != got.get(place):
                return _parting(place, expected.get(place, []), got.get(place, []), names)
    return f"what comes out differs. {names[0]}: {_short(expected)}; {names[1]}: {_short(got)}"


def _parting(place: object, expected: Any, got: Any, names: tuple[str, str]) -> str:
    where = "/".join(map(str, place)) if isinstance(place, tuple) else str(place)
    if not isinstance(expected, list) or not isinstance(got, list):
        if isinstance(expected, dict) and isinstance(got, dict):
            key = next(key for key in [*expected, *got] if expected.get(key) != got.get(key))
            expected, got, where = expected.get(key), got.get(key), f"{where} {key!r}"
        return f"{where} differs\n    {names[0]}: {_short(expected)}\n    {names[1]}: {_short(got)}"
    at = next(
        (i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b),
        min(len(expected), len(got)),
    )
    counts = (
        f"{names[1]} there are {len(got)} messages for {where}, not {len(expected)}"
        if len(expected) != len(got)
        else f"messages for {where} differ {names[1]}"
    )
    left, right = (_short(side[at]) if at < len(side) else "nothing" for side in (expected, got))
    return f"{counts}\n  first difference, at {at}:\n    {names[0]}: {left}\n    {names[1]}: {right}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"
