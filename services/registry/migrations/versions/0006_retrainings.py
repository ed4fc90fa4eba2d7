"""Retrainings, when they begin by themselves, and which events have been acted on."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "retrainings",
        sa.Column("stream", sa.String, sa.ForeignKey("streams.name"), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("writes", sa.BigInteger, nullable=False),
        sa.Column("open", sa.Boolean, nullable=False),
        sa.Column("event", sa.String, unique=True),
        sa.Column("state", sa.JSON, nullable=False),
        sa.Column("progress", sa.JSON, nullable=False),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("held_until_ms", sa.BigInteger, nullable=False),
        sa.Column("told", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "retraining_policies",
        sa.Column("stream", sa.String, sa.ForeignKey("streams.name"), primary_key=True),
        sa.Column("policy", sa.JSON, nullable=False),
        sa.Column("due_ms", sa.BigInteger, nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
        sa.Column("changed_by", sa.String, nullable=False),
    )
    op.create_table(
        "read",
        sa.Column("topic", sa.String, primary_key=True),
        sa.Column("offset", sa.BigInteger, nullable=False),
    )
