"""Watches how each group of a sensitive field is treated: named group, named metric, small groups said to be small.

For every group: how often it is answered positively (selection_rate), how often that is right or wrong
(true_positive_rate, false_positive_rate), how often it is positive (base_rate), and how often the answer is wrong
(error). Each is a 0/1 signal with an e-detector of its own (bernoulli.py), held against the group's own past, in both
directions. A group is judged by its own records, so a small one takes longer, and until it has a reference it is not
judged and `standing` says so. How many records each group sends is watched too, against the reference or a stated
mix.

Groups beyond the bound are not judged; they are counted in the representation as unseen or rare.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from services.monitor.domain.drift.alarm import Alarm
from services.monitor.domain.drift.bernoulli import BOTH, BernoulliState, BernoulliWatch
from services.monitor.domain.drift.distribution import DistributionState, DistributionWatch
from services.monitor.domain.drift.positions import Positions

METRICS = ("selection_rate", "base_rate", "true_positive_rate", "false_positive_rate", "error")

GROUPS = 8
"""Groups of a field that are judged, the first that come."""

REPRESENTATION = "representation"

REFERENCE = 512
"""Records of a group, among those a metric is about, before it is judged."""

LEAST = 20
"""And so many of the rarer value."""


class Standing(msgspec.Struct, frozen=True):
    """How far a metric of a group is known. count: records it is about; needed: before it is judged; rate: so far."""

    group: str
    metric: str
    count: int
    needed: int
    judged: bool
    rate: float


class BiasState(msgspec.Struct):
    """All of a watch that changes; plain JSON."""

    index: int
    groups: list[str]
    watches: list[list[BernoulliState]]
    positions: list[list[Positions]]
    representation: DistributionState


class BiasWatch:
    """One sensitive field and one model, binary task.

    threshold: records for one false alarm of everything here, shared evenly by representation and, for GROUPS groups,
    the metrics. stated: shares by group, if the mix is given. reference: records of a group before a metric is
    judged.
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
        self.share = threshold * (1 + GROUPS * len(METRICS))
        self._groups: list[str] = []
        self._watches: list[list[BernoulliWatch]] = []
        self._positions: list[list[Positions]] = []
        self._mix = DistributionWatch("bias", [], [field], {field: self.share}, model=model)
        if stated is not None:
            self._mix.declare(field, stated)

    def update(self, groups: Sequence[str | None], labels: bytes, answers: bytes) -> list[Alarm]:
        """Judge the next outcomes, columns of one length; alarms in order of the records that decided them.

        groups: None if unknown (then only representation counts it). labels, answers: a byte each, 0 or 1.
        """
        found = [self._of_mix(alarm) for alarm in self._mix.update({self.field: groups}, len(groups))]
        truths, said = np.frombuffer(labels, np.uint8), np.frombuffer(answers, np.uint8)
        signals = (
            (said, np.ones_like(said)), (truths, np.ones_like(said)), (said, truths),
            (said, 1 - truths), ((said != truths).astype(np.uint8), np.ones_like(said)),
        )  # fmt: skip
        which = self._numbered(groups)
        for number in np.unique(which[which >= 0]).tolist():
            there = which == number
            for metric, (signal, about) in enumerate(signals):
                places = np.flatnonzero(there & (about == 1))
                found += self._judge(number, metric, signal[places].tobytes(), places)
        self.index += len(groups)
        return sorted(found, key=lambda alarm: (alarm.index, alarm.group, alarm.subject))

    def restart(self) -> None:
        """Forget the groups' references, as when everything has changed for everybody."""
        for watches in self._watches:
            for watch in watches:
                watch.restart()

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

    def _judge(self, number: int, metric: int, signal: bytes, places: np.ndarray) -> list[Alarm]:
        watch, positions = self._watches[number][metric], self._positions[number][metric]
        before = positions.count
        positions.extend([self.index + place for place in places.tolist()])
        return [
            Alarm(
                kind="bias", subject=METRICS[metric], method="likelihood-ratio",
                index=self.index + int(places[crossing.at - before]), since=positions.of(crossing.since),
                before=crossing.before, after=crossing.after, evidence=crossing.evidence, threshold=watch.threshold,
                model=self.model, group=f"{self.field}={self._groups[number]}",
            )
            for crossing in watch.update(signal)
        ]  # fmt: skip

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
        self._mix.resume(state.representation)
