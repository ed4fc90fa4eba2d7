"""What the tests of alerts share: a control plane with a wall clock to turn, events of drift, their records."""

import msgspec

from headrace.contracts.codec import encode
from headrace.contracts.events import Alert, DriftDetected
from services.monitor.control import ControlPlane, Kept
from services.monitor.domain.rules import Rule
from services.monitor.domain.tables import Tables

HOUR = 3_600_000


def drift(number, at=0, **more):
    """The number-th event of the topic."""
    given = {"stream": "s", "kind": "concept", "subject": "error", "method": "adwin"}
    given |= {
        "partition": 0,
        "offset": number,
        "before": 0.1,
        "after": 0.4,
        "evidence": 30.0,
        "threshold": 20.0,
    }
    return DriftDetected(id=f"d{number}", at=at, **given | more)


def kept(events, written_at=0):
    """Records of a topic that holds these events."""
    return [Kept(encode(event), place, written_at) for place, event in enumerate(events)]


def drift_rule(name="moved", **more):
    return Rule(**{"name": name, "stream": "*", "drift": ["concept"], "rearm_seconds": 3600} | more)


class Plane(ControlPlane):
    """A control plane whose wall clock stands where `time` says (seconds), and champions that `champion` names."""

    def __init__(self, rules, time=1_000.0):
        self.time = time
        self.champion = {}
        super().__init__(
            Tables(3600), silent_seconds=60, clock=lambda: 0.0, wall=lambda: self.time,
            champions=lambda: self.champion,
        )  # fmt: skip
        self.use(rules)

    def tell(self):
        """Judge, and let the broker acknowledge everything; what was told, as it is on the wire."""
        self.judge()
        told = []
        while self.outbox:
            told.append(self.outbox[0])
            self.sent(self.outbox[0])
        return [
            msgspec.json.decode(encode(one), type=Alert) if isinstance(one, Alert) else one for one in told
        ]
