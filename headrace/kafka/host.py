"""Runs processors on Kafka, exactly once: consume a batch, fold it, produce and commit in one transaction.

One consumer, one thread, transactions that commit while the next batch is folded. The batch grows with the lag
(throughput) and shrinks when idle (latency). Outputs, input offsets and the pointer to a snapshot commit together with
the group's metadata, so a crash at any point either happened before or after the whole batch. On start a partition's
processor is restored from its newest usable snapshot and silently relives the log up to the committed offset.

Errors (see the reliability notes): fatal -> `Fatal`, the process must be restarted; anything else that fails a
transaction -> abort, drop the processors, rebuild them from what is committed, and go on.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from prometheus_client import CollectorRegistry

from headrace.errors import Fatal, Transient
from headrace.history import History
from headrace.kafka.admin import client_settings, is_fatal
from headrace.kafka.arrivals import by_place
from headrace.kafka.backfill import OUT_OF_RANGE, Backfill
from headrace.kafka.carrying import Carrier, Identify
from headrace.kafka.checkpoints import Checkpoints
from headrace.kafka.membership import Membership
from headrace.kafka.meter import Meter
from headrace.kafka.transactions import Transactions
from headrace.processor import Batch, Outputs, Processor
from headrace.recovery import Place
from headrace.snapshots import SnapshotStore
from headrace.step import Run

if TYPE_CHECKING:
    from headrace.traces import Traces

log = structlog.get_logger("headrace.host")

T = TypeVar("T")

METADATA_SECONDS = 3
RETRY_SECONDS = 1.0

FIRST_BATCH_RECORDS = 500
BATCH_SECONDS = 0.25
"""A batch is sized so that folding it takes about this long: enough to pay for a transaction, little to repeat."""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How a host runs.

    group: consumer group and prefix of the transactional id. instance: this process's name in it, stable over
    restarts, so that a restart takes its partitions back at once. batch_records: most records in one transaction.
    snapshot_records: records between snapshots of a partition, 0 for none. idle_seconds: longest wait for records.
    session_seconds: after so long without a word this process's partitions go to others. transaction_seconds: after so
    long Kafka ends an open transaction by itself: that of a process which died and stayed away keeps whoever takes over
    its partitions, and every reader, waiting until then. Folding does not count, only writing and committing.
    stateless: the processors keep nothing, so a start goes on from the committed offset and relives nothing.
    whole_log: the processors must be fed every record; without it, what Kafka no longer has is passed over.
    """

    bootstrap: str
    group: str
    instance: str
    batch_records: int = 10_000
    snapshot_records: int = 200_000
    idle_seconds: float = 0.1
    session_seconds: int = 6
    transaction_seconds: int = 15
    stateless: bool = False
    whole_log: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def client(self) -> str:
        """The clients' name: no other process has it."""
        return f"{self.group}-{self.instance}"

    @property
    def member(self) -> str:
        """Who ran into an error, for its text."""
        return f"{self.group}, instance {self.instance}"


