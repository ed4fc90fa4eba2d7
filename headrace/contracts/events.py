"""The events on the topics, as msgspec structs: the API between services.

JSON on the wire, one struct a record, the kind under `type`. Times are integer milliseconds since 1970 UTC (`at` is
always *event* time). `False`, `0` and `""` are values; absent means missing. Fields are only ever added with
defaults: readers of older code skip what they do not know. What breaks if this is edited carelessly: every stored log.
"""

from typing import Any, Literal

import msgspec

from headrace.contracts.left_out import LeftOut

Scalar = str | int | float | bool
"""What a feature or a label may be. Missing features are absent from `x`, never null."""

Features = dict[str, Scalar]

Role = Literal["champion", "challenger"]


class Observation(msgspec.Struct, tag="observation", omit_defaults=True, gc=False):
    """Something to predict. `x` holds the contract's feature fields only, cleansed and typed by ingest.

    aside: the sensitive and segment fields that are no features. No model, feature or explanation sees them.
    """

    id: str
    entity: str
    at: int
    x: Features
    source: str = ""
    aside: Features | None = None


class Label(msgspec.Struct, tag="label", omit_defaults=True, gc=False):
    """The truth about observation `id`, known at `at`. `y`: bool (binary), class (multiclass) or number."""

    id: str
    entity: str
    at: int
    y: Scalar
    source: str = ""


class ContractAdopted(msgspec.Struct, tag="contract", omit_defaults=True):
    """Control: from this offset on the stream follows this contract (its plain-dict form, see contracts.stream)."""

    id: str
    at: int
    version: int
    contract: dict[str, Any]


class ModelDeployed(msgspec.Struct, tag="deploy", omit_defaults=True):
    """Control: from this offset on `model` answers. A new champion makes the old one a challenger.

    learnt: it begins as if it had been deployed with the stream's first contract, not with nothing learnt; and as if
    the records of `without` had never come.
    """

    id: str
    at: int
    model: str
    version: int
    specification: dict[str, Any]
    role: Role = "champion"
    learnt: bool = False
    without: LeftOut = LeftOut()


class ModelPromoted(msgspec.Struct, tag="promote", omit_defaults=True):
    """Control: `model` becomes champion, the old champion a challenger; both keep their state."""

    id: str
    at: int
    model: str


class TrafficShared(msgspec.Struct, tag="share", omit_defaults=True):
    """Control: from here on the challenger `model` answers a share of the entities, a canary; 0: none.

    An entity stays with who answers it while the share holds, and with the canary while the share grows. At most one
    model is a canary; it is none any more once any model is promoted.
    """

    id: str
    at: int
    model: str
    share: float


class LearningFrozen(msgspec.Struct, tag="freeze", omit_defaults=True):
    """Control: `model` stops (or, with frozen=False, resumes) learning; it goes on answering."""

    id: str
    at: int
    model: str
    frozen: bool = True


class ModelRetired(msgspec.Struct, tag="retire", omit_defaults=True):
    """Control: `model` leaves; its state is dropped."""

    id: str
    at: int
    model: str


class ModelRebuilt(msgspec.Struct, tag="rebuild", omit_defaults=True):
    """Control: from this offset on, the deployed `model` is what the log up to here makes of it without some records.

    It takes its present place over as `version`, learning. That it was frozen for a while is undone too, so what came
    in the meantime is learnt: every example that is not left out is learnt once, before this offset or after it.
    """

    id: str
    at: int
    model: str
    version: int
    without: LeftOut


Control = (
    ContractAdopted
    | ModelDeployed
    | ModelPromoted
    | TrafficShared
    | LearningFrozen
    | ModelRetired
    | ModelRebuilt
)
LogRecord = Observation | Label | Control


class Answer(msgspec.Struct, omit_defaults=True, gc=False):
    """What one model said. `answer` None: it could not answer (untrained, failed, or not a finite number).

    score: binary only, P(positive) in [0, 1]. probabilities: multiclass only, class (as text) -> probability.
    """

    model: str
    version: int
    answer: Scalar | None = None
    score: float | None = None
    probabilities: dict[str, float] | None = None


