"""Partitions whose next records Kafka no longer has: brought up to where Kafka begins from a history, or refused.

A consumer that is asked for offsets which were trimmed is usually moved to the oldest record left, without a word: a
model that folds on from there is another model. A host whose processors need the whole log asks with
`auto.offset.reset=error` and leaves such partitions to this module. It is not a check at the start, which trimming
could overtake a moment later: the broker's own refusal begins it, whenever that comes.

What it gives are batches like any others, for the host's one path of folding and committing.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, NamedTuple

import structlog
from confluent_kafka import KafkaError, TopicPartition

from headrace.errors import Fatal, Transient, Unusable
from headrace.history import History, gone
from headrace.processor import Batch
from headrace.recovery import Place
from headrace.step import Run

log = structlog.get_logger("headrace.backfill")

OUT_OF_RANGE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
"""What a consumer with `auto.offset.reset=error` says of a partition, and then reads it no further."""
ANSWER_SECONDS = 10.0


class _Read(NamedTuple):
    """A read under way. end: the oldest offset that Kafka had when it began."""

    batches: Iterator[Batch]
    end: int


class Backfill:
    """For a host's thread, which owns `consumer`. history: opened when it is first needed; None if there is none."""

    def __init__(self, consumer: Any, history: Callable[[], History] | None) -> None:
        self._consumer = consumer
        self._open = history
        self._history: History | None = None
        self._reads: dict[Place, _Read | None] = {}

    def __contains__(self, place: object) -> bool:
        return place in self._reads

    def __bool__(self) -> bool:
        return bool(self._reads)

    def begin(self, place: Place) -> None:
        """The consumer was refused this partition; or its run stands elsewhere now."""
        self._reads[place] = None

    def drop(self, places: Iterable[Place]) -> None:
        """They belong to another process."""
        for place in places:
            self._reads.pop(place, None)

    def batches(self, runs: dict[Place, Run], busy: Container[Place]) -> dict[Place, Batch]:
        """The next batch of every partition that is behind Kafka's beginning, without those in `busy`.

        A partition that has got there is given back to the consumer. Raises `Fatal` naming the records that are gone,
        `KafkaException` if Kafka does not answer. A history that is away is asked again next time.
        """
        found = {}
        for place in [place for place in self._reads if place not in busy and place in runs]:
            try:
                batch = self._next(place, runs[place])
            except Transient as reason:
                log.warning("backfill", topic=place[0], partition=place[1], reason=str(reason))
                self._reads[place] = None
            except Unusable as reason:
                raise Fatal(str(reason)) from reason
            else:
                if batch is not None:
                    found[place] = batch
        return found

    def _next(self, place: Place, run: Run) -> Batch | None:
        read = self._reads[place] or self._started(place, run.position)
        self._reads[place] = read
        batch = next(read.batches, None)
        if batch is None:
            # All below `end` is folded, also if only markers were left: asked for them, Kafka would refuse again.
            run.position = max(run.position, read.end)
            start = [TopicPartition(*place, run.position)]
            # After the refusal it can neither be resumed nor sought.
            self._consumer.incremental_unassign(start)
            self._consumer.incremental_assign(start)
            del self._reads[place]
            log.info("backfilled", topic=place[0], partition=place[1], position=run.position)
        return batch

    def _started(self, place: Place, position: int) -> _Read:
        first, end = self._consumer.get_watermark_offsets(TopicPartition(*place), ANSWER_SECONDS)
        if position > end:
            raise Fatal(
                f"{place[0]}/{place[1]}: offset {position} is committed, but the log ends at {end}: "
                f"it was lost, or made anew under the same name"
            )
        if position >= first:
            return _Read(iter(()), first)
        if self._open is None:
            raise Fatal(gone(*place, position, first))
        if self._history is None:
            self._history = self._open()
        log.info("backfilling", topic=place[0], partition=place[1], start=position, end=first)
        return _Read(self._history.read(*place, position, first), first)
