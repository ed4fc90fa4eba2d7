"""What the registry's routes take and answer, as pydantic models: they are its OpenAPI document."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.registry.domain.rollouts import Plan

Standing = Literal["champion", "challenger", "retired"]
State = Literal["pending", "effective"]


class Strict(BaseModel):
    """A request body: nothing unknown, nothing that is not finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class ModelSubmission(Strict):
    """A specification to be registered as a version of model `name`."""

    name: str = Field(max_length=63, examples=["lateness"])
    specification: dict[str, Any] | str = Field(
        description="The specification as an object, or as YAML text",
        examples=[{"model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"], "seed": 42}],
    )
    description: str = Field("", max_length=2000)


class DeploymentRequest(Strict):
    """Which model takes which place. version: left out, it is the latest."""

    model: str = Field(max_length=63)
    version: int | None = Field(None, ge=1)
    role: Literal["champion", "challenger"] = "champion"
    learnt: bool = Field(False, description="It begins with what the log would have taught it")
    payoff: dict[str, float] | None = Field(
        None, description="What its answers are worth (docs/value.md); left out, as it was"
    )


class RebuildRequest(Strict):
    """What a model is to go on without: `entity:ID`, `source:NAME`, `offsets:P:FROM..TO`, `time:FROM..TO`."""

    without: list[str] = Field(min_length=1, max_length=1000, examples=[["source:broken-sensor"]])


class StreamCreated(BaseModel):
    """A stream and the version of its contract that now holds. created: whether this request changed anything."""

    stream: str
    version: int
    partitions: int
    created: bool


class StreamSummary(BaseModel):
    """A stream in a list."""

    stream: str
    version: int
    partitions: int
    task: str
    champion: str | None
    created_at: str


class Streams(BaseModel):
    """A page of streams. next: give it as `after` for the next page; None on the last."""

    streams: list[StreamSummary]
    next: str | None


class Deployment(BaseModel):
    """A model's place on a stream.

    share: of the entities that it answers as a canary. offsets: where its deployment lies in each partition of the log
    (it answers from there on); None while pending.
    """

    stream: str
    model: str
    version: int
    role: Standing
    share: float
    frozen: bool
    state: State
    offsets: dict[str, int] | None
    digest: str
    changed_at: str
    payoff: dict[str, float] | None = Field(description="What its answers are worth; null: nobody has said")


class Deployments(BaseModel):
    """Every model that is or was on a stream."""

    deployments: list[Deployment]


class PlaceView(BaseModel):
    """How a version stood from a decision on; offsets: from where on in each partition."""

    role: Standing
    share: float
    frozen: bool
    decision: str
    decided_at: str
    decided_by: str
    offsets: dict[str, int] | None


class Stood(PlaceView):
    """A model's place at a moment, and the decision that put it there."""

    model: str
    version: int


class VersionName(BaseModel):
    """A version of a model."""

    model: str
    version: int


class LineUpThen(BaseModel):
    """Who stood on a stream at a moment. champion: whose answers were served; None: nobody's.

    previous: the champion before it, or the last if there was none.
    """

    stream: str
    at: str
    champion: Stood | None
    previous: VersionName | None
    models: list[Stood]


class StreamDetail(BaseModel):
    """A stream: its contract in the plain form and its deployments."""

    stream: str
    version: int
    partitions: int
    contract: dict[str, Any]
    deployments: list[Deployment]
    created_at: str


class ModelCreated(BaseModel):
    """A registered specification. created: False if an identical one was there."""

    model: str
    version: int
    digest: str
    created: bool


class ModelVersion(BaseModel):
    """A version of a model. parent, without: set if it is a rebuild of that version without some records."""

    model: str
    version: int
    digest: str
    description: str
    created_at: str
    created_by: str
    specification: dict[str, Any]
    parent: int | None = None
    without: dict[str, Any] | None = None


class ModelSummary(BaseModel):
    """A model in a list, by its latest version."""

    model: str
    version: int
    digest: str
    description: str
    created_at: str


class Models(BaseModel):
    """A page of models."""

    models: list[ModelSummary]
    next: str | None


class ModelDetail(BaseModel):
    """A model and all its versions, oldest first."""

    model: str
    version: int
    versions: list[ModelVersion]


class Change(BaseModel):
    """What became of a deployed model, and where in each partition of the log it takes effect."""

    stream: str
    model: str
    version: int
    role: Standing
    frozen: bool
    changed: bool
    offsets: dict[str, int] | None


class DeploymentMade(BaseModel):
    """A model that took its place. created: False if it was there already."""

    stream: str
    model: str
    version: int
    role: Standing
    created: bool
    offsets: dict[str, int] | None


_PLAN = Plan()