class Prediction(msgspec.Struct, omit_defaults=True, gc=False):
    """One per observation. Who answered (the champion, or a canary) on top, the other models beside it.

    offset: the observation's offset in its log partition. model is "" if the stream had no champion. groups: of the
    observation, by field (see `headrace.contracts.groups`); None: the contract declares none, or it is in none.
    outliers: fields whose values are beyond their bounds; None: none is, or nobody looked. anomaly: how unlike those
    before it the observation is, all fields together, in [0, 1]; None: nobody looked, or not enough was known.
    anomalous: hardly any before it was so unlike the others (see `headrace.fold.outliers`).
    """

    id: str
    entity: str
    at: int
    offset: int
    model: str = ""
    version: int = 0
    answer: Scalar | None = None
    score: float | None = None
    probabilities: dict[str, float] | None = None
    challengers: list[Answer] = []
    groups: dict[str, str] | None = None
    outliers: list[str] | None = None
    anomaly: float | None = None
    anomalous: bool = False


DriftKind = Literal["data", "prediction", "concept", "bias", "quality", "volume", "delay"]

OutcomeStatus = Literal["labelled", "expired", "corrected", "unmatched", "ignored"]


class Outcome(msgspec.Struct, omit_defaults=True, gc=False):
    """What became of a prediction.

    status: labelled (first label), expired (none in time; `y` set if the policy makes it a negative), corrected (a
    later label replaced the first, `previous_y`), unmatched (a label whose observation never came), ignored (a second
    label under the policy `ignore`). at: event time of the resolution; observed_at: of the observation; offset: of
    the record that resolved it; prediction_offset: the observation's, -1 if unmatched. groups: as in its prediction.
    """

    id: str
    entity: str
    at: int
    status: OutcomeStatus
    offset: int
    observed_at: int = 0
    prediction_offset: int = -1
    y: Scalar | None = None
    previous_y: Scalar | None = None
    model: str = ""
    version: int = 0
    answer: Scalar | None = None
    score: float | None = None
    probabilities: dict[str, float] | None = None
    challengers: list[Answer] = []
    groups: dict[str, str] | None = None


