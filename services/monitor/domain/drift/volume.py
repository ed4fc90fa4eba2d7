"""Watches how many records come: every hour against the same hour of the two weeks before, judged by days.

A stream has days, nights and weekends, and a test that does not know them sees drift every evening. The ratio to the
same hour of the week is free of them, follows slow growth, and is a number like a field's: so `distribution` watches
it, in blocks of a day, and measures how days depend on one another. An hour is one of event time, in UTC, by the newest
event time so far: what is late counts in the hour in which it comes. An hour without records is one, but it is known
only when the next record has come.
"""

import msgspec
import numpy as np

from services.monitor.domain.drift.alarm import Alarm
from services.monitor.domain.drift.distribution import DistributionState, DistributionWatch
from services.monitor.domain.drift.pace import Times
from services.monitor.domain.drift.positions import Positions

SUBJECT = "volume"

HOUR_MS = 3_600_000
DAY = 24
WEEK = 7 * DAY
COMPARED = 2
"""Weeks that an hour is held against."""

REFERENCE = 4 * WEEK
"""Hours of ratios that are learnt before a day is judged."""

APART = COMPARED * WEEK
"""Hours without a record after which it is another beginning: nothing is left to be held against."""


class VolumeState(msgspec.Struct):
    """All of a watch that changes; plain JSON. counts: of the hours before, newest last. first: number of the first
    record of the hour that is counted.
    """

    index: int
    now: int | None
    first: int
    count: int
    counts: list[int]
    begun: Positions
    watch: DistributionState


class VolumeWatch:
    """Records an hour. threshold: records for one false alarm. What it says is about records, not hours."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.index = 0
        self._now: int | None = None
        self._first = 0
        self._count = 0
        self._counts: list[int] = []
        self._begun = Positions()
        self._watch = DistributionWatch(
            "volume", [SUBJECT], [], {SUBJECT: threshold}, block=DAY, reference=REFERENCE
        )

    @property
    def ready(self) -> bool:
        """There are weeks to compare with, and the reference is whole."""
        return self._watch.ready[SUBJECT]

    def update(self, times: Times) -> list[Alarm]:
        """Count the next records, by their event times in ms; alarms in order."""
        if not len(times):
            return []
        if self._now is None:
            self._now = int(times[0])
        clock = np.maximum.accumulate(np.maximum(times, self._now))
        hours = clock // HOUR_MS
        found: list[Alarm] = []
        hour, begin = self._now // HOUR_MS, 0
        for row in np.flatnonzero(np.diff(hours, prepend=hour)).tolist():
            self._count += row - begin
            found += self._pass(hour, int(hours[row]), self.index + row)
            hour, begin = int(hours[row]), row
        self._count += len(times) - begin
        self._now = int(clock[-1])
        self.index += len(times)
        return found

    def _pass(self, hour: int, later: int, record: int) -> list[Alarm]:
        """It is a later hour, with this record: those before it are over."""
        found = []
        if later - hour > APART:
            self._counts = []
            self._watch.restart()
        else:
            found = self._close(self._count, self._first, record)
            for _ in range(later - hour - 1):
                found += self._close(0, record, record)
        self._count, self._first = 0, record
        return found

    def _close(self, count: int, first: int, record: int) -> list[Alarm]:
        """An hour is over. first: its first record; record: the one that shows it."""
        alarms: list[Alarm] = []
        if len(self._counts) == APART:
            hourly = max(sum(self._counts), 1) / APART
            self._watch.allow({SUBJECT: self.threshold / hourly})
            usual = sum(self._counts[::WEEK]) / COMPARED
            ratio = (count + 0.5) / (usual + 0.5)
            self._begun.add(first)
            alarms = [
                msgspec.structs.replace(
                    alarm, index=record, since=self._begun.of(alarm.since),
                    evidence=alarm.evidence * hourly, threshold=self.threshold,
                )
                for alarm in self._watch.update({SUBJECT: np.array([ratio])}, 1)
            ]  # fmt: skip
            del self._counts[0]
        self._counts.append(count)
        if alarms:
            self._counts.clear()  # what is usual from now on is to be learnt
        return alarms

    def state(self) -> VolumeState:
        """All of it, to go on from elsewhere."""
        return VolumeState(
            self.index, self._now, self._first, self._count, list(self._counts), self._begun,
            self._watch.state(),
        )  # fmt: skip

    def resume(self, state: VolumeState) -> None:
        """Go on from there; the watch was made with the same arguments."""
        self.index, self._now = state.index, state.now
        self._first, self._count = state.first, state.count
        self._counts, self._begun = list(state.counts), state.begun
        self._watch.resume(state.watch)
