"""The audit trail over HTTP: read it, have it verified, and get the key that verifies what is announced of it."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query

from services.registry import views
from services.registry.api import Limit, operator
from services.registry.domain.audit import Record
from services.registry.registry import Registry
from services.registry.route import RegistryRoute

Filter = Annotated[str, Query(max_length=63)]


def build_audit_routes(registry: Registry) -> APIRouter:
    """All routes under `/v1/audit`."""
    router = APIRouter(
        prefix="/v1/audit", tags=["audit"], dependencies=[Depends(operator)], route_class=RegistryRoute
    )

    @router.get("", summary="Who changed what, when and why; newest first")
    def list_records(
        limit: Limit = 50,
        below: Annotated[int | None, Query(ge=1, le=2**62, description="`next` of the page before")] = None,
        stream: Filter = "",
        model: Filter = "",
        who: Filter = "",
    ) -> views.AuditRecords:
        found = registry.trail.page(limit + 1, below, stream=stream, model=model, who=who)
        return views.AuditRecords(
            records=[_view(record) for record in found[:limit]],
            next=found[limit - 1].sequence if len(found) > limit else None,
        )

    @router.get("/verify", summary="Verify the whole trail, and all that was announced of it")
    def verify() -> views.AuditVerdict:
        found = registry.examine()
        return views.AuditVerdict(
            ok=found.fault is None and not found.strange_heads,
            records=found.records,
            heads=found.heads,
            announced=found.announced,
            strange_heads=found.strange_heads,
            fault=None if found.fault is None else views.AuditFault(**found.fault._asdict()),
        )

    @router.get("/key", summary="The public key that verifies the announced heads")
    def public_key() -> views.AuditKey:
        public = registry.trail.seal.public
        return views.AuditKey(id=public.id, public_key=public.raw.hex(), name=public.name)

    return router


def _view(record: Record) -> views.AuditRecord:
    return views.AuditRecord(
        sequence=record.sequence,
        at=_time(record.at_ms),
        who=record.who,
        action=record.action,
        stream=record.stream,
        model=record.model,
        rollout=record.rollout,
        before=_read(record.before),
        after=_read(record.after),
        why=record.why,
        previous=record.previous,
        digest=record.digest,
    )


# Whoever has tampered with a record shall not keep others from seeing it: what cannot be read is shown as it is.


def _time(at_ms: int) -> str:
    try:
        return views.rfc3339(at_ms)
    except (ValueError, OverflowError, TypeError, OSError):
        return str(at_ms)


def _read(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, TypeError):
        return str(text)