class Rejected(msgspec.Struct, omit_defaults=True):
    """A record that was refused. `original` is base64 of the exact bytes, so it can be mended and re-submitted.

    rule: short stable name of the broken rule (`json`, `type`, `range`, `unknown_field`, ...; see
    docs/bad-input.md). field: where. origin: `topic/partition/offset` of the record, or `http`.
    """

    at: int
    rule: str
    reason: str
    original: bytes
    field: str = ""
    origin: str = ""


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stored state: it is the one *before* `offset`.

    digest: sha256 of the stored bytes, their name. code: what wrote it. fingerprints: of the models in it, by
    `model@version`; what a rebuild up to `offset` must arrive at.
    """

    offset: int
    digest: str
    size_bytes: int
    code: str
    fingerprints: dict[str, str] = {}


class Checkpoint(msgspec.Struct, omit_defaults=True):
    """Where a shard's snapshots lie, oldest first.

    All of them in one record, as the topic is compacted: a pointer of its own for each would be gone when the newest
    turns out to be damaged and the one before is wanted.
    """

    partition: int
    snapshots: list[Snapshot]


class StreamAnnounced(msgspec.Struct, tag="stream", omit_defaults=True):
    """Registry: stream `stream` follows contract `version`. Key: `stream/S`."""

    stream: str
    version: int
    partitions: int
    contract: dict[str, Any]


class DeploymentAnnounced(msgspec.Struct, tag="deployment", omit_defaults=True):
    """Registry: a model's place on a stream. Key: `deployment/S/M`. role "retired": it left.

    payoff: what its answers are worth (`contracts.payoff`), in its plain form; None: nobody has said.
    """

    stream: str
    model: str
    version: int
    role: Literal["champion", "challenger", "retired"]
    at: int
    digest: str
    payoff: dict[str, float] | None = None


Announcement = StreamAnnounced | DeploymentAnnounced


class AuditHead(msgspec.Struct, frozen=True):
    """Registry: the end of its audit trail. sequence, digest, at: of the last record.

    signature: Ed25519, hexadecimal. key: id of the key that verifies it; "": a MAC, from before there were such keys.
    """

    sequence: int
    digest: str
    at: int
    signature: str = ""
    key: str = ""


class RowsWritten(msgspec.Struct, frozen=True, omit_defaults=True):
    """Registry: rows of its database as a change has left them, from which an empty database is made again.

    sequence: the change's number in the audit trail; 0: of none, but of what came of one later. part: counts from 1, as
    a change may take several messages; last: none follows. everything: an id, if these are all rows that there were
    after the change, and what was told before counts no more; else "". schema: of the tables. rows: a piece of text;
    the parts together are lines of JSON, one a row. signature: hexadecimal.
    """

    sequence: int
    part: int
    last: bool
    schema: str
    rows: str
    everything: str = ""
    signature: str = ""


class DriftDetected(msgspec.Struct, omit_defaults=True):
    """Monitor: something has moved. `id` is deterministic: telling it twice is harmless.

    kind: what sort of drift. subject: what moved: a field, or `score`, `error`, `log_loss`, `selection_rate`, ...
    method: which detector saw it. partition, offset, at: of the log, the record that decided it (observation or label)
    and its event time. since_offset, since_at: the observation with which the change most likely began; -1: not known.
    before, after: the subject's mean (share, rate) on both sides of it. evidence, threshold: what the detector had
    gathered, and the bound that its share of the false-alarm budget sets; both as the method counts them. model,
    version: whose. group: `field=value`, the people or the segment concerned.
    """

    id: str
    stream: str
    kind: DriftKind
    subject: str
    method: str
    partition: int
    offset: int
    at: int
    since_offset: int = -1
    since_at: int = -1
    before: float | None = None
    after: float | None = None
    evidence: float = 0.0
    threshold: float = 0.0
    model: str = ""
    version: int = 0
    group: str = ""


class RetrainProposed(msgspec.Struct, omit_defaults=True):
    """Something has moved, and the models of a stream should be retrained. `id` is deterministic: one a cause.

    at: event time. cause: what moved, for people. since: from which offset of the log on, by partition; {}: not known.
    offset: of the record with which it was proposed. drift: id of the event that it follows from; model, version,
    subject, before, after are that one's.
    """

    id: str
    stream: str
    at: int
    cause: str
    since: dict[int, int] = {}
    offset: int = -1
    drift: str = ""
    model: str = ""
    version: int = 0
    subject: str = ""
    before: float | None = None
    after: float | None = None


AlertState = Literal["firing", "acknowledged", "escalated", "resolved"]


class Alert(msgspec.Struct, omit_defaults=True):
    """What people are told: one step in an alert's life. `id` is deterministic, so telling it twice is harmless.

    alert: id of the step that fired it; "": this is that step. kind: `quality` (a figure of windows is beyond a
    bound) or a kind of drift. metric: the figure; of drift, its subject. value, bound: the figure and what it may not
    cross; of drift, evidence and threshold as the method counts them. by, why: who took the step and why.

    Of drift: drift is the event's id; group, method, partition, offset, since_offset, since_at, before, after are as in
    `DriftDetected`.
    """

    id: str
    stream: str
    rule: str
    severity: str
    state: AlertState
    metric: str
    value: float
    bound: float
    at: int
    model: str = ""
    version: int = 0
    reason: str = ""
    alert: str = ""
    kind: str = "quality"
    by: str = ""
    why: str = ""
    drift: str = ""
    group: str = ""
    method: str = ""
    partition: int = -1
    offset: int = -1
    since_offset: int = -1
    since_at: int = -1
    before: float | None = None
    after: float | None = None

    @property
    def fired(self) -> str:
        """Id of the step with which this alert's life began."""
        return self.alert or self.id


class AlertsMuted(msgspec.Struct, omit_defaults=True):
    """Alerts that fit are not told to people for a while. The newest record under an id counts.

    rule, stream, model, kind: what it is about; "" fits each. created, until, ended: wall time. by, why: who made it,
    and the reason; ended_by: who ended it before its time.
    """

    id: str
    created: int
    until: int
    by: str
    why: str
    rule: str = ""
    stream: str = ""
    model: str = ""
    kind: str = ""
    ended: int = 0
    ended_by: str = ""
