"""Every operator and processor of the tree, how it is put to work, and which laws it promises.

A subject that does not promise a law says why: `test_every_processor` takes silence for forgetfulness.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from random import Random
from typing import Any

import msgspec
from river.anomaly import HalfSpaceTrees

from headrace import checkpoint
from headrace.contracts.cleanse import Cleanser
from headrace.contracts.codec import encode
from headrace.contracts.events import Alert, Answer
from headrace.contracts.outliers import OutlierSpec
from headrace.contracts.statistics import Quality, WindowSummary, decode_summary
from headrace.contracts.stream import Field
from headrace.contracts.topics import OUTCOMES, PREDICTIONS, STATISTICS, topic
from headrace.errors import Poison, Unusable
from headrace.fold.features import FeaturePlan, check_features
from headrace.fold.log import LogFold
from headrace.fold.metrics import Prequential
from headrace.fold.outliers import Outliers
from headrace.fold.shard import Shard
from headrace.fold.slot import ModelSlot
from headrace.operators.tumbling import TumblingWindows
from headrace.processor import Batch, Outputs, Processor
from headrace.testing import builders, laws
from headrace.testing.adapter import AsProcessor, said
from headrace.testing.clock import SimulatedClock
from services.ingest.domain.idempotency import IdempotencyStore, KeyReused
from services.ingest.processor import InboxProcessor
from services.monitor.domain.details import fairness_view, fields_view, quality_view
from services.monitor.domain.rules import Rule
from services.monitor.domain.tables import Tables
from services.monitor.domain.views import total_view, window_view
from services.monitor.domain.watch import Watch
from services.monitor.processor import Summariser, WindowShape
from services.scoring.processor import ScoringProcessor
from tests.laws import histories

BATCHES, RESTORING, DUPLICATES, MEMORY, HASH_SEEDS = LAWS = (
    "batches", "restoring", "duplicates", "memory", "hash seeds",
)  # fmt: skip


@dataclass(frozen=True)
class Flood:
    """A hostile history: what stands first, the i-th record, how many fill the state, and how many are sent."""

    record: Callable[[int], Any]
    full_after: int
    records: int
    head: tuple[Any, ...] = ()
    make: Callable[[], Processor] | None = None
    """If not the subject's own."""
    slack: float = laws.SLACK


@dataclass(frozen=True)
class Subject:
    """One class at work. record: a random record; records: so many, where each depends on those before it.

    long: records of a history that fills blocks and journals and closes windows.
    """

    name: str
    cls: type
    make: Callable[[], Processor]
    record: Callable[[Random], Any] = lambda _: None
    records: Callable[[Random, int], list[Any]] | None = None
    head: tuple[Any, ...] = ()
    topic: str = "s.log"
    view: laws.View = laws.exactly
    state: Callable[[Any], object] = laws.fingerprints
    long: int = 1500
    floods: dict[str, Flood] = field(default_factory=dict)
    roomy_head: tuple[Any, ...] | None = None
    """Instead of `head` where records come twice: dedupe reaches as far as the declared bounds."""
    once_view: laws.View = laws.exactly
    """What of the outputs no duplicate may change."""
    once_state: Callable[[Any], object] = laws.fingerprints
    not_promised: dict[str, str] = field(default_factory=dict)
    """Law -> why it is not promised."""

    def draw(self, rng: Random, records: int) -> list[Any]:
        """Random records."""
        if self.records is not None:
            return self.records(rng, records)
        return [self.record(rng) for _ in range(records)]

    def batch(self, records: list[Any], head: tuple[Any, ...] | None = None) -> Batch:
        """A history. Offsets have gaps, as on a real log."""
        return builders.batch([*(self.head if head is None else head), *records], topic=self.topic, step=2)

    def random_batch(self, seed: int, records: int) -> Batch:
        """The same history in every process."""
        return self.batch(self.draw(Random(seed), records))


# -- the fold --------------------------------------------------------------------------------------------------


def scoring() -> ScoringProcessor:
    return ScoringProcessor("s.log", 0)


