"""River's detectors by name, for those who know them: not calibrated, and outside the budget.

What they promise is a probability for each test, not a rate of false alarms, and under autocorrelation they alarm many
times too often (docs/drift.md has numbers). Their inner state is River's own and no plain data, so the state kept here
is what they were given since they last began, from which the same detector is made again; at the bound they begin anew.
KSWIN is left out, as it takes over half a millisecond a record.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from river import drift
from river.drift.binary.ddm import DDM
from river.drift.binary.hddm_a import HDDMA
from river.drift.binary.hddm_w import HDDMW

from headrace.contracts.events import DriftKind
from headrace.errors import Unusable
from services.monitor.domain.drift.alarm import Alarm

DETECTORS: dict[str, Callable[[], Any]] = {
    "ADWIN": drift.ADWIN,
    "PageHinkley": drift.PageHinkley,
    "DDM": DDM,
    "HDDM_A": HDDMA,
    "HDDM_W": HDDMW,
}

ZERO_ONE = frozenset(("DDM", "HDDM_A", "HDDM_W"))
"""Those that take 0 and 1 only."""

REMEMBERED = 50_000
"""Values a detector has seen at most; then it begins anew."""


class RiverState(msgspec.Struct):
    """All of a watch that changes; plain JSON."""

    index: int = 0
    values: list[float] = []


class RiverWatch:
    """One signal, watched by one of DETECTORS at its defaults; after an alarm it begins anew.

    Raises Unusable for a name that is not there.
    """

    def __init__(self, name: str, kind: DriftKind, subject: str, *, model: str = "") -> None:
        if name not in DETECTORS:
            raise Unusable(f"no detector {name!r}; there are {', '.join(DETECTORS)}", where="detector")
        self.name, self.kind, self.subject, self.model = name, kind, subject, model
        self._index = 0
        self._values: list[float] = []
        self._detector = DETECTORS[name]()

    def update(self, values: Sequence[float]) -> list[Alarm]:
        """Judge the next values; alarms in order, dated to the record that decided them, as these detectors tell no
        more.

        Raises Unusable for a value other than 0 and 1 where only these are understood.
        """
        found = []
        for value in values:
            if self.name in ZERO_ONE and value not in (0, 1):
                raise Unusable(f"{self.name} takes 0 and 1 only, not {value!r}", where="detector")
            self._values.append(float(value))
            self._detector.update(bool(value) if self.name in ZERO_ONE else float(value))
            if self._detector.drift_detected:
                found.append(
                    Alarm(
                        kind=self.kind, subject=self.subject, method=f"river {self.name}", index=self._index,
                        since=self._index, model=self.model,
                    )
                )  # fmt: skip
            if self._detector.drift_detected or len(self._values) == REMEMBERED:
                self._values = []
                self._detector = DETECTORS[self.name]()
            self._index += 1
        return found

    def state(self) -> RiverState:
        """All of it, to go on from elsewhere."""
        return RiverState(self._index, list(self._values))

    def resume(self, state: RiverState) -> None:
        """Go on from there: the detector is given again what it had seen."""
        self._index, self._values = state.index, list(state.values)
        self._detector = DETECTORS[self.name]()
        for value in self._values:
            self._detector.update(bool(value) if self.name in ZERO_ONE else value)
