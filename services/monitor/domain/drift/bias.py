"""Watches how each group of a sensitive field is treated: named group, named metric, small groups said to be small.

For every group: how often it is answered positively (selection_rate), how often that is right or wrong
(true_positive_rate, false_positive_rate), how often it is positive (base_rate), and how often the answer is wrong
(error). Each is a 0/1 signal with an e-detector of its own (bernoulli.py), held against the group's own past, in both
directions. What has changed alike in all groups (the model has failed, the world has changed) is no bias, and is not
told: the group's change is held against that of all others over the same records, and has to lie apart from it.

A group is judged by its own records, so a small one takes longer, and until it has a reference it is not
judged and `standing` says so. How many records each group sends is watched too, against the reference or a stated
mix.

Groups beyond the bound are not judged; they are counted in the representation as unseen or rare.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.drift.alarm import Alarm
from services.monitor.domain.drift.bernoulli import BOTH, BernoulliState, BernoulliWatch
from services.monitor.domain.drift.distribution import DistributionState, DistributionWatch
from services.monitor.domain.drift.positions import Positions

METRICS = ("selection_rate", "base_rate", "true_positive_rate", "false_positive_rate", "error")

Bits = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int8]
NOTHING: Numbers = np.empty(0, np.int8)
NONE: Bits = np.empty(0, np.uint8)

GROUPS = 8
"""Groups of a field that are judged, the first that come."""

REPRESENTATION = "representation"

REFERENCE = 512
"""Records of a group, among those a metric is about, before it is judged."""

LEAST = 20
"""And so many of the rarer value."""


COMPARED = 8_192
"""Records of all groups that are kept, to see whether a change is one group's."""

APART = 3.5
"""Standard errors between a group's change and that of all others, beyond which it is the group's own."""

LOOKS = (0, 64, 128, 256, 512, 1_024, 2_048, 4_096)
"""Records after a group has moved at which it is looked at whether the others have moved alike."""

FEW_BEFORE, FEW_AFTER = 32, 8
"""Fewer records of the others than these say nothing about whether they have changed too."""


class Standing(msgspec.Struct, frozen=True):
    """How far a metric of a group is known. count: records it is about; needed: before it is judged; rate: so far."""

    group: str
    metric: str
    count: int
    needed: int
    judged: bool
    rate: float


class Doubt(msgspec.Struct):
    """A group has moved; whether the others have too is to be seen.

    at, since: records, of all groups, that decided it and with which it began. looks: that have been taken.
    """

    number: int
    metric: int
    at: int
    since: int
    before: float
    after: float
    evidence: float
    looks: int = 0


class BiasState(msgspec.Struct):
    """All of a watch that changes; plain JSON."""

    index: int
    groups: list[str]
    watches: list[list[BernoulliState]]
    positions: list[list[Positions]]
    representation: DistributionState
    past: list[bytes]
    doubts: list[Doubt]


class Past:
    """The newest records of all groups. held: how many of them came before the batch in hand; -1: of no group."""

    def __init__(
        self, which: Numbers = NOTHING, truths: Bits = NONE, said: Bits = NONE, held: int = 0
    ) -> None:
        self.which, self.truths, self.said, self.held = which, truths, said, held

    def followed_by(self, which: NDArray[np.int64], labels: bytes, answers: bytes) -> "Past":
        """With a batch behind it."""
        return Past(
            np.concatenate([self.which, which.astype(np.int8)]),
            np.concatenate([self.truths, np.frombuffer(labels, np.uint8)]),
            np.concatenate([self.said, np.frombuffer(answers, np.uint8)]),
            len(self.which),
        )

    def newest(self) -> "Past":
        """Only so many."""
        return Past(self.which[-COMPARED:], self.truths[-COMPARED:], self.said[-COMPARED:])

    def signal(self, metric: int, count: int) -> tuple[Bits, Flags]:
        """A metric's signal in the last `count` records, and which of them it is about."""
        begin = len(self.which) - count
        truths, said = self.truths[begin:], self.said[begin:]
        everybody = np.ones(count, bool)
        return (
            (said, everybody), (truths, everybody), (said, truths == 1), (said, truths == 0),
            ((said != truths).astype(np.uint8), everybody),
        )[metric]  # fmt: skip

    def packed(self) -> list[bytes]:
        """For a state."""
        return [self.which.tobytes(), self.truths.tobytes(), self.said.tobytes()]

    @classmethod
    def unpacked(cls, packed: list[bytes]) -> "Past":
        """From a state."""
        which, truths, said = packed
        return cls(
            np.frombuffer(which, np.int8), np.frombuffer(truths, np.uint8), np.frombuffer(said, np.uint8)
        )