def shard_state(shard: Shard) -> object:
    """The models bit by bit, what they scored, what was counted and what waits."""
    models = [
        (name, slot.version, slot.role, slot.learned, slot.failures, slot.fingerprint(),
         checkpoint.fingerprint(slot.plan), repr((slot.metrics.overall().view(), slot.metrics.windowed().view())))
        for name, slot in shard.slots.items()
    ]  # fmt: skip
    return models, shard.counters, shard.pending, shard.watermark, shard.offset


def answers_and_ends(outputs: Outputs) -> object:
    """Predictions, and outcomes but for labels that came again."""
    ends = outputs.get((topic(OUTCOMES, "s"), 0), [])
    return {
        "predictions": outputs.get((topic(PREDICTIONS, "s"), 0), []),
        "outcomes": [end for end in ends if b'"status":"ignored"' not in (end["value"] or b"")],
    }


def what_was_learnt(processor: ScoringProcessor) -> object:
    return shard_state(processor.shard)[0]


def fold_shard(shard: Shard, batch: Batch) -> Outputs:
    folded = LogFold(shard).fold(batch.offsets, batch.values)
    named = {"predictions": folded.predictions, "outcomes": folded.outcomes, "refused": folded.refused}
    return {
        (name, 0): [{"key": None, "value": encode(event)} for event in events]
        for name, events in named.items()
    }


def slot_step(slot: ModelSlot, value: bytes) -> list[Any]:
    _, _, x, y = msgspec.json.decode(value)
    told = Answer(slot.model, slot.version, *slot.answer(x))
    slot.settle(x, y, told)
    return [told]


def plan_step(plan: FeaturePlan, value: bytes) -> list[Any]:
    entity, at, x, y = msgspec.json.decode(value)
    computed = plan.compute(x, entity, at)
    if at % 3:
        plan.learn(x, entity, at + 1000, y)
    return [computed, plan.ignored, plan.evicted]


def prequential_step(metrics: Prequential, value: bytes) -> list[Any]:
    y, answer, score, probabilities, revised = msgspec.json.decode(value)
    told = Answer("m", 1, answer, score, probabilities)
    metrics.update(y, told)
    if revised is not None:
        metrics.correct(y, revised, told)
    return []


WATCHED = builders.contract(
    fields=[Field("a", "number"), Field("n", "integer")],
    outliers=OutlierSpec(["bounds", "trees"], fence=2.0, share=0.05, window=40),
)


def watching_little() -> Outliers:
    """With small trees, as each law saves the state a thousand times."""
    made = Outliers(WATCHED)
    made._trees = HalfSpaceTrees(n_trees=3, height=3, window_size=40, seed=1)
    return made


def outliers_step(watching: Outliers, value: bytes) -> list[Any]:
    told = builders.prediction("i")
    watching.mark(told, msgspec.json.decode(value))
    return [told]


def seeded_answer(task: str, i: int) -> bytes:
    return histories.answer(Random(i), task)


def prequential_state(processor: AsProcessor[Prequential]) -> object:
    return repr((processor.state.overall().view(), processor.state.windowed().view()))


def each(step: Callable[[Any, bytes], list[Any]]) -> Callable[[Any, Batch], Outputs]:
    """A fold, from a step."""
    return lambda state, batch: said(answer for value in batch.values for answer in step(state, value or b""))


def adapted(
    make: Callable[[], Any], step: Callable[[Any, bytes], list[Any]]
) -> Callable[[], AsProcessor[Any]]:
    return lambda: AsProcessor(make, each(step))


def specs(max_keys: int) -> Any:
    windowed = {"window_seconds": 12, "panes": 4, "max_keys": max_keys}
    latest = {"max_keys": max_keys}
    return check_features(
        [
            {"name": "seen", "kind": "count", "by": "entity", **windowed},
            {"name": "sum", "kind": "sum", "of": "a", "by": "entity", **windowed},
            {"name": "low", "kind": "min", "of": "a", "by": ["entity", "k"], **windowed},
            {"name": "late", "kind": "rate", "of": "label", "by": "entity", **windowed},
            {"name": "mean", "kind": "mean", "of": "a", "by": ["k"], **windowed},
            {"name": "last", "kind": "last", "of": "k", "by": "entity", **latest},
            {"name": "since", "kind": "seconds_since_last", "of": "label", "by": ["k"], **latest},
        ]
    )


