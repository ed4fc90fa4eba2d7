"""River's detectors by name, for those who know them: not calibrated, and outside the budget.

What they promise is a probability for each test, not a rate of false alarms, and under autocorrelation they alarm many
times too often (docs/drift.md has numbers). Their inner state is River's own and no plain data, so the state kept here
is what they were given since they last began, from which the same detector is made again; at the bound they begin anew.
KSWIN is left out, as it takes over half a millisecond a record.
"""

from array import array
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import msgspec
import numpy as np

from headrace.contracts.events import DriftKind
from headrace.errors import Unusable
from services.monitor.domain.drift.alarm import Alarm
from services.monitor.domain.drift.arrays import pack

DETECTORS = {
    "ADWIN": ("river.drift.adwin", "ADWIN"),
    "PageHinkley": ("river.drift.page_hinkley", "PageHinkley"),
    "DDM": ("river.drift.binary.ddm", "DDM"),
    "HDDM_A": ("river.drift.binary.hddm_a", "HDDMA"),
    "HDDM_W": ("river.drift.binary.hddm_w", "HDDMW"),
}
"""Module and class: imported when one is used, as who names none has no need of River in memory."""

ZERO_ONE = frozenset(("DDM", "HDDM_A", "HDDM_W"))
"""Those that take 0 and 1 only."""

REMEMBERED = 50_000
"""Values a detector has seen at most; then it begins anew."""

LARGEST = 1e100
"""Numbers are held within this, so that their squares are numbers, too."""

TRIED = 64
"""Pairs of a 0 and a 1, to see whether River takes the parameters."""


class RiverState(msgspec.Struct):
    """All of a watch that changes; plain JSON. values: seen since it last began, as packed float64."""

    index: int = 0
    values: bytes = b""


class RiverWatch:
    """One signal, watched by one of DETECTORS; after an alarm it begins anew.

    parameters: of River's class; what is left out is at its default. Raises Unusable for a name that is not there.
    """

    def __init__(
        self,
        name: str,
        kind: DriftKind,
        subject: str,
        *,
        model: str = "",
        parameters: Mapping[str, float | str] | None = None,
    ) -> None:
        if name not in DETECTORS:
            raise Unusable(f"no detector {name!r}; there are {', '.join(DETECTORS)}", where="detector")
        self.name, self.kind, self.subject, self.model = name, kind, subject, model
        self.zero_one = name in ZERO_ONE
        self.index = 0
        self._parameters = dict(parameters or {})
        self._values = array("d")
        self._detector: Any = None

    def update(self, values: Sequence[float]) -> list[Alarm]:
        """Judge the next values, finite numbers; alarms in order, dated to the record that decided them, as these
        detectors tell no more.

        Raises Unusable for a value other than 0 and 1 where only these are understood.
        """
        found = []
        for value in values:
            if self.zero_one and value not in (0, 1):
                raise Unusable(f"{self.name} takes 0 and 1 only, not {value!r}", where="detector")
            if self._detector is None:
                self._detector = self._made()
            self._values.append(min(max(float(value), -LARGEST), LARGEST))
            self._see(self._values[-1])
            if self._detector.drift_detected:
                found.append(
                    Alarm(
                        kind=self.kind, subject=self.subject, method=self.name, index=self.index,
                        since=self.index, model=self.model,
                    )
                )  # fmt: skip
            if self._detector.drift_detected or len(self._values) == REMEMBERED:
                self._values = array("d")
                self._detector = None
            self.index += 1
        return found

    def try_out(self) -> None:
        """See a few values. Raises Unusable if River does not take the parameters, or cannot work with them."""
        try:
            self.update([0.0, 1.0] * TRIED)
        except Unusable:
            raise
        except Exception as error:  # whatever River makes of them
            raise Unusable(f"{self.name} does not work with {self._parameters}: {error}") from None

    def state(self) -> RiverState:
        """All of it, to go on from elsewhere."""
        return RiverState(self.index, pack(np.array(self._values)).data)

    def resume(self, state: RiverState) -> None:
        """Go on from there: the detector is given again what it had seen."""
        self.index = state.index
        self._values = array("d", np.frombuffer(state.values, "<f8").tolist())
        self._detector = self._made() if self._values else None
        for value in self._values:
            self._see(value)

    def _made(self) -> Any:
        module, name = DETECTORS[self.name]
        return getattr(import_module(module), name)(**self._parameters)

    def _see(self, value: float) -> None:
        self._detector.update(bool(value) if self.zero_one else value)
