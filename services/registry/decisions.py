"""How a decision is written down: into the stream's journal and line-up, in the transaction in which it is made.

Whoever decides about a stream takes its row first (`deciding`), so that nothing it reads afterwards is overtaken. The
row also carries a number that counts the decisions, raised only if nobody else has. So two registries on one PostgreSQL
cannot crown two champions, and numbers have no gaps, even if a database should not lock.
"""

from collections.abc import Iterable
from typing import TypeVar, cast

import msgspec
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.registry.database import compare_and_set
from services.registry.domain.lifecycle import Conflict, Deployed, LineUp, Standing
from services.registry.domain.rollouts import Rollout
from services.registry.request import Version, expect
from services.registry.tables import (
    ContractRow,
    ControlRow,
    DeploymentRow,
    ProposalRow,
    RetrainingRow,
    RolloutRow,
    StreamRow,
    VersionRow,
)


class Absent(Exception):
    """There is nothing by that name; the text says what."""


def stream_row(session: Session, name: str) -> StreamRow:
    """A stream, or `Absent`."""
    row = session.get(StreamRow, name)
    if row is None:
        raise Absent(f"there is no stream {name}")
    return row


def deciding(session: Session, name: str, *, check: bool = True) -> StreamRow:
    """A stream, or `Absent`; others who decide about it wait until this transaction ends (on SQLite they do anyway).

    Raises `Unmatched` if the request expects another version of it, unless the caller will `check`.
    """
    row = session.scalar(select(StreamRow).where(StreamRow.name == name).with_for_update())
    if row is None:
        raise Absent(f"there is no stream {name}")
    if check:
        expect(stream_version(row))
    return row


def stream_version(row: StreamRow) -> Version:
    """A stream with everything that stands on it."""
    return Version("stream", row.name, row.sequence)


def rollout_version(row: RolloutRow) -> Version:
    """A rollout, whatever the labels have added to it."""
    return Version("rollout", f"{row.stream}/{row.number}", row.revision)


def contract_version(row: ContractRow) -> Version:
    """A stream's contract."""
    return Version("contract", row.stream, row.version)


def model_version(row: VersionRow) -> Version:
    """A model, by its latest version."""
    return Version("model", row.model, row.version)


def line_up(session: Session, stream: str) -> LineUp:
    """Who stands on a stream."""
    rows: Iterable[DeploymentRow] = session.scalars(
        select(DeploymentRow).where(DeploymentRow.stream == stream)
    )
    return {
        row.model: Deployed(
            row.model, row.version, row.digest, cast(Standing, row.role), row.frozen, row.share
        )
        for row in rows
    }


Numbered = TypeVar("Numbered", RolloutRow, RetrainingRow, ProposalRow)


def numbered(session: Session, kind: type[Numbered], stream: str, number: int) -> Numbered:
    """A stream's rollout, retraining or proposal. Raises `Absent`."""
    row = session.get(kind, (stream, number))
    if row is None:
        raise Absent(f"{stream} has no {kind.__tablename__.removesuffix('s')} {number}")
    return row


def newest_first(
    session: Session, kind: type[Numbered], stream: str, limit: int, below: int | None
) -> list[Numbered]:
    """A stream's rollouts, retrainings or proposals below a number (None: all), newest first. Raises `Absent`."""
    stream_row(session, stream)
    query = select(kind).where(kind.stream == stream)
    if below is not None:
        query = query.where(kind.number < below)
    return list(session.scalars(query.order_by(kind.number.desc()).limit(limit)))


def rollout_of(row: RolloutRow) -> Rollout:
    """The rollout that a row holds."""
    return msgspec.convert(row.state, Rollout)


def decide(
    session: Session,
    row: StreamRow,
    before: LineUp,
    after: LineUp,
    made: tuple[str, bytes],
    now_ms: int,
    by: str,
    *,
    placed: str = "",
) -> None:
    """Write a decision down: the line-up that it makes, and itself as the stream's next.

    made: its id and its record. placed: the model that it puts there anew. Raises `Stale` if somebody was faster.
    """
    sequence = row.sequence + 1
    for model, deployed in after.items():
        if before.get(model) != deployed or model == placed:
            _place(session, row.name, deployed, sequence, now_ms, anew=model == placed)
    session.flush()
    compare_and_set(
        session,
        row,
        update(StreamRow)
        .where(StreamRow.name == row.name, StreamRow.sequence == row.sequence)
        .values(sequence=sequence),
    )
    identity, record = made
    session.add(
        ControlRow(stream=row.name, sequence=sequence, id=identity, record=record, made_ms=now_ms, made_by=by)
    )
    session.flush()


def to_be_placed(session: Session, before: LineUp, chosen: VersionRow) -> VersionRow:
    """The version that stands there if this one is put there.

    What is deployed is a specification: of a rebuild the one it came from, and where that one stands rebuilt it has its
    place already. Else to deploy it once more would replace what was rebuilt by an untrained model.
    """
    model, version = chosen.model, _specified(session, chosen.model, chosen.version)
    present = before.get(model)
    if present is not None and present.role != "retired":
        stands = _specified(session, model, present.version) == version
        version = present.version if stands else version
    return session.get_one(VersionRow, (model, version))


def _specified(session: Session, model: str, version: int) -> int:
    """The version that a version is a rebuild of, itself if it is none."""
    while (parent := session.get_one(VersionRow, (model, version)).parent) is not None:
        version = parent
    return version


def _place(
    session: Session, stream: str, deployed: Deployed, sequence: int, now_ms: int, *, anew: bool
) -> None:
    row = session.get(DeploymentRow, (stream, deployed.model))
    if row is None:
        row = DeploymentRow(stream=stream, model=deployed.model, sequence=sequence)
        session.add(row)
    row.version, row.digest = deployed.version, deployed.digest
    row.role, row.frozen, row.share = deployed.role, deployed.frozen, deployed.share
    row.changed_ms = now_ms
    if anew:
        row.sequence = sequence


def undisturbed(session: Session, stream: str, before: LineUp, after: LineUp) -> None:
    """Raise `Conflict` if a change would take a place from a model that a rollout is about."""
    row = session.scalar(select(RolloutRow).where(RolloutRow.stream == stream, RolloutRow.open))
    if row is None:
        return
    rollout = rollout_of(row)
    for model in (rollout.challenger.model, rollout.champion.model):
        was, becomes = before.get(model), after.get(model)
        if _stand(was) != _stand(becomes):
            raise Conflict(
                f"{model} takes part in rollout {row.number} of {stream}: let it end, or abort it first"
            )


def _stand(deployed: Deployed | None) -> object:
    return None if deployed is None else (deployed.version, deployed.role, deployed.share)