# -- operators -------------------------------------------------------------------------------------------------


def windows() -> TumblingWindows[list[int]]:
    return TumblingWindows(10, 5, 4, lambda _: [])


def fold_windows(state: TumblingWindows[list[int]], batch: Batch) -> Outputs:
    late = []
    for value in batch.values:
        time = msgspec.json.decode(value)
        window = state.at(time)
        if window is None:
            late.append(time)
        else:
            window.append(time)
    closed, _ = state.take_changed()
    outputs = {("closed", 0): closed, ("late", 0): late}
    return {place: [{"key": None, "value": encode(one)} for one in some] for place, some in outputs.items()}


def save_windows(state: TumblingWindows[list[int]]) -> bytes:
    return encode([dict(sorted(state.open.items())), state.watermark, state.final_before])


def load_windows(saved: bytes) -> TumblingWindows[list[int]]:
    try:
        read = msgspec.json.decode(saved, type=tuple[dict[int, list[int]], int, int])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unusable(str(error)) from None
    made = windows()
    made.resume(*read)
    return made


# -- the monitor -----------------------------------------------------------------------------------------------

SHAPE = WindowShape(length_seconds=3600, lateness_seconds=600, open_windows=4, revisable_windows=3)
PLACED = ("through_offset", "watermark", "final_before")
"""What a window's summary says of where the partition was: as of the last batch that touched the window."""


def plain(value: bytes | None) -> dict[str, Any]:
    """A summary without its place; a total keeps it, as every batch tells the total."""
    read = msgspec.json.decode(value or b"")
    return {key: said for key, said in read.items() if read.get("start") is None or key not in PLACED}


def last_words(outputs: Outputs) -> object:
    """The last summary under each key: what a compacted topic keeps and a merge looks at."""
    messages = outputs.get((STATISTICS.name, 0), [])
    last = {message["key"]: message["value"] for message in messages}
    return {key: plain(value) for key, value in sorted(last.items())}


def summariser_state(summariser: Summariser) -> object:
    read = msgspec.json.decode(summariser.snapshot())
    for window in [*read["open"].values(), *read["kept"].values()]:
        for key in PLACED:
            window.pop(key, None)
    return read


def shown(tables: Tables) -> object:
    """What the API shows, of all streams."""
    return {
        name: (
            total_view(table),
            [window_view(table, start) for start in table.starts],
            [view(table, table.starts) for view in (fields_view, quality_view, fairness_view)],
        )
        for name, table in sorted(tables.streams.items())
    }


def merge_step(tables: Tables, value: bytes) -> list[Any]:
    """What a merge says of itself is no output: a repeat changes what there is into the same."""
    tables.apply(value)
    return []


PORTION = 40


def portions(records: list[Any]) -> list[tuple[int, list[Any]]]:
    """(offset of the first, records)"""
    return [(at, records[at : at + PORTION]) for at in range(0, len(records), PORTION)]


@cache
def statistics() -> tuple[bytes, ...]:
    """What two partitions' summarisers say about a made-up stream, in turn, as it would lie on the topic."""
    runs = []
    for kind, partitions in histories.made_up_kinds().items():
        for place, records in enumerate(partitions):
            processor = Summariser(f"s.{kind}", place, SHAPE)
            runs.append(
                [
                    processor.process(builders.batch(some, topic=f"s.{kind}", partition=place, first=first))
                    for first, some in portions(records)
                ]
            )
    turns = itertools.zip_longest(*runs, fillvalue={})
    return tuple(
        message["value"]
        for turn in turns for outputs in turn for messages in outputs.values() for message in messages
    )  # fmt: skip


def as_they_lie(rng: Random, records: int) -> list[bytes]:
    """Summaries in their order, as often as not preceded by one that was read before (all that the topic promises)."""
    given: list[bytes] = []
    coming = iter(statistics())
    while len(given) < records and (value := next(coming, None)) is not None:
        if given and rng.random() < 0.5:
            given.append(rng.choice(given))
        given.append(value)
    return given


