"""River's detectors on the signals of one topic, for those who name them: outside the budget, told by their name."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.contracts.events import DriftDetected
from services.monitor.domain.drift.river_signals import RiverState, RiverWatch
from services.monitor.domain.finding import Source, Spot, Watched, told


class Signals:
    """Detectors of one partition, or of one model's answers in it. Bounds: `tolerance.SIGNALS`, and RiverWatch's."""

    def __init__(self, source: Source, watches: Sequence[RiverWatch], name: str = "") -> None:
        self._source, self._watches, self._name = source, watches, name

    def __bool__(self) -> bool:
        return bool(self._watches)

    def update(
        self, values: Mapping[str, NDArray[np.float64]], spots: Sequence[Spot], begun: Sequence[Spot]
    ) -> list[DriftDetected]:
        """Look at the next records; what was found.

        values: by subject, one a record, NaN where there is none. spots: where each was decided; begun: observed.
        """
        found = []
        for watch in self._watches:
            if watch.subject not in values:
                continue
            column = values[watch.subject]
            places = np.flatnonzero(np.isfinite(column)).tolist()
            first = watch.index
            for alarm in watch.update(column[places].tolist()):
                place = places[alarm.index - first]
                found.append(told(self._source, alarm, self._name, spots[place], begun[place]))
        return found

    def watched(self) -> list[Watched]:
        """What is watched."""
        return [
            Watched(one.kind, one.subject, True, model=self._name, method=one.name) for one in self._watches
        ]

    def state(self) -> list[RiverState]:
        """All of it."""
        return [watch.state() for watch in self._watches]

    def resume(self, states: Sequence[RiverState]) -> None:
        """Go on from there."""
        for watch, state in zip(self._watches, states, strict=True):
            watch.resume(state)
