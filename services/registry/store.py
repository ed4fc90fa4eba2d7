"""The registry's memory: every decision is one transaction, and a decision made on stale state is made again."""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session

from headrace.contracts.left_out import LeftOut, describe
from headrace.contracts.stream import StreamContract
from services.registry.database import Database
from services.registry.decisions import (
    Absent,
    contract_version,
    decide,
    deciding,
    line_up,
    stream_row,
    stream_version,
    to_be_placed,
    undisturbed,
)
from services.registry.domain import audit, controls, lifecycle
from services.registry.domain.audit import By, Change
from services.registry.notes import Notes
from services.registry.payoffs import PayoffStore
from services.registry.request import Version, expect
from services.registry.tables import ContractRow, ControlRow, DeploymentRow, ModelRow, StreamRow, VersionRow
from services.registry.trail import Trail, in_line


class Store:
    """Contracts, models, deployments. Safe to use from several threads. Raises `Transient` as the database does."""

    def __init__(self, database: Database, now_ms: Callable[[], int], trail: Trail) -> None:
        self._read = database.read
        self._decide = database.decide
        self._now_ms = now_ms
        self._record = trail.append
        self.notes = Notes(database, now_ms, trail)
        self.payoffs = PayoffStore(database, now_ms, trail)

    # -- contracts ----------------------------------------------------------------------------------------------------

    def adopt(
        self,
        contract: StreamContract,
        breaking: Callable[[StreamContract], None],
        current: Callable[[dict[str, Any]], StreamContract],
        by: By,
    ) -> tuple[int, bool]:
        """Make `contract` the stream's next version, or find that it is the present one: (version, whether new).

        breaking: raises `Conflict` if the contract may not follow the present one. current: reads a plain form.
        """

        def work(session: Session) -> tuple[int, bool]:
            now = self._now_ms()
            digest = contract_digest(contract)
            taken = select(StreamRow.name).where(StreamRow.name == contract.name)
            session.execute(taken.with_for_update())
            present = _latest_contract(session, contract.name)
            if present is None:
                expect()
                row = StreamRow(
                    name=contract.name,
                    partitions=contract.partitions,
                    sequence=0,
                    announced=0,
                    created_ms=now,
                )
                session.add(row)
                session.flush()
            else:
                row = stream_row(session, contract.name)
                expect(contract_version(present), stream_version(row))
                if present.digest == digest:
                    return present.version, False
                breaking(current(present.document))
            version = present.version + 1 if present else 1
            document = {**contract.to_dict(), "version": version}
            in_line(session)
            number = (session.scalar(select(func.max(ContractRow.number))) or 0) + 1
            session.add(
                ContractRow(
                    stream=contract.name,
                    version=version,
                    digest=digest,
                    document=document,
                    number=number,
                    created_ms=now,
                    created_by=by.name,
                )
            )
            decide(session, row, {}, {}, controls.adopted(contract.name, version, document), now, by.name)
            before = {} if present is None else {"version": present.version, "digest": present.digest}
            change = Change("adopt", before, {"version": version, "digest": digest}, contract.name)
            self._record(session, now, by, change)
            return version, True

        return self._decide(work)

    def streams(self, limit: int, after: str = "") -> list[StreamRow]:
        """Streams by name, those after `after`."""
        query = select(StreamRow).where(StreamRow.name > after).order_by(StreamRow.name).limit(limit)
        return self._read(lambda session: list(session.scalars(query)))

    def stream(self, name: str) -> StreamRow:
        """A stream, or `Absent`."""
        return self._read(lambda session: stream_row(session, name))

    def contract(self, stream: str, version: int | None = None) -> ContractRow:
        """A version of a stream's contract (None: the present one), or `Absent`."""

        def work(session: Session) -> ContractRow:
            stream_row(session, stream)
            found = (
                _latest_contract(session, stream)
                if version is None
                else session.get(ContractRow, (stream, version))
            )
            if found is None:
                raise Absent(f"stream {stream} has no contract version {version}")
            return found

        return self._read(work)

    def contracts(self, stream: str, limit: int | None = None, after: int = 0) -> list[ContractRow]:
        """Versions of a stream's contract after one (limit None: all of them), oldest first, or `Absent`."""

        def work(session: Session) -> list[ContractRow]:
            stream_row(session, stream)
            query = (
                select(ContractRow)
                .where(ContractRow.stream == stream, ContractRow.version > after)
                .order_by(ContractRow.version)
                .limit(limit)
            )
            return list(session.scalars(query))

        return self._read(work)

    def numbered(self, number: int) -> ContractRow:
        """The contract with this number in the whole registry, or `Absent`."""
        return self._contract(select(ContractRow).where(ContractRow.number == number), f"number {number}")

    def fingerprinted(self, digest: str) -> ContractRow:
        """The newest contract whose digest begins so, or `Absent`."""
        query = select(ContractRow).where(ContractRow.digest.startswith(digest, autoescape=True))
        return self._contract(query.order_by(ContractRow.number.desc()).limit(1), f"digest {digest}")

    def _contract(self, query: Select[ContractRow], asked: str) -> ContractRow:
        found = self._read(lambda session: session.scalar(query))
        if found is None:
            raise Absent(f"there is no contract with {asked}")
        return found

    # -- models -------------------------------------------------------------------------------------------------------

    def submit(
        self, model: str, digest: str, specification: dict[str, Any], description: str, by: By
    ) -> tuple[int, bool]:
        """Make a specification the model's next version, or find the version that has it: (version, whether new)."""

        def work(session: Session) -> tuple[int, bool]:
            now = self._now_ms()
            latest = _latest_version(session, model)
            expect(*([Version("model", model, latest)] if latest else []))
            if not latest and session.get(ModelRow, model) is None:
                session.add(ModelRow(name=model, created_ms=now))
                session.flush()
            same = select(VersionRow.version).where(VersionRow.model == model, VersionRow.digest == digest)
            found = session.scalar(same)
            if found is not None:
                return found, False
            version = latest + 1
            session.add(
                VersionRow(
                    model=model,
                    version=version,
                    digest=digest,
                    specification=specification,
                    description=description,
                    created_ms=now,
                    created_by=by.name,
                )
            )
            before = {"version": version - 1} if version > 1 else {}
            after = {"version": version, "digest": digest}
            self._record(session, now, by, Change("register", before, after, model=model))
            return version, True

        return self._decide(work)

    def models(self, limit: int, after: str = "", like: Sequence[str] = ()) -> list[VersionRow]:
        """The latest version of every model, by name, those after `after`. like: SQL patterns, all fulfilled."""
        latest = (
            select(VersionRow.model, func.max(VersionRow.version).label("version"))
            .where(VersionRow.model > after, *_like(like))
            .group_by(VersionRow.model)
            .order_by(VersionRow.model)
            .limit(limit)
            .subquery()
        )
        query = (
            select(VersionRow)
            .join(latest, (VersionRow.model == latest.c.model) & (VersionRow.version == latest.c.version))
            .order_by(VersionRow.model)
        )
        return self._read(lambda session: list(session.scalars(query)))

    def version(self, model: str, version: int | None = None) -> VersionRow:
        """A version of a model (None: the latest), or `Absent`."""

        def work(session: Session) -> VersionRow:
            number = _latest_version(session, model) if version is None else version
            found = session.get(VersionRow, (model, number))
            if found is None:
                raise Absent(
                    f"there is no model {model}" if version is None else f"no version {version} of {model}"
                )
            return found

        return self._read(work)

    def versions(self, model: str) -> list[VersionRow]:
        """All versions of a model, oldest first, or `Absent`."""
        query = select(VersionRow).where(VersionRow.model == model).order_by(VersionRow.version)
        found = self._read(lambda session: list(session.scalars(query)))
        if not found:
            raise Absent(f"there is no model {model}")
        return found

    def newest(
        self, limit: int, after: tuple[int, str, int] | None = None, like: Sequence[str] = ()
    ) -> list[VersionRow]:
        """Versions of all models, newest first. after: created_ms, model and version of the last one that was read."""
        query = select(VersionRow).where(*_like(like))
        if after is not None:
            made, model, version = after
            same = VersionRow.created_ms == made
            query = query.where(
                or_(
                    VersionRow.created_ms < made,
                    same & (VersionRow.model > model),
                    same & (VersionRow.model == model) & (VersionRow.version < version),
                )
            )
        order = (VersionRow.created_ms.desc(), VersionRow.model, VersionRow.version.desc())
        return self._read(lambda session: list(session.scalars(query.order_by(*order).limit(limit))))

    # -- deployments --------------------------------------------------------------------------------------------------

    def deploy(
        self,
        stream: str,
        chosen: VersionRow,
        role: Literal["champion", "challenger"],
        by: By,
        *,
        learnt: bool = False,
    ) -> bool:
        """Decide that a model version takes its place; False if it has it already. Raises `Conflict`, `Absent`.

        learnt: it begins with what the log would have taught it.

        """

        def work(session: Session) -> bool:
            row = deciding(session, stream)
            before = line_up(session, stream)
            placed = to_be_placed(session, before, chosen)
            model, version = placed.model, placed.version
            after = lifecycle.deploy(before, model, version, placed.digest, role)
            if after is None:
                return False
            undisturbed(session, stream, before, after)
            sequence, now = row.sequence + 1, self._now_ms()
            made = controls.deployed(
                stream, sequence, model, version, placed.specification, role, learnt=learnt
            )
            decide(session, row, before, after, made, now, by.name, placed=model)
            self._record(session, now, by, Change("deploy", *audit.moved(before, after), stream, model))
            return True

        return self._decide(work)

    def change(self, stream: str, model: str, verb: controls.Verb, by: By) -> int | None:
        """Decide a change of a deployed model; the decision's number, None if it is so already.

        Raises `Conflict`, `Absent`.
        """

        def work(session: Session) -> int | None:
            row = deciding(session, stream)
            before = line_up(session, stream)
            after = lifecycle.change(before, model, verb)
            if after is None:
                return None
            undisturbed(session, stream, before, after)
            sequence, now = row.sequence + 1, self._now_ms()
            made = controls.changed(stream, sequence, model, verb)
            decide(session, row, before, after, made, now, by.name)
            self._record(session, now, by, Change(verb, *audit.moved(before, after), stream, model))
            return sequence

        return self._decide(work)

    def rebuild(self, stream: str, model: str, without: LeftOut, by: By) -> tuple[int, int]:
        """Decide that a deployed model goes on without some records: (the decision's number, the new version).

        Raises `Conflict`, `Absent`.
        """

        def work(session: Session) -> tuple[int, int]:
            row = deciding(session, stream)
            before = line_up(session, stream)
            sequence, now = row.sequence + 1, self._now_ms()
            version = _latest_version(session, model) + 1
            digest = sha256(f"rebuild/{stream}/{sequence}/{model}/{version}".encode()).hexdigest()
            after = lifecycle.rebuild(before, model, version, digest)
            undisturbed(session, stream, before, after)
            parent, described = session.get_one(VersionRow, (model, before[model].version)), describe(without)
            session.add(
                VersionRow(
                    model=model,
                    version=version,
                    digest=digest,
                    specification=parent.specification,
                    description=f"version {parent.version} on {stream} without {', '.join(described)}",
                    parent=parent.version,
                    without=msgspec.to_builtins(without),
                    created_ms=now,
                    created_by=by.name,
                )
            )
            made = controls.rebuilt(stream, sequence, model, version, without)
            decide(session, row, before, after, made, now, by.name, placed=model)
            was, becomes = audit.moved(before, after)
            becomes["without"] = audit.sealed(described)
            self._record(session, now, by, Change("rebuild", was, becomes, stream, model))
            return sequence, version

        return self._decide(work)

    def streams_of(self, *models: str) -> list[str]:
        """Streams on which one of the models stands or stood, by name."""
        query = (
            select(DeploymentRow.stream)
            .where(DeploymentRow.model.in_(models))
            .distinct()
            .order_by(DeploymentRow.stream)
        )
        return self._read(lambda session: list(session.scalars(query)))

    def deployments(self, stream: str) -> list[tuple[DeploymentRow, dict[str, int] | None]]:
        """Every model that is or was on the stream, with where its deployment lies in the log (None: pending)."""

        def work(session: Session) -> list[tuple[DeploymentRow, dict[str, int] | None]]:
            stream_row(session, stream)
            query = (
                select(DeploymentRow, ControlRow.offsets)
                .join(
                    ControlRow,
                    (ControlRow.stream == DeploymentRow.stream)
                    & (ControlRow.sequence == DeploymentRow.sequence),
                )
                .where(DeploymentRow.stream == stream)
                .order_by(DeploymentRow.model)
            )
            return [(row, offsets) for row, offsets in session.execute(query)]

        return self._read(work)


def contract_digest(contract: StreamContract) -> str:
    """sha256 of the contract, its version number left out: equal digests mean the same contract."""
    # A part that is all defaults is `{}` or left out, by how the contract was built; it means the same.
    plain = {name: value for name, value in contract.to_dict().items() if name != "version" and value != {}}
    return sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _latest_contract(session: Session, stream: str) -> ContractRow | None:
    query = (
        select(ContractRow).where(ContractRow.stream == stream).order_by(ContractRow.version.desc()).limit(1)
    )
    return session.scalar(query)


def _like(patterns: Sequence[str]) -> list[ColumnElement[bool]]:
    return [VersionRow.model.like(pattern, escape="\\") for pattern in patterns]


def _latest_version(session: Session, model: str) -> int:
    return session.scalar(select(func.max(VersionRow.version)).where(VersionRow.model == model)) or 0