class Watched:
    """Tables and the watch over them, judged at the end of each batch, as the control plane does by a timer."""

    RULES = (
        Rule("auc", "s", "roc_auc", below=0.75, clear=0.8),
        Rule("accuracy", "*", "accuracy", below=0.65, for_windows=2, minimum_count=5),
    )

    def __init__(self) -> None:
        self.tables = Tables(SHAPE.length_seconds)
        self.watch = Watch(self.tables)
        self.watch.use(self.RULES)
        self.topic: dict[bytes, bytes] = {}
        self.told: list[Any] = []

    def fold(self, batch: Batch) -> Outputs:
        for value in batch.values:
            self.merge(value or b"")
        fresh = self.watch.due("s")
        self.told += fresh
        return said(fresh)

    def merge(self, value: bytes) -> None:
        self.topic[decode_summary(value).key()] = value
        applied = self.tables.apply(value)
        if applied is not None:
            self.watch.changed(applied)

    def save(self) -> bytes:
        """What survives a restart: the compacted statistics, and the alerts that were told."""
        return encode([list(self.topic.values()), self.told])

    @classmethod
    def load(cls, saved: bytes) -> "Watched":
        made = cls()
        try:
            values, told = msgspec.json.decode(saved, type=tuple[list[bytes], list[Alert]])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Unusable(str(error)) from None
        for value in values:
            made.merge(value)
        for one in told:
            made.watch.remember(one)
        made.told = told
        return made

    def judge(self, value: bytes) -> list[Any]:
        """Merge and judge, and let the broker keep what it keeps."""
        self.merge(value)
        self.topic.clear()
        return self.watch.due("s", {"outcomes": range(4)})


def bounded_watch() -> Watched:
    made = Watched()
    made.tables = Tables(SHAPE.length_seconds, windows_kept=30, streams_kept=5)
    made.watch = Watch(made.tables, scopes_kept=100)
    made.watch.use(Watched.RULES)
    return made


def hostile_summary(i: int) -> bytes:
    """Windows, models and streams without end."""
    window = WindowSummary(
        f"s{i % 40}" if i % 2 else "s", "outcomes", i % 4, SHAPE.length_seconds, start=i * 3_600_000,
        through_offset=i, quality={f"m{i}@1": Quality(count=10, correct=1, tp=1, fp=9)},
    )  # fmt: skip
    if i % 3 == 0:
        window = msgspec.structs.replace(window, start=None, final_before=(i - 20) * 3_600_000)
    return encode(window)


# -- ingest ----------------------------------------------------------------------------------------------------


def inbox() -> InboxProcessor:
    cleanser = Cleanser(builders.contract())
    return InboxProcessor("s", lambda: cleanser, SimulatedClock())


def cleanse_step(cleanser: Cleanser, value: bytes) -> list[Any]:
    try:
        return [cleanser.event(value, now_ms=1_700_000_000_000, new_id=lambda: "new")]
    except Poison as poison:
        return [[poison.rule, poison.field, poison.reason]]


def load_cleanser(saved: bytes) -> Cleanser:
    if saved:
        raise Unusable("there is nothing to restore")
    return Cleanser(builders.contract())


class Requests:
    """An idempotency store with the clock that its callers bring."""

    def __init__(self, limit: int = 20, limit_bytes: int = 1000, age_ms: int = 3000) -> None:
        self.store: IdempotencyStore[str] = IdempotencyStore(
            limit=limit, limit_bytes=limit_bytes, age_ms=age_ms
        )
        self.clock = SimulatedClock()
        self.answers = itertools.count()

    def step(self, value: bytes) -> list[Any]:
        key, body, later = msgspec.json.decode(value)
        self.clock.advance(later / 1000)
        try:
            known = self.store.find(key, b"%d" % body, self.clock())
        except KeyReused:
            return ["reused"]
        if known is None:
            known = f"answer {next(self.answers)}"
            self.store.begin(key, b"%d" % body, known, self.clock())
            self.store.settle(key, 90)
        return [known]