class BiasWatch:
    """One sensitive field and one model, binary task.

    threshold: records for one false alarm of everything here, shared evenly by representation and, for GROUPS groups,
    the metrics. stated: shares by group, if the mix is given. reference: records of a group before a metric is
    judged; four times as many of all groups before representation is.
    """

    def __init__(
        self,
        field: str,
        threshold: float,
        *,
        model: str = "",
        stated: Mapping[str, float] | None = None,
        reference: int = REFERENCE,
    ) -> None:
        self.field, self.model, self.reference = field, model, reference
        self.index = 0
        self.share = _share(threshold)
        self._groups: list[str] = []
        self._watches: list[list[BernoulliWatch]] = []
        self._positions: list[list[Positions]] = []
        self._past = Past()
        self._doubts: list[Doubt] = []
        self._mix = DistributionWatch(
            "bias", [], [field], {field: self.share}, model=model, reference=4 * reference
        )
        if stated is not None:
            self._mix.declare(field, stated)

    def update(self, groups: Sequence[str | None], labels: bytes, answers: bytes) -> list[Alarm]:
        """Judge the next outcomes, columns of one length; alarms in order of the records that decided them.

        groups: None if unknown (then only representation counts it). labels, answers: a byte each, 0 or 1.
        """
        found = [self._of_mix(alarm) for alarm in self._mix.update({self.field: groups}, len(groups))]
        which = self._numbered(groups)
        self._past = past = self._past.followed_by(which, labels, answers)
        for number in np.unique(which[which >= 0]).tolist():
            for metric in range(len(METRICS)):
                signal, about = past.signal(metric, len(groups))
                places = np.flatnonzero((which == number) & about)
                self._judge(number, metric, signal[places].tobytes(), places)
        found += self._settled(self.index + len(groups))
        self.index += len(groups)
        self._past = past.newest()
        return sorted(found, key=lambda alarm: (alarm.index, alarm.group, alarm.subject))

    def allow(self, threshold: float) -> None:
        """Another threshold for what comes next; nothing is forgotten."""
        self.share = _share(threshold)
        self._mix.allow({self.field: self.share})
        for watches in self._watches:
            for watch in watches:
                watch.threshold = self.share

    @property
    def represented(self) -> bool:
        """The shares of the groups are known: learnt, or stated."""
        return self._mix.ready[self.field]

    def restart(self) -> None:
        """Forget all references, as when another version of the model has begun to answer."""
        for watches in self._watches:
            for watch in watches:
                watch.restart()
        self._mix.restart()

    def standing(self) -> list[Standing]:
        """What is known of each group and metric, and whether that is enough to judge it."""
        return [
            Standing(
                f"{self.field}={group}", METRICS[metric], watch.state.count, watch.reference,
                watch.ready, watch.rate,
            )
            for group, watches in zip(self._groups, self._watches, strict=True)
            for metric, watch in enumerate(watches)
        ]  # fmt: skip

    def _numbered(self, groups: Sequence[str | None]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Each record's group by number; -1: unknown, or beyond the bound."""
        known = {group: number for number, group in enumerate(self._groups)}
        found = np.full(len(groups), -1)
        for at, group in enumerate(groups):
            number = known.get(group, -1) if group is not None else -1
            if number < 0 and group is not None and len(self._groups) < GROUPS:
                number = known[group] = len(self._groups)
                self._groups.append(group)
                self._watches.append([self._watch() for _ in METRICS])
                self._positions.append([Positions() for _ in METRICS])
            found[at] = number
        return found

    def _watch(self) -> BernoulliWatch:
        return BernoulliWatch(self.share, factors=BOTH, reference=self.reference, rarer=LEAST)

    def _judge(self, number: int, metric: int, signal: bytes, places: np.ndarray) -> None:
        """Note what has moved in a group."""
        watch, positions = self._watches[number][metric], self._positions[number][metric]
        before = positions.count
        positions.extend([self.index + place for place in places.tolist()])
        for crossing in watch.update(signal):
            at = self.index + int(places[crossing.at - before])
            since = positions.of(crossing.since)
            self._doubts.append(
                Doubt(number, metric, at, since, crossing.before, crossing.after, crossing.evidence)
            )

    def _settled(self, end: int) -> list[Alarm]:
        """Look at what is in doubt, as far as records before `end` allow it; what is a group's own is told."""
        found, left = [], []
        for doubt in self._doubts:
            while doubt.looks < len(LOOKS) and (at := doubt.at + LOOKS[doubt.looks]) < end:
                doubt.looks += 1
                if self._is_its_own(doubt, at):
                    found.append(self._alarm(doubt, at))
                    break
            else:
                if doubt.looks < len(LOOKS):
                    left.append(doubt)
        self._doubts = sorted(left, key=lambda doubt: (doubt.at, doubt.number, doubt.metric))
        return found

    def _alarm(self, doubt: Doubt, at: int) -> Alarm:
        return Alarm(
            kind="bias", subject=METRICS[doubt.metric], method="likelihood-ratio", index=at, since=doubt.since,
            before=doubt.before, after=doubt.after, evidence=doubt.evidence, threshold=self.share,
            model=self.model, group=f"{self.field}={self._groups[doubt.number]}",
        )  # fmt: skip

    def _is_its_own(self, doubt: Doubt, at: int) -> bool:
        """Whether, by record `at`, a group's change lies apart from that of the others, or nobody can tell."""
        past = self._past
        end = past.held + at - self.index + 1
        begin = min(max(past.held + doubt.since - self.index, 0), end - 1)
        signal, about = past.signal(doubt.metric, len(past.which))
        mine = past.which[:end] == doubt.number
        others = (past.which[:end] >= 0) & ~mine
        if not others.any():
            return False  # there is nobody to be treated unlike
        change, variance = 0.0, 0.0
        for sign, whose, least in ((1, mine, (0, 0)), (-1, others, (FEW_BEFORE, FEW_AFTER))):
            for part, span, few in ((-1, slice(0, begin), least[0]), (1, slice(begin, end), least[1])):
                values = signal[span][whose[span] & about[span]]
                if len(values) < few:
                    return True
                rate = (float(values.sum()) + 0.5) / (len(values) + 1.0)
                change += sign * part * rate
                variance += rate * (1.0 - rate) / (len(values) + 1.0)
        return bool(abs(change) > APART * np.sqrt(variance))

    def _of_mix(self, alarm: Alarm) -> Alarm:
        """Representation's alarm: the category that became more or less frequent is the group."""
        _, _, name = alarm.method.partition("category=")
        group = f"{self.field}={name}" if name else f"{self.field}"
        return msgspec.structs.replace(alarm, subject=REPRESENTATION, group=group)

    def state(self) -> BiasState:
        """All of it, to go on from elsewhere."""
        return BiasState(
            self.index,
            list(self._groups),
            [[watch.state for watch in watches] for watches in self._watches],
            self._positions,
            self._mix.state(),
            self._past.packed(),
            list(self._doubts),
        )

    def resume(self, state: BiasState) -> None:
        """Go on from there; the watch was made with the same arguments."""
        self.index, self._groups = state.index, list(state.groups)
        self._watches = []
        for states in state.watches:
            self._watches.append([self._watch() for _ in states])
            for watch, held in zip(self._watches[-1], states, strict=True):
                watch.state = held
        self._positions = state.positions
        self._past = Past.unpacked(state.past)
        self._doubts = list(state.doubts)
        self._mix.resume(state.representation)


def _share(threshold: float) -> float:
    """Records for one false alarm, for each metric of a group, and for representation."""
    return threshold * (1 + GROUPS * len(METRICS))