class KafkaHost:
    """Hosts one processor per partition of the topics that `topics` names (asked again between batches)."""

    def __init__(
        self,
        settings: HostSettings,
        factory: Callable[[str, int], Processor],
        topics: Callable[[], Iterable[str]],
        *,
        snapshots: SnapshotStore | None = None,
        history: Callable[[], History] | None = None,
        observe: Callable[[str, int, int], None] = lambda _topic, _records, _outputs: None,
        metrics: CollectorRegistry | None = None,
        traces: "Traces | None" = None,
        identify: Identify | None = None,
    ) -> None:
        """history: where `whole_log` finds what Kafka no longer has; without it, that ends the host.

        metrics: where the host shows how it fares. traces: None traces nothing. identify: how an output is known to be
        a traced record's; by default by the record's id.
        """
        self.settings = settings
        self._factory = factory
        self._topics = topics
        self._checkpoints = Checkpoints(
            settings.bootstrap, settings.group, snapshots, settings.snapshot_records
        )
        self._observe = observe
        self._carrier = None if traces is None else Carrier(traces, identify)
        self._meter = Meter(settings.bootstrap, metrics or CollectorRegistry())
        self._subscribed: frozenset[str] = frozenset()
        self._membership = Membership(settings.bootstrap, settings.group, settings.client)
        # A static member that is back within its session is given what it had, whatever it subscribes to now, and
        # nobody tells it of topics made meanwhile. Only a subscription that changes once more makes the group look:
        # after the first assignment, to what was given and back. None before it, empty once that is done.
        self._given: frozenset[str] | None = None
        self._runs: dict[Place, Run] = {}
        self._requests: SimpleQueue[tuple[Callable[[dict[Place, Run]], Any], Future[Any]]] = SimpleQueue()
        self._stop = threading.Event()
        self._rebuild = False
        self._limit = FIRST_BATCH_RECORDS
        self._consumer = Consumer(self._consumer_settings())
        self._history = history
        self._backfill = Backfill(self._consumer, history)
        self._transactions = Transactions(self._producer_settings(), settings.client, settings.member)
        self.ready = threading.Event()
        """Set while every assigned partition is past its recovery."""

    # -- for other threads ------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask `run` to return after the batch in hand."""
        self._stop.set()

    def call(self, question: Callable[[dict[Place, Run]], T]) -> "Future[T]":
        """Run `question` on the host's thread between two batches: the only safe way to look at processors."""
        future: Future[T] = Future()
        self._requests.put((question, future))
        return future

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until `stop`. Raises `Fatal` if the process has to be restarted."""
        try:
            self._transactions.start()
            self._meter.begin()
            while not self._stop.is_set():
                self._follow_topics()
                self._meter.look(self._consumer, self._runs)
                self._answer_requests()
                self._turn()
            self._settle()
            self._snapshot_all()
        finally:
            self._meter.end()
            self._consumer.close()
            self._transactions.close()

    def _turn(self) -> None:
        """One batch, if there is one."""
        try:
            messages = self._consume()
            if self._rebuild:
                self._rewind()
                return
            if self._carrier is not None:
                self._carrier.look(messages)
            batches = by_place(messages)
            batches |= self._backfill.batches(self._runs, frozenset(batches))
            if batches:
                started = time.perf_counter()
                self._transact(batches)
                seconds = time.perf_counter() - started
                self._meter.batch_seconds.observe(seconds)
                self._adapt(sum(len(batch.offsets) for batch in batches.values()), seconds)
            else:
                self._transactions.settle()
                self._update_ready()
                if self._backfill:  # what it reads is away
                    self._stop.wait(RETRY_SECONDS)
        except KafkaException as failure:
            self._recover_from(failure)
        except Transient as failure:  # a processor could not read what it needs to fold this batch
            log.warning("batch not folded", reason=str(failure))
            self._meter.failures.inc()
            self._transactions.abort()
            self._rebuild = True
            self._stop.wait(RETRY_SECONDS)

    def _adapt(self, records: int, seconds: float) -> None:
        """Let the next batch take about `BATCH_SECONDS`, changing by no more than a factor of two at a time."""
        if records < self._limit and seconds <= BATCH_SECONDS:
            return  # it was all there was, and quickly done
        wanted = int(records * BATCH_SECONDS / max(seconds, 1e-6))
        self._limit = max(1, min(wanted, 2 * records, self.settings.batch_records))

    def _consume(self) -> list[Any]:
        """Wait for a first record, then take what the client has fetched, without waiting for more."""
        if not self._subscribed:
            self._stop.wait(self.settings.idle_seconds)
            return []
        limit = min(self._limit, self.settings.batch_records)
        first: list[Any] = self._consumer.consume(1, 0.0 if self._backfill else self.settings.idle_seconds)
        more = self._consumer.consume(limit - 1, 0.0) if first and limit > 1 else []
        if first:
            self._membership.heard()
        good = []
        for message in (*first, *more):
            error = message.error()
            if error is None:
                good.append(message)
            elif is_fatal(error):
                raise KafkaException(error)
            elif error.code() in OUT_OF_RANGE:
                place = (message.topic(), message.partition())
                if place in self._runs:  # else revoked while in flight
                    self._backfill.begin(place)
            elif error.code() not in (KafkaError._PARTITION_EOF, KafkaError.UNKNOWN_TOPIC_OR_PART):
                log.warning("consume", error=error.str())
        return good

    def _transact(self, batches: dict[Place, Batch]) -> None:
        outputs: list[Outputs] = []
        offsets: list[TopicPartition] = []
        for place, batch in batches.items():
            run = self._runs.get(place)
            if run is None:
                continue  # revoked while in flight; its new owner has it
            outputs.append(run.feed(batch) if self._carrier is None else self._carrier.feed(run, batch))
            if run.position > run.silent_until:
                offsets.append(TopicPartition(*place, run.position))
            self._observe(place[0], len(batch.offsets), sum(map(len, outputs[-1].values())))
        if offsets:
            outputs += self._due_snapshots(batches)
            self._transactions.write(outputs, offsets, self._consumer.consumer_group_metadata())
            for offset in offsets:
                self._runs[offset.topic, offset.partition].silent_until = offset.offset
        self._update_ready()

    def _due_snapshots(self, places: Iterable[Place], *, at_once: bool = False) -> list[Outputs]:
        """Store the states whose turn it is; returns their pointers, to be committed with their offsets."""
        pointers = []
        for place in places:
            run = self._runs.get(place)
            if run is not None and self._checkpoints.is_due(run, at_once=at_once):
                pointers.append(self._checkpoints.store(place, run))
                self._meter.snapshots[bool(pointers[-1])].inc()
        return pointers

    # -- faults -----------------------------------------------------------------------------------------------------

    def _recover_from(self, failure: KafkaException) -> None:
        """Abort and rebuild, or give up if the client says so."""
        error = failure.args[0]
        log.warning("transaction", error=error.str(), fatal=error.fatal(), abort=error.txn_requires_abort())
        if is_fatal(error):
            raise Fatal(f"{self.settings.member}: {error.str()}") from failure
        self._meter.failures.inc()
        self._transactions.abort()
        self._rebuild = True

    def _settle(self) -> None:
        """Wait for the commit under way where its failure cannot be raised further."""
        try:
            self._transactions.settle()
        except KafkaException as failure:
            self._recover_from(failure)

    def _rewind(self) -> None:
        """The processors are ahead of what is committed: build them again and read from where they stand."""
        self._rebuild = False
        try:
            for place in list(self._runs):
                self._runs[place] = run = self._build(place)
                if place in self._backfill:
                    self._backfill.begin(place)
                else:
                    self._consumer.seek(TopicPartition(*place, run.position))
        except (KafkaException, Transient) as failure:
            if isinstance(failure, KafkaException) and is_fatal(failure.args[0]):
                raise  # `_recover_from` gives up
            log.warning("rewind", error=str(failure))
            self._rebuild = True
            self._stop.wait(0.5)

    # -- assignment -------------------------------------------------------------------------------------------------

    def _follow_topics(self) -> None:
        if self._subscribed and self._membership.is_gone():
            self._begin_anew()
        wanted = frozenset(self._topics())
        if self._given and self._subscribed == wanted != self._given:
            wanted = self._given  # and in the next turn what is wanted
        if wanted != self._subscribed and self._membership.is_settled:
            if self._given is not None:
                self._given = frozenset()
            self._subscribed = wanted
            self._membership.subscribed()
            if wanted:
                self._consumer.subscribe(
                    sorted(wanted),
                    on_assign=self._on_assign,
                    on_revoke=self._on_revoke,
                    on_lost=self._on_lost,
                )

    def _begin_anew(self) -> None:
        """Join the group with another client: the one before has lost its place and does not come back."""
        log.warning("the client does not come back into its group: another takes its place")
        given_up, self._consumer = self._consumer, Consumer(self._consumer_settings())
        threading.Thread(target=given_up.close, daemon=True).start()  # it may take its time
        self._backfill = Backfill(self._consumer, self._history)
        self._runs.clear()
        self._membership.assigned()
        self._subscribed, self._given = frozenset(), None

    def _on_assign(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """Build the processors of newly assigned partitions; runs inside `consume`, on the host's thread."""
        if consumer is not self._consumer:  # given up, and closing on a thread of its own
            return
        self._membership.assigned()
        if self._given is None:
            self._given = frozenset(partition.topic for partition in partitions)
        self.ready.clear()
        self._settle()
        starts = []
        for partition in partitions:
            place = (partition.topic, partition.partition)
            try:
                self._runs[place] = run = self._build(place)
            except (KafkaException, Transient) as failure:
                raise Fatal(f"{place[0]}/{place[1]} cannot be taken over: {failure}") from failure
            starts.append(TopicPartition(*place, run.position))
            log.info(
                "assigned", topic=place[0], partition=place[1], position=run.position, until=run.silent_until
            )
        consumer.incremental_assign(starts)

    def _on_lost(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        if consumer is self._consumer:
            self._membership.lost()
        self._on_revoke(consumer, partitions)

    def _on_revoke(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        if consumer is not self._consumer:
            return
        self._settle()  # the next owner starts from what is committed
        places = [(partition.topic, partition.partition) for partition in partitions]
        self._backfill.drop(places)
        for place in places:
            self._runs.pop(place, None)
        consumer.incremental_unassign(partitions)

    def _build(self, place: Place) -> Run:
        committed = max(0, self._consumer.committed([TopicPartition(*place)], timeout=30.0)[0].offset)
        restored = self._checkpoints.restore(place, lambda: self._factory(*place), committed)
        if restored is not None:
            return restored
        start = committed if self.settings.stateless else 0
        return Run(self._factory(*place), position=start, silent_until=committed)

    def _update_ready(self) -> None:
        if not self._subscribed or (self._runs and not any(run.recovering for run in self._runs.values())):
            self.ready.set()

    # -- snapshots and questions ------------------------------------------------------------------------------------

    def _snapshot_all(self) -> None:
        """At a clean stop: leave fresh snapshots, so that the next start has nothing to relive."""
        if self._rebuild:
            return
        try:
            pointers = self._due_snapshots(self._runs, at_once=True)
            if pointers:
                # One that still relives stands below what is committed: going back would emit twice.
                offsets = [
                    TopicPartition(*place, run.position)
                    for place, run in self._runs.items()
                    if not run.recovering
                ]
                self._transactions.write(pointers, offsets, self._consumer.consumer_group_metadata())
                self._transactions.settle()
        except KafkaException as failure:
            log.warning("no snapshot at stop", error=failure.args[0].str())

    def _answer_requests(self) -> None:
        while True:
            try:
                question, future = self._requests.get_nowait()
            except Empty:
                return
            self._settle()  # so that whoever asks finds on the topics what the answer counts
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(question(self._runs))
                except Exception as error:  # the asker's error is the asker's to see
                    future.set_exception(error)

    # -- client settings --------------------------------------------------------------------------------------------

    def _consumer_settings(self) -> dict[str, Any]:
        return {
            **client_settings(self.settings.bootstrap, self.settings.client),
            "group.id": self.settings.group,
            "group.instance.id": self.settings.instance,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": self.settings.session_seconds * 1000,
            "heartbeat.interval.ms": 1000,
            # Folding a log again for a rebuilt model happens between two polls; a process that hangs has other bounds.
            "max.poll.interval.ms": 3_600_000,
            "enable.auto.commit": False,
            "auto.offset.reset": "error" if self.settings.whole_log else "earliest",
            "isolation.level": "read_committed",
            # A topic that the broker does not know yet when it is subscribed to would else be seen after five minutes.
            "topic.metadata.refresh.interval.ms": METADATA_SECONDS * 1000,
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 10,  # a full queue is soon emptied; the default second would starve the fold
            "queued.min.messages": 50_000,
            "queued.max.messages.kbytes": 16_384,
            **self.settings.extra,
        }

    def _producer_settings(self) -> dict[str, Any]:
        return {
            **client_settings(self.settings.bootstrap, self.settings.client),
            "transaction.timeout.ms": self.settings.transaction_seconds * 1000,
            "linger.ms": 5,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 2_000_000,
        }