# -- all of them -----------------------------------------------------------------------------------------------

TWO_THAT_FILL_AND_EMPTY = 0.04
"""A slot's journal and the shard's deadlines: their peaks meet at one time and not at another."""
SHARD_DEDUPES = "it is told each thing once: the shard drops what comes again"
LOG_DEDUPES = "it counts records; what repeats what is decided by the shard, and duplicates are counted there"
NEVER = 10**9
ROOMY_HEAD = tuple(histories.head(histories.ROOMY, 10**6))
NARROW_HEAD = tuple(histories.head(histories.NARROW, 5))

SUBJECTS = [
    Subject(
        "scoring", ScoringProcessor, scoring, histories.log_record, head=NARROW_HEAD,
        state=lambda processor: shard_state(processor.shard),
        roomy_head=ROOMY_HEAD, once_view=answers_and_ends, once_state=what_was_learnt,
        floods={
            "everything new": Flood(
                histories.hostile_log_record, 14_000, 44_000, tuple(histories.hostile_head()),
                slack=TWO_THAT_FILL_AND_EMPTY,
            ),
            "models come and go": Flood(
                histories.come_and_go, 1_600, 5_000, tuple(histories.come_and_go_head())
            ),
            "every label a class": Flood(
                histories.many_classes, 2_500, 8_000, tuple(histories.many_classes_head())
            ),
        },
    ),
    Subject(
        "scoring, corrections and expiry as negative", ScoringProcessor, scoring, histories.log_record,
        head=tuple(histories.head(histories.NARROW, 5, "correct", "negative")),
        state=lambda processor: shard_state(processor.shard),
        not_promised={
            DUPLICATES: "where a second label is a correction, one that comes again is a correction again",
            MEMORY: "as above",
        },
    ),
    Subject(
        "shard", Shard, lambda: AsProcessor(Shard, fold_shard), histories.log_record, head=NARROW_HEAD,
        state=lambda processor: shard_state(processor.state),
        roomy_head=ROOMY_HEAD, once_state=lambda processor: shard_state(processor.state)[0],
        once_view=lambda outputs: outputs.get(("predictions", 0)),
        floods={
            "everything new": Flood(
                histories.hostile_log_record, 14_000, 44_000, tuple(histories.hostile_head()),
                slack=TWO_THAT_FILL_AND_EMPTY,
            ),
        },
    ),
    Subject(
        "model slot", ModelSlot,
        adapted(lambda: ModelSlot(builders.deployed(), "binary"), slot_step), histories.numeric_example,
        state=lambda processor: (processor.state.fingerprint(), processor.state.failures),
        long=2500,
        floods={"long": Flood(histories.steady_example, 7_000, 22_000)},
        not_promised={DUPLICATES: SHARD_DEDUPES},
    ),
    Subject(
        "features", FeaturePlan, adapted(lambda: FeaturePlan(specs(3)), plan_step), histories.example,
        state=lambda processor: checkpoint.fingerprint(processor.state),
        floods={
            "every key new": Flood(
                histories.hostile_example, 200, 2_000,
                make=adapted(lambda: FeaturePlan(specs(50)), plan_step),
            )
        },
        not_promised={DUPLICATES: SHARD_DEDUPES},
    ),
    Subject(
        "outliers", Outliers, adapted(watching_little, outliers_step), histories.values,
        state=lambda processor: checkpoint.fingerprint(processor.state),
        floods={"every value new": Flood(lambda i: encode({"a": i * 1.1, "n": i, f"f{i}": 1.0}), 400, 1_200)},
        not_promised={DUPLICATES: SHARD_DEDUPES},
    ),
    *(
        Subject(
            f"prequential {task}", Prequential, adapted(partial(Prequential, task), prequential_step),
            partial(histories.answer, task=task), state=prequential_state, long=7000,
            floods={"long": Flood(partial(seeded_answer, task), 6_500, 22_000)},
            not_promised={DUPLICATES: SHARD_DEDUPES},
        )
        for task in ("binary", "multiclass", "regression")
    ),
    Subject(
        "tumbling windows", TumblingWindows,
        lambda: AsProcessor(windows, fold_windows, save_windows, load_windows),
        lambda rng: encode(rng.randrange(-50, 300)),
        state=lambda processor: save_windows(processor.state),
        floods={
            "every time new": Flood(lambda i: encode(i * 10), 100, 2_000),
            "nothing closes": Flood(
                lambda i: encode(i * 10), 100, 2_000,
                make=lambda: AsProcessor(
                    lambda: TumblingWindows(10, 10**9, 4, lambda _: []), fold_windows, save_windows
                ),
            ),
        },
        not_promised={DUPLICATES: "a time is no event: two of them are two"},
    ),
    *(
        Subject(
            f"summariser of {kind}", Summariser, partial(Summariser, f"s.{kind}", 0, SHAPE),
            partial(histories.monitored, kind=kind), topic=f"s.{kind}", view=last_words,
            state=summariser_state,
            floods={
                "everything new": Flood(partial(histories.hostile_monitored, kind=kind), full_after, 4 * full_after)
            },
            not_promised={DUPLICATES: LOG_DEDUPES},
        )
        # Watches note the places of some thousand records before they note fewer.
        for kind, full_after in (("log", 9_000), ("predictions", 9_000), ("outcomes", 9_000), ("rejected", 3_000))
    ),
    Subject(
        "tables", Tables, adapted(lambda: Tables(SHAPE.length_seconds), merge_step),
        lambda rng: rng.choice(statistics()),
        state=lambda processor: shown(processor.state), once_state=lambda processor: shown(processor.state),
        floods={
            "windows and streams without end": Flood(
                hostile_summary, 2_000, 8_000,
                make=adapted(
                    lambda: Tables(SHAPE.length_seconds, windows_kept=30, streams_kept=5),
                    merge_step,
                ),
            )
        },
        not_promised={RESTORING: "they have no snapshot: the compacted topic is read again, see test_monitor_laws"},
    ),
    Subject(
        "watch", Watch, lambda: AsProcessor(Watched, Watched.fold, Watched.save, Watched.load),
        records=as_they_lie,
        floods={
            "windows, models and streams without end": Flood(
                hostile_summary, 2_000, 8_000, make=adapted(bounded_watch, Watched.judge)
            )
        },
    ),
    Subject(
        "inbox", InboxProcessor, inbox, histories.raw, topic="s.inbox",
        floods={"everything new": Flood(histories.hostile_raw, 200, 2_000)},
        not_promised={DUPLICATES: "one record in, one out: the shard drops an id that it knows"},
    ),
    Subject(
        "cleanser", Cleanser,
        lambda: AsProcessor(
            lambda: Cleanser(builders.contract()), each(cleanse_step),
            lambda _: b"", load_cleanser,
        ),
        histories.raw,
        floods={"everything new": Flood(histories.hostile_raw, 200, 2_000)},
        not_promised={DUPLICATES: "it is a function of one record: what came before has no say"},
    ),
    Subject(
        "idempotency store", IdempotencyStore, adapted(Requests, Requests.step), histories.request,
        floods={
            f"every key new, bound by {name}": Flood(
                lambda i: encode([f"k{i}", 0, 10]), 100, 1_000,
                make=adapted(
                    partial(Requests, **({"limit": NEVER, "limit_bytes": NEVER, "age_ms": NEVER} | bound)),
                    Requests.step,
                ),
            )
            for name, bound in {
                "count": {"limit": 20}, "bytes": {"limit_bytes": 1000}, "age": {"age_ms": 300}
            }.items()
        },
        not_promised={
            RESTORING: "it forgets on restart, by design",
            DUPLICATES: "see tests/unit/ingest/test_idempotency.py: a repeat is answered as the first was",
        },
    ),
]  # fmt: skip


def digests() -> dict[str, str]:
    """What comes out of every subject, for the hash seed law: run in several processes."""
    return {
        one.name: laws.digest(one.make, one.random_batch(11, one.long), state=one.state) for one in SUBJECTS
    }