class PlanRequest(Strict):
    """What is asked of a challenger; see docs/rollouts.md."""

    warm_up_labels: int = Field(
        _PLAN.warm_up_labels, description="Labels that the shadow may learn before any count"
    )
    error_rate: float = Field(
        _PLAN.error_rate, description="How often one that is not better may be called better"
    )
    harm_rate: float = Field(
        _PLAN.harm_rate, description="How often one that is not worse may be called worse"
    )
    most_labels: int = Field(
        _PLAN.most_labels, description="Labels after which a shadow without a verdict is dropped"
    )
    canary: list[float] = Field(
        default=list(_PLAN.canary), description="Shares of the entities that it answers, rising"
    )
    canary_labels: int = Field(_PLAN.canary_labels, description="Labels of its own answers at each share")
    guard_labels: int = Field(
        _PLAN.guard_labels, description="Labels for which the old champion stays beside it; 0: none"
    )
    approval: bool = Field(
        _PLAN.approval, description="A second person has to agree before it answers anybody"
    )


class RolloutRequest(Strict):
    """Which model version is rolled out, and how. version: left out, it is the latest."""

    model: str = Field(max_length=63)
    version: int | None = Field(None, ge=1)
    plan: PlanRequest = PlanRequest()
    learnt: bool = Field(False, description="It begins with what the log would have taught it")
    payoff: dict[str, float] | None = Field(
        None, description="What its answers are worth (docs/value.md); left out, as it was"
    )


class EvidenceView(BaseModel):
    """What the labels say of the model asked beside against the one that answers.

    mean_difference: how much less it loses an event, with its standard_error. better, worse: e-values, to be held
    against `decides_at`.
    """

    labels: int
    mean_difference: float
    standard_error: float
    better: float
    worse: float


class PassedStage(BaseModel):
    """A stage that is over. ruling: what the labels said; "": a person decided."""

    stage: str
    share: float
    evidence: EvidenceView
    ruling: str
    ended_at: str
    decided_by: str


class RolloutView(BaseModel):
    """A rollout. decides_at: the e-values that end its present stage, by side."""

    stream: str
    rollout: int
    revision: int
    challenger: str
    champion: str
    stage: str
    share: float
    open: bool
    held: bool
    awaits_approval: bool
    proposed_by: str
    approved_by: str
    warmed: int
    plan: PlanRequest
    evidence: EvidenceView
    decides_at: dict[str, float]
    past: list[PassedStage]
    created_at: str
    changed_at: str


class Rollouts(BaseModel):
    """A page of rollouts, newest first. next: give it as `below` for the next page; None on the last."""

    rollouts: list[RolloutView]
    next: int | None


class LearntRange(BaseModel):
    """Offsets of a partition of the log that were learnt: from, and before; before None: it still learns."""

    since: int = Field(alias="from")
    before: int | None

    model_config = ConfigDict(populate_by_name=True)


class RangeView(BaseModel):
    """Offsets of a partition: from, and before."""

    since: int = Field(alias="from")
    before: int

    model_config = ConfigDict(populate_by_name=True)


class SawDataset(BaseModel):
    """A dataset that a version learnt from: which part of it, and what share of its offsets that is."""

    name: str
    version: int
    share: float
    ranges: dict[str, RangeView]


class LifeView(BaseModel):
    """A version's life on a stream: which ranges of the log it learnt, without what, under which contracts.

    learnt: by partition; empty while its deployment is pending. without: each `below` offsets. ended_at: None while it
    lives. datasets: named ones that it learnt from, the newest first; only where one version is asked about.
    """

    stream: str
    model: str
    version: int
    learnt: dict[str, LearntRange]
    without: list[dict[str, Any]]
    contracts: list[int]
    places: list[PlaceView]
    ended_at: str | None
    datasets: list[SawDataset] = []


class Lives(BaseModel):
    """Lives, in the order in which they began."""

    lives: list[LifeView]


class Lineage(BaseModel):
    """What a version is made of: its specification and everything that it learnt from."""

    version: ModelVersion
    lives: list[LifeView]
    rollouts: list[RolloutView]


class AuditRecord(BaseModel):
    """A change: who made it, when and why; what it concerned was so before and so after it. See docs/audit.md."""

    sequence: int
    at: str
    who: str
    action: str
    stream: str
    model: str
    rollout: int
    before: Any
    after: Any
    why: str
    previous: str
    digest: str


class AuditRecords(BaseModel):
    """A page of the audit trail, newest first. next: give it as `below` for the next page; None on the last."""

    records: list[AuditRecord]
    next: int | None


class AuditFault(BaseModel):
    """The first record that is not as it was written: its number, what is wrong with it, and the same for people."""

    sequence: int
    wrong: Literal["missing", "altered", "detached", "replaced", "cut"]
    says: str


class AuditVerdict(BaseModel):
    """Whether the audit trail is as it was written.

    records: how many are in order, from the first on. heads: signed announcements, of records up to `announced`.
    strange_heads: announcements that were not signed with the registry's key; one of them is enough for not `ok`.
    """

    ok: bool
    records: int
    heads: int
    announced: int
    strange_heads: int
    fault: AuditFault | None


class AuditKey(BaseModel):
    """An Ed25519 public key, hexadecimal. id: what signatures call it."""

    id: str
    public_key: str
    name: str


def rfc3339(milliseconds: int) -> str:
    """A time as text, for people."""
    return (
        datetime.fromtimestamp(milliseconds / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
