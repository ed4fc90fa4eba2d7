"""What the routes about versions of contracts answer, as pydantic models: they are their OpenAPI document."""

from typing import Any

from pydantic import BaseModel


class ContractChange(BaseModel):
    """What a version changed: a part of the contract (`label.wait_seconds`, `fields.a`), before and after it."""

    where: str
    before: Any
    after: Any


class ContractVersion(BaseModel):
    """A version of a contract. offsets: from which on it holds, by partition; None: pending.

    changes: against the version before; none for the first.
    """

    version: int
    digest: str
    created_at: str
    created_by: str
    offsets: dict[str, int] | None
    changes: list[ContractChange]
    contract: dict[str, Any]


class ContractVersions(BaseModel):
    """Versions of a stream's contract, oldest first. next: give it as `after` for the next page; None on the last."""

    stream: str
    versions: list[ContractVersion]
    next: int | None
