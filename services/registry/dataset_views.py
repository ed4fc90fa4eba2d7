"""What the routes about datasets take and answer, as pydantic models: they are their OpenAPI document."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.registry.views import RangeView, Strict

State = Literal["measuring", "measured", "failed"]


class AskedRange(Strict):
    """Offsets of a partition: from (left out: the log's first), and before (left out: its end as it is now)."""

    since: int | None = Field(None, alias="from", ge=0)
    before: int | None = Field(None, ge=0)

    model_config = ConfigDict(populate_by_name=True)


class DatasetRequest(Strict):
    """Which records of a stream's log the dataset refers to. ranges: by partition; left out: all there are now."""

    name: str = Field(max_length=63)
    stream: str = Field(max_length=63)
    ranges: dict[str, AskedRange] | None = Field(
        None, max_length=1024, examples=[{"0": {"from": 0, "before": 1000}}]
    )
    without: list[str] = Field(
        [],
        max_length=1000,
        description="Records that do not belong: `entity:ID`, `source:NAME`, `offsets:P:FROM..TO`, `time:FROM..TO`",
    )
    description: str = Field("", max_length=2000)


class DatasetCreated(BaseModel):
    """A version of a dataset. created: False if this reference was a version already."""

    name: str
    version: int
    created: bool


class DatasetSummary(BaseModel):
    """A version of a dataset in a list. digest, records: None until it is measured. failure: why it cannot be."""

    name: str
    version: int
    stream: str
    ranges: dict[str, RangeView]
    contracts: list[int]
    without: list[str]
    description: str
    created_at: str
    created_by: str
    reason: str
    state: State
    failure: str
    digest: str | None
    records: int | None
    measured_at: str | None


class SeenBy(BaseModel):
    """A model version that learnt from part of a dataset. share: of its offsets; without: a rebuild left some out."""

    model: str
    version: int
    share: float
    ranges: dict[str, RangeView]
    without: bool
    ended_at: str | None


class DatasetDetail(DatasetSummary):
    """A version of a dataset with what was measured (docs/datasets.md), and which model versions learnt from it."""

    measurement: dict[str, Any] | None
    seen_by: list[SeenBy]


class Datasets(BaseModel):
    """A page of datasets, each by its latest version. next: give it as `after` for the next page; None on the last."""

    datasets: list[DatasetSummary]
    next: str | None


class DatasetVersions(BaseModel):
    """A page of a dataset's versions, newest first. next: give it as `below` for the next page; None on the last."""

    name: str
    versions: list[DatasetSummary]
    next: int | None
